"""Outlines of a label map's regions, exactly along the edges of pixels, and simplified with shared borders.

A corner is where the border of a class turns: at a point of the grid between pixels

    a b     whose four pixels are a … d, a class has a corner around one pixel that neither neighbour continues
    c d     (convex), or opposite to one that is missing among three (concave)

Walking with the region at the right hand, an edge that goes east along a line of the grid begins at one corner and
ends at another; no two such edges overlap, as each pixel below the line belongs to one class. So the k-th beginning
on the map, row by row, belongs to the k-th end, and all corners are linked without a search. What is left is to
follow the links around. A ring that comes to one point twice is split there: no ring touches itself.

A polygon is what hangs together by sides of pixels (4-connected): one outline and its holes, valid as OGC's simple
features want it. A region (8-connected, as `parts` counts) is one polygon or several that touch at corners.
12 megapixels of 60 classes take some 0.3 s.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from san_cli.regions.parts import Parts, connected
from san_cli.regions.ring_areas import ring_areas
from san_cli.regions.simplify import simplified

Corners = NDArray[np.int32]  # [n, 2], x and y of points of the grid; (0, 0) is the corner of the first pixel

_EAST, _SOUTH, _WEST, _NORTH = range(4)
_BAND_PIXELS = 2**21  # looked at in one go


@dataclass(frozen=True)
class Polygon:
    """Pixels of one class that hang together by their sides.

    `rings` are the outline, clockwise as seen, and then the holes, the other way round; the first corner isn't
    repeated. `region` is the number of the 8-connected region that it is of, from 0.
    """

    class_id: int
    region: int
    rings: tuple[Corners, ...]


class _Turns(NamedTuple):
    """Corners of all classes, point after point along the rows."""

    x: NDArray[np.int32]
    y: NDArray[np.int32]
    label: NDArray[np.integer]
    comes: NDArray[np.int8]  # direction in which the border comes to it
    goes: NDArray[np.int8]
    node: NDArray[np.bool_]  # whether more than two regions meet there, or it is a corner of the image


def polygons(
    label_map: NDArray[np.integer], *, simplify: float = 0.0, regions: Parts | None = None
) -> list[Polygon]:
    """Trace every region of `label_map` [H, W] that has an id of 0 or more, by class, then by its first pixel.

    Filled (`regions.fill`) they give the label map back, without a difference. `simplify` leaves corners out such
    that no border moves by more than so many pixels (Hausdorff distance); a border that two regions share stays
    one, and points where more meet stay where they are. `regions` are those of the map, if they are known already.
    """
    turns = _turns(label_map, with_nodes=simplify > 0)
    if not len(turns.x):
        return []
    order, starts = _rings(turns)
    ends = np.append(starts[1:], len(order))
    points = np.stack([turns.x[order], turns.y[order]], axis=1)

    # Where each ring belongs: told by the pixel at the right hand of its first edge.
    first = order[starts]
    right_of = np.array([(0, 0), (0, -1), (-1, -1), (-1, 0)])[turns.goes[first]]
    pixel = (turns.y[first] + right_of[:, 0]).astype(np.int64) * label_map.shape[1]
    pixel += turns.x[first] + right_of[:, 1]
    by_side = connected(label_map, corners=False).part_at(pixel)
    region = (regions or connected(label_map)).part_at(pixel)
    is_hole = ring_areas(points, starts) < 0
    label = turns.label[first]

    if simplify > 0:
        kept = simplified(points, starts, turns.node[order], simplify)
        points, starts = points[kept], np.concatenate(([0], np.cumsum(kept)))[starts]
        ends = np.append(starts[1:], len(points))

    # Outline and holes together; a class's polygons in the order in which they begin.
    order = np.lexsort((is_hole, by_side, region, label))
    corners = [
        points[start:end] for start, end in zip(starts[order].tolist(), ends[order].tolist(), strict=True)
    ]
    first = np.flatnonzero(np.diff(by_side[order], prepend=-1))
    last = [*first[1:].tolist(), len(order)]
    whose = zip(
        label[order[first]].tolist(), region[order[first]].tolist(), first.tolist(), last, strict=True
    )
    return [Polygon(class_id, number, tuple(corners[start:end])) for class_id, number, start, end in whose]


def _turns(label_map: NDArray[np.integer], *, with_nodes: bool) -> _Turns:
    """Find all corners; `with_nodes` also points where more than two regions meet and one goes straight on."""
    height, width = label_map.shape
    rows = max(1, _BAND_PIXELS // width)
    bands = []
    for top in range(0, height + 1, rows):
        # Pixels above and below these lines of the grid; around the map is nothing, as where it is unlabelled.
        lines = min(rows, height + 1 - top)
        padded = np.full((lines + 1, width + 2), -1, label_map.dtype)
        begin, end = max(0, top - 1), min(height, top + lines)
        padded[begin - top + 1 : end - top + 1, 1:-1] = label_map[begin:end]
        bands.append(_turns_of_lines(padded, top, (height, width), with_nodes))
    return _Turns(*(np.concatenate(values) for values in zip(*bands, strict=True)))


def _turns_of_lines(padded: NDArray[np.integer], top: int, size: tuple[int, int], with_nodes: bool) -> _Turns:
    upright = padded[:, 1:] != padded[:, :-1]  # borders between the pixels of a row
    level = padded[1:] != padded[:-1]
    y, x = np.nonzero((upright[:-1] | upright[1:]) & (level[:, :-1] | level[:, 1:]))
    a, b, c, d = padded[y, x], padded[y, x + 1], padded[y + 1, x], padded[y + 1, x + 1]
    ab, cd, ac, bd = a != b, c != d, a != c, b != d

    # (whether there is one, whose it is, the way it comes and goes)
    kinds = [
        (bd & cd, d, _NORTH, _EAST),
        (ac & cd, c, _EAST, _SOUTH),
        (ab & bd, b, _WEST, _NORTH),
        (ab & ac, a, _SOUTH, _WEST),
        (bd & cd & ~ab & ~ac, a, _WEST, _SOUTH),
        (ac & cd & ~ab & ~bd, b, _NORTH, _WEST),
        (ab & bd & ~ac & ~cd, c, _SOUTH, _EAST),
        (ab & ac & ~bd & ~cd, d, _EAST, _NORTH),
    ]
    if with_nodes:
        kinds += [
            (~cd & ac & bd & ab, c, _EAST, _EAST),
            (~ab & ac & bd & cd, a, _WEST, _WEST),
            (~ac & ab & cd & bd, a, _SOUTH, _SOUTH),
            (~bd & ab & cd & ac, b, _NORTH, _NORTH),
        ]
    chosen = [np.flatnonzero(there & (whose >= 0)) for there, whose, _, _ in kinds]
    point = np.concatenate(chosen)
    order = np.argsort(point, kind="stable")
    point = point[order]
    label = np.concatenate([whose[at] for at, (_, whose, _, _) in zip(chosen, kinds, strict=True)])[order]
    comes, goes = (
        np.repeat(np.array([kind[which] for kind in kinds], np.int8), [len(at) for at in chosen])[order]
        for which in (2, 3)
    )
    node = (ab.astype(np.int8) + cd + ac + bd > 2) | (
        np.isin(x, (0, size[1])) & np.isin(y + top, (0, size[0]))
    )
    return _Turns(
        x[point].astype(np.int32), (y[point] + top).astype(np.int32), label, comes, goes, node[point]
    )


def _rings(turns: _Turns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Link the corners and follow them around: their numbers, ring after ring, and where each ring begins."""
    following = np.empty(len(turns.x), np.int64)
    down_columns = np.lexsort((turns.y, turns.x))
    for way in (_EAST, _WEST):
        following[np.flatnonzero(turns.goes == way)] = np.flatnonzero(turns.comes == way)
    for way in (_SOUTH, _NORTH):
        goes, comes = turns.goes[down_columns] == way, turns.comes[down_columns] == way
        following[down_columns[goes]] = down_columns[comes]

    # All links are walked once; a corner that was passed has none any more.
    next_of: list[int] = following.tolist()
    order: list[int] = []
    starts: list[int] = []
    for start, link in enumerate(next_of):
        if link < 0:
            continue
        starts.append(len(order))
        at = start
        while (link := next_of[at]) >= 0:
            next_of[at] = -1
            order.append(at)
            at = link
    return _split_where_touching(np.array(order), np.array(starts), _touching(turns))


