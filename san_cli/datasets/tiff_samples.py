"""The numbers of a TIFF's pages, where Pillow doesn't read them or reads them wrongly.

More than 8 bits, separate planes, other numbers of bands, sparse files. libtiff (through Pillow) still unpacks the
bytes; what they mean is told apart here.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from san_cli.datasets import tiff
from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.pixel_values import PixelValues, chosen_bands
from san_cli.datasets.reading import Reading
from san_cli.datasets.tiff import Page, Tag, TiffPicture

# A strip or tile may unpack to so many bytes, and more as the picture has pixels or the file bytes for it.
_MANY_BYTES, _BYTES_A_PIXEL, _BYTES_A_BYTE = 2**28, 64, 16
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def read_values(picture: TiffPicture, data: bytes, reading: Reading, notes: list[str]) -> PixelValues:
    """Read the numbers of the picture's bands. Raises BadImage for kinds that can't be read, and for damage."""
    page, photometric = picture.page, picture.page.number(Tag.PHOTOMETRIC)
    _refuse_unknown(page)
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
    wanted = bands if alpha is None else (*bands, alpha)
    values = _samples(page, data, wanted)
    mask = None
    if picture.mask is not None:
        _refuse_unknown(picture.mask)
        mask = _samples(picture.mask, data, (0,))[:, :, 0] == 0
    return PixelValues(
        values[:, :, : len(bands)],
        bits=page.bits[0],
        is_tiff=True,
        declared=max(page.numbers(Tag.MAX_VALUE), default=0),
        nodata=page.nodata,
        outside=mask,
        white_is_zero=photometric == 0 and len(bands) == 1,
        is_cmyk=len(bands) == 4,
        alpha=None if alpha is None else values[:, :, -1],
        alpha_is_associated=alpha is not None and tiff.ALPHA[extras[alpha - colours]],
    )


def no_data(picture: TiffPicture, data: bytes) -> npt.NDArray[np.bool_] | None:
    """Find where the mask of a picture that Pillow reads says that there is no data, as stored; None without one."""
    if picture.mask is None:
        return None
    _refuse_unknown(picture.mask)
    return _samples(picture.mask, data, (0,))[:, :, 0] == 0


def _refuse_unknown(page: Page) -> None:
    """BadImage for what isn't read here."""
    bits, kind = set(page.bits), set(page.numbers(Tag.FORMAT) or (1,))
    whole = len(bits) == 1 and len(kind) == 1 and len(page.bits) == page.samples
    sizes = {1: {*range(1, 17), 32, 64}, 2: {8, 16, 32, 64}, 3: {16, 32, 64}, 4: {*range(1, 17), 32, 64}}
    if not whole or not bits <= sizes.get(next(iter(kind)), set()):
        raise BadImage(f"{tiff.describe(page)}: san doesn't read these; convert it to 8 or 16 bits")
    if page.number(Tag.COMPRESSION, 1) not in (tiff.NONE, *tiff.DEFLATE, *tiff.BY_LIBTIFF):
        raise BadImage(f"{tiff.describe(page)}: san doesn't read these; save it with LZW or Deflate")
    predictor = _predictor(page)
    if not (
        predictor == 1
        or (predictor == 2 and bits <= {8, 16, 32, 64})
        or (predictor == 3 and kind == {3} and bits <= {16, 32, 64})
    ):
        raise BadImage(f"{tiff.describe(page)} with predictor {predictor}: san doesn't read these")


def _samples(page: Page, data: bytes, bands: Sequence[int]) -> npt.NDArray[np.generic]:
    """The numbers [H, W, len(bands)] of some bands, as stored. BadImage for damage."""
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
        sizes = (len(data) - starts[0],) if starts else ()
    if min(len(starts), len(sizes)) < across * down * (page.samples if is_planar else 1):
        raise BadImage("truncated or damaged (strips or tiles are missing)")
    dtype = _dtype(page)
    depth = 1 if is_planar else page.samples
    plain_size = high * math.ceil(wide * depth * page.bits[0] / 8)  # of a strip or tile
    missing = 0 if page.nodata is None else _as(page.nodata, dtype)
    found = np.empty((height, width, len(bands)), dtype)
    for place in range(len(bands) if is_planar else 1):
        plane = bands[place] if is_planar else 0
        for index in range(across * down):
            top, left = index // across * high, index % across * wide
            rows = min(high, height - top)
            area = found[top : top + rows, left : left + wide, place : place + 1 if is_planar else len(bands)]
            number = plane * across * down + index
            start, size = starts[number], sizes[number]
            if not size and not start:  # of a sparse file
                area[...] = missing
                continue
            if start < 0 or start + size > len(data):
                raise BadImage("truncated or damaged (a strip or tile lies outside the file)")
            if plain_size > _MANY_BYTES + _BYTES_A_PIXEL * width * height + _BYTES_A_BYTE * size:
                raise BadImage(
                    f"{tiff.describe(page)}: far more bytes than its pixels or its file can account for"
                )
            segment = _segment(
                page,
                data[start : start + min(size, 2 * plain_size + 4096)],
                high if is_tiled else rows,
                wide,
                depth,
            )
            area[...] = segment[:rows, : area.shape[1], [0] if is_planar else list(bands)]
    return found


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


def _segment(page: Page, raw: bytes, rows: int, wide: int, depth: int) -> npt.NDArray[np.generic]:
    """The numbers [rows, wide, depth] of one strip or tile."""
    bits, dtype = page.bits[0], _dtype(page)
    row_bytes = math.ceil(wide * depth * bits / 8)
    plain = _unpacked(page, raw, rows, row_bytes)
    if bits not in (8, 16, 32, 64):
        return _from_bits(plain, rows, row_bytes, wide * depth, bits).reshape(rows, wide, depth).astype(dtype)
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


def _unpacked(page: Page, raw: bytes, rows: int, row_bytes: int) -> bytes:
    """Return the bytes of a strip or tile without compression: exactly as many as there must be, or BadImage."""
    size, compression = rows * row_bytes, page.number(Tag.COMPRESSION, 1)
    if page.number(Tag.FILL_ORDER, 1) == 2:
        raw = raw.translate(_REVERSED)
    if compression == tiff.NONE:
        plain = raw[:size]
    elif compression in tiff.DEFLATE:
        plain = zlib.decompressobj().decompress(raw, size)
    else:
        plain = _by_libtiff(raw, compression, rows, row_bytes)
    if len(plain) < size:
        raise BadImage("truncated or damaged (a strip or tile is too short)")
    return plain


def _by_libtiff(raw: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """Unpack bytes as the grey values of a TIFF made for that; libtiff doesn't ask what they mean."""
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
    with Image.open(BytesIO(made), formats=("TIFF",)) as image:
        return image.tobytes()


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
