"""The numbers of a TIFF's pages, where Pillow doesn't read them or reads them wrongly.

More than 8 bits, separate planes, other numbers of bands, sparse files. libtiff (through Pillow) still unpacks the
bytes; what they mean is told apart here.
"""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from san_cli.datasets import tiff
from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.image_file import Content, inflater
from san_cli.datasets.pixel_values import PixelValues, Rows, chosen_bands
from san_cli.datasets.raster import reader_by_gdal
from san_cli.datasets.reading import Reading
from san_cli.datasets.spooled import is_large, rows_at_once
from san_cli.datasets.tiff import Page, Tag, TiffPicture

# A strip or tile may unpack to so many bytes, and more as the picture has pixels or the file bytes for it.
_MANY_BYTES, _BYTES_A_PIXEL, _BYTES_A_BYTE = 2**28, 64, 16
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def read_values(picture: TiffPicture, content: Content, reading: Reading, notes: list[str]) -> PixelValues:
    """Read the numbers of the picture's bands. Raises BadImage for kinds that can't be read, and for damage."""
    page, photometric = picture.page, picture.page.number(Tag.PHOTOMETRIC)
    refusal = _refusal(page)
    samples = reader_by_gdal(picture, refusal) if refusal else _samples
    if refusal:
        grid = _grid(page, content)
        _check_unpacked(page, grid, max(grid.sizes, default=0))
    if picture.mask is not None:
        _refuse_unknown(picture.mask)
    extras = page.extras
    colours = page.samples - len(extras)
    alpha = next((colours + i for i, kind in enumerate(extras) if kind in tiff.ALPHA), None)
    if photometric == 5 and reading.bands is None:
        bands: tuple[int, ...] = (0, 1, 2, 3)
    else:
        data_bands = tuple(i for i in range(page.samples) if i != alpha)
        bands, alpha = chosen_bands(page.samples, data_bands, alpha, reading, notes)
        if photometric in (0, 1) and len(bands) == 3 and reading.bands is None:
            notes.append("the file doesn't say which bands are colours: 1,2,3 are taken for red, green, blue")

    def read() -> Iterator[Rows]:
        wanted = bands if alpha is None else (*bands, alpha)
        masks = repeat(None) if picture.mask is None else _samples(picture.mask, content, (0,))
        for values, mask in zip(samples(page, content, wanted), masks, strict=False):
            values = values.astype(_dtype(page), copy=False)
            yield Rows(
                values[:, :, : len(bands)],
                alpha=None if alpha is None else values[:, :, -1],
                outside=None if mask is None else mask[:, :, 0] == 0,
            )

    whole = None if is_large(page.height, page.width) else list(read())
    return PixelValues(
        (page.height, page.width, len(bands)),
        _dtype(page),
        read if whole is None else lambda: whole,
        bits=page.bits[0],
        is_tiff=True,
        declared=max(page.numbers(Tag.MAX_VALUE), default=0),
        nodata=page.nodata,
        has_outside=picture.mask is not None,
        white_is_zero=photometric == 0 and len(bands) == 1,
        is_cmyk=len(bands) == 4,
        has_alpha=alpha is not None,
        alpha_is_associated=alpha is not None and tiff.ALPHA[extras[alpha - colours]],
    )


def no_data(picture: TiffPicture, content: Content) -> npt.NDArray[np.bool_] | None:
    """Find where the mask of a picture that Pillow reads says that there is no data, as stored; None without one."""
    if picture.mask is None:
        return None
    _refuse_unknown(picture.mask)
    return np.concatenate([rows[:, :, 0] == 0 for rows in _samples(picture.mask, content, (0,))])


def reads_in_bands(page: Page) -> bool:
    """Tell whether `read_values` reads the page, and without unpacking it as a whole."""
    grid_rows = page.number(Tag.TILE_HEIGHT) or min(page.number(Tag.ROWS, page.height), page.height)
    wide = page.number(Tag.TILE_WIDTH) or page.width
    is_in_pieces = (
        page.number(Tag.COMPRESSION, 1) not in tiff.BY_LIBTIFF
        or grid_rows * wide * page.samples * _dtype(page).itemsize <= _MANY_BYTES
    )
    return is_in_pieces and page.number(Tag.PHOTOMETRIC) in tiff.COLOURS and not _refusal(page)


