"""Outlines with their holes in one ring, for formats whose polygons know no holes.

A hole is joined to its outline by a bridge: from the hole's leftmost corner to the border that lies left of it, and
after the way around the hole back again. The bridge encloses nothing, so whoever fills by the even-odd or the
non-zero rule sees the hole, and readers have nothing to undo.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from san_cli.regions.outlines import Polygon


class _Bridge(NamedTuple):
    """A way from a hole to the ring left of it, on the edge behind the corner of this number."""

    hole: int
    ring: int
    corner: int
    end: list[int]  # x, y


def joined(polygon: Polygon) -> list[int]:
    """Return one ring that fills as the polygon does: x and y of its corners, x, y, x, y …"""
    rings: list[list[int]] = [ring.ravel().tolist() for ring in polygon.rings]
    if len(rings) == 1:
        return rings[0]
    leftmost = [int(np.lexsort((ring[:, 1], ring[:, 0]))[0]) for ring in polygon.rings]
    bridges: list[list[_Bridge]] = [[] for _ in rings]
    for bridge in _bridges(polygon, leftmost):
        bridges[bridge.ring].append(bridge)

    # What a hole is joined to reaches farther left: so the rightmost holes come first.
    paths: dict[int, list[int]] = {}
    holes = sorted(range(1, len(rings)), key=lambda hole: -rings[hole][2 * leftmost[hole]])
    for ring in [*holes, 0]:
        paths[ring] = _around(rings[ring], leftmost[ring] if ring else 0, bridges[ring], paths)
    return paths[0]


def _around(ring: list[int], first: int, bridges: list[_Bridge], paths: dict[int, list[int]]) -> list[int]:
    """Walk around a ring from its corner `first`, over the bridges on the way and around the holes behind them."""
    turned = ring[2 * first :] + ring[: 2 * first]
    path: list[int] = []
    passed = 0  # corners

    def way(bridge: _Bridge) -> tuple[int, int]:
        """How far along the ring a bridge begins: the corner before it, and the distance from there."""
        corner = (bridge.corner - first) % (len(ring) // 2)
        x, y = turned[2 * corner : 2 * corner + 2]
        return corner, abs(bridge.end[0] - x) + abs(bridge.end[1] - y)

    for (corner, distance), bridge in sorted(((way(one), one) for one in bridges), key=lambda pair: pair[0]):
        path += turned[2 * passed : 2 * corner + 2]
        passed = max(passed, corner + 1)
        if distance:
            path += bridge.end
        hole = paths.pop(bridge.hole)
        path += [*hole, *hole[:2], *bridge.end]
    return path + turned[2 * passed :]


def _bridges(polygon: Polygon, leftmost: list[int]) -> list[_Bridge]:
    """Find the border left of each hole: of the edges that cross the line of its leftmost corner the nearest one."""
    ring_of = np.repeat(np.arange(len(polygon.rings)), [len(ring) for ring in polygon.rings])
    number = np.concatenate([np.arange(len(ring)) for ring in polygon.rings])
    start = np.concatenate(polygon.rings)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in polygon.rings])
    corners = np.stack([polygon.rings[hole][leftmost[hole]] for hole in range(1, len(polygon.rings))])

    # Where edges cross these lines, from left to right on each.
    lines, line_of_hole = np.unique(corners[:, 1], return_inverse=True)
    low = np.searchsorted(lines, np.minimum(start[:, 1], stop[:, 1]))
    count = np.searchsorted(lines, np.maximum(start[:, 1], stop[:, 1])) - low
    edge = np.repeat(np.arange(len(start)), count)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + low[edge]
    rise = (stop[edge, 1] - start[edge, 1]).astype(np.float64)
    x = start[edge, 0] + (lines[line] - start[edge, 1]) * (stop[edge, 0] - start[edge, 0]) / rise
    order = np.lexsort((x, line))
    far = float(start[:, 0].max()) + 1.0
    place = line[order] * far + x[order]
    nearest = np.searchsorted(place, line_of_hole * far + corners[:, 0]) - 1

    bridges = []
    for hole, hit in enumerate(nearest.tolist(), start=1):
        there = hit >= 0 and line[order[hit]] == line_of_hole[hole - 1]
        bridges.append(
            _bridge_to(hole, corners[hole - 1], int(edge[order[hit]]) if there else 0, start, stop)
        )
    return [
        bridge._replace(ring=int(ring_of[bridge.corner]), corner=int(number[bridge.corner]))
        for bridge in bridges
    ]


def _bridge_to(
    hole: int, corner: NDArray[np.integer], edge: int, start: NDArray[np.integer], stop: NDArray[np.integer]
) -> _Bridge:
    """Join a hole's corner to an edge: straight to it where it is upright, else to the corner it begins at."""
    x, y = start[edge].tolist()
    if x == stop[edge, 0]:
        return _Bridge(hole, 0, edge, [x, int(corner[1])])
    return _Bridge(hole, 0, edge, [x, y])
