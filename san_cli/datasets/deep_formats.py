"""PNG, Netpbm and JPEG 2000 of more than 8 bits: the numbers themselves, of which Pillow gives the upper 8 bits."""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.image_file import Content
from san_cli.datasets.pixel_values import PixelValues, Rows, chosen_bands
from san_cli.datasets.png_bands import PngBands
from san_cli.datasets.reading import Reading
from san_cli.datasets.spooled import is_large, rows_at_once

_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_LONGEST_HEADER = 2**20  # bytes, comments included
_LONGEST_NUMBER = 10  # digits, as in Pillow
_JP2_SIZE = b"\xff\x4f\xff\x51"  # start of codestream and its size marker


def deep_values(
    image: Image.Image, content: Content, reading: Reading, notes: list[str], png: PngBands | None = None
) -> PixelValues | None:
    """Read the numbers of a file that Pillow has opened and not yet loaded; None where 8 bits are all there is.

    `png` are the pixels where `image` is the rest of the file alone. Raises BadImage, or whatever Pillow raises for
    damage.
    """
    if image.format == "PPM":
        return _netpbm_values(image, content, reading, notes)
    kind = content.read_at(24, 2)  # bits and colour type of a PNG
    if image.format != "PNG" or kind[:1] != b"\x10" or kind[1] not in _PNG_CHANNELS:
        return None
    count = _PNG_CHANNELS[kind[1]]
    alpha = count - 1 if count in (2, 4) else None
    key = image.info.get("transparency")
    bands, alpha = chosen_bands(count, [i for i in range(count) if i != alpha], alpha, reading, notes)
    is_keyed = count in (1, 3) and isinstance(key, (int, tuple)) and reading.bands is None

    def shown(values: npt.NDArray[np.uint16]) -> Rows:
        opacity = None if alpha is None else values[:, :, alpha]
        if is_keyed:
            is_clear = (values == np.asarray(key, np.uint16)).all(axis=2)
            opacity = np.where(is_clear, np.uint16(0), np.uint16(65535))
        return Rows(values[:, :, bands], opacity)

    if png is None:
        whole = (shown(_png_values(image, content, count)),)
        height, width, read = image.height, image.width, lambda: iter(whole)
    else:
        height, width = png.height, png.width
        read = lambda: map(shown, png.parts(content, partial(_band_values, channels=count)))  # noqa: E731
    shape = height, width, len(bands)
    has_alpha = is_keyed or alpha is not None
    return PixelValues(shape, np.dtype(np.uint16), read, bits=16, has_alpha=has_alpha)


def _band_values(png: bytes, channels: int) -> tuple[npt.NDArray[np.uint16], bytes]:
    """Numbers [h, W, C] of a small PNG without its first row, and the bytes of the last."""
    with Image.open(BytesIO(png), formats=("PNG",)) as image:
        values = _png_values(image, Content(png), channels)
    return values[1:], values[-1].astype(">u2").tobytes()


def jpeg2000_bits(content: Content) -> int:
    """Bits of the first component of a JPEG 2000 file; 8 where that can't be seen."""
    data = content.read_at(0, 2**17)
    at = data.find(_JP2_SIZE, 0, 2**16)
    return (data[at + 42] & 0x7F) + 1 if at >= 0 and at + 42 < len(data) else 8


def _png_values(image: Image.Image, content: Content, channels: int) -> npt.NDArray[np.uint16]:
    """Numbers [H, W, C] of a 16-bit PNG. Pillow unpacks the upper bytes, or as little-endian numbers the lower."""
    if channels == 1:
        return np.asarray(image).astype(np.uint16)[:, :, None]
    if channels == 2:  # four bytes a pixel, as 8-bit RGBA has
        parts: npt.NDArray[np.uint16] = np.asarray(_unpacked_as(image, "RGBA", "RGBA")).astype(np.uint16)
        return (parts[:, :, 0::2] << 8 | parts[:, :, 1::2]).astype(np.uint16)
    with Image.open(content.stream(), formats=("PNG",)) as again:
        mode = "RGB" if channels == 3 else "RGBA"
        low = np.asarray(_unpacked_as(again, mode, f"{mode};16L"))
    high = np.asarray(_unpacked_as(image, mode, f"{mode};16B")).astype(np.uint16)
    return high << 8 | low


def _unpacked_as(image: Image.Image, mode: str, raw_mode: str) -> Image.Image:
    """Return the image, still to be loaded, with its bytes unpacked in another way."""
    tile = image.tile[0]  # type: ignore[attr-defined]
    image._mode = mode
    image.tile = [tile._replace(args=raw_mode)]  # type: ignore[attr-defined]
    return image


def _netpbm_values(
    image: Image.Image, content: Content, reading: Reading, notes: list[str]
) -> PixelValues | None:
    """Read the numbers of a grey or colour Netpbm file; None for up to 8 bits."""
    header = re.match(rb"P([2356])(?:\s|#[^\r\n]*[\r\n])+(\d+)(?:\s|#[^\r\n]*[\r\n])+(\d+)"
                      rb"(?:\s|#[^\r\n]*[\r\n])+(\d+)\s", content.read_at(0, _LONGEST_HEADER))  # fmt: skip
    if header is None or not 255 < int(header[4]) < 65536:
        return None
    highest, channels = int(header[4]), 3 if header[1] in b"36" else 1
    shape = image.height, image.width, channels
    bands, _ = chosen_bands(channels, range(channels), None, reading, notes)

    def read() -> Iterator[Rows]:
        step = rows_at_once(image.height, image.width)
        for top in range(0, image.height, step):
            rows = min(step, image.height - top)
            start = header.end() + 2 * top * image.width * channels
            raw = content.read_at(start, 2 * rows * image.width * channels)
            numbers = np.frombuffer(raw[: len(raw) // 2 * 2], ">u2")
            yield Rows(_checked(numbers, (rows, *shape[1:]), highest)[:, :, bands])

    if header[1] in b"23":
        shown = Rows(_checked(_plain_numbers(content, header.end(), shape), shape, highest)[:, :, bands])
        found: Iterable[Rows] | None = (shown,)
    else:
        found = None if is_large(image.height, image.width) else tuple(read())
    return PixelValues(
        (*shape[:2], len(bands)),
        np.dtype(np.uint16),
        read if found is None else lambda: found,
        bits=16,
        declared=highest,
    )


def _plain_numbers(content: Content, start: int, shape: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """Numbers that are written in decimal, at most as many as there must be."""
    count = shape[0] * shape[1] * shape[2]
    words = re.sub(rb"#[^\r\n]*", b"", content.whole()[start:]).split(None, count)[:count]
    if any(len(word) > _LONGEST_NUMBER for word in words):
        raise BadImage("damaged (a value of too many digits)")
    return np.array(words, dtype=f"S{_LONGEST_NUMBER}").astype(np.int64)


def _checked(numbers: npt.NDArray[Any], shape: tuple[int, int, int], highest: int) -> npt.NDArray[np.uint16]:
    """Numbers as [h, W, C]. BadImage where some are missing or too high."""
    if len(numbers) < shape[0] * shape[1] * shape[2]:
        raise BadImage("truncated or damaged (values are missing)")
    if numbers.max() > highest or numbers.min() < 0:
        raise BadImage(f"damaged (a value above its maximum of {highest})")
    return numbers.astype(np.uint16).reshape(shape)
