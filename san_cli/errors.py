"""The error for what goes wrong through no fault of ours, and the exit codes of all commands."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `san` command; the texts below are what `--help` prints."""

    DONE = 0  # everything asked for was done
    BUG = 1  # our own fault: please report
    USAGE = 2  # usage or configuration, weights and places to write among it: nothing was started
    SOME_FAILED = (
        3  # some inputs failed and the others are done, or the run stopped in the middle (disk full)
    )
    NO_INPUT = 4  # the data to read is missing, or nothing in it can be used
    INTERRUPTED = 130  # Ctrl-C or SIGTERM; what is written is complete, a rerun goes on


EXIT_CODE_HELP = """Exit codes:
  0    done
  2    wrong usage or configuration; nothing was started
  3    some inputs failed, or the run stopped in the middle
  4    no usable input
  130  interrupted; what is written is complete
  1    a bug in san"""


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


def did_you_mean(likely: str | None, known: str = "") -> str:
    """Return a hint for a word that isn't known: what was probably meant, if anything, then what there is."""
    return " ".join(part for part in (f"Did you mean {likely}?" if likely else "", known) if part)


class WrongType(SanError, TypeError):
    """An argument of the Python API that is of no kind that it takes."""
