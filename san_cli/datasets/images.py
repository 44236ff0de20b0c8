"""Any file to an upright 8-bit RGB array, or one sentence saying why not.

Every image enters here: from a folder, from the Python API, from a benchmark. Whatever a file of unknown
origin does, the outcome is a `LoadedImage` or a `BadImage`. Safe to call from several threads at once.
ICC profiles are ignored, as they were in training.
"""

import ctypes
import logging
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError, _imaging
from PIL.Image import Transpose

from san_cli.datasets.foreign_formats import RAW_SUFFIXES, name_foreign_format
from san_cli.errors import ExitCode, SanError
from san_cli.inert import inert

MAX_PIXELS = 178_956_970  # where Pillow itself stops
MAX_ASPECT = 32  # beyond it the short side of the network's input falls below 80 pixels
# MPO has no opener of its own (the JPEG one reads it): naming it would end in a KeyError.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")

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
_FILE_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE, _DNG_VERSION = 258, 262, 281, 50706  # TIFF tags
_WANTED = "an image is a path, a Pillow image or a uint8 RGB array [H, W, 3]"


class BadImage(SanError):
    """One image that cannot be used. `cause` is one line without control characters and without the path."""

    def __init__(self, cause: str, *, path: str | os.PathLike[str] | None = None) -> None:
        self.cause = inert(cause)
        message = self.cause if path is None else f"{inert(os.fspath(path))}: {self.cause}"
        super().__init__(message, code=ExitCode.SOME_FAILED)


@dataclass(frozen=True)
class LoadedImage:
    """An image as the rest of the program sees it."""

    pixels: npt.NDArray[np.uint8]  # RGB [H, W, 3], upright; read-only when it comes from a file
    exif_orientation: int = 1  # 1 to 8, as it was in the file
    notes: tuple[str, ...] = ()  # what the user may want to know about the conversion, one line each


def load_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Read and decode one file; never blocks on a pipe or device. Raises only BadImage, naming the path."""
    try:
        return load_image_bytes(_read(path, max_pixels), suffix=Path(path).suffix, max_pixels=max_pixels)
    except BadImage as fault:
        raise BadImage(fault.cause, path=path) from fault.__cause__


def load_image_bytes(data: bytes, *, suffix: str = "", max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Decode a file's bytes. `suffix` (".nef") tells camera raw files from the TIFFs that they pretend to be.

    Raises BadImage whatever the bytes are: of 4,103 failing damaged files, 138 raised something that is
    neither an OSError nor foreseeable, hence the wide net around the decoder and around nothing else.
    """
    if not data:
        raise BadImage("empty file")
    try:
        with recorded_warnings() as texts:
            return _decode(data, suffix, max_pixels, texts)
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
        with (
            recorded_warnings(),
            _open_file(path, MAX_PIXELS) as file,
            Image.open(file, formats=_formats()) as image,
        ):
            # The size of a TIFF is that of the upright image already. A PNG asked by its own method for EXIF
            # data that the header lacks would decode itself in search of more.
            turned = image.format != "TIFF" and _orientation(partial(Image.Image.getexif, image), []) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:
        return None


def as_rgb_array(source: Any) -> LoadedImage:
    """What the Python API takes as an image: a path, a Pillow image or a uint8 RGB array [H, W, 3].

    The array is passed on without a copy. Raises BadImage for everything else.
    """
    if isinstance(source, (str, os.PathLike)):
        return load_image(source)
    if isinstance(source, Image.Image):
        return _from_pillow(source)
    if not isinstance(source, np.ndarray):
        raise BadImage(f"{_WANTED}, not {type(source).__name__}")
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
        raise BadImage(f"{_WANTED}, not {source.dtype} {list(source.shape)}")
    _check_size(source.shape[1], source.shape[0], MAX_PIXELS)
    return LoadedImage(source)


