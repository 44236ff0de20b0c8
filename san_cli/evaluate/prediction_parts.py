"""The predictions of an evaluation under way, until they can be written as one file in the list's order.

Each process appends a line per image, `place TAB entries TAB checksum`, to a part of its own. After a kill the lines
that are whole still count, whichever process wrote them; of an image with several lines any will do, as they are
equal. A line whose checksum doesn't fit is none.
An evaluation that can be resumed keeps its parts with its state: of several datasets the first may be finished when
a later one is killed, and an image that was skipped may be mended and added.
"""

import os
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from san_cli.errors import SanError
from san_cli.files import atomic_write, sweep_stale
from san_cli.runs.shares import WHOLE, Share
from san_cli.text import quoted


class PredictionSpool:
    """The parts of the predictions `path`: `kept`.part-1-of-2 and so on, else beside the file until it is written."""

    def __init__(self, path: Path, share: Share = WHOLE, *, kept: Path | None = None) -> None:
        self.path = path
        self._prefix = path.with_name(f".{path.name}") if kept is None else kept
        self._keeps = kept is not None
        self._share = share
        self._stream: BinaryIO | None = None

    def discard(self) -> None:
        """Remove the parts of earlier runs, and what killed ones left beside the file."""
        for part in self._parts():
            part.unlink(missing_ok=True)
        sweep_stale(self.path.parent, below=False)

    def append(self, position: int, entries: str) -> None:
        """Note one image's entries. SanError where that can't be written."""
        try:
            if self._stream is None:
                self._prefix.parent.mkdir(parents=True, exist_ok=True)
                name = f"{self._prefix.name}.part-{self._share.index + 1}-of-{self._share.count}"
                self._stream = self._prefix.with_name(name).open("ab")
                self._stream.write(b"\n")  # ends a line that a kill has torn
            told = f"{position}\t{entries}".encode("ascii")
            self._stream.write(told + _checksum(told))
        except OSError as error:
            raise self._unwritable(error) from error

    def flush(self) -> None:
        """Hand everything to the operating system: to be called before a state names these images done."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Close our part."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def known(self, images: int) -> NDArray[np.bool_]:
        """Which images [images] have a whole line."""
        known = np.zeros(images, bool)
        for position in self._lines(images):
            known[position] = True
        return known

    def finish(self, images: int) -> None:
        """Write the file from all parts, in the list's order. SanError where that can't be written."""
        lines = self._lines(images)
        try:
            with atomic_write(self.path) as stream:
                stream.write(b"[")
                separator = b""
                for position in sorted(lines):
                    part, offset, length = lines[position]
                    with part.open("rb") as file:
                        file.seek(offset)
                        entries = file.read(length).split(b"\t")[1]
                    if entries:
                        stream.write(separator + entries)
                        separator = b", "
                stream.write(b"]")
        except OSError as error:
            raise self._unwritable(error) from error
        if not self._keeps:
            self.discard()

    def _parts(self) -> list[Path]:
        start = f"{self._prefix.name}.part-"
        if not self._prefix.parent.is_dir():
            return []
        there = (path for path in self._prefix.parent.iterdir() if path.name.startswith(start))
        return sorted(path for path in there if path.is_file())  # a pipe would be waited for

    def _lines(self, images: int) -> dict[int, tuple[Path, int, int]]:
        """Where each image's line stands: part, offset, length."""
        found = {}
        for part in self._parts():
            offset = 0
            with part.open("rb") as file:
                for line in file:
                    told, end = line[:-_END], line[-_END:]
                    place = told.partition(b"\t")[0]
                    if end == _checksum(told) and place.isdigit() and int(place) < images:
                        found[int(place)] = part, offset, len(line)
                    offset += len(line)
        return found

    def _unwritable(self, error: OSError) -> SanError:
        return SanError(
            f"can't write the predictions to {quoted(self.path)}: {error.strerror or error}",
            hint="Choose another --save-predictions.",
        )


def _checksum(told: bytes) -> bytes:
    """What ends a line that says `told`."""
    return f"\t{zlib.crc32(told):08x}\n".encode("ascii")


_END = len(_checksum(b""))


def refuse_unwritable(path: Path) -> None:
    """SanError where predictions can't be written to `path`: said before hours of work."""
    if path.is_dir():
        raise SanError(f"--save-predictions {quoted(path)} is a folder", hint="Name a .json file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.probe-{os.getpid()}")
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise SanError(
            f"can't write {quoted(path)}: {error.strerror or error}",
            hint="Choose another --save-predictions.",
        ) from error
