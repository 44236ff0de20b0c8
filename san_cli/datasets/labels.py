"""Label maps on disk: one class id per pixel.

Read from PNG, TIFF, BMP, GIF or NumPy's .npy, none of which changes values; written as PNG of 8 bits or TIFF of 16.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from san_cli.datasets.foreign_formats import name_foreign_format
from san_cli.datasets.images import recorded_warnings
from san_cli.errors import ExitCode, SanError
from san_cli.files import atomic_write
from san_cli.text import printable

Labels = NDArray[np.uint8] | NDArray[np.uint16]

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".npy")
_FORMATS = ("PNG", "TIFF", "BMP", "GIF")
_STRETCH = {2: 85, 4: 17}  # what Pillow multiplies grey values of so many bits with
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 258, 262, 274, 277  # TIFF tags
_LOSSY = "changes the values of pixels, so that ids are lost"
_OF_A_BENCHMARK = (
    "Convert raw labels with `san data prepare`, or give the class list and ignore label they belong to."
)
_ONE_CHANNEL = "A label map has one channel: grey values or palette indices that are ids."


def read_label(path: Path, classes: int, ignore_label: int) -> Labels:
    """Read the train ids [H, W] in `path`, uint8 or uint16: below `classes`, or `ignore_label`.

    SanError (code SOME_FAILED) naming file, value and fix for any other value, and as `read_ids`.
    """
    labels = read_ids(Path(path))
    check_range(labels, classes, ignore_label, str(path))
    return labels


def check_range(labels: Labels, classes: int, ignore_label: int | None, name: str) -> None:
    """SanError, with its place, for a value of `labels` that is neither below `classes` nor `ignore_label`."""
    if labels.max() < classes:
        return
    wrong = labels >= classes
    if ignore_label is not None:
        wrong &= labels != ignore_label
    if not wrong.any():
        return
    row, column = np.unravel_index(int(wrong.argmax()), labels.shape)
    values = np.unique(labels[wrong])
    more = f" and {len(values) - 1:,} other wrong values" if len(values) > 1 else ""
    ends = f"the ids of {classes} classes end at {classes - 1}" if classes > 1 else "the id of one class is 0"
    ignored = "no value means ignored" if ignore_label is None else f"{ignore_label} means ignored"
    raise label_fault(
        name,
        f"holds the value {labels[row, column]}{more} (row {row}, column {column}; {wrong.sum():,} pixels), "
        f"but {ends} and {ignored}",
        _OF_A_BENCHMARK,
    )


def read_ids(path: Path) -> Labels:
    """Read the ids [H, W] in a file, uint8 or uint16; SanError (code SOME_FAILED) naming it and what is wrong.

    Grey values and palette indices are ids; a palette's colours don't matter, nor does EXIF orientation. Equal
    red, green and blue are a grey value, and alpha that is the same everywhere says nothing.
    """
    return decode_label(_bytes_of(path), str(path))


def read_colours(path: Path) -> NDArray[np.uint32]:
    """Read the colours [H, W] in a file, red << 16 | green << 8 | blue; palettes count, grey is a colour, too.

    SanError (code SOME_FAILED) naming it and what is wrong: more than 8 bits, transparency.
    """
    return _decoded(_bytes_of(path), str(path), colours=True)


def _bytes_of(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise label_fault(str(path), "is no file")  # a pipe would be waited for
        return path.read_bytes()
    except OSError as error:
        raise label_fault(str(path), f"can't be read: {error.strerror or error}") from None


def decode_label(data: bytes, name: str) -> Labels:
    """Decode the ids [H, W] in a label file's bytes; SanError with `name` in it for everything else."""
    return _decoded(data, name, colours=False)


def _decoded(data: bytes, name: str, *, colours: bool) -> Any:
    """The ids, or the colours."""
    try:
        with recorded_warnings():  # the ids are there, whatever else a decoder finds odd
            is_array = data.startswith(b"\x93NUMPY")
            values = np.load(BytesIO(data), allow_pickle=False) if is_array else _decode(data, name, colours)
            return _packed_colours(values, name) if colours else _as_ids(_one_channel(values, name), name)
    except SanError:
        raise
    except Exception as error:  # whatever a damaged file makes of the decoder
        if data.startswith(b"\xff\xd8\xff"):
            raise label_fault(
                name, f"is a JPEG file: JPEG {_LOSSY}", "Save the labels as PNG, from where they were made."
            ) from None
        foreign = name_foreign_format(data[:1024], Path(name).suffix)
        cause = foreign or " ".join(str(error).split())[:120] or type(error).__name__
        raise label_fault(
            name, f"is no label map that can be read ({cause})", "Copy or prepare it again."
        ) from None


def _packed_colours(values: NDArray[Any], name: str) -> NDArray[np.uint32]:
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or not 1 <= values.shape[2] <= 4 or values.dtype != np.uint8 or not values.size:
        raise label_fault(
            name,
            f"holds an array of {list(values.shape)} {values.dtype}, no colours",
            "Colours are 8 bits of red, green and blue, or grey.",
        )
    channels = values.shape[2]
    if channels in (2, 4) and values[..., -1].min() != values[..., -1].max():
        raise label_fault(name, "is transparent in parts, which is no colour of a class", _ONE_CHANNEL)
    colour = values[..., :3] if channels >= 3 else np.repeat(values[..., :1], 3, axis=2)
    return pack_colours(colour)


