"""Text as we write it: harmless on a terminal, numbers with their words, JSON in one spelling."""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches

_NOT_PLAIN = re.compile(r"[^\x00-\x7e]")


def printable(text: str) -> str:
    """`text` on one line, with everything unprintable spelled out as in a Python string.

    That covers control characters, escape sequences, line breaks, marks that turn the direction of writing,
    and the lone surrogates that stand for bytes which are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def quoted(name: object) -> str:
    """A name or path of unknown origin in quotes, `printable`."""
    return f"'{printable(str(name))}'"


def counted(number: int, one: str, many: str = "") -> str:
    """`number` with thousands separated and the word for as many: "1 class", "1,203 classes".

    `many` is `one` with an s where it isn't given, and with es after an s, x or sh.
    """
    plural = many or one + ("es" if one.endswith(("s", "x", "sh")) else "s")
    return f"{number:,} {one if number == 1 else plural}"


def nearest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the candidate most like `word`, whatever the case; None if none is alike enough to be suggested."""
    spelling = {candidate.casefold(): candidate for candidate in reversed(tuple(candidates))}
    close = get_close_matches(word.casefold(), spelling, n=1, cutoff=cutoff)
    return spelling[close[0]] if close else None


def json_text(value: object) -> str:
    """`value` on one line: no spaces, keys in their given order; ValueError for NaN and infinities.

    Plain ASCII, so it is inert on a terminal and prints under every locale. A lone surrogate, which stands
    for a byte of a file name that isn't UTF-8, has no spelling that strict readers accept: it becomes the six
    characters `\\udcXX` of text instead.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text if text.isascii() and "\x7f" not in text else _NOT_PLAIN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if "\ud800" <= character <= "\udfff":
        return rf"\\u{ord(character):04x}"
    return json.dumps(character)[1:-1] if character != "\x7f" else r"\u007f"


def plan_lines(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Return the lines of a plan (--dry-run): what it is about, and what is to be said of that."""
    return [f"{name:<24}{value}" for name, value in rows]


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