def _refuse_unknown(page: Page) -> None:
    """BadImage for what isn't read here."""
    refusal = _refusal(page)
    if refusal:
        raise BadImage(f"{tiff.describe(page)}{refusal}")


def _refusal(page: Page) -> str:
    """Say why a page isn't read here, to go on after what it is; "" if it is read."""
    bits, kind = set(page.bits), set(page.numbers(Tag.FORMAT) or (1,))
    whole = len(bits) == 1 and len(kind) == 1 and len(page.bits) == page.samples
    sizes = {1: {*range(1, 17), 32, 64}, 2: {8, 16, 32, 64}, 3: {16, 32, 64}, 4: {*range(1, 17), 32, 64}}
    if not whole or not bits <= sizes.get(next(iter(kind)), set()):
        return ": san doesn't read these; convert it to 8 or 16 bits"
    if page.number(Tag.COMPRESSION, 1) not in (tiff.NONE, *tiff.DEFLATE, *tiff.BY_LIBTIFF):
        return ": san doesn't read these; save it with LZW or Deflate"
    predictor = _predictor(page)
    is_known = (
        predictor == 1
        or (predictor == 2 and bits <= {8, 16, 32, 64})
        or (predictor == 3 and kind == {3} and bits <= {16, 32, 64})
    )
    return "" if is_known else f" with predictor {predictor}: san doesn't read these"


@dataclass(frozen=True)
class _Grid:
    """How a page is cut into strips or tiles: all of one size, but for the last strip."""

    wide: int  # pixels
    high: int
    across: int  # how many beside one another
    down: int
    starts: tuple[int, ...]
    sizes: tuple[int, ...]  # in bytes
    is_tiled: bool
    is_planar: bool  # each band has strips or tiles of its own

    def row_bytes(self, page: Page) -> int:
        """Of a strip or tile, unpacked."""
        return math.ceil(self.wide * (1 if self.is_planar else page.samples) * page.bits[0] / 8)


def _grid(page: Page, content: Content) -> _Grid:
    """Find the strips or tiles. BadImage where there are too few of them, or of senseless size."""
    width, height = page.width, page.height
    is_tiled = bool(page.numbers(Tag.TILES))
    wide = page.number(Tag.TILE_WIDTH) if is_tiled else width
    high = page.number(Tag.TILE_HEIGHT) if is_tiled else min(page.number(Tag.ROWS, height), height)
    starts, sizes = (
        page.numbers(tag)
        for tag in ((Tag.TILES, Tag.TILE_SIZES) if is_tiled else (Tag.STRIPS, Tag.STRIP_SIZES))
    )
    is_planar = page.number(Tag.PLANAR, 1) == 2 and page.samples > 1
    if wide < 1 or high < 1 or wide * high > 64 * width * height + 2**26:
        raise BadImage("damaged (senseless size of tiles or strips)")
    across, down = math.ceil(width / wide), math.ceil(height / high)
    if not sizes and across * down == 1 and not is_planar:
        sizes = (len(content) - starts[0],) if starts else ()
    if min(len(starts), len(sizes)) < across * down * (page.samples if is_planar else 1):
        raise BadImage("truncated or damaged (strips or tiles are missing)")
    return _Grid(wide, high, across, down, starts, sizes, is_tiled, is_planar)


def _check_unpacked(page: Page, grid: _Grid, size: int) -> None:
    """BadImage where a strip or tile of `size` bytes would unpack to more than any honest one."""
    most = _MANY_BYTES + _BYTES_A_PIXEL * page.width * page.height + _BYTES_A_BYTE * size
    if grid.high * grid.row_bytes(page) > most:
        raise BadImage(f"{tiff.describe(page)}: far more bytes than its pixels or its file can account for")


