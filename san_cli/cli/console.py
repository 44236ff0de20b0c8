"""The one sink for words to the user: everything here goes to stderr, data alone goes to stdout."""

import re
import sys

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def inert(text: str) -> str:
    """`text` with control characters spelled out and lone surrogates escaped, safe on any terminal."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(text: str) -> None:
    """Print a line on stderr; a closed stderr is not an error."""
    try:
        sys.stderr.write(
            inert(text)
            .encode(sys.stderr.encoding or "utf-8", "backslashreplace")
            .decode(sys.stderr.encoding or "utf-8")
            + "\n"
        )
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
    if hint:
        say(hint)