def _from_pillow(image: Image.Image) -> LoadedImage:
    try:
        with recorded_warnings() as texts:
            _check_size(image.width, image.height, MAX_PIXELS)
            return _convert(image, texts)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(_decoder_cause(error, MAX_PIXELS)) from error


def raise_pillow_limit(max_pixels: int) -> None:
    """Let Pillow open images of up to `max_pixels`, should its own limit be lower.

    Process-wide: for a command that was told so, once, before any decoder thread starts.
    """
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2


def silence_decoders() -> None:
    """Keep libtiff and Pillow's log from printing to stderr without a file's name; errors are raised all the same.

    Process-wide, like the limit above. A Pillow that has libtiff built in stays as it is.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)  # symbols of what it links to are found through it
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def os_cause(error: OSError | ValueError) -> str:
    """The operating system's reason in a few words, without the path."""
    if not isinstance(error, OSError):
        return "not a possible file name"  # a NUL inside
    reason = error.strerror or type(error).__name__
    return reason[:1].lower() + reason[1:]


def _read(path: str | os.PathLike[str], max_pixels: int) -> bytes:
    """The whole file at once, so that a file that changes meanwhile is decoded from one state."""
    try:
        with _open_file(path, max_pixels) as file:
            return file.read()
    except FileNotFoundError as error:
        raise BadImage("broken link" if Path(path).is_symlink() else "no such file") from error
    except (OSError, ValueError) as error:
        raise BadImage(os_cause(error)) from error
    except MemoryError as error:
        raise BadImage("not enough memory to read it") from error


@contextmanager
def _open_file(path: str | os.PathLike[str], max_pixels: int) -> Iterator[BinaryIO]:
    """A regular file of credible size, open for reading; nothing else is opened, so nothing can block."""
    largest = 64 * 1024 * 1024 + 16 * max_pixels  # 16 bytes a pixel is more than any format here needs
    _check_kind(Path(path).stat(), largest)
    # Non-blocking, and checked again: the name may have become a pipe in between.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        _check_kind(os.fstat(descriptor), largest)
        yield file


def _check_kind(status: os.stat_result, largest: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in _FILE_KINDS if is_kind(status.st_mode)), "something else")
        raise BadImage(f"{kind}, not a file")
    if status.st_size > largest:
        raise BadImage(f"file of {status.st_size:,} bytes, more than any image of the allowed size has")


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


def _decode(data: bytes, suffix: str, max_pixels: int, warned: list[str]) -> LoadedImage:
    with Image.open(BytesIO(data), formats=_formats()) as image:
        _check_size(image.width, image.height, max_pixels)
        if image.format == "TIFF" and (
            suffix.lower() in RAW_SUFFIXES or data[8:10] == b"CR" or _DNG_VERSION in _tiff_tags(image)
        ):  # what Pillow would decode is a preview
            raise BadImage(name_foreign_format(b"", ".raw"))
        return _convert(image, warned)


def _convert(image: Image.Image, warned: list[str]) -> LoadedImage:
    """Decoded, upright, 8-bit RGB; `warned` is where Pillow's warnings arrive meanwhile."""
    notes: list[str] = []
    # Pillow turns a TIFF upright while loading it and then forgets the tag; asked before loading, a PNG would
    # load itself, and a second load after a failed one may pass.
    turned_by_pillow = _orientation(image.getexif, notes) if image.format == "TIFF" else 1
    image.load()
    orientation = _orientation(image.getexif, notes)
    turned = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    tags = _tiff_tags(image)
    if image.mode == "F":
        pixels = _from_float(turned, notes)
    elif image.mode.startswith("I"):
        pixels = _from_integers(turned, tags, notes)
    else:
        pixels = np.asarray(_to_rgb(turned, notes))
    if _has_more_frames(image):
        notes.append("the file holds several frames or pages; the first is used")
    odd = [text.strip() for text in dict.fromkeys(warned) if "decompression bomb" not in text]
    notes += [f"Pillow: {inert(text)}" for text in odd]
    return LoadedImage(pixels, max(orientation, turned_by_pillow), tuple(notes))