def _samples(page: Page, content: Content, bands: Sequence[int]) -> Iterator[npt.NDArray[np.generic]]:
    """The numbers [h, W, len(bands)] of some bands, as stored, in bands of rows. BadImage for damage."""
    width, height, grid = page.width, page.height, _grid(page, content)
    step = rows_at_once(height, width)
    planes = list(bands) if grid.is_planar else [0]
    is_all = not grid.is_planar and list(bands) == list(range(page.samples))
    chosen: Any = slice(None) if grid.is_planar or is_all else list(bands)
    found, filled, top = np.empty((0, 0, 0)), 0, 0  # top: of the rows that are being filled
    for down in range(grid.down):
        rows = min(grid.high, height - down * grid.high)
        columns = [
            _segment_rows(
                page, content, grid, (plane * grid.down + down) * grid.across + column, (rows, step)
            )
            for plane in planes
            for column in range(grid.across)
        ]
        for parts in zip(*columns, strict=True):
            used = 0
            while used < len(parts[0]) and top < height:
                if not filled:
                    found = np.empty((min(step, height - top), width, len(bands)), _dtype(page))
                count = min(len(parts[0]) - used, len(found) - filled)
                for number, part in enumerate(parts):
                    place, column = divmod(number, grid.across)
                    area = found[filled : filled + count, column * grid.wide : (column + 1) * grid.wide]
                    area = area[:, :, place : place + 1] if grid.is_planar else area
                    area[...] = part[used : used + count, : area.shape[1], chosen]
                used, filled = used + count, filled + count
                if filled == len(found):
                    yield found
                    top, filled = top + filled, 0


