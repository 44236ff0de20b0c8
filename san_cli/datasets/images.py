"""Any file to an upright 8-bit RGB array, or one sentence saying why not.

Every image enters here: from a folder, from the Python API, from a benchmark. Whatever a file of unknown
origin does, the outcome is a `LoadedImage` or a `BadImage`. Safe to call from several threads at once.
ICC profiles are ignored, as they were in training.
"""

import os
from dataclasses import replace
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
from san_cli.datasets.georeference import geo_tags_of
from san_cli.datasets.image_file import Content, FileBytes, open_content, open_file
from san_cli.datasets.image_file import os_cause as os_cause
from san_cli.datasets.pillow_image import (
    Banded,
    band_of_png,
    convert,
    exif_orientation,
    parts,
    tiff_tags,
    told_warnings,
    upright,
)
from san_cli.datasets.pillow_image import LoadedImage as LoadedImage
from san_cli.datasets.pixel_values import to_rgb
from san_cli.datasets.png_bands import PngBands, png_bands
from san_cli.datasets.raster import BY_GDAL
from san_cli.datasets.reading import AS_STORED, Reading
from san_cli.datasets.spooled import is_large
from san_cli.datasets.tiff_samples import no_data, read_values, reads_in_bands

_MOST_PIXELS = 2**31  # COCO's run lengths and other 32-bit counts end there
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
        with open_content(path, max_pixels, max_bytes, _displayed_size) as content:
            return _load(content, Path(path).suffix, max_pixels, reading, path)
    except BadImage as fault:
        raise BadImage(fault.cause, path=path) from fault.__cause__


def load_image_bytes(
    data: bytes, *, suffix: str = "", max_pixels: int = MAX_PIXELS, reading: Reading = AS_STORED
) -> LoadedImage:
    """Decode a file's bytes. `suffix` (".nef") tells camera raw files from the TIFFs that they pretend to be."""
    return _load(Content(data), suffix, max_pixels, reading)


def _load(
    content: Content,
    suffix: str,
    max_pixels: int,
    reading: Reading,
    path: str | os.PathLike[str] | None = None,
) -> LoadedImage:
    """Decode a file, and find out where on earth it lies. Raises BadImage whatever its bytes are.

    Of 4,103 failing damaged files, 138 raised something that is neither an OSError nor foreseeable, hence the wide
    net around the decoder and around nothing else.
    """
    if not len(content):
        raise BadImage("empty file")
    try:
        with recorded_warnings() as texts:
            loaded = _decode(content, suffix, max_pixels, reading, texts)
            return loaded if path is None else _located(loaded, content, path)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        head = content.read_at(0, 1024)
        raise BadImage(name_foreign_format(head, suffix) or _unidentified_cause(head)) from error
    except Exception as error:
        raise BadImage(_decoder_cause(error, max_pixels)) from error


def _located(loaded: LoadedImage, content: Content, path: str | os.PathLike[str]) -> LoadedImage:
    """Add where on earth the image lies, by its file or a world file beside that."""
    picture = tiff.find_picture(content.stream()) if tiff.is_tiff(content.read_at(0, 4)) else None
    page = None if picture is None else picture.page
    tags, notes = geo_tags_of(path, page, loaded.pixels.shape[:2], loaded.exif_orientation)
    return replace(loaded, geo_tags=tags, notes=(*loaded.notes, *notes))


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
        raise_pillow_limit(reading.max_pixels)
        return load_image(source, max_pixels=reading.max_pixels, reading=reading)
    if isinstance(source, Image.Image):
        return _from_pillow(source, reading)
    if not isinstance(source, np.ndarray):
        raise BadImage(f"{_WANTED}, not {type(source).__name__}")
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
        raise BadImage(f"{_WANTED}, not {source.dtype} {list(source.shape)}")
    _check_size(source.shape[1], source.shape[0], source.size)  # it is in memory: no number is too many
    return LoadedImage(source)


def _from_pillow(image: Image.Image, reading: Reading) -> LoadedImage:
    try:
        with recorded_warnings() as texts:
            _check_size(image.width, image.height, reading.max_pixels)
            raise_pillow_limit(reading.max_pixels)
            data = _file_behind(image)
            if data is not None:
                return _decode(Content(data), "", reading.max_pixels, reading, texts)
            tags = tiff_tags(image)
            if tags.get(tiff.Tag.PLANAR) == 2 and max(tags.get(tiff.Tag.BITS, (1,))) > 8:
                raise BadImage(
                    "Pillow may have read this TIFF wrongly (separate planes); give its path instead"
                )
            return convert(image, reading, texts)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(_decoder_cause(error, reading.max_pixels)) from error


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
    picture = tiff.find_picture(FileBytes(data)) if tiff.is_tiff(data) else None
    return None if picture is not None and not picture.is_first else data


def raise_pillow_limit(max_pixels: int) -> None:
    """Let Pillow open images of up to `max_pixels`, should its own limit be lower.

    Process-wide: for a command that was told so, once, before any decoder thread starts.
    """
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2


