"""What can go wrong through no fault of ours, and the exit code that says so."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `san` command; the texts below are what `--help` prints."""

    DONE = 0  # everything asked for was done
    BUG = 1  # our own fault: please report
    USAGE = 2  # usage or configuration: nothing was started
    SOME_FAILED = 3  # some inputs failed, the others are done
    NO_INPUT = 4  # no usable input
    INTERRUPTED = 130  # Ctrl-C or SIGTERM; what is written is complete, a rerun goes on


EXIT_CODE_HELP = (
    "Exit codes: 0 done · 2 wrong usage or configuration · 3 some inputs failed · "
    "4 no usable input · 130 interrupted (run again to go on) · 1 a bug in san."
)


class SanError(Exception):
    """An error that the user can mend.

    `message` is one sentence that says what is wrong; `hint` is the way out, often a command to copy.
    The CLI prints both on stderr and exits with `code`; the Python API just raises.
    """

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message if not hint else f"{message}\n{hint}")
        self.message = message
        self.hint = hint
        self.code = code
