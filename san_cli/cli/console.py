"""The one sink for words to the user: everything here goes to stderr, data alone goes to stdout."""

import sys
import traceback

from san_cli.text import printable

_tracebacks = False


def show_tracebacks(wanted: bool) -> None:
    """Let `error` show from now on where an error comes from (--debug), or not."""
    global _tracebacks
    _tracebacks = wanted


def say(text: str) -> None:
    """Print a message on stderr, harmless whatever names are in it; a closed stderr is not an error."""
    _write(printable(text))


def _write(text: str) -> None:
    try:
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def note(text: str) -> None:
    """Something the user may want to know."""
    say(f"note: {text}")


def warn(text: str) -> None:
    """Something that may surprise the user."""
    say(f"warning: {text}")


def error(message: str, hint: str = "") -> None:
    """Say what went wrong in one sentence, and the way out on the next line."""
    if _tracebacks and sys.exc_info()[0] is not None:
        for line in traceback.format_exc().splitlines():
            say(line)
    say(f"san: {message}")
    for line in hint.splitlines():
        say(line)
