"""Journals: what is finished, line by line, so that whatever ends a run, the next one goes on.

    FOLDER/NAME             the lines of a run alone
    FOLDER/NAME-2-of-4      those of process 2 of 4, until somebody merges them

A line is three fields between tabs: the CRC-32 of the rest, the head (one JSON value) and the body. A start reads the
heads alone, so that 100,000 lines cost 30 MB of JSON and not 3 GB; a body is read when it is asked for. A line whose
CRC doesn't fit (a kill or a power cut tore it) counts as not written.
"""

import glob
import json
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from san_cli.files import atomic_write, open_regular
from san_cli.runs.shares import WHOLE, Share


class Line(NamedTuple):
    """A whole line: its head, and where it stands."""

    head: Any  # JSON
    file: str
    offset: int
    length: int  # bytes, line end included


def encode_line(head: object, body: str = "") -> bytes:
    """Encode a line of a journal; `body` is ASCII without tabs and line ends."""
    rest = f"{json.dumps(head)}\t{body}\n".encode("ascii")
    return b"%08x\t%s" % (zlib.crc32(rest), rest)


class Journal:
    """The journal `name` in a folder: all its files to read, and the one that this process appends to."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._ends: dict[str, int] = {}  # of the last line end in each file
        self._readers: dict[str, BinaryIO] = {}
        self._own: tuple[str, int] | None = None

    def files(self) -> list[str]:
        """List the names of its files, the merged one first."""
        names = (path.name for path in self.folder.glob(f"{glob.escape(self.name)}*"))
        return sorted(name for name in names if name == self.name or name.startswith(f"{self.name}-"))

    def lines(self) -> Iterator[Line]:
        """Yield all whole lines, file after file. OSError where one can't be read."""
        for name in self.files():
            yield from self._lines_of(name)

    def open_own(self, share: Share = WHOLE) -> int:
        """Open the file to append to, its torn end cut off; returns the descriptor. OSError if that fails."""
        name = self.name if share.count == 1 else f"{self.name}-{share.index + 1}-of-{share.count}"
        descriptor = open_regular(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._own = name, descriptor
        if name not in self._ends:
            deque(self._lines_of(name), maxlen=0)
        end = self._ends[name]
        if os.fstat(descriptor).st_size > end:
            os.ftruncate(descriptor, end)
        return descriptor

    def append(self, line: bytes) -> Line:
        """Add a line from `encode_line`. OSError where it can't be written."""
        assert self._own is not None, "open_own comes first"
        name, descriptor = self._own
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        found = _decoded(line, name, self._ends[name])
        assert found is not None, "a line from encode_line is whole"
        self._ends[name] += len(line)
        return found

    def raw(self, line: Line) -> bytes:
        """Read a line as it stands on disk."""
        if line.file not in self._readers:
            descriptor = open_regular(self.folder / line.file, os.O_RDONLY)
            self._readers[line.file] = open(descriptor, "rb")  # noqa: PTH123, SIM115
        reader = self._readers[line.file]
        reader.seek(line.offset)
        return reader.read(line.length)

    def body(self, line: Line) -> str:
        """Read the body of a line from disk."""
        return self.raw(line).split(b"\t", 2)[2].decode("ascii").rstrip("\n")

    def merge(self, lines: Iterable[bytes]) -> None:
        """Make one file of these lines, atomically, in the place of all others."""
        with atomic_write(self.folder / self.name) as stream:
            for line in lines:
                stream.write(line)
        self.remove_parts()

    def remove_parts(self) -> None:
        """Remove all files but the merged one, which has their lines by now."""
        self.close()
        for name in self.files():
            if name != self.name:
                (self.folder / name).unlink()

    def remove(self) -> None:
        """Remove all files. OSError where that fails."""
        self.close()
        for name in self.files():
            (self.folder / name).unlink()
        self._ends.clear()

    def close(self) -> None:
        """Close all files; reading opens them again."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        if self._own is not None:
            os.close(self._own[1])
            self._own = None

    def _lines_of(self, name: str) -> Iterator[Line]:
        end = self._ends[name] = 0
        with open(open_regular(self.folder / name, os.O_RDONLY), "rb") as file:  # noqa: PTH123
            for line in file:
                if not line.endswith(b"\n"):
                    break
                found = _decoded(line, name, end)
                end = self._ends[name] = end + len(line)
                if found is not None:
                    yield found


def _decoded(line: bytes, file: str, offset: int) -> Line | None:
    """Decode the head of a line; None for a damaged line."""
    crc, _, rest = line.partition(b"\t")
    try:
        if int(crc, 16) != zlib.crc32(rest):
            return None
        return Line(json.loads(rest.partition(b"\t")[0]), file, offset, len(line))
    except (ValueError, RecursionError):
        return None
