"""Label maps on disk: one class id per pixel, 8 bits in a PNG or 16 in a TIFF as we write them."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from san_cli.datasets.label_file import Labels, label_fault, read_ids
from san_cli.files import atomic_write

_OF_A_BENCHMARK = (
    "Convert raw labels with `san data prepare`, or give the class list and ignore label they belong to."
)


def read_label(path: Path, classes: int, ignore_label: int) -> Labels:
    """The train ids [H, W] in `path`, uint8 or uint16: below `classes`, or `ignore_label`.

    SanError (code SOME_FAILED) naming file, value and fix for any other value, and as `read_ids`.
    """
    labels = read_ids(Path(path))
    check_range(labels, classes, ignore_label, str(path))
    return labels


def check_range(labels: Labels, classes: int, ignore_label: int | None, name: str) -> None:
    """SanError if a value of `labels` is neither below `classes` nor `ignore_label`, with the place of one."""
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
