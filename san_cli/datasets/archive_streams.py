"""Streams that archives are read from, bounded whatever their headers say: 6 MB of gzip can hold a header of 6 GB."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, cast

_MAX_HEADER = 2**18  # bytes of a tar member's headers: long names, extended attributes, maps of sparse files
_XZ_MEMORY = 2**27  # bytes, twice what `xz -9` needs; a header may ask for 4 GB

# What reading a damaged archive may raise.
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,  # a compression method
    RuntimeError,  # encrypted
    ValueError,
)


class BoundedHeaders:
    """A stream that tarfile lists members from: it asks where it is, or goes elsewhere, before each header."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._read, self.bounded = stream, 0, True

    def read(self, size: int) -> bytes:
        """Read so many bytes; ReadError for more than a header has."""
        self._read += size
        if self.bounded and self._read > _MAX_HEADER:
            raise tarfile.ReadError(f"a header of over {_MAX_HEADER:,} bytes")
        return self._stream.read(size)

    def tell(self) -> int:
        """Return the position."""
        self._read = 0
        return self._stream.tell()

    def seek(self, position: int) -> int:
        """Go to a position."""
        self._read = 0
        return self._stream.seek(position)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def decompressed(path: Path) -> IO[bytes]:
    """Open the bytes of a file that may be compressed: gzip, bzip2 or xz, told by its first bytes."""
    with path.open("rb") as file:
        start = file.read(2**16)
    if is_tar_header(start):  # whatever its first file's name begins with
        return path.open("rb")
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(path))
    if start.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(path))
    if start.startswith(b"\xfd7zXZ"):
        lzma.LZMADecompressor(memlimit=_XZ_MEMORY).decompress(start, 1)  # refuses a larger dictionary
        return cast("IO[bytes]", lzma.open(path))
    return path.open("rb")


def is_tar(path: Path) -> bool:
    """Tell whether the first header is one of tar's; what follows it isn't read, as `tarfile.is_tarfile` does."""
    try:
        with decompressed(path) as stream:
            return is_tar_header(stream.read(tarfile.BLOCKSIZE))
    except DAMAGE:
        return False


def is_tar_header(block: bytes) -> bool:
    """Tell whether bytes begin with a header of tar's, whose sum is right."""
    try:
        tarfile.TarInfo.frombuf(block[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except DAMAGE:
        return False
    return True
