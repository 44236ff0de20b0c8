"""Simplified borders (Douglas and Peucker 1973), each once for both regions that it parts.

Rings are cut into arcs at nodes: points where more than two regions meet, and corners of the image. Two neighbours
walk an arc in opposite directions, so each is simplified in the one direction that its ends tell; equal numbers in,
equal corners out. A ring without nodes is one arc, from its topmost corner (the left one of these) to itself.

All arcs are looked at together: in each round, every stretch between two corners that are kept keeps the corner
farthest from its chord too, if that is farther than the tolerance. What no round keeps is within the tolerance of the
chord, and every point of the chord has one of the border as near: so far, and no farther, a border moves
(Hausdorff distance). A ring that would lose its area, or all centres of pixels, keeps all corners, and so do its
neighbours there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from san_cli.regions.fill import fill
from san_cli.regions.ring_areas import ring_areas

_EQUAL = 1e-9  # of a pixel
_Flags = NDArray[np.bool_]
_Places = NDArray[np.int64]


@dataclass(frozen=True)
class _Arcs:
    """Arcs one after another, each in its own direction, with the corners at both of its ends."""

    corner: _Places  # [M] place among the corners of the rings
    start: _Places  # [A] where an arc begins in `corner`
    ring: _Places  # [A] that it is of
    border: _Places  # [A] equal for the two arcs that are one border

    @property
    def stop(self) -> _Places:
        """Where an arc's last corner is in `corner`."""
        return np.append(self.start[1:], len(self.corner)) - 1


def simplified(
    points: NDArray[np.integer], starts: NDArray[np.integer], is_node: _Flags, tolerance: float
) -> _Flags:
    """Tell which corners [N] of the rings that begin at `starts` among `points` [N, 2] are kept.

    `tolerance` is in pixels.
    """
    arcs = _arcs(points, starts, is_node)
    whole = np.zeros(len(arcs.start), bool)
    while True:
        kept = np.zeros(len(points), bool)
        kept[arcs.corner[_kept_on_arcs(points[arcs.corner], arcs, whole, tolerance)]] = True
        counts = np.add.reduceat(kept, starts)
        remaining = points[kept]
        first = np.cumsum(counts) - counts
        before, after = ring_areas(points, starts), ring_areas(remaining, first)
        lost = (counts < 3) | (np.sign(before) != np.sign(after))
        lost[~lost] = _empty(remaining, first, after)[~lost]
        again = np.isin(arcs.border, arcs.border[lost[arcs.ring]])
        if not (again & ~whole).any():
            return kept
        whole |= again


def _arcs(points: NDArray[np.integer], starts: NDArray[np.integer], is_node: _Flags) -> _Arcs:
    """Cut all rings at their nodes, and turn each arc into its own direction."""
    lengths = np.diff(starts, append=len(points))
    ring_of = np.repeat(np.arange(len(starts)), lengths)
    key = points[:, 1].astype(np.int64) << 32 | points[:, 0]  # by rows, then columns

    # A ring without a node has its first corner, row by row, for one.
    cuts = is_node.copy()
    lone = np.flatnonzero(~np.logical_or.reduceat(is_node, starts))
    by_key = np.lexsort((key, ring_of))
    cuts[by_key[starts[lone]]] = True

    # From each cut to the next one of its ring, the last one's going round to the first.
    begin = np.flatnonzero(cuts)
    ring = ring_of[begin]
    last_of_ring = np.append(ring[1:] != ring[:-1], True)
    first_cut = begin[np.searchsorted(ring, ring)]
    end = np.where(last_of_ring, first_cut + lengths[ring], np.append(begin[1:], 0))
    count = end - begin + 1
    start = np.cumsum(count) - count
    arc = np.repeat(np.arange(len(begin)), count)
    step = np.arange(len(arc)) - start[arc]
    corner = _round(begin[arc] + step, starts[ring[arc]], lengths[ring[arc]])

    # Its direction: away from the end with the lesser place, or else towards the lesser second corner.
    stop = start + count - 1
    ends = [np.stack([key[corner[a]], key[corner[b]]]) for a, b in ((start, start + 1), (stop, stop - 1))]
    turned = (ends[1][0] < ends[0][0]) | ((ends[1][0] == ends[0][0]) & (ends[1][1] < ends[0][1]))
    step = np.where(turned[arc], count[arc] - 1 - step, step)
    corner = _round(begin[arc] + step, starts[ring[arc]], lengths[ring[arc]])
    names = np.where(turned, ends[1], ends[0]).T
    _, border = np.unique(names, axis=0, return_inverse=True)
    return _Arcs(corner, start, ring, border.ravel())


