"""PNG, Netpbm and JPEG 2000 of more than 8 bits: the numbers themselves, of which Pillow gives the upper 8 bits."""

import re
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.pixel_values import PixelValues, chosen_bands
from san_cli.datasets.reading import Reading

_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_LONGEST_NUMBER = 10  # digits, as in Pillow
_JP2_SIZE = b"\xff\x4f\xff\x51"  # start of codestream and its size marker


def deep_values(image: Image.Image, data: bytes, reading: Reading, notes: list[str]) -> PixelValues | None:
    """Read the numbers of a file that Pillow has opened and not yet loaded; None where 8 bits are all there is.

    Raises BadImage, or whatever Pillow raises for damage.
    """
    if image.format == "PNG" and data[24:25] == b"\x10" and data[25] in _PNG_CHANNELS:
        values = _png_values(image, data)
    elif image.format == "PPM" and data[:2] in (b"P2", b"P3", b"P5", b"P6"):
        found = _netpbm_values(image, data)
        if found is None:
            return None
        values, declared = found
        bands, _ = chosen_bands(values.shape[2], range(values.shape[2]), None, reading, notes)
        return PixelValues(values[:, :, bands], bits=16, declared=declared)
    else:
        return None
    count = values.shape[2]
    alpha = count - 1 if count in (2, 4) else None
    key = image.info.get("transparency")
    bands, alpha = chosen_bands(count, [i for i in range(count) if i != alpha], alpha, reading, notes)
    opacity = None if alpha is None else values[:, :, alpha]
    if count in (1, 3) and isinstance(key, (int, tuple)) and reading.bands is None:
        opacity = np.where((values == np.asarray(key, np.uint16)).all(axis=2), np.uint16(0), np.uint16(65535))
    return PixelValues(values[:, :, bands], bits=16, alpha=opacity)


def jpeg2000_bits(data: bytes) -> int:
    """Bits of the first component of a JPEG 2000 file; 8 where that can't be seen."""
    at = data.find(_JP2_SIZE, 0, 2**16)
    return (data[at + 42] & 0x7F) + 1 if at >= 0 and at + 42 < len(data) else 8


def _png_values(image: Image.Image, data: bytes) -> npt.NDArray[np.uint16]:
    """Numbers [H, W, C] of a 16-bit PNG. Pillow unpacks the upper bytes, or as little-endian numbers the lower."""
    channels = _PNG_CHANNELS[data[25]]
    if channels == 1:
        return np.asarray(image).astype(np.uint16)[:, :, None]
    if channels == 2:  # four bytes a pixel, as 8-bit RGBA has
        parts: npt.NDArray[np.uint16] = np.asarray(_unpacked_as(image, "RGBA", "RGBA")).astype(np.uint16)
        return (parts[:, :, 0::2] << 8 | parts[:, :, 1::2]).astype(np.uint16)
    with Image.open(BytesIO(data), formats=("PNG",)) as again:
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


def _netpbm_values(image: Image.Image, data: bytes) -> tuple[npt.NDArray[np.uint16], int] | None:
    """Numbers [H, W, C] and the highest possible one; None for up to 8 bits."""
    header = re.match(rb"P([2356])(?:\s|#[^\r\n]*[\r\n])+(\d+)(?:\s|#[^\r\n]*[\r\n])+(\d+)"
                      rb"(?:\s|#[^\r\n]*[\r\n])+(\d+)\s", data)  # fmt: skip
    if header is None or not 255 < int(header[4]) < 65536:
        return None
    channels = 3 if header[1] in b"36" else 1
    shape = image.height, image.width, channels
    count, body = shape[0] * shape[1] * channels, data[header.end() :]
    if header[1] in b"23":
        words = re.sub(rb"#[^\r\n]*", b"", body).split(None, count)[:count]
        if any(len(word) > _LONGEST_NUMBER for word in words):
            raise BadImage("damaged (a value of too many digits)")
        numbers = np.array(words, dtype=f"S{_LONGEST_NUMBER}").astype(np.int64)
    else:
        numbers = np.frombuffer(body[: min(2 * count, len(body) // 2 * 2)], ">u2").astype(np.int64)
    if len(numbers) < count:
        raise BadImage("truncated or damaged (values are missing)")
    if numbers.max() > int(header[4]) or numbers.min() < 0:
        raise BadImage(f"damaged (a value above its maximum of {int(header[4])})")
    return numbers.astype(np.uint16).reshape(shape), int(header[4])