def _split_where_touching(
    order: NDArray[np.int64], starts: NDArray[np.int64], touching: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rings that come to a point twice; `touching` [P, 2] are corners that one class has at one point."""
    other = dict(zip(touching.ravel().tolist(), touching[:, ::-1].ravel().tolist(), strict=True))
    has_some = np.logical_or.reduceat(np.isin(order, touching), starts)
    if not has_some.any():
        return order, starts
    corners, split = order.tolist(), list[int]()
    lengths: list[int] = []
    begins = starts.tolist()
    for begin, end, some in zip(begins, [*begins[1:], len(corners)], has_some.tolist(), strict=True):
        for ring in _loops(corners[begin:end], other) if some else [corners[begin:end]]:
            split += ring
            lengths.append(len(ring))
    return np.array(split), np.cumsum(lengths) - np.array(lengths)


def _loops(ring: list[int], other: dict[int, int]) -> list[list[int]]:
    """Split one ring, such that no point is twice in one of the loops."""
    loops, path = [], list[int]()
    passed: dict[int, int] = {}  # place in the path of corners with another one at their point
    for corner in ring:
        if corner in other:
            before = passed.pop(other[corner], None)
            if before is None:
                passed[corner] = len(path)
            else:  # the point is reached again: what lies between is a loop
                loop = path[before:]
                del path[before:]
                for left in loop:
                    passed.pop(left, None)
                loops.append(loop)
        path.append(corner)
    return [*loops, path]


def _touching(turns: _Turns) -> NDArray[np.int64]:
    """Find pairs [P, 2] of corners that one class has at one point, where its pixels touch with nothing else."""
    pairs = [np.empty((0, 2), np.int64)]
    for apart in (1, 2, 3):  # a point has at most four corners, next to one another
        one, two = slice(None, -apart), slice(apart, None)
        same = (turns.x[one] == turns.x[two]) & (turns.y[one] == turns.y[two])
        at = np.flatnonzero(same & (turns.label[one] == turns.label[two]))
        pairs.append(np.stack([at, at + apart], axis=1))
    return np.concatenate(pairs)