def _segment_rows(
    page: Page, content: Content, grid: _Grid, number: int, rows_and_step: tuple[int, int]
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the numbers [h, wide, depth] of a strip or tile; of one with many rows, at most a step at a time."""
    rows, step = rows_and_step
    dtype, depth = _dtype(page), 1 if grid.is_planar else page.samples
    start, size = grid.starts[number], grid.sizes[number]
    row_bytes = grid.row_bytes(page)
    take = None
    if size or start:  # else of a sparse file
        if start < 0 or start + size > len(content):
            raise BadImage("truncated or damaged (a strip or tile lies outside the file)")
        _check_unpacked(page, grid, size)
        stored = grid.high if grid.is_tiled else rows
        size = min(size, 2 * grid.high * row_bytes + 4096)
        take = _unpacker(page, content, (start, size), (stored, row_bytes))
    for top in range(0, rows, step):
        count = min(step, rows - top)
        if take is None:
            missing = 0 if page.nodata is None else _as(page.nodata, dtype)
            yield np.broadcast_to(np.asarray(missing, dtype), (count, grid.wide, depth))
            continue
        plain = take(count * row_bytes)
        if len(plain) < count * row_bytes:
            raise BadImage("truncated or damaged (a strip or tile is too short)")
        yield _numbers(page, plain, count, grid.wide, depth)


def _dtype(page: Page) -> np.dtype[np.generic]:
    """The machine's type that holds a sample."""
    kind = {2: "i", 3: "f"}.get(page.number(Tag.FORMAT, 1), "u")
    return np.dtype(f"{kind}{next(size for size in (1, 2, 4, 8) if 8 * size >= page.bits[0])}")


def _as(value: float, dtype: np.dtype[np.generic]) -> float:
    """Return the value where the type can hold it, else 0."""
    if dtype.kind == "f":
        return value
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    return int(value) if math.isfinite(value) and limits.min <= value <= limits.max else 0


def _numbers(page: Page, plain: bytes, rows: int, wide: int, depth: int) -> npt.NDArray[np.generic]:
    """The numbers [rows, wide, depth] of rows of one strip or tile."""
    bits, dtype = page.bits[0], _dtype(page)
    if bits not in (8, 16, 32, 64):
        single = _from_bits(plain, rows, math.ceil(wide * depth * bits / 8), wide * depth, bits)
        return single.reshape(rows, wide, depth).astype(dtype)
    predictor = _predictor(page)
    if predictor == 3:
        return _from_float_differences(plain, rows, wide, depth, dtype)
    stored = np.frombuffer(plain, dtype.newbyteorder(page.order)).reshape(rows, wide, depth)
    if predictor == 2:
        whole = np.dtype(f"u{dtype.itemsize}")
        differences = stored.view(whole.newbyteorder(page.order)).astype(whole)
        return np.cumsum(differences, axis=1, dtype=whole).view(dtype)
    return stored


def _predictor(page: Page) -> int:
    """Return the predictor, 1 for none, also where the compression knows none, whatever the tag says."""
    knows = page.number(Tag.COMPRESSION, 1) not in (tiff.NONE, tiff.PACKBITS)
    return page.number(Tag.PREDICTOR, 1) if knows else 1


def _unpacker(
    page: Page, content: Content, place: tuple[int, int], rows_and_bytes: tuple[int, int]
) -> Callable[[int], bytes]:
    """Return what gives so many bytes of a strip or tile without compression, from its start on, at each call.

    `place` is where it begins and how many bytes it has. Fewer bytes come where there are no more.
    """
    compression = page.number(Tag.COMPRESSION, 1)
    at, end = place[0], sum(place)

    def read(size: int) -> bytes:
        nonlocal at
        raw = content.read_at(at, min(size, end - at))
        at += len(raw)
        return raw.translate(_REVERSED) if page.number(Tag.FILL_ORDER, 1) == 2 else raw

    if compression == tiff.NONE:
        return read
    if compression in tiff.DEFLATE:
        return inflater(read)
    return _by_libtiff(page, read(place[1]), compression, rows_and_bytes)


def _by_libtiff(
    page: Page, raw: bytes, compression: int, rows_and_bytes: tuple[int, int]
) -> Callable[[int], bytes]:
    """Unpack bytes as the grey values of a TIFF made for that; libtiff doesn't ask what they mean."""
    rows, row_bytes = rows_and_bytes
    if Image.MAX_IMAGE_PIXELS is not None and rows * row_bytes > 2 * Image.MAX_IMAGE_PIXELS:
        raise BadImage(
            f"{tiff.describe(page)} in one piece of {rows * row_bytes:,} bytes; save it in strips or tiles"
        )
    tags = (
        (Tag.WIDTH, row_bytes), (Tag.HEIGHT, rows), (Tag.BITS, 8), (Tag.COMPRESSION, compression),
        (Tag.PHOTOMETRIC, 1), (Tag.STRIPS, 8), (Tag.SAMPLES, 1), (Tag.ROWS, rows), (Tag.STRIP_SIZES, len(raw)),
    )  # fmt: skip
    padding = b"\0" * (len(raw) % 2)
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
    )
    start = 8 + len(raw) + len(padding)
    made = struct.pack("<2sHI", b"II", 42, start) + raw + padding + directory + bytes(4)
    image = Image.open(BytesIO(made), formats=("TIFF",))
    image.load()
    top = 0

    def take(size: int) -> bytes:
        nonlocal top
        below = min(rows, top + size // row_bytes)
        part = image if (top, below) == (0, rows) else image.crop((0, top, row_bytes, below))
        top = below
        return part.tobytes()

    return take


def _from_bits(plain: bytes, rows: int, row_bytes: int, count: int, bits: int) -> npt.NDArray[np.uint32]:
    """Numbers [rows, count] of `bits` bits each, the highest first; a row begins at a whole byte."""
    stored = np.frombuffer(plain, np.uint8).reshape(rows, row_bytes)
    found = np.empty((rows, count), np.uint32)
    step = max(1, 2**20 // max(1, row_bytes))
    for top in range(0, rows, step):  # in parts, as each bit takes a byte meanwhile
        single = np.unpackbits(stored[top : top + step], axis=1)[:, : count * bits]
        block: npt.NDArray[Any] = np.zeros((len(single), count), np.uint32)
        for bit in range(bits):
            block = block << 1 | single[:, bit::bits]
        found[top : top + step] = block
    return found


def _from_float_differences(
    plain: bytes, rows: int, wide: int, depth: int, dtype: np.dtype[np.generic]
) -> npt.NDArray[np.generic]:
    """Undo the floating-point predictor: differences of bytes, all first bytes of a row before all second ones."""
    size = dtype.itemsize
    differences = np.frombuffer(plain, np.uint8).reshape(rows, wide * size, depth)
    summed = np.cumsum(differences, axis=1, dtype=np.uint8).reshape(rows, size, wide * depth)
    values = np.ascontiguousarray(summed.swapaxes(1, 2)).view(dtype.newbyteorder(">"))
    return values.reshape(rows, wide, depth).astype(dtype)
