"""JSON files of gigabytes, read element by element: a list, or an object of lists.

Nothing but one element and about a megabyte of text is held at a time.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

_CHUNK = 1 << 20
_LONGEST = 1 << 26  # bytes of one element
_NOT_BLANK = re.compile(r"[^ \t\r\n]")
_IN_NUMBERS = "0123456789.+-eE"
_BOM = "\xef\xbb\xbf"  # UTF-8's, byte by byte


class DamagedJson(ValueError):
    """Text that is no JSON, or ends too early; `at` is the byte from which on that is so."""

    def __init__(self, at: int) -> None:
        super().__init__(f"it is damaged or cut short at byte {at}")
        self.at = at


class Element(NamedTuple):
    """An element of a list, the key of that list in the object around it, and its bytes in the file."""

    key: str | None
    value: Any
    start: int
    stop: int  # exclusive


def json_elements(stream: BinaryIO) -> Iterator[Element]:
    """Yield the elements of a JSON list, or of each list in a JSON object; other values are passed over.

    DamagedJson where the text is something else, or an element is longer than 64 MiB; OSError where it can't be
    read.
    """
    text = _Window(stream)
    if text.take("["):
        yield from _list(text, None)
    else:
        text.expect("{")
        for _ in _members(text, "}"):
            key, _, _ = text.value()
            text.expect(":")
            if text.take("["):
                yield from _list(text, key)
            else:
                text.value()


def _list(text: "_Window", key: str | None) -> Iterator[Element]:
    for _ in _members(text, "]"):
        yield Element(key, *text.value())


def _members(text: "_Window", closing: str) -> Iterator[None]:
    """Stop before each member of a list or object, until its `closing` bracket is passed."""
    if text.take(closing):
        return
    while True:
        yield
        if text.take(closing):
            return
        text.expect(",")


class _Window:
    """The part of the text that is being read.

    Bytes are taken for characters (Latin-1), so that places in the text are places in the file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder()
        self._text, self._base, self._at = "", 0, 0
        self._more()
        self._at = len(_BOM) if self._text.startswith(_BOM) else 0

    def take(self, sign: str) -> bool:
        """Pass `sign`, if it comes next; blanks before it are passed either way."""
        self._pass_blanks()
        found = self._text.startswith(sign, self._at)
        self._at += found
        return found

    def expect(self, sign: str) -> None:
        """Pass `sign`; DamagedJson where something else comes."""
        if not self.take(sign):
            raise DamagedJson(self._base + self._at)

    def value(self) -> tuple[Any, int, int]:
        """Read the value that comes next; returns it with its first byte and the one behind its last."""
        self._pass_blanks()
        while True:
            try:
                value, stop = self._decoder.raw_decode(self._text, self._at)
                if not self._text[self._at : stop].isascii():
                    value = json.loads(self._text[self._at : stop].encode("latin-1"))
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > _LONGEST or not self._more():
                    raise DamagedJson(self._base + self._at) from error
                continue
            follows = self._text[stop : stop + 1]
            if (follows and follows not in _IN_NUMBERS) or not self._more():  # else a number may go on
                break
        start, self._at = self._at, stop
        return value, self._base + start, self._base + stop

    def _pass_blanks(self) -> None:
        while True:
            found = _NOT_BLANK.search(self._text, self._at)
            self._at = len(self._text) if found is None else found.start()
            if found is not None or not self._more():
                return

    def _more(self) -> bool:
        """Read on, twice as much each time for a value that doesn't end; whether there was anything."""
        read = self._stream.read(max(_CHUNK, len(self._text) - self._at)).decode("latin-1")
        if read:
            self._text, self._base, self._at = self._text[self._at :] + read, self._base + self._at, 0
        return bool(read)