def _check_size(width: int, height: int, max_pixels: int) -> None:
    """BadImage for too many pixels, or none."""
    if width * height >= _MOST_PIXELS:
        raise BadImage(
            f"{width} × {height} pixels are more than 2³¹: no label map is that large; cut it in parts"
        )
    if width < 1 or height < 1:
        raise BadImage(f"image without pixels ({width} × {height})")
    if width * height > max_pixels:
        number = width * height
        raise BadImage(
            f"{width} × {height} pixels are more than the limit of {max_pixels:,}; --max-pixels {number} reads it "
            f"(in Python: Reading(max_pixels={number}))"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage(f"{width} × {height} is too narrow: one side is over {MAX_ASPECT} times the other")


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # AVIF only since Pillow 11.3


def _decode(
    content: Content, suffix: str, max_pixels: int, reading: Reading, warned: list[str]
) -> LoadedImage:
    if tiff.is_tiff(content.read_at(0, 4)):
        picture = tiff.find_picture(content.stream())
        if picture is not None:
            return _decode_tiff(picture, content, suffix, max_pixels, reading, warned)
    with Image.open(content.stream(), formats=_formats()) as image:
        _check_size(image.width, image.height, max_pixels)
        in_bands = image.format == "PNG" and is_large(image.height, image.width)
        png = png_bands(content) if in_bands else None
        if png is None:
            return _decode_opened(image, content, None, reading, warned)
    with Image.open(FileBytes(png.shell), formats=("PNG",)) as shell:
        return _decode_opened(shell, content, png, reading, warned)


def _decode_opened(
    image: Image.Image, content: Content, png: PngBands | None, reading: Reading, warned: list[str]
) -> LoadedImage:
    """Decode what Pillow has opened; `png` are the pixels where that is the rest of the file alone."""
    notes: list[str] = []
    values = deep_values(image, content, reading, notes, png)
    if values is not None:
        orientation = exif_orientation(image.getexif, notes)
        pixels, nothing = to_rgb(values, reading, notes)
        return _loaded(pixels, nothing, orientation, notes, warned)
    scale = 2.0 ** max(0, 16 - jpeg2000_bits(content)) if image.format == "JPEG2000" else 1.0
    banded = None
    if png is not None:
        banded = Banded(png.height, png.width, lambda: png.parts(content, band_of_png))
    return convert(image, reading, warned, scale=scale, banded=banded)


def _decode_tiff(
    picture: tiff.TiffPicture,
    content: Content,
    suffix: str,
    max_pixels: int,
    reading: Reading,
    warned: list[str],
) -> LoadedImage:
    """Decode the picture of a TIFF, read by Pillow where that does it rightly."""
    page = picture.page
    if page.width and page.height:
        _check_size(page.width, page.height, max_pixels)
    if suffix.lower() in RAW_SUFFIXES or content.read_at(8, 2) == b"CR" or page.is_camera_raw:
        raise BadImage(name_foreign_format(b"", ".raw"))  # what could be decoded is a preview
    notes: list[str] = []
    if picture.others:
        notes.append(_pages_note(picture))
    is_for_us = is_large(page.height, page.width) and reads_in_bands(page)
    if is_for_us or not picture.is_for_pillow(reading):
        return _from_values(picture, content, reading, notes, warned)
    try:
        data = picture.as_first_page(content.whole())
        with Image.open(FileBytes(data), formats=("TIFF",)) as image:
            loaded = convert(image, reading, warned, notes=[*notes])
            nothing = _holes(picture, content, image)
    except OSError as error:
        if page.number(tiff.Tag.COMPRESSION) in BY_GDAL:
            return _from_values(picture, content, reading, notes, warned)
        if not isinstance(error, UnidentifiedImageError):
            raise
        raise BadImage(
            f"{tiff.describe(page)}: damaged, or of a kind that san doesn't read; save it as 8-bit RGB with LZW"
        ) from error
    if nothing is None or not nothing.any():
        return loaded
    if nothing.all():
        raise BadImage("no data: every pixel is NoData")
    told = f"{int(nothing.sum())} pixels are NoData: they stay unlabelled"
    return LoadedImage(loaded.pixels, loaded.exif_orientation, (*loaded.notes, told), nothing)


def _from_values(
    picture: tiff.TiffPicture, content: Content, reading: Reading, notes: list[str], warned: list[str]
) -> LoadedImage:
    values = read_values(picture, content, reading, notes)
    pixels, nothing = to_rgb(values, reading, notes)
    return _loaded(pixels, nothing, picture.page.orientation, notes, warned)


def _holes(picture: tiff.TiffPicture, content: Content, image: Image.Image) -> npt.NDArray[np.bool_] | None:
    """Find where a page that Pillow has read has no data [H, W], upright: by its mask or its NoData tag."""
    nothing = no_data(picture, content)
    if nothing is not None:
        nothing = upright(nothing, picture.page.orientation)
    if picture.page.nodata is not None and image.mode in ("L", "P", "RGB"):
        marked = (np.asarray(part) == picture.page.nodata for part in parts(image))
        found = np.concatenate([part.all(axis=2) if part.ndim == 3 else part for part in marked])
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


def _unidentified_cause(head: bytes) -> str:
    head = head[:16].ljust(16, b"\0")
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