def _round(place: _Places, start: NDArray[np.integer], length: NDArray[np.integer]) -> _Places:
    """Places in rings of this start and length, beyond whose end they begin anew."""
    return np.asarray(start + (place - start) % length, np.int64)


def _kept_on_arcs(points: NDArray[np.integer], arcs: _Arcs, whole: _Flags, tolerance: float) -> _Flags:
    """Tell which of the arcs' corners [M], at `points`, are kept; all of those that are to stay `whole`."""
    count = np.diff(arcs.start, append=len(points))
    kept = np.repeat(whole, count)
    kept[arcs.start] = kept[arcs.stop] = True
    open_ = ~kept
    most = tolerance
    while open_.any():
        # Each open corner's distance from the chord between the kept ones before and behind it.
        at = np.flatnonzero(open_)
        anchors = np.flatnonzero(kept)
        stretch = np.searchsorted(anchors, at) - 1
        distance = _distances(points[at], points[anchors[stretch]], points[anchors[stretch + 1]])
        closed = (points[anchors[stretch]] == points[anchors[stretch + 1]]).all(axis=1)

        # The farthest of each stretch; without a chord, of a closed arc, it is kept anyway. Of equal ones that
        # nearest to the middle: on stairs all are equal, and there would be as many rounds as steps.
        first = np.flatnonzero(np.diff(stretch, prepend=-1))
        farthest = np.maximum.reduceat(distance, first)
        too_far = (farthest > most) | closed[first]
        group = np.cumsum(np.diff(stretch, prepend=-1) != 0) - 1
        hit = np.flatnonzero(distance >= farthest[group] - _EQUAL)
        middle = (anchors[stretch] + anchors[stretch + 1]) / 2
        hit = hit[np.lexsort((hit, np.abs(at - middle)[hit], group[hit]))]
        chosen = hit[np.flatnonzero(np.diff(group[hit], prepend=-1))]
        kept[at[chosen[too_far]]] = True
        open_[at[~too_far[group]]] = False
        open_[kept] = False
    return kept


def _empty(points: NDArray[np.integer], starts: NDArray[np.integer], areas: NDArray[np.float64]) -> _Flags:
    """Tell which of the outlines that begin at `starts` have no pixel's centre inside; thin ones may have none."""
    ends = np.append(starts[1:], len(points))
    following = np.concatenate([points[1:], points[:1]])
    following[ends - 1] = points[starts]
    around = np.add.reduceat(np.hypot(*(following - points).T), starts)
    empty = np.zeros(len(starts), bool)
    for ring in np.flatnonzero((areas > 0) & (areas < around)).tolist():
        corners = points[starts[ring] : ends[ring]]
        height, width = corners[:, 1].max(), corners[:, 0].max()
        empty[ring] = not fill([corners], (int(height), int(width)))[1].any()
    return empty


def _distances(
    point: NDArray[np.integer], start: NDArray[np.integer], stop: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Distances [N] of points from the chords start … stop, all [N, 2]."""
    along, there = (stop - start).astype(np.float64), (point - start).astype(np.float64)
    square = (along**2).sum(axis=1)
    share = np.clip((along * there).sum(axis=1) / np.maximum(square, 1), 0, 1)
    return np.sqrt(((there - share[:, None] * along) ** 2).sum(axis=1))
