"""A Pillow image, whatever its mode, as upright 8-bit RGB."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.Image import Transpose

from san_cli.datasets.georeference import GeoTags
from san_cli.datasets.pixel_values import (
    PixelValues,
    Rows,
    chosen_bands,
    data_as_alpha,
    survey_alpha,
    to_rgb,
)
from san_cli.datasets.reading import Reading
from san_cli.datasets.spooled import gathered, is_large, rows_at_once
from san_cli.text import printable

# What brings an image upright, by EXIF orientation (CIPA DC-008, tag 274).
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE = 258, 262, 281  # TIFF tags


@dataclass(frozen=True)
class LoadedImage:
    """An image as the rest of the program sees it."""

    pixels: npt.NDArray[np.uint8]  # RGB [H, W, 3], upright; read-only when it comes from a file
    exif_orientation: int = 1  # 1 to 8, as it was in the file
    notes: tuple[str, ...] = ()  # what the user may want to know about the conversion, one line each
    no_data: npt.NDArray[np.bool_] | None = None  # [H, W], upright: pixels that must stay unlabelled
    geo_tags: GeoTags | None = None  # where on earth the upright image lies, if the file says so


@dataclass(frozen=True)
class Banded:
    """A picture that comes in bands of rows."""

    height: int
    width: int
    parts: Callable[[], Iterator[Image.Image]]  # from the top, each time anew


def convert(
    image: Image.Image,
    reading: Reading,
    warned: list[str],
    *,
    notes: list[str] | None = None,
    scale: float = 1.0,
    banded: Banded | None = None,
) -> LoadedImage:
    """Decoded, upright, 8-bit RGB; `warned` is where Pillow's warnings arrive meanwhile.

    `notes` are those that there are already, of a TIFF. Values are the file's multiplied by `scale`.
    `banded` are the pixels where `image` is the rest of the file alone.
    """
    is_page = notes is not None
    notes = [] if notes is None else notes
    # Pillow turns a TIFF upright while loading it and then forgets the tag; asked before loading, a PNG would
    # load itself, and a second load after a failed one may pass.
    turned_by_pillow = exif_orientation(image.getexif, notes) if image.format == "TIFF" else 1
    image.load()
    orientation = left = exif_orientation(image.getexif, notes)
    is_numbers = image.mode == "F" or image.mode.startswith("I")
    turned = image
    if orientation in _UPRIGHT and (is_numbers or not (banded or is_large(image.height, image.width))):
        turned, left = image.transpose(_UPRIGHT[orientation]), 1  # Pillow is quicker at it, and takes a copy
    nothing = None
    if is_numbers:
        pixels, nothing = to_rgb(_pillow_values(turned, tiff_tags(image), scale), reading, notes)
    else:
        banded = banded or Banded(turned.height, turned.width, partial(parts, turned))
        pixels = upright(_rgb(turned, banded, reading, notes), left)
        if reading.range is not None:
            notes.append("--range changes nothing, as these pixels are read with 8 bits")
        elif scale != 256 and scale != 1 and _is_dark(pixels):
            notes.append(
                "dark, and read with the upper 8 of its bits alone; as a 16-bit TIFF it could have --range"
            )
    if not is_page and _has_more_frames(image):
        notes.append("the file holds several frames or pages; the first is used")
    return LoadedImage(pixels, max(orientation, turned_by_pillow), (*notes, *told_warnings(warned)), nothing)


def parts(image: Image.Image) -> Iterator[Image.Image]:
    """Yield a decoded image in bands of rows, from the top; as it is, unless it is large."""
    step = rows_at_once(image.height, image.width)
    if step >= image.height:
        yield image
        return
    for top in range(0, image.height, step):
        yield image.crop((0, top, image.width, min(top + step, image.height)))


def band_of_png(png: bytes) -> tuple[Image.Image, bytes]:
    """Decode a small PNG of 8 bits: all but its first row, and the bytes of the last."""
    with Image.open(BytesIO(png), formats=("PNG",)) as image:
        last = image.crop((0, image.height - 1, image.width, image.height)).tobytes()
        return image.crop((0, 1, image.width, image.height)), last


def _pillow_values(image: Image.Image, tags: dict[int, Any], scale: float) -> PixelValues:
    """Return the grey numbers of a Pillow image of mode F or I."""
    kind = np.asarray(image.crop((0, 0, 1, 1))).dtype
    return PixelValues(
        (image.height, image.width, 1),
        kind,
        lambda: (Rows(np.asarray(part)[:, :, None]) for part in parts(image)),
        bits=tags.get(_BITS_PER_SAMPLE, (16,))[0],
        is_tiff=bool(tags),
        declared=int(np.max(tags.get(_MAX_SAMPLE_VALUE, 0))),
        white_is_zero=image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0,
        scale=scale if image.mode.startswith("I") else 1.0,
    )


def _is_dark(pixels: npt.NDArray[np.uint8]) -> bool:
    step = max(1, 2**20 // pixels.shape[1])
    return all(pixels[top : top + step].max() < 77 for top in range(0, len(pixels), step))


def _bands_taker(
    image: Image.Image, reading: Reading, notes: list[str]
) -> Callable[[Image.Image], Image.Image]:
    """Return what takes the bands that were asked for from a part of the image, as RGB."""
    mode = image.mode
    if mode not in ("L", "LA", "RGB", "RGBA"):
        mode = "RGBA" if image.has_transparency_data else "RGB"
    bands, _ = chosen_bands(len(mode), range(len(mode)), None, reading, notes)

    def take(part: Image.Image) -> Image.Image:
        single = (part if part.mode == mode else part.convert(mode)).split()
        return Image.merge("RGB", [single[band] for band in (bands if len(bands) == 3 else bands * 3)])

    return take


def exif_orientation(read_exif: Callable[[], Image.Exif], notes: list[str]) -> int:
    """1 to 8, as EXIF data has it; 1, and a note, where that can't be read or makes no sense."""
    try:
        value = read_exif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        notes.append("EXIF data is damaged; the image is taken as upright")
        return 1
    if isinstance(value, int) and 0 <= value <= 8:
        return max(1, value)  # 0 is what many writers put for "unknown"
    notes.append("EXIF orientation makes no sense; the image is taken as upright")
    return 1


