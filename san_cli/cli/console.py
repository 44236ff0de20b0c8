"""The one sink for words to the user: everything here goes to stderr, data alone goes to stdout."""

import sys

from san_cli.text import printable


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
    """What went wrong in one sentence, and the way out on the next line."""
    say(f"san: {message}")
    for line in hint.splitlines():
        say(line)
