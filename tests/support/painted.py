"""Regions of label maps for the writers of annotations, and outlines read back from a file as a label map."""

from collections.abc import Iterable, Sequence

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from san_cli.outputs.record import Found, ImageRecord
from san_cli.regions.fill import fill
from san_cli.regions.rle import encode_label_map
from san_cli.regions.split import split

NAMES = ["sky", "golden retriever", "a \"b\" <c> & 'd'", "猫: yes"]

label_maps = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
    elements=st.integers(-1, len(NAMES) - 1),
)
any_text = st.text(st.characters(exclude_categories=()), max_size=12)  # half surrogate pairs too


def record_of(name: str, label_map: np.ndarray, score: float | None = 0.5) -> ImageRecord:
    """Return the record of an image with this label map."""
    found = tuple(
        Found(class_id, region, score, score) for class_id, region in encode_label_map(label_map).items()
    )
    regions = split(label_map, run_lengths=True, outlines=True)
    return ImageRecord(name, *label_map.shape, found, regions=regions)


def painted(shapes: Iterable[tuple[int, Sequence[float]]], size: tuple[int, int]) -> np.ndarray:
    """Draw outlines x, y, x, y … of classes one over the other."""
    label_map = np.full(size, -1)
    for class_id, outline in shapes:
        window, inside = fill([np.array(outline, float).reshape(-1, 2)], size)
        label_map[window][inside] = class_id
    return label_map


def nested() -> np.ndarray:
    """Return a label map with a hole in a hole, regions that touch at corners, single pixels and nothing around."""
    label_map = np.full((31, 43), -1)
    label_map[2:28, 3:40] = 0
    label_map[5:20, 6:30] = 1
    label_map[8:15, 9:20] = 0
    label_map[10, 12] = -1
    label_map[22:24, 8:10] = label_map[24:26, 10:12] = 2
    label_map[30, 42] = label_map[29, 41] = 3
    return label_map
