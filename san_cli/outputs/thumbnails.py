"""What the gallery shows of an image: the photograph made small, and its label map as a layer to lay over it.

The layer is a PNG of flat class colours, not a second photograph: a tenth of the bytes, its opacity is the
reader's to choose, and the page can pick out one class by its colour.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from san_cli.files import atomic_write
from san_cli.outputs.colours import colour_of

LONGEST_SIDE = 640
_UNLABELLED, _OUTLINE, _FIRST_CLASS = 0, 1, 2  # in a layer
_LAYER_CLASSES = 256 - _FIRST_CLASS


def write_photo(path: Path, image: NDArray[np.uint8]) -> None:
    """Write `image` [H, W, 3] as a JPEG, made smaller if its longest side is above `LONGEST_SIDE`."""
    height, width = image.shape[:2]
    photo = Image.fromarray(image)
    if (height, width) != thumbnail_size(height, width):
        photo = photo.resize(thumbnail_size(height, width)[::-1], Image.Resampling.BICUBIC, reducing_gap=2.0)
    with atomic_write(path) as stream:
        photo.save(stream, "JPEG", quality=80)


def write_layer(path: Path, label_map: NDArray[np.integer], names: Sequence[str]) -> None:
    """Write `label_map` [H, W], ids in `names`, -1 where unlabelled, as a PNG of `write_photo`'s size.

    Opaque class colours with white outlines between them; what is unlabelled is transparent, and so are the
    smallest classes where there are more than 254.
    """
    labels = _nearest(label_map, thumbnail_size(*label_map.shape))
    area = np.bincount(np.add(labels, 1, dtype=np.intp).ravel(), minlength=len(names) + 1)[1:]
    shown = np.argsort(-area, kind="stable")[: min(_LAYER_CLASSES, np.count_nonzero(area))]
    index = np.full(len(names) + 1, _UNLABELLED, np.uint8)
    index[shown] = np.arange(_FIRST_CLASS, _FIRST_CLASS + len(shown))  # -1, the last one, stays unlabelled
    layer = index[labels]
    layer[_outlines(labels)] = _OUTLINE
    picture = Image.fromarray(layer)
    picture.putpalette(bytes([0, 0, 0, 255, 255, 255]) + bytes(v for i in shown for v in colour_of(names[i])))
    with atomic_write(path) as stream:
        picture.save(stream, "PNG", transparency=_UNLABELLED)


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the thumbnail of an image."""
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _nearest(label_map: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.integer]:
    rows, columns = (
        ((np.arange(small) + 0.5) * large / small).astype(np.intp)
        for small, large in zip(size, label_map.shape, strict=True)
    )
    return label_map[rows[:, None], columns]


def _outlines(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """The pixels [H, W] whose neighbour below or to the right is of another class."""
    edges = np.zeros(labels.shape, bool)
    edges[:-1] = labels[1:] != labels[:-1]
    edges[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    return edges
