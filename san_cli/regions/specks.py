"""Specks: regions of few pixels, given to what surrounds them.

A speck takes the class, or none, that it shares the longest border with, counted in sides of pixels; of equally long
ones the one with the lesser id, and no class last. Where only specks surround a speck, those nearer to something
larger go first. Unlabelled pixels are never a speck: what nobody knows isn't made up. Where there is nothing but
specks, none has a class.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from san_cli.regions.parts import Parts, connected

_BAND_PIXELS = 2**21
_NONE = -1


def drop_specks(label_map: NDArray[np.signedinteger], min_area: int) -> None:
    """Take regions (8-connected) of fewer than `min_area` pixels out of `label_map` [H, W], in place."""
    if min_area <= 1:
        return
    parts = connected(label_map)
    length = np.diff(parts.start, append=label_map.size)
    area = np.bincount(parts.part, weights=length)
    label = np.empty(len(area), np.int64)
    label[parts.part] = parts.label
    is_speck = (area < min_area) & (label != _NONE)
    if not is_speck.any():
        return

    # Round after round those specks that have a border with something settled.
    speck, neighbour, border = _borders(parts, length, is_speck, label_map.shape)
    settled = ~is_speck
    while True:
        ready = settled[neighbour] & ~settled[speck]
        if not ready.any():
            break
        mine, theirs, weight = speck[ready], label[neighbour[ready]], border[ready]
        pairs, place = _distinct(mine, theirs - _NONE)
        pairs[1] += _NONE
        total = np.bincount(place, weights=weight)
        last = np.where(pairs[1] == _NONE, np.iinfo(np.int64).max, pairs[1])
        order = np.lexsort((last, -total, pairs[0]))
        first = order[np.flatnonzero(np.diff(pairs[0][order], prepend=-1))]
        label[pairs[0][first]] = pairs[1][first]
        settled[pairs[0][first]] = True
    label[~settled] = _NONE
    for begin, end, rows in _bands(parts, label_map.shape):
        labels = np.repeat(label[parts.part[begin:end]], length[begin:end])
        label_map[rows] = labels.reshape(-1, label_map.shape[1])


def _bands(parts: Parts, size: tuple[int, ...]) -> Iterator[tuple[int, int, slice]]:
    """Yield bands of rows, with the first and last + 1 of the runs in them."""
    height, width = size
    count = max(1, _BAND_PIXELS // width)
    for top in range(0, height, count):
        stop = min(height, top + count)
        first, last = np.searchsorted(parts.start, (top * width, stop * width)).tolist()
        yield first, last, slice(top, stop)


def _borders(
    parts: Parts, length: NDArray[np.int64], is_speck: NDArray[np.bool_], size: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the specks' neighbours: number of the speck, of the other region, and how many sides they share."""
    found = []
    above = np.empty((0, size[1]), parts.part.dtype)
    for first, last, _ in _bands(parts, size):
        own = np.repeat(parts.part[first:last], length[first:last]).reshape(-1, size[1])
        for one, other in ((own[:, :-1], own[:, 1:]), (own[:-1], own[1:]), (above, own[: len(above)])):
            apart = (one != other) & (is_speck[one] | is_speck[other])
            found.append(np.stack([one[apart], other[apart]]))
        above = own[-1:]
    both = np.concatenate(found, axis=1)
    both = np.concatenate([both, both[::-1]], axis=1)
    pairs, place = _distinct(*both[:, is_speck[both[0]]])
    return pairs[0], pairs[1], np.bincount(place, minlength=pairs.shape[1])


def _distinct(
    one: NDArray[np.integer], other: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct pairs [2, P] of numbers from 0 on, in order, and which of them each pair is."""
    base = int(other.max(initial=0)) + 1
    key, place = np.unique(one.astype(np.int64) * base + other, return_inverse=True)
    return np.stack(np.divmod(key, base)), place.ravel()
