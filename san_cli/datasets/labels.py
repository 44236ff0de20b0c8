"""Label maps on disk: one class id per pixel, 8 bits in a PNG or 16 in a TIFF."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from san_cli.datasets.foreign_formats import name_foreign_format
from san_cli.datasets.images import recorded_warnings
from san_cli.errors import ExitCode, SanError
from san_cli.inert import inert
from san_cli.outputs.atomic import atomic_write

Labels = NDArray[np.uint8] | NDArray[np.uint16]

_FORMATS = ("PNG", "TIFF")
_STRETCH = {2: 85, 4: 17}  # what Pillow multiplies a PNG's grey values of so many bits with


def read_label(path: Path, classes: int, ignore_label: int) -> Labels:
    """The train ids [H, W] in `path`, uint8 or uint16: below `classes`, or `ignore_label`.

    Grey values and palette indices are ids; a palette's colours don't matter, nor does EXIF orientation.
    SanError (code SOME_FAILED) naming file, value and fix for any other value, for colours, and for a file
    that can't be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise _fault(str(path), f"can't be read: {error.strerror or error}") from None
    labels = decode_label(data, str(path))
    check_range(labels, classes, ignore_label, str(path))
    return labels


def decode_label(data: bytes, name: str) -> Labels:
    """The ids [H, W] in a PNG's or TIFF's bytes; SanError with `name` in it for everything else."""
    try:
        with recorded_warnings():  # the ids are there, whatever else a decoder finds odd
            return _decode(data, name)
    except SanError:
        raise
    except Exception as error:  # whatever a damaged file makes of the decoder
        foreign = name_foreign_format(data[:1024], Path(name).suffix)
        cause = foreign or " ".join(str(error).split())[:120] or type(error).__name__
        raise _fault(
            name, f"is no label map that can be read ({cause})", "Copy or prepare it again."
        ) from None


def _decode(data: bytes, name: str) -> Labels:
    with Image.open(BytesIO(data), formats=_FORMATS) as image:
        image.load()
        if image.mode in ("RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
            raise _fault(
                name,
                f"holds colours ({image.mode}), not class ids",
                "A label map has one channel: grey values or palette indices that are ids.",
            )
        values = np.asarray(image).astype(np.uint8) if image.mode == "1" else np.asarray(image)
        if image.mode == "L" and image.format == "PNG" and data[24] in _STRETCH:
            values = values // np.uint8(_STRETCH[data[24]])
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 65535:
        raise _fault(name, f"holds values ({values.dtype}) that are no class ids from 0 to 65535")
    return values.astype(np.uint16)


def check_range(labels: Labels, classes: int, ignore_label: int, name: str) -> None:
    """SanError if a value of `labels` is neither below `classes` nor `ignore_label`, with the place of one."""
    if labels.max() < classes:
        return
    wrong = (labels >= classes) & (labels != ignore_label)
    if not wrong.any():
        return
    row, column = np.unravel_index(int(wrong.argmax()), labels.shape)
    values = np.unique(labels[wrong])
    more = f" and {len(values) - 1:,} other wrong values" if len(values) > 1 else ""
    raise _fault(
        name,
        f"holds the value {labels[row, column]}{more} (row {row}, column {column}; {wrong.sum():,} pixels), "
        f"but the ids of {classes} classes end at {classes - 1} and {ignore_label} means ignored",
        "Convert raw labels with `san data prepare`, or give the class list and ignore label they belong to.",
    )


def encode_label(labels: Labels, suffix: str) -> bytes:
    """A file's bytes: 8-bit grey PNG of uint8, or 16-bit grey TIFF (deflate) of uint16, by `suffix`."""
    stream = BytesIO()
    if suffix.lower() == ".png" and labels.dtype == np.uint8:
        Image.fromarray(labels).save(stream, "PNG")
    elif suffix.lower() in (".tif", ".tiff") and labels.dtype == np.uint16:
        Image.fromarray(labels).save(stream, "TIFF", compression="tiff_adobe_deflate")
    else:
        raise ValueError(f"labels are 8 bits in a .png or 16 in a .tif, not {labels.dtype} in a {suffix}")
    return stream.getvalue()


def write_label(path: Path, labels: Labels) -> None:
    """Write `labels` [H, W], complete or not at all; ValueError unless uint8 to .png or uint16 to .tif."""
    data = encode_label(labels, path.suffix)
    with atomic_write(path) as stream:
        stream.write(data)


def _fault(name: str, what: str, hint: str = "") -> SanError:
    return SanError(f"{inert(name)} {what}", hint=hint, code=ExitCode.SOME_FAILED)
