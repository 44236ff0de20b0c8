"""Label maps as index PNGs: the pixel value is the class id, with a palette for the eye up to 255 classes.

Beside them maps of how sure each pixel is.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from san_cli.errors import SanError
from san_cli.files import atomic_write
from san_cli.outputs.colours import palette
from san_cli.outputs.large import bands, is_large
from san_cli.outputs.png import write_png
from san_cli.text import json_text

UNLABELLED_8, UNLABELLED_16 = 2**8 - 1, 2**16 - 1  # values of label maps of up to 255 classes, and of more
_HIGHEST = 2**16 - 1  # what a confidence of 1 is written as


def write_label_map(path: Path, label_map: NDArray[np.integer], names: Sequence[str]) -> None:
    """Write `label_map` [H, W] of ids in `names`, -1 where unlabelled, as a PNG.

    Up to 255 classes: 8-bit indices, the palette holds the class colours, 255 (black) is unlabelled.
    Above: 16-bit gray, 65535 is unlabelled. Compressed at level 1: half the time for 10 to 20 % more bytes.
    ValueError for an id outside `names`, SanError above 65535 classes.
    """
    check_ids(label_map, names)
    if len(names) > UNLABELLED_8:
        _write_values(path, label_map, np.uint16)
    else:
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(names)] = palette(names)
        _write_values(path, label_map, np.uint8, colours.tobytes())


def write_gray_label_map(path: Path, label_map: NDArray[np.integer], names: Sequence[str]) -> None:
    """Write the same values as `write_label_map` without a palette, for readers that give its colours instead.

    8-bit gray up to 255 classes, 16-bit above.
    """
    check_ids(label_map, names)
    _write_values(path, label_map, np.uint8 if len(names) <= UNLABELLED_8 else np.uint16)


def _write_values(
    path: Path, label_map: NDArray[np.integer], dtype: type[np.uint8 | np.uint16], colours: bytes = b""
) -> None:
    """Write `label_map` as pixels of `dtype`, indices into `colours` where there are some; a large one in bands."""
    # In two's complement -1 has every bit set: the narrowing itself makes it 255 or 65535.
    with atomic_write(path) as stream:
        if is_large(*label_map.shape):
            chunks = [(b"PLTE", colours)] if colours else []
            pixels = (label_map[band] for band in bands(*label_map.shape))
            write_png(stream, pixels, size=label_map.shape, bits=8 * dtype().itemsize, chunks=chunks)
            return
        image = Image.fromarray(label_map.astype(dtype))
        if colours:
            image = image.convert("L")
            image.putpalette(colours)
        image.save(stream, "PNG", compress_level=1)


def write_confidence(path: Path, confidence: NDArray[np.float32 | np.uint16]) -> None:
    """Write the confidence [H, W] in 0…1 as a 16-bit gray PNG: value / 65535; the file says so in its texts.

    `confidence` may be such values already, which take half the memory.
    """
    texts = {
        "Title": "san: confidence of each pixel's winner",
        "san:scale": f"confidence = value / {_HIGHEST}",
    }
    with atomic_write(path) as stream:
        if is_large(*confidence.shape):
            chunks = [(b"tEXt", f"{key}\0{text}".encode("latin-1")) for key, text in texts.items()]
            pixels = (_confidence_values(confidence[band]) for band in bands(*confidence.shape))
            write_png(stream, pixels, size=confidence.shape, bits=16, chunks=chunks)
            return
        info = PngInfo()
        for key, text in texts.items():
            info.add_text(key, text)
        Image.fromarray(_confidence_values(confidence)).save(stream, "PNG", compress_level=1, pnginfo=info)


def _confidence_values(confidence: NDArray[np.float32 | np.uint16]) -> NDArray[np.uint16]:
    if confidence.dtype == np.uint16:
        return confidence.astype(np.uint16, copy=False)
    return np.rint(confidence * np.float32(_HIGHEST)).astype(np.uint16)


def check_ids(label_map: NDArray[np.integer], names: Sequence[str]) -> None:
    """Raise ValueError for an id outside `names`, SanError above 65535 classes."""
    if label_map.min() < -1 or label_map.max() >= len(names):
        raise ValueError(f"label map has ids outside -1 … {len(names) - 1}")
    if len(names) > UNLABELLED_16:
        raise SanError(
            f"a label map holds at most {UNLABELLED_16} classes, the vocabulary has {len(names)}",
            hint="Leave label maps out of --save, or use fewer classes.",
        )


def read_label_map(path: Path) -> NDArray[np.int32]:
    """Read the label map [H, W] that `write_label_map` wrote, -1 where unlabelled; SanError for another image."""
    with Image.open(path, formats=("PNG",)) as image:
        if image.mode not in ("P", "I;16"):
            raise SanError(f"{path} is not a label map written by san")
        labels = np.asarray(image).astype(np.int32)
        labels[labels == (UNLABELLED_8 if image.mode == "P" else UNLABELLED_16)] = -1
    return labels


def write_class_table(path: Path, names: Sequence[str]) -> None:
    """Write what the pixels of the label maps mean: a JSON list of {"id", "category_id", "name", "colour"}.

    `id` is the pixel value, `category_id` what stands for the class in predictions.json (from 1, as readers of
    COCO lose a category 0), `colour` is #rrggbb.
    """
    rows = [
        json_text(
            {
                "id": class_id,
                "category_id": class_id + 1,
                "name": name,
                "colour": "#" + colour.tobytes().hex(),
            }
        )
        for class_id, (name, colour) in enumerate(zip(names, palette(names), strict=True))
    ]
    with atomic_write(path) as stream:
        stream.write(("[\n" + ",\n".join(rows) + "\n]\n").encode("ascii"))