def tiff_tags(image: Image.Image) -> dict[int, Any]:
    """Return the tags of a TIFF that Pillow has opened; none of anything else."""
    return cast("dict[int, Any]", getattr(image, "tag_v2", {}))


def _has_more_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a GIF looks for its second frame only now; damage there is no matter of the first
        return False


def _rgb(image: Image.Image, banded: Banded, reading: Reading, notes: list[str]) -> npt.NDArray[np.uint8]:
    """RGB [H, W, 3] of an image of an 8-bit mode, what is transparent shown on white."""
    if reading.bands is not None:
        convert_part = _bands_taker(image, reading, notes)
    elif image.has_transparency_data and not _is_opaque(image, banded, notes):
        convert_part = _on_white
    else:
        if image.mode in ("CMYK", "LAB"):
            notes.append(f"{image.mode} converted to RGB without a colour profile")
        convert_part = _opaque_rgb
    return gathered((np.asarray(convert_part(part)) for part in banded.parts()), banded.height, banded.width)


def _is_opaque(image: Image.Image, banded: Banded, notes: list[str]) -> bool:
    """Tell whether an image that may have transparency has none. Notes what else it has."""
    mode = image.mode
    alphas = (np.asarray(_rgba(part).getchannel("A")) for part in banded.parts())
    looks_like_data, is_opaque = survey_alpha(alphas, banded.height * banded.width, 255)
    if not is_opaque and mode in ("RGBA", "LA") and looks_like_data:
        notes.append(data_as_alpha(len(mode) - 1))
    if not is_opaque:
        notes.append("transparent parts are shown on white")
    return is_opaque


def _rgba(part: Image.Image) -> Image.Image:
    return part if part.mode in ("LA", "RGBA") else part.convert("RGBA")


def _opaque_rgb(part: Image.Image) -> Image.Image:
    if part.mode == "RGB":
        return part
    return (part.convert("RGBA") if part.has_transparency_data else part).convert("RGB")


def _on_white(part: Image.Image) -> Image.Image:
    rgba = part.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """An array [H, W, …] turned as EXIF says; a large one is a view, as it was."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array if is_large(*array.shape[:2]) else np.ascontiguousarray(array)


def told_warnings(warned: list[str]) -> list[str]:
    """Turn Pillow's warnings into notes."""
    odd = [text.strip() for text in dict.fromkeys(warned) if "decompression bomb" not in text]
    return [f"Pillow: {printable(text)}" for text in odd]
