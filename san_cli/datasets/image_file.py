"""The bytes of an image file: a regular file, of credible size, that no decoder crawls through byte by byte."""

import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from san_cli.datasets.archives import Member
from san_cli.datasets.bad_image import BadImage

_MANY_BYTES, _BYTES_A_PIXEL = 256 * 2**20, 64  # a larger file must have so many pixels
_HEADER = 2**20  # bytes of a huge member that are unpacked in search of its size
_READ_AT_ONCE = 128 * 2**20  # bytes; photographs have fewer
_PIECE = 2**22  # bytes of a packed stream that are read at once
_FILE_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def os_cause(error: OSError | ValueError) -> str:
    """The operating system's reason in a few words, without the path."""
    if not isinstance(error, OSError):
        return "not a possible file name"  # a NUL inside
    reason = error.strerror or type(error).__name__
    return reason[:1].lower() + reason[1:]


class _FewReads:
    """A file that ends a decoder which reads byte by byte: what is well-formed is read in larger pieces.

    Pillow looks for the next part of a header in Python: 30 MB of filling took it 27 seconds.
    """

    _left: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self._left is None:
            at = self.tell()  # type: ignore[attr-defined]
            length = self.seek(0, io.SEEK_END)  # type: ignore[attr-defined]
            self.seek(at)  # type: ignore[attr-defined]
            self._left = 100_000 + min(length // 64, 2_000_000)
        self._left -= 1
        if self._left < 0:
            raise BadImage("its header consists of filling, or of far too many parts")
        return cast("bytes", super().read(size))  # type: ignore[misc]


class FileBytes(_FewReads, io.BytesIO):
    pass


class _File(_FewReads, io.BufferedReader):
    def read_piece(self, size: int, /) -> bytes:
        """Read what is known to be a piece of a picture, of which there may be many."""
        return io.BufferedReader.read(self, size)


class Content:
    """The bytes of a file, of a large one read as they are wanted. For one thread."""

    def __init__(self, source: bytes | BinaryIO) -> None:
        self._whole = source if isinstance(source, bytes) else None
        self._file = io.BytesIO(source) if isinstance(source, bytes) else source
        self._read = self._file.read_piece if isinstance(self._file, _File) else self._file.read
        self._size = self._file.seek(0, io.SEEK_END)

    def __len__(self) -> int:
        """In bytes, as it was at first."""
        return self._size

    def read_at(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on, or as many as there are."""
        self._file.seek(start)
        return self._read(max(0, size))

    def whole(self) -> bytes:
        """Return all bytes."""
        return self.read_at(0, self._size) if self._whole is None else self._whole

    def stream(self) -> BinaryIO:
        """Open the bytes as a file of their own, for a decoder.

        It has no descriptor, as libtiff would map that: a file cut short meanwhile would end the process.
        """
        if self._whole is not None:
            return FileBytes(self._whole)
        return cast("BinaryIO", _File(_Part(self), 2**16))


def inflater(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Return what gives, at each call, so many bytes more of a zlib stream: fewer where there are no more.

    `read` gives at most so many bytes of the stream, none at its end.
    """
    unpacker = zlib.decompressobj()

    def take(size: int) -> bytes:
        parts = []
        while size > 0 and not unpacker.eof:
            raw = unpacker.unconsumed_tail or read(_PIECE)
            parts.append(unpacker.decompress(raw, size))
            size -= len(parts[-1])
            if not raw and not parts[-1]:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    return take


class _Part(io.RawIOBase):
    """A content as what a buffered reader reads."""

    def __init__(self, content: Content) -> None:
        self._content, self._at = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, len(self._content))[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        found = self._content.read_at(self._at, len(buffer))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


@contextmanager
def open_content(
    path: str | os.PathLike[str],
    max_pixels: int,
    max_bytes: int | None,
    header_size: Callable[[BinaryIO], tuple[int, int]],
) -> Iterator[Content]:
    """Open a file's bytes, read at once unless they are many: so it is decoded from one state if it changes.

    `header_size` gives (height, width) as the header promises them; it is asked about large files. Raises BadImage
    for what is no file, can't be read, or is larger than `max_bytes` (None: than its pixels can account for).
    """
    with ExitStack() as stack:
        try:
            if isinstance(path, Member) and not path.is_stored:
                head = path.start(_HEADER) if path.size > _MANY_BYTES else b""
                _check_bytes(FileBytes(head), path.size, max_pixels, max_bytes, header_size)
                content = Content(path.read())
            else:
                file = stack.enter_context(open_file(path))
                size = path.size if isinstance(path, Member) else os.fstat(file.fileno()).st_size
                _check_bytes(file, size, max_pixels, max_bytes, header_size)
                content = Content(_whole(path, file) if size <= _READ_AT_ONCE else file)
        except FileNotFoundError as error:
            raise BadImage("broken link" if Path(path).is_symlink() else "no such file") from error
        except (OSError, ValueError) as error:
            raise BadImage(os_cause(error)) from error
        except MemoryError as error:
            raise BadImage("not enough memory to read it") from error
        yield content


def _whole(path: str | os.PathLike[str], file: BinaryIO) -> bytes:
    return path.read() if isinstance(path, Member) else file.read()  # a member's is checked against its sum


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a regular file for reading; nothing else is opened, so nothing can block. Packed members are unpacked."""
    if isinstance(path, Member):
        with _open_member(path) as file:
            yield file
        return
    _check_kind(Path(path).stat())
    # Non-blocking, and checked again: the name may have become a pipe in between.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with _File(io.FileIO(descriptor)) as file:
        _check_kind(os.fstat(descriptor))
        yield cast("BinaryIO", file)


@contextmanager
def _open_member(member: Member) -> Iterator[BinaryIO]:
    if not member.is_stored:
        if member.size > _MANY_BYTES:  # what asks for no more than a header
            yield FileBytes(member.start(_HEADER))
        else:
            yield FileBytes(member.read(keep=True))
        return
    with member.window() as window, _File(window, 2**16) as file:
        yield cast("BinaryIO", file)


def _check_kind(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in _FILE_KINDS if is_kind(status.st_mode)), "something else")
        raise BadImage(f"{kind}, not a file")


def _check_bytes(
    file: BinaryIO,
    size: int,
    max_pixels: int,
    max_bytes: int | None,
    header_size: Callable[[BinaryIO], tuple[int, int]],
) -> None:
    """BadImage for a file that is too large to be read; leaves the file at its start."""
    if max_bytes is not None:
        if size > max_bytes:
            raise BadImage(f"file of {size:,} bytes, more than --max-bytes {max_bytes}")
        return
    if size > _MANY_BYTES + 16 * max_pixels:  # 16 bytes a pixel is more than any single picture needs
        raise BadImage(f"file of {size:,} bytes, more than any image of the allowed size has (--max-bytes)")
    if size <= _MANY_BYTES:
        return
    try:
        height, width = header_size(file)
    except BadImage:
        raise
    except Exception:  # no image: reading it all would only show that more slowly
        height = width = 0
    if size > _MANY_BYTES + _BYTES_A_PIXEL * height * width:
        raise BadImage(
            f"file of {size:,} bytes, far more than {width} × {height} pixels need; --max-bytes {size} reads it"
        )
    file.seek(0)
