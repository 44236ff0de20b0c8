"""A large PNG as many small ones: bands of rows, each below the row above it, so that Pillow can undo the filters."""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.image_file import Content, inflater
from san_cli.datasets.spooled import rows_at_once

Part = TypeVar("Part")

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ANIMATED = (b"acTL", b"fcTL", b"fdAT")
_MOST_CHUNKS, _MOST_BESIDE = 2**20, 2**26  # of a file, and bytes of those that hold no pixels
_PIECE = 2**22  # bytes that are read at once


@dataclass(frozen=True)
class PngBands:
    """A PNG of 8 or 16 bits, not interlaced."""

    height: int
    width: int
    kind: bytes  # of its header: bits, colour type, and how it is packed
    before: bytes  # chunks before the pixels
    colours: bytes  # of them those that every band needs: palette and transparency
    after: bytes
    data: tuple[tuple[int, int], ...]  # where in the file the packed pixels are, and how many bytes

    @property
    def shell(self) -> bytes:
        """All that the file says beside the pixels, as a PNG of one pixel."""
        return self._png((1, 1), self.before, bytes(1 + self._pixel_bytes)) + self.after

    @property
    def _pixel_bytes(self) -> int:
        return self.kind[0] // 8 * _CHANNELS[self.kind[1]]

    def parts(self, content: Content, decode: Callable[[bytes], tuple[Part, bytes]]) -> Iterator[Part]:
        """Yield what `decode` makes of a PNG of each band, whose first row is to be dropped.

        It also returns the bytes of the band's last row, as PNG stores them without a filter. BadImage where rows
        are missing.
        """
        row_bytes = self.width * self._pixel_bytes
        above, step = bytes(row_bytes), rows_at_once(self.height, self.width)
        take = inflater(self._reader(content))
        for top in range(0, self.height, step):
            rows = min(step, self.height - top)
            lines = take(rows * (1 + row_bytes))
            if len(lines) < rows * (1 + row_bytes):
                raise BadImage("truncated or damaged (rows are missing)")
            band = self._png((self.width, rows + 1), self.colours, b"\0" + above + lines)
            part, above = decode(band + _chunk(b"IEND", b""))
            yield part

    def _reader(self, content: Content) -> Callable[[int], bytes]:
        pieces = (
            content.read_at(at, min(_PIECE, start + size - at))
            for start, size in self.data
            for at in range(start, start + size, _PIECE)
        )
        return lambda size: next(pieces, b"")

    def _png(self, size: tuple[int, int], chunks: bytes, lines: bytes) -> bytes:
        header = _chunk(b"IHDR", struct.pack(">II", *size) + self.kind)
        return _SIGNATURE + header + chunks + _chunk(b"IDAT", zlib.compress(lines, 0))


def png_bands(content: Content) -> PngBands | None:
    """Find the parts of a PNG; None for kinds that aren't read in bands, and for damage, which Pillow tells of."""
    at, kind = len(_SIGNATURE), b"IHDR"
    before: list[bytes] = []
    after: list[bytes] = []
    data: list[tuple[int, int]] = []
    for _ in range(_MOST_CHUNKS):
        size, kind = struct.unpack(">I4s", content.read_at(at, 8).ljust(8, b"\0"))
        whole = at + 12 + size <= len(content)
        if not whole or kind in _ANIMATED or ((kind == b"IDAT") and after):
            return None
        if kind == b"IDAT":
            data.append((at + 8, size))
        elif size > _MOST_BESIDE:
            return None
        else:
            (after if data else before).append(content.read_at(at, 12 + size))
        at += 12 + size
        if kind == b"IEND":
            break
    if (
        kind != b"IEND"
        or not data
        or not before
        or sum(len(chunk) for chunk in before + after) > _MOST_BESIDE
    ):
        return None
    header = before[0]
    if header != _chunk(b"IHDR", header[8:-4]) or len(header) != 25:
        return None
    width, height, depth, *kinds = struct.unpack(">II5B", header[8:21])
    if depth not in (8, 16) or kinds[0] not in _CHANNELS or any(kinds[1:]):
        return None
    colours = b"".join(chunk for chunk in before if chunk[4:8] in (b"PLTE", b"tRNS"))
    return PngBands(height, width, header[16:21], b"".join(before[1:]), colours, b"".join(after), tuple(data))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
