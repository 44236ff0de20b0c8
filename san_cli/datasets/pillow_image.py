"""A Pillow image, whatever its mode, as upright 8-bit RGB."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.Image import Transpose

from san_cli.datasets.pixel_values import PixelValues, chosen_bands, data_as_alpha, looks_like_data, to_rgb
from san_cli.datasets.reading import Reading
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


def convert(
    image: Image.Image,
    reading: Reading,
    warned: list[str],
    *,
    notes: list[str] | None = None,
    scale: float = 1.0,
) -> LoadedImage:
    """Decoded, upright, 8-bit RGB; `warned` is where Pillow's warnings arrive meanwhile.

    `notes` are those that there are already, of a TIFF. Values are the file's multiplied by `scale`.
    """
    is_page = notes is not None
    notes = [] if notes is None else notes
    # Pillow turns a TIFF upright while loading it and then forgets the tag; asked before loading, a PNG would
    # load itself, and a second load after a failed one may pass.
    turned_by_pillow = exif_orientation(image.getexif, notes) if image.format == "TIFF" else 1
    image.load()
    orientation = exif_orientation(image.getexif, notes)
    turned = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    nothing = None
    if image.mode == "F" or image.mode.startswith("I"):
        pixels, nothing = to_rgb(_pillow_values(turned, tiff_tags(image), scale), reading, notes)
    else:
        pixels = np.asarray(_to_rgb(_with_bands(turned, reading, notes), notes))
        if reading.range is not None:
            notes.append("--range changes nothing, as these pixels are read with 8 bits")
        elif scale != 256 and scale != 1 and pixels.max() < 77:
            notes.append(
                "dark, and read with the upper 8 of its bits alone; as a 16-bit TIFF it could have --range"
            )
    if not is_page and _has_more_frames(image):
        notes.append("the file holds several frames or pages; the first is used")
    return LoadedImage(pixels, max(orientation, turned_by_pillow), (*notes, *told_warnings(warned)), nothing)


def _pillow_values(image: Image.Image, tags: dict[int, Any], scale: float) -> PixelValues:
    """Return the grey numbers of a Pillow image of mode F or I."""
    return PixelValues(
        np.asarray(image)[:, :, None],
        bits=tags.get(_BITS_PER_SAMPLE, (16,))[0],
        is_tiff=bool(tags),
        declared=int(np.max(tags.get(_MAX_SAMPLE_VALUE, 0))),
        white_is_zero=image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0,
        scale=scale if image.mode.startswith("I") else 1.0,
    )


def _with_bands(image: Image.Image, reading: Reading, notes: list[str]) -> Image.Image:
    """Take the bands that were asked for, as a grey or RGB image."""
    if reading.bands is None:
        return image
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    parts = image.split()
    bands, _ = chosen_bands(len(parts), range(len(parts)), None, reading, notes)
    return Image.merge("RGB" if len(bands) == 3 else "L", [parts[band] for band in bands])


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


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """8-bit modes to RGB, what is transparent shown on white."""
    if not image.has_transparency_data:
        if image.mode in ("CMYK", "LAB"):
            notes.append(f"{image.mode} converted to RGB without a colour profile")
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    if cast("tuple[int, int]", rgba.getchannel("A").getextrema())[0] == 255:
        return rgba.convert("RGB")
    if image.mode in ("RGBA", "LA") and looks_like_data(np.asarray(rgba.getchannel("A")), 255):
        notes.append(data_as_alpha(len(image.mode) - 1))
    notes.append("transparent parts are shown on white")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """An array [H, W, …] turned as EXIF says."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def told_warnings(warned: list[str]) -> list[str]:
    """Turn Pillow's warnings into notes."""
    odd = [text.strip() for text in dict.fromkeys(warned) if "decompression bomb" not in text]
    return [f"Pillow: {printable(text)}" for text in odd]
