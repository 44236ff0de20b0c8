"""Filling polygons: which pixels of a picture lie inside.

A pixel is inside where its centre is (even-odd rule: a ray from there crosses the rings an odd number of times), so
holes may be rings of their own, in any direction, or be joined to their outline by a bridge that is walked twice and
encloses nothing. A centre exactly on an edge belongs to what lies right of the edge: polygons that share a border
share out its pixels, and none is lost or given twice.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.number]  # [n, 2], x and y of its corners in pixels; (0, 0) is the corner of the first pixel


def fill(rings: Sequence[Ring], size: tuple[int, int]) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Fill the rings of one polygon in a picture of `size` = (height, width), as far as they lie in it.

    Returns rows and columns of the window that holds all that is inside, and in this window what is. A ring ends
    where it began, whether its first corner is repeated or not. ValueError for coordinates that aren't finite.
    """
    rings = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings if len(ring) > 2]
    if not rings:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    start = np.concatenate(rings)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    if not np.isfinite(start).all():
        raise ValueError("a polygon has corners that are no numbers")

    # The window: rows whose centres the polygon reaches, and columns.
    height, width = size
    top, bottom = _centres(start[:, 1].min(), start[:, 1].max(), height)
    left, right = _centres(start[:, 0].min(), start[:, 0].max(), width)
    window = slice(top, bottom), slice(left, right)
    if top >= bottom or left >= right:
        return window, np.zeros((max(0, bottom - top), max(0, right - left)), bool)

    # Every edge downwards, so that neighbours compute the same crossings for the edge they share.
    upwards = start[:, 1] > stop[:, 1]
    start[upwards], stop[upwards] = stop[upwards], start[upwards]

    # Each edge crosses the centres of these rows, here.
    first = np.clip(np.ceil(start[:, 1] - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(stop[:, 1] - 0.5), top, bottom).astype(np.int64)
    crossed = last - first
    edge = np.repeat(np.arange(len(start)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    with np.errstate(all="ignore"):  # level edges, and coordinates beyond all pictures
        slope = (stop[:, 0] - start[:, 0]) / (stop[:, 1] - start[:, 1])
        x = np.nan_to_num(start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope[edge])

    # Right of an odd number of crossings is inside.
    column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
    columns = right - left + 1  # one more: what is right of the window
    places = (row - top) * columns + column - left
    crossings = np.zeros((bottom - top) * columns, np.uint8)
    np.bitwise_xor.at(crossings, places, np.uint8(1))
    inside = np.bitwise_xor.accumulate(crossings.reshape(-1, columns)[:, :-1], axis=1)
    return window, inside.view(bool)


def _centres(low: float, high: float, side: int) -> tuple[int, int]:
    """First and last + 1 of the `side` pixels in a line that have their centres in low … high."""
    first, last = np.clip(np.ceil(np.array([low, high]) - 0.5), 0, side).astype(int).tolist()
    return first, last
