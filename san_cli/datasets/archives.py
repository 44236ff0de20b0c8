"""Images in archives, read where they lie: nothing is unpacked to the disk.

A member of a plain tar or a zip is read from its own place, in any order and by several threads. A compressed tar has
one reader, which goes through it from front to back and keeps what it passes that is still to come.
"""

import bz2
import io
import os
import struct
import threading
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

from san_cli.datasets.archive_streams import DAMAGE, decompressed
from san_cli.datasets.bad_image import BadImage

IN_TAR, IN_STREAM = -1, -2  # ways in which a member may lie there; others are zip's numbers of methods
STORED, _DEFLATED, _BZIP2 = 0, 8, 12
METHODS = (STORED, _DEFLATED, _BZIP2)  # that we read
_MOST_KEPT = 2**29  # bytes of members that a reader has passed
_WHOLE = 2**28  # bytes; of a larger member in a stream a start is read alone
_CUT = "cut short: its archive is damaged, or ends too early"
_READ = 2**16  # bytes that are read beyond what a start needs
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member


@dataclass(eq=False)
class Archive:
    """A zip or a tar, as it was when its members were listed."""

    path: str  # as it was given
    size: int
    mtime_ns: int
    is_stream: bool = False  # a compressed tar
    members: dict[str, "Member"] = field(default_factory=dict)  # all files in it by name, in its order
    beside: dict[str, bytes] = field(default_factory=dict)  # what may be world files, by name

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file; BadImage where it can't be read, or is another one by now."""
        try:
            # Never waits: the name may have become a pipe.
            descriptor = os.open(
                self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            )
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                status = os.fstat(descriptor)
                if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
                    raise BadImage("the archive has changed since its list was read; run the command again")
                yield cast("BinaryIO", file)
        except OSError as error:
            raise BadImage(f"the archive can't be read: {(error.strerror or str(error)).lower()}") from error

    def __post_init__(self) -> None:
        """Make the one reader of a compressed tar."""
        self.reader = StreamReader(self)


