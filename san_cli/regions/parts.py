"""Connected regions of a label map: how many separate patches the pixels of each class form.

Pixels that touch at a side or a corner are of one region (8-connected). All classes are counted together: what is
joined is runs of equal labels in the rows, of which there are far fewer than pixels, and the work doesn't grow with
the number of classes, nor the memory with that of rows. A megapixel of 20 classes takes 0.02 s (0.15 s with
`scipy.ndimage.label` class by class), one of mere noise less than 0.25 s.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from san_cli.regions.rle import Region

_Pairs = tuple[NDArray[np.int32], NDArray[np.int32]]

_BAND_ROWS = 128  # looked at in one go: what is computed for each pixel of them stays in the cache
_STRETCH_PIXELS = 2**21  # whose runs are joined in one go: of mere noise that takes 200 MB


@dataclass(frozen=True)
class Parts:
    """Connected regions of a label map, as runs of equal labels in its rows."""

    start: NDArray[np.int64]  # [R] place of a run's first pixel, row by row
    label: NDArray[np.integer]  # [R]
    part: NDArray[np.int32]  # [R] number of the region that it is of, in the order of their first pixels

    def part_at(self, pixel: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the number of the region that each of these pixels is in, given by their places row by row."""
        return self.part[np.searchsorted(self.start, pixel, side="right") - 1]


def connected(label_map: NDArray[np.integer], *, corners: bool = True) -> Parts:
    """Find the connected regions of all labels of `label_map` [H, W], those below 0 too.

    Pixels that touch at `corners` alone are together, or only those that share sides.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    label, (upper, lower) = _touching_runs(label_map, corners=corners)
    links = coo_array((np.ones(len(upper), np.int8), (upper, lower)), shape=(len(label), len(label)))
    return Parts(_run_places(label_map), label, connected_components(links, directed=False)[1])


def _run_places(label_map: NDArray[np.integer]) -> NDArray[np.int64]:
    """Places [R] where the runs in the rows begin, row by row."""
    height, width = label_map.shape
    rows = max(1, _STRETCH_PIXELS // width)
    places = []
    for top in range(0, height, rows):
        band = label_map[top : top + rows]
        begins = np.ones(band.shape, bool)
        np.not_equal(band[:, 1:], band[:, :-1], out=begins[:, 1:])
        places.append(np.flatnonzero(begins) + top * width)
    return np.concatenate(places)


def count_parts(label_map: NDArray[np.integer], regions: Mapping[int, Region]) -> dict[int, int]:
    """Count the connected regions of each class of `regions`, which `encode_label_map` made of `label_map` [H, W]."""
    if not regions:
        return {}
    height, width = label_map.shape
    lowest = int(label_map.min())
    counts = np.zeros(int(label_map.max()) - lowest + 1, np.int64)
    rows = max(1, _STRETCH_PIXELS // width)
    above = np.zeros(0, np.int32)
    for top in range(0, max(1, height - 1), rows):
        # The last row is the next stretch's first: parts that reach it go on there, and are counted where they end.
        stretch = label_map[top : top + rows + 1]
        label, part = _parts(stretch, above)
        label_of_part = np.empty(part.max() + 1, np.int64)
        label_of_part[part] = label
        ends = np.ones(len(label_of_part), bool)
        if top + rows + 1 < height:
            above = part[-1 - np.count_nonzero(stretch[-1, 1:] != stretch[-1, :-1]) :]
            ends[above] = False
        counts += np.bincount(label_of_part[ends] - lowest, minlength=len(counts))
    return {class_id: int(counts[class_id - lowest]) for class_id in regions}


def _parts(
    label_map: NDArray[np.integer], above: NDArray[np.int32]
) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """Labels [R] of the runs in the rows of `label_map` [H, W], and the number of the part that each belongs to.

    `above` are such numbers of the runs in the first row, from the rows above: what is of one part there is so here.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    label, (upper, lower) = _touching_runs(label_map, corners=True)
    if len(above):
        _, first, place = np.unique(above, return_index=True, return_inverse=True)
        upper = np.concatenate([upper, first[place]], dtype=np.int32)
        lower = np.concatenate([lower, np.arange(len(above))], dtype=np.int32)
    links = coo_array((np.ones(len(upper), np.int8), (upper, lower)), shape=(len(label), len(label)))
    return label, connected_components(links, directed=False)[1]


def _touching_runs(label_map: NDArray[np.integer], *, corners: bool) -> tuple[NDArray[np.integer], _Pairs]:
    """Labels [R] of the runs in the rows, and the pairs of runs with equal labels that touch."""
    labels, aboves, belows = [], [], []
    runs = 0
    for top in range(0, label_map.shape[0], _BAND_ROWS):
        band = label_map[top : top + _BAND_ROWS + 1]  # and the row below, whose runs are the next band's
        same_as_left = np.zeros(band.shape, bool)
        np.equal(band[:, 1:], band[:, :-1], out=same_as_left[:, 1:])
        run = np.cumsum(~same_as_left, dtype=np.int32).reshape(band.shape) + np.int32(runs - 1)
        above, below = _touching_pairs(band, same_as_left, run, corners)
        aboves.append(above)
        belows.append(below)
        labels.append(band[:_BAND_ROWS][~same_as_left[:_BAND_ROWS]])
        runs += len(labels[-1])
    return np.concatenate(labels), (np.concatenate(aboves), np.concatenate(belows))


def _touching_pairs(
    label_map: NDArray[np.integer], same_as_left: NDArray[np.bool_], run: NDArray[np.int32], corners: bool
) -> _Pairs:
    """Pairs of numbers in `run` [H, W], of the runs with equal labels that touch from row to row, at `corners` too.

    Those that share sides are there once for each stretch of them, those that touch at a corner only where no side
    says the same: without that there would be three pairs a pixel.
    """
    upper, lower = label_map[:-1], label_map[1:]
    side = upper == lower
    first = side.copy()  # of the columns where one run lies above the other
    first[:, 1:] &= ~(side[:, :-1] & same_as_left[:-1, 1:])
    if not corners:
        return run[:-1][first], run[1:][first]
    # A corner counts in a square of a b / c d where a = d differs from b and c, or the other way round.
    apart = ~(side[:, :-1] | side[:, 1:] | same_as_left[:-1, 1:])
    falling = apart & (upper[:, :-1] == lower[:, 1:])
    rising = apart & (upper[:, 1:] == lower[:, :-1])
    above = [run[:-1][first], run[:-1, :-1][falling], run[:-1, 1:][rising]]
    below = [run[1:][first], run[1:, 1:][falling], run[1:, :-1][rising]]
    return np.concatenate(above), np.concatenate(below)
