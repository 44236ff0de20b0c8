"""Console: the one sink for words to the user, on stderr, and for tables and lines of data, on stdout."""

import errno
import io
import os
import shutil
import sys
import traceback
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from san_cli.errors import ExitCode, SanError
from san_cli.text import printable

if TYPE_CHECKING:
    from rich.console import Console

_tracebacks = False


def show_tracebacks(wanted: bool) -> None:
    """Let `error` show from now on where an error comes from (--debug), or not."""
    global _tracebacks
    _tracebacks = wanted


def say(text: str) -> None:
    """Print a message on stderr, harmless whatever names are in it; a closed stderr is not an error."""
    try:
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(printable(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def note(text: str) -> None:
    """Say something that the user may want to know."""
    say(f"note: {text}")


def warn(text: str) -> None:
    """Say something that may surprise the user."""
    say(f"warning: {text}")


def error(message: str, hint: str = "") -> None:
    """Say what went wrong in one sentence, and the way out on the next line."""
    if _tracebacks and sys.exc_info()[0] is not None:
        for line in traceback.format_exc().splitlines():
            say(line)
    say(f"san: {message}")
    for line in hint.splitlines():
        say(line)


def write(lines: Iterable[str]) -> None:
    """Print lines on stdout, in UTF-8 whatever the locale: names read back from a file must be the same names."""
    typer.echo("\n".join(lines).encode("utf-8"))


def write_line(line: str) -> None:
    """Print a line on stdout, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class _Stdout(io.FileIO):
    """Standard output as bytes, of which a SanError tells that it can't be written; BrokenPipeError: nobody reads."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            # What is buffered would fail again when Python exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            reason = "it is closed" if error.errno == errno.EBADF else (error.strerror or str(error)).lower()
            raise SanError(
                f"can't write to standard output: {reason}",
                hint="What is written is complete; run the same command again to go on.",
                code=ExitCode.SOME_FAILED,
            ) from error


def guard_stdout() -> None:
    """Let whatever writes to stdout, be it Typer, Rich or ourselves, end with a sentence where that fails.

    Where stdout was closed, /dev/null stands open for reading in its place, which can't be written to.
    """
    if os.name == "nt" or sys.stdout is not sys.__stdout__:  # a console of its own kind; or a test's
        return
    encoding, errors = ("utf-8", "strict") if sys.stdout is None else (sys.stdout.encoding, sys.stdout.errors)
    buffered = io.BufferedWriter(_Stdout(1, "w", closefd=False))
    sys.stdout = io.TextIOWrapper(buffered, encoding, errors, line_buffering=os.isatty(1))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines with columns two blanks apart; the last column is as long as its cells."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return ["  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows]


def rich_console(wide: int) -> "Console":
    """Return a console of Rich's for stdout, as wide as the terminal; `wide` columns where nobody looks at one."""
    from rich.console import Console

    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return Console(
        file=io.StringIO(),  # what is printed is captured, and UTF-8 whatever the locale
        width=shutil.get_terminal_size().columns if on_terminal else wide,
        force_terminal=on_terminal,
        no_color="NO_COLOR" in os.environ,
        highlight=False,
    )


def print_table(
    out: "Console", rows: Sequence[Sequence[str]], title: str = "", *, foldable: Collection[str] | None = None
) -> None:
    """Print a table whose first row is the header: first column left, others right.

    Cells may be wrapped or cut where the console is narrow; with `foldable` none is cut, and only those under
    these headers, which stand left too, and those of the first column are wrapped.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column, header in enumerate(rows[0]):
        left = column == 0 or header in (foldable or ())
        table.add_column(Text(header), justify="left" if left else "right")
        if foldable is not None:
            table.columns[-1].no_wrap = not left
            table.columns[-1].overflow = "fold"
            table.columns[-1].min_width = len(header)
    for row in rows[1:]:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out.print(table)