class Member(NamedTuple):
    """A file in an archive; as a path it is the archive's with its own behind, which no file has."""

    archive: Archive
    inner: str  # its name there, with `/`
    offset: int  # of its bytes; in a zip of the header before them
    size: int  # bytes
    method: int
    stored: int = 0  # bytes, as they lie in a zip
    crc: int = 0  # in a zip
    fault: str = ""  # why it can't be read

    def __fspath__(self) -> str:
        """Return the path that messages have."""
        return f"{self.archive.path}/{self.inner}"

    def __str__(self) -> str:
        """Return that path."""
        return self.__fspath__()

    @property
    def name(self) -> str:
        """The last part of its name."""
        return self.inner.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """As that of a `Path`."""
        return Path(self.name).suffix

    @property
    def stamp(self) -> int:
        """A number that changes with the archive's size and time, and with the place and sum of the member."""
        what = f"{self.archive.size} {self.archive.mtime_ns} {self.offset} {self.size} {self.crc}"
        return int.from_bytes(blake2b(what.encode("ascii"), digest_size=7).digest(), "big")

    @property
    def is_stored(self) -> bool:
        """Whether its bytes lie in the archive as they are."""
        return self.method in (IN_TAR, STORED) and not self.fault

    def read(self, *, keep: bool = False) -> bytes:
        """Read all bytes; BadImage where they are damaged. `keep` says that they will be read again."""
        if self.fault:
            raise BadImage(self.fault)
        try:
            if self.method == IN_STREAM:
                data = self.archive.reader.read(self, keep=keep)
            else:
                with self.archive.open() as file:
                    data = self._read(file, self.size)
        except MemoryError as error:
            raise BadImage("not enough memory to read it") from error
        except (*DAMAGE, OverflowError) as error:
            raise BadImage(f"damaged in its archive ({_cause(error)})") from error
        if len(data) < self.size:
            raise BadImage(_CUT)
        if self.method >= 0 and zlib.crc32(data) != self.crc:
            raise BadImage("damaged in its archive (its sum, CRC-32, is another)")
        return data

    def start(self, size: int) -> bytes:
        """Read the first bytes, as many as there are to be had; BadImage for none."""
        if self.fault:
            raise BadImage(self.fault)
        try:
            if self.method == IN_STREAM:
                return self.archive.reader.start(self, size)
            with self.archive.open() as file:
                return self._read(file, min(size, self.size))
        except DAMAGE as error:
            raise BadImage(f"damaged in its archive ({_cause(error)})") from error

    @contextmanager
    def window(self) -> Iterator[io.RawIOBase]:
        """Open the bytes of a member that is stored as it is, as a file of their own. BadImage."""
        with self.archive.open() as file:
            try:
                at = self._place(file)
            except DAMAGE as error:
                raise BadImage(f"damaged in its archive ({_cause(error)})") from error
            if at + self.size > self.archive.size:
                raise BadImage(_CUT)
            yield _Window(file, at, self.size)

    def _place(self, file: BinaryIO) -> int:
        """Return where its bytes begin."""
        if self.method == IN_TAR:
            return self.offset
        file.seek(self.offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
            raise ValueError("there is no header where its list says")
        _, name, extra = _LOCAL_HEADER.unpack(header)
        return self.offset + _LOCAL_HEADER.size + int(name) + int(extra)

    def _read(self, file: BinaryIO, size: int) -> bytes:
        """Read the first `size` bytes of what lies in the archive at a place of its own."""
        file.seek(self._place(file))
        if self.is_stored:
            return _exactly(file, min(size, self.archive.size))
        most = self.stored if size == self.size else 2 * size + _READ  # packed bytes are hardly ever more
        packed = _exactly(file, min(self.stored, most, self.archive.size))
        unpacker: Any = zlib.decompressobj(-15) if self.method == _DEFLATED else bz2.BZ2Decompressor()
        return cast("bytes", unpacker.decompress(packed, size)) if size else b""


def expect(members: Iterable[Member]) -> None:
    """Tell the readers of compressed tars which of their members will be read."""
    by_archive: dict[int, list[Member]] = {}
    for member in members:
        if member.method == IN_STREAM:
            by_archive.setdefault(id(member.archive), []).append(member)
    for found in by_archive.values():
        found[0].archive.reader.expect(sorted(found, key=lambda member: member.offset))


class StreamReader:
    """Reads members of a compressed tar in about their order, for several threads."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._at = 0
        self._kept: dict[int, bytes] = {}
        self._bytes = 0
        self._expected: dict[int, Member] = {}  # still to come, ascending
        self._places: list[int] = []

    def expect(self, members: Iterable[Member]) -> None:
        """Tell which members will be read: they are kept where the reader passes them."""
        with self._lock:
            self._expected = {member.offset: member for member in members}
            self._places = list(self._expected)

    def read(self, member: Member, *, keep: bool) -> bytes:
        """Read all bytes of a member, or as many as there are; one of `DAMAGE` where it can't be had."""
        with self._lock:
            data = self._kept.pop(member.offset, None)
            if data is not None:
                self._bytes -= len(data)
            else:
                data = self._through_to(member, member.size)
            if keep:
                self._keep(member.offset, data)
            elif self._expected.pop(member.offset, None) is not None and not self._expected:
                self._close()
            return data

    def start(self, member: Member, size: int) -> bytes:
        """Read the first bytes of a member, the whole being kept unless it is huge."""
        if member.size <= _WHOLE:
            return self.read(member, keep=True)[:size]
        with self._lock:
            return self._through_to(member, size)

    def _through_to(self, member: Member, size: int) -> bytes:
        """Read forward to a member, from the front if it has been passed, and keep what is expected on the way."""
        if self._file is None or member.offset < self._at:
            self._close()
            with self._archive.open():  # the same file as ever
                self._file, self._at = decompressed(Path(self._archive.path)), 0
        first = bisect_right(self._places, self._at - 1)
        for place in self._places[first:]:
            if place >= member.offset:
                break
            passed = self._expected.get(place)
            if passed is not None and place not in self._kept and passed.size <= _WHOLE:
                self._keep(place, self._read_at(place, passed.size))
        return self._read_at(member.offset, size)

    def _read_at(self, place: int, size: int) -> bytes:
        assert self._file is not None, "opened before"
        try:
            self._file.seek(place)
            data = self._file.read(size)
        except BaseException:
            self._close()  # nobody knows where it stands
            raise
        self._at = place + len(data)
        return data

    def _keep(self, place: int, data: bytes) -> None:
        """Keep a member's bytes, and let go of those kept longest where they are too many."""
        self._kept[place] = data
        self._bytes += len(data)
        while self._bytes > _MOST_KEPT and len(self._kept) > 1:
            self._bytes -= len(self._kept.pop(next(iter(self._kept))))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._at = None, 0


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        found = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def _exactly(file: BinaryIO, size: int) -> bytes:
    """Read so many bytes of an unbuffered file, fewer only at its end."""
    data = file.read(size)
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            break
        data += more
    return data


def _cause(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:120] or type(error).__name__