def pack_colours(colour: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Put each RGB [..., 3] into one number."""
    packed: NDArray[np.uint32] = (colour.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(
        axis=-1, dtype=np.uint32
    )
    return packed


def _decode(data: bytes, name: str, colours: bool = False) -> NDArray[Any]:
    """The values [H, W] or [H, W, C] as they are stored, or the `colours` that they are shown in."""
    with Image.open(BytesIO(data), formats=_FORMATS) as image:
        tags: dict[int, Any] = getattr(image, "tag_v2", {})
        bits, samples = max(tags.get(_BITS, (8,))), tags.get(_SAMPLES, 1)
        if image.format == "PNG":
            bits, samples = data[24], {2: 3, 4: 2, 6: 4}.get(data[25], 1)
        if samples > 1 and bits > 8:  # Pillow would keep the high bytes alone
            raise label_fault(name, f"has {samples} channels of {bits} bits", _ONE_CHANNEL)
        if tags.get(_PHOTOMETRIC) == 0 and bits > 1:  # Pillow inverts 8 bits, and not 16; others don't at all
            raise label_fault(
                name,
                "is a TIFF in which 0 is white (WhiteIsZero), so that readers disagree about its values",
                "Save it as PNG, or as a TIFF in which 0 is black (MINISBLACK).",
            )
        if tags.get(_ORIENTATION, 1) != 1:  # Pillow and OpenCV turn it, GDAL and tifffile don't
            raise label_fault(
                name,
                f"is a TIFF with the orientation {tags[_ORIENTATION]}, so that readers disagree how it is turned",
                "Save it as PNG, or as a TIFF without that tag, turned as its image is shown.",
            )
        if "jpeg" in str(image.info.get("compression", "")):
            raise label_fault(name, f"is compressed as JPEG, which {_LOSSY}", "Save it with deflate or LZW.")
        if getattr(image, "n_frames", 1) > 1:
            raise label_fault(name, f"has {image.n_frames} pages", "A label map is a single page.")
        image.load()
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            raise label_fault(name, f"holds colours ({image.mode}), not class ids", _ONE_CHANNEL)
        if colours:
            return np.asarray(image.convert("RGB") if image.mode in ("P", "PA") else image)
        values = np.asarray(image)
        if image.mode == "L" and bits in _STRETCH:
            values = values // np.uint8(_STRETCH[bits])
        return values[..., 0] if image.mode == "PA" else values


def _one_channel(values: NDArray[Any], name: str) -> NDArray[Any]:
    """The one channel [H, W] that holds the ids. SanError for colours, and for alpha that says something."""
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim == 2:
        return values
    if values.ndim != 3 or not 2 <= values.shape[2] <= 4 or values.dtype != np.uint8:
        raise label_fault(name, f"holds an array of {list(values.shape)}, not [H, W]", _ONE_CHANNEL)
    channels = values.shape[2]
    if channels in (2, 4):
        alpha = values[..., -1]
        if alpha.min() != alpha.max():
            raise label_fault(name, "is transparent in parts, which is no class id", _ONE_CHANNEL)
    colour = values[..., : 3 if channels >= 3 else 1]
    if (colour == colour[..., :1]).all():
        return np.ascontiguousarray(colour[..., 0])
    raise _colours(colour, name)


def _colours(colour: NDArray[np.uint8], name: str) -> SanError:
    packed = pack_colours(colour)
    values, counts = np.unique(packed, return_counts=True)
    if len(values) > 1000:
        return label_fault(
            name,
            f"holds {len(values):,} colours, not class ids",
            "Is it a photograph (are --images and --labels swapped?), or were colours resized with interpolation?",
        )
    common = [int(value) for value in values[np.argsort(-counts, kind="stable")] if value][:2]
    told = [(value >> 16, value >> 8 & 255, value & 255) for value in common]
    entries = " ".join(f"--label-map '{red},{green},{blue}=NAME'" for red, green, blue in told)
    return label_fault(
        name,
        f"holds {len(values)} colours, such as {' and '.join(map(str, told))}, not class ids",
        f"Say which class each colour is, or `ignore`: {entries}, or --label-map FILE with a line for each.",
    )


def _as_ids(values: NDArray[Any], name: str) -> Labels:
    """uint8 or uint16 [H, W] of whole numbers from 0 to 65535 of any type."""
    if values.size == 0:
        raise label_fault(name, "has no pixels")
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise label_fault(name, "holds fractions, not class ids")
    if values.dtype.kind not in "iuf":
        raise label_fault(name, f"holds values ({values.dtype}) that are no class ids")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        way = "Save another value where pixels are ignored, such as 255." if low == -1 else ""
        wrong = low if low < 0 else high
        raise label_fault(name, f"holds the value {wrong}, which is no class id from 0 to 65535", way)
    return values.astype(np.uint16)


def label_fault(name: str, what: str, hint: str = "") -> SanError:
    """Return the error for one label file."""
    return SanError(f"{printable(name)} {what}", hint=hint, code=ExitCode.SOME_FAILED)


def encode_label(labels: Labels, suffix: str) -> bytes:
    """Encode as a file's bytes: 8-bit grey PNG of uint8, or 16-bit grey TIFF (deflate) of uint16, by `suffix`."""
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