def _orientation(read_exif: Callable[[], Image.Exif], notes: list[str]) -> int:
    try:
        value = read_exif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        notes.append("EXIF data is damaged; the image is taken as upright")
        return 1
    if isinstance(value, int) and 0 <= value <= 8:
        return max(1, value)  # 0 is what many writers put for "unknown"
    notes.append("EXIF orientation makes no sense; the image is taken as upright")
    return 1


def _tiff_tags(image: Image.Image) -> dict[int, Any]:
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
    notes.append("transparent parts are shown on white")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _from_integers(image: Image.Image, tags: dict[int, Any], notes: list[str]) -> npt.NDArray[np.uint8]:
    """Grey values of 12, 16 or 32 bits to 8: by the range that the file declares, else 0 to 65535."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    declared = int(np.max(tags.get(_MAX_SAMPLE_VALUE, 0)))
    if low >= 0 and declared >= high > 0:
        low, high = 0, declared
    elif image.mode == "I" and tags and low >= 0 and high <= 255:
        low, high = 0, 255  # an 8-bit image that went through a 32-bit array
    elif low >= 0 and high <= 65535:
        bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
        low, high = 0, 4095 if bits == 12 else 65535
    notes.append(f"integer grey values {low} to {high} scaled to 8 bits")
    grey = _scaled(values, low, high)
    if image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0:
        grey = 255 - grey  # "white is zero", which Pillow heeds up to 8 bits only
    return np.repeat(grey[:, :, None], 3, axis=2)


def _from_float(image: Image.Image, notes: list[str]) -> npt.NDArray[np.uint8]:
    """Floating-point grey values stretched from their finite minimum and maximum to 0…255."""
    values = np.asarray(image)
    finite = np.isfinite(values)
    if not finite.any():
        raise BadImage("no finite value in this floating-point image")
    low, high = float(values[finite].min()), float(values[finite].max())
    notes.append(f"floating-point values {low:g} to {high:g} stretched to 8 bits")
    if not finite.all():
        notes.append(f"{int((~finite).sum())} pixels are not finite and made black")
        values = np.where(finite, values, np.float32(low))
    return np.repeat(_scaled(values, low, high)[:, :, None], 3, axis=2)


def _scaled(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """[low, high] to [0, 255], rounded; in float64, since a float32 range may overflow its own difference."""
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return ((values.astype(np.float64) - low) * 255.0 / (high - low) + 0.5).astype(np.uint8)


def _unidentified_cause(data: bytes) -> str:
    head = data[:16].ljust(16, b"\0")
    for name in _formats():
        accepts = Image.OPEN[name][1]
        if accepts is not None and accepts(head) is True:
            return f"{name} that is damaged near its start, or of a kind that Pillow cannot read"
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


class _Recorder(threading.local):
    """Stands where a filter has its message pattern, and keeps what the present thread is warned of.

    `warnings.catch_warnings` swaps a process-wide list and is useless with several threads; a pattern object
    that matches only in a thread that is decoding hides nothing from anybody else and may stay for good.
    """

    texts: list[str] | None = None

    def match(self, text: str) -> bool:
        if self.texts is None:
            return False
        self.texts.append(text)
        return True


_RECORDER = _Recorder()
_FILTER = ("ignore", _RECORDER, Warning, None, 0)


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Keep what the present thread is warned of meanwhile, instead of printing it; other threads are left alone."""
    filters = cast("list[Any]", warnings.filters)
    if not filters or filters[0] is not _FILTER:  # not there yet, or somebody has put a filter before it
        filters[:] = [_FILTER, *(item for item in filters if item is not _FILTER)]
    texts: list[str] = []
    _RECORDER.texts = texts
    try:
        yield texts
    finally:
        _RECORDER.texts = None
