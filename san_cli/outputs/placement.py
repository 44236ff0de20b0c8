"""Place in a label map for a class name: inside its own region, as far from its edges as possible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ENOUGH_INSIDE = 0.97  # of the text's box; specks of other classes don't hurt a name


@dataclass(frozen=True)
class Place:
    """The centre of a text, in pixels, and which of its sizes fits there."""

    x: float
    y: float
    choice: int


def place_names(
    labels: NDArray[np.integer], sizes: Sequence[tuple[int, Sequence[tuple[int, int]]]], step: int
) -> dict[int, Place]:
    """Find places for texts in `labels` [H, W], which is looked at every `step` pixels.

    `sizes` holds (label, (width, height) in pixels of its text, the preferred one first), the most important
    label first; no label is the largest value of its type. Labels that have no room are left out.
    No two boxes overlap, and none leaves the image by more than half a step.
    """
    grid = labels[step // 2 :: step, step // 2 :: step].copy()
    taken = np.iinfo(grid.dtype).max
    area = np.bincount(grid.ravel(), minlength=max((label for label, _ in sizes), default=0) + 1)
    places = {}
    for label, boxes in sizes:
        cells = [(-(-height // step), -(-width // step)) for width, height in boxes]
        if area[label] < _ENOUGH_INSIDE * min(rows * columns for rows, columns in cells):
            continue
        top, left, total = _integral_around(grid == label)
        for choice, (rows, columns) in enumerate(cells):
            found = _innermost(total, rows, columns)
            if found is None:
                continue
            y, x = top + found[0], left + found[1]
            box = grid[y : y + rows, x : x + columns]
            if (box == taken).any():  # the specks in it are a corner of another name's box
                continue
            box[:] = taken
            places[label] = Place((x + columns / 2) * step, (y + rows / 2) * step, choice)
            break
    return places


def _integral_around(inside: NDArray[np.bool_]) -> tuple[int, int, NDArray[np.int32]]:
    """Top and left of the box around `inside`, and at each corner in it the sum above and to its left."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(rows) == 0:
        return 0, 0, np.zeros((1, 1), np.int32)
    top, left = int(rows[0]), int(columns[0])
    box = inside[top : rows[-1] + 1, left : columns[-1] + 1]
    total = np.zeros((box.shape[0] + 1, box.shape[1] + 1), np.int32)
    np.cumsum(np.cumsum(box, axis=0, dtype=np.int32), axis=1, out=total[1:, 1:])
    return top, left, total


def _innermost(total: NDArray[np.int32], rows: int, columns: int) -> tuple[int, int] | None:
    """Top and left of the box of `rows` × `columns` cells that lies deepest inside, None if there is no room.

    Depth is the share of the region in the box as it grows on all sides, up to 8 times its height; what lies
    beyond the map counts as outside.
    """
    height, width = total.shape[0] - 1, total.shape[1] - 1
    if rows > height or columns > width:
        return None
    below = total[rows:] - total[:-rows]
    inside = below[:, columns:] - below[:, :-columns]
    fits = np.flatnonzero(inside >= _ENOUGH_INSIDE * rows * columns)
    if len(fits) == 0:
        return None
    top, left = np.divmod(fits, inside.shape[1])
    depth = np.zeros(len(top))
    for times in (0.5, 1, 2, 4, 8):
        margin = max(1, round(times * rows))
        y0, y1 = np.maximum(top - margin, 0), np.minimum(top + rows + margin, height)
        x0, x1 = np.maximum(left - margin, 0), np.minimum(left + columns + margin, width)
        grown = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
        depth += grown / ((rows + 2 * margin) * (columns + 2 * margin))
    # In a large region many are equally deep: the one in their middle.
    deepest = np.flatnonzero(depth > depth.max() - 1e-9)
    off = np.square(top[deepest] - top[deepest].mean()) + np.square(left[deepest] - left[deepest].mean())
    best = deepest[off.argmin()]
    return int(top[best]), int(left[best])
