"""Braces in patterns, as the shell expands them outside of quotes: `{000..099}`, `{a,b}`, `{1..9..2}`, nested too."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from san_cli.errors import SanError
from san_cli.text import printable

MOST = 1_000_000  # of names that one pattern stands for
_MOST_BRACES = 100  # in one text; nobody writes more, and each may be in another
_NUMBER = r"(-?[0-9]{1,18})"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?:\.\.{_NUMBER})?|([A-Za-z])\.\.([A-Za-z])")


def has_braces(text: str) -> bool:
    """Tell whether the shell would expand braces in a text."""
    return text.count("{") <= _MOST_BRACES and any(
        len(_choices(text[begin + 1 : end])) > 1 or _range(text[begin + 1 : end])
        for begin, end in _pairs(text)
    )


def expand_braces(text: str) -> list[str]:
    """List what a text with braces stands for, in the shell's order; SanError for more than a million names."""
    if _count(text) > MOST:
        raise SanError(
            f"'{printable(text)}' stands for more than {MOST:,} names", hint="Use * or a list instead."
        )
    return list(_expanded(text))


def _count(text: str) -> int:
    """Count what `_expanded` would give, without the names."""
    for begin, end in _pairs(text):
        inside = text[begin + 1 : end]
        choices, numbers = _choices(inside), _range(inside)
        if len(choices) > 1 or numbers is not None:
            of_this = sum(map(_count, choices)) if numbers is None else len(numbers)
            return of_this * _count(text[end + 1 :])
    return 1


def _expanded(text: str) -> Iterator[str]:
    for begin, end in _pairs(text):
        inside = text[begin + 1 : end]
        choices, numbers = _choices(inside), _range(inside)
        if len(choices) > 1 or numbers is not None:
            rest = list(_expanded(text[end + 1 :]))
            for one in chain.from_iterable(map(_expanded, choices)) if numbers is None else numbers:
                yield from (text[:begin] + one + after for after in rest)
            return
    yield text


def _pairs(text: str) -> Iterator[tuple[int, int]]:
    """Yield where braces open and close, the outer ones from left to right."""
    for begin, char in enumerate(text):
        if char != "{":
            continue
        depth = 0
        for end in range(begin, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                yield begin, end
                break


def _choices(inside: str) -> list[str]:
    """Split at the commas that are in no further braces."""
    parts, depth = [""], 0
    for char in inside:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


@dataclass(frozen=True)
class _Range:
    """Numbers, or the codes of letters, and how they are written."""

    codes: range
    width: int = 0  # with zeros in front
    letters: bool = False

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return (chr(code) if self.letters else f"{code:0{self.width}d}" for code in self.codes)


def _range(inside: str) -> _Range | None:
    """Parse a range of numbers or letters; all are as wide as its wider end where one begins with a zero."""
    found = _RANGE.fullmatch(inside)
    if found is None:
        return None
    if found[4]:
        return _Range(_steps(ord(found[4]), ord(found[5]), 1), letters=True)
    padded = any(re.match(r"-?0\d", end) for end in (found[1], found[2]))
    width = max(len(found[1]), len(found[2])) if padded else 0
    return _Range(_steps(int(found[1]), int(found[2]), int(found[3] or 1)), width)


def _steps(first: int, last: int, step: int) -> range:
    step = abs(step) or 1
    return range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
