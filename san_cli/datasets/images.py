"""Any file to an upright 8-bit RGB array, or one sentence saying why not.

Every image enters here: from a folder, from the Python API, from a benchmark. Whatever a file of unknown
origin does, the outcome is a `LoadedImage` or a `BadImage`. Safe to call from several threads at once.
ICC profiles are ignored, as they were in training.
"""

import io
import os
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from san_cli.datasets import tiff
from san_cli.datasets.bad_image import MAX_PIXELS
from san_cli.datasets.bad_image import BadImage as BadImage
from san_cli.datasets.decoder_warnings import recorded_warnings as recorded_warnings
from san_cli.datasets.decoder_warnings import silence_decoders as silence_decoders
from san_cli.datasets.deep_formats import deep_values, jpeg2000_bits
from san_cli.datasets.foreign_formats import RAW_SUFFIXES, name_foreign_format
from san_cli.datasets.image_file import FileBytes, open_file, read_file
from san_cli.datasets.image_file import os_cause as os_cause
from san_cli.datasets.pillow_image import LoadedImage as LoadedImage
from san_cli.datasets.pillow_image import convert, exif_orientation, tiff_tags, told_warnings, upright
from san_cli.datasets.pixel_values import to_rgb
from san_cli.datasets.reading import AS_STORED, Reading
from san_cli.datasets.tiff_samples import no_data, read_values

MAX_ASPECT = 32  # beyond it the short side of the network's input falls below 80 pixels
# MPO has no opener of its own (the JPEG one reads it): naming it would end in a KeyError.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")

_WANTED = "an image is a path, a Pillow image or a uint8 RGB array [H, W, 3]"


def load_image(
    path: str | os.PathLike[str],
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int | None = None,
    reading: Reading = AS_STORED,
) -> LoadedImage:
    """Read and decode one file; never blocks on a pipe or device. Raises only BadImage, naming the path.

    Files of more than `max_bytes` are refused; by default those of over 256 MiB that have few pixels.
    """
    try:
        data = read_file(path, max_pixels, max_bytes, _displayed_size)
        return load_image_bytes(data, suffix=Path(path).suffix, max_pixels=max_pixels, reading=reading)
    except BadImage as fault:
        raise BadImage(fault.cause, path=path) from fault.__cause__


def load_image_bytes(
    data: bytes, *, suffix: str = "", max_pixels: int = MAX_PIXELS, reading: Reading = AS_STORED
) -> LoadedImage:
    """Decode a file's bytes. `suffix` (".nef") tells camera raw files from the TIFFs that they pretend to be.

    Raises BadImage whatever the bytes are: of 4,103 failing damaged files, 138 raised something that is
    neither an OSError nor foreseeable, hence the wide net around the decoder and around nothing else.
    """
    if not data:
        raise BadImage("empty file")
    try:
        with recorded_warnings() as texts:
            return _decode(data, suffix, max_pixels, reading, texts)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage(name_foreign_format(data[:1024], suffix) or _unidentified_cause(data)) from error
    except Exception as error:
        raise BadImage(_decoder_cause(error, max_pixels)) from error


