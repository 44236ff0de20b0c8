"""The bytes of an image file: a regular file, of credible size, that no decoder crawls through byte by byte."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from san_cli.datasets.bad_image import BadImage

_MANY_BYTES, _BYTES_A_PIXEL = 256 * 2**20, 64  # a larger file must have so many pixels
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


def read_file(
    path: str | os.PathLike[str],
    max_pixels: int,
    max_bytes: int | None,
    header_size: Callable[[BinaryIO], tuple[int, int]],
) -> bytes:
    """Read the whole file at once, so that a file that changes meanwhile is decoded from one state.

    `header_size` gives (height, width) as the header promises them; it is asked about large files. Raises BadImage
    for what is no file, can't be read, or is larger than `max_bytes` (None: than its pixels can account for).
    """
    try:
        with open_file(path) as file:
            _check_bytes(file, os.fstat(file.fileno()).st_size, max_pixels, max_bytes, header_size)
            return file.read()
    except FileNotFoundError as error:
        raise BadImage("broken link" if Path(path).is_symlink() else "no such file") from error
    except (OSError, ValueError) as error:
        raise BadImage(os_cause(error)) from error
    except MemoryError as error:
        raise BadImage("not enough memory to read it") from error


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
    pass


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a regular file for reading; nothing else is opened, so nothing can block."""
    _check_kind(Path(path).stat())
    # Non-blocking, and checked again: the name may have become a pipe in between.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with _File(io.FileIO(descriptor)) as file:
        _check_kind(os.fstat(descriptor))
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