def displayed_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) in pixels of the upright image as the file's header promises it; None if it doesn't.

    Reads the header alone: the image may still turn out to be damaged, or to be turned by data at its end.
    """
    try:
        with recorded_warnings(), open_file(path) as file:
            return _displayed_size(file)
    except Exception:
        return None


def _head(file: BinaryIO) -> bytes:
    """Read the first bytes; the file stays at its start."""
    head = file.read(4)
    file.seek(0)
    return head


def _displayed_size(file: BinaryIO) -> tuple[int, int]:
    picture = tiff.find_picture(file) if tiff.is_tiff(_head(file)) else None
    if picture is not None:
        return picture.displayed_size
    file.seek(0)
    with Image.open(file, formats=_formats()) as image:
        # A PNG asked by its own method for EXIF data that the header lacks would decode itself in search of more.
        turned = image.format != "TIFF" and exif_orientation(partial(Image.Image.getexif, image), []) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


def as_rgb_array(source: Any, reading: Reading = AS_STORED) -> LoadedImage:
    """Read what the Python API takes as an image: a path, a Pillow image or a uint8 RGB array [H, W, 3].

    The array is passed on without a copy. Raises BadImage for everything else.
    """
    if isinstance(source, (str, os.PathLike)):
        return load_image(source, reading=reading)
    if isinstance(source, Image.Image):
        return _from_pillow(source, reading)
    if not isinstance(source, np.ndarray):
        raise BadImage(f"{_WANTED}, not {type(source).__name__}")
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
        raise BadImage(f"{_WANTED}, not {source.dtype} {list(source.shape)}")
    _check_size(source.shape[1], source.shape[0], MAX_PIXELS)
    return LoadedImage(source)


def _from_pillow(image: Image.Image, reading: Reading) -> LoadedImage:
    try:
        with recorded_warnings() as texts:
            _check_size(image.width, image.height, MAX_PIXELS)
            data = _file_behind(image)
            if data is not None:
                return _decode(data, "", MAX_PIXELS, reading, texts)
            tags = tiff_tags(image)
            if tags.get(tiff.Tag.PLANAR) == 2 and max(tags.get(tiff.Tag.BITS, (1,))) > 8:
                raise BadImage(
                    "Pillow may have read this TIFF wrongly (separate planes); give its path instead"
                )
            return convert(image, reading, texts)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(_decoder_cause(error, MAX_PIXELS)) from error


def _file_behind(image: Image.Image) -> bytes | None:
    """Return the bytes of a file that Pillow has opened but not read yet, if it would read less than there is."""
    file = getattr(image, "fp", None)
    if image.format not in ("TIFF", "PNG", "PPM") or file is None or not getattr(image, "tile", None):
        return None
    if image.tell() != 0:  # another page was asked for
        return None
    file.seek(0)
    data = cast("bytes", file.read())
    file.seek(0)
    picture = tiff.find_picture(io.BytesIO(data)) if tiff.is_tiff(data) else None
    return None if picture is not None and not picture.is_first else data


def raise_pillow_limit(max_pixels: int) -> None:
    """Let Pillow open images of up to `max_pixels`, should its own limit be lower.

    Process-wide: for a command that was told so, once, before any decoder thread starts.
    """
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise BadImage(f"image without pixels ({width} × {height})")
    if width * height > max_pixels:
        raise BadImage(f"{width} × {height} pixels are more than the limit of {max_pixels:,}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage(f"{width} × {height} is too narrow: one side is over {MAX_ASPECT} times the other")


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # AVIF only since Pillow 11.3


def _decode(data: bytes, suffix: str, max_pixels: int, reading: Reading, warned: list[str]) -> LoadedImage:
    if tiff.is_tiff(data):
        picture = tiff.find_picture(io.BytesIO(data))
        if picture is not None:
            return _decode_tiff(picture, data, suffix, max_pixels, reading, warned)
    with Image.open(FileBytes(data), formats=_formats()) as image:
        _check_size(image.width, image.height, max_pixels)
        notes: list[str] = []
        values = deep_values(image, data, reading, notes)
        if values is None:
            scale = 2.0 ** max(0, 16 - jpeg2000_bits(data)) if image.format == "JPEG2000" else 1.0
            return convert(image, reading, warned, scale=scale)
        orientation = exif_orientation(image.getexif, notes)
        pixels, nothing = to_rgb(values, reading, notes)
        return _loaded(pixels, nothing, orientation, notes, warned)


def _decode_tiff(
    picture: tiff.TiffPicture, data: bytes, suffix: str, max_pixels: int, reading: Reading, warned: list[str]
) -> LoadedImage:
    """Decode the picture of a TIFF, read by Pillow where that does it rightly."""
    page = picture.page
    if page.width and page.height:
        _check_size(page.width, page.height, max_pixels)
    if suffix.lower() in RAW_SUFFIXES or data[8:10] == b"CR" or page.is_camera_raw:
        raise BadImage(name_foreign_format(b"", ".raw"))  # what could be decoded is a preview
    notes: list[str] = []
    if picture.others:
        notes.append(_pages_note(picture))
    if not picture.is_for_pillow(reading):
        values = read_values(picture, data, reading, notes)
        pixels, nothing = to_rgb(values, reading, notes)
        return _loaded(pixels, nothing, page.orientation, notes, warned)
    try:
        with Image.open(FileBytes(picture.as_first_page(data)), formats=("TIFF",)) as image:
            loaded = convert(image, reading, warned, notes=notes)
            nothing = _holes(picture, data, image)
    except UnidentifiedImageError as error:
        raise BadImage(
            f"{tiff.describe(page)}: damaged, or of a kind that san doesn't read; save it as 8-bit RGB with LZW"
        ) from error
    if nothing is None or not nothing.any():
        return loaded
    if nothing.all():
        raise BadImage("no data: every pixel is NoData")
    told = f"{int(nothing.sum())} pixels are NoData: they stay unlabelled"
    return LoadedImage(loaded.pixels, loaded.exif_orientation, (*loaded.notes, told), nothing)


def _holes(picture: tiff.TiffPicture, data: bytes, image: Image.Image) -> npt.NDArray[np.bool_] | None:
    """Find where a page that Pillow has read has no data [H, W], upright: by its mask or its NoData tag."""
    nothing = no_data(picture, data)
    if nothing is not None:
        nothing = upright(nothing, picture.page.orientation)
    if picture.page.nodata is not None and image.mode in ("L", "P", "RGB"):
        stored = np.asarray(image)
        found = stored == picture.page.nodata
        found = found.all(axis=2) if found.ndim == 3 else found
        nothing = found if nothing is None else nothing | found
    return nothing


def _pages_note(picture: tiff.TiffPicture) -> str:
    page, largest = picture.page, picture.largest
    used = "the first is used"
    if largest[0] * largest[1] > page.width * page.height:
        used += f" ({page.width} × {page.height} pixels; the largest has {largest[0]} × {largest[1]})"
    return f"the file holds several pages ({picture.others + 1}); {used}"


def _loaded(
    pixels: npt.NDArray[np.uint8],
    nothing: npt.NDArray[np.bool_] | None,
    orientation: int,
    notes: list[str],
    warned: list[str],
) -> LoadedImage:
    turned = upright(pixels, orientation)
    turned.flags.writeable = False
    return LoadedImage(
        turned,
        orientation,
        (*notes, *told_warnings(warned)),
        None if nothing is None else upright(nothing, orientation),
    )


def _unidentified_cause(data: bytes) -> str:
    head = data[:16].ljust(16, b"\0")
    for name in _formats():
        accepts = Image.OPEN[name][1]
        if accepts is not None and accepts(head) is True:
            return f"{name} that is damaged near its start, or of a kind that san cannot read"
    return "not an image that san can read"


def _decoder_cause(error: Exception, max_pixels: int) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"declares more pixels than the limit of {max_pixels:,}"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    text = " ".join(str(error).split())[:120]
    if "truncated" in text.lower():
        return f"truncated or damaged ({text})"
    return f"damaged ({text or type(error).__name__})"
