"""Simplified outlines: how far borders move, that neighbours keep them together, and that nothing vanishes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_maps import label_maps
from numpy.typing import NDArray

from san_cli.regions.fill import fill
from san_cli.regions.outlines import polygons
from san_cli.regions.ring_areas import ring_areas

Ring = NDArray[np.integer]


def farthest(ring: Ring, other: Ring) -> float:
    """The largest distance of any point of `ring`, looked at in steps of a tenth of its edges, from `other`."""
    steps = np.linspace(0, 1, 10, endpoint=False)[None, :, None]
    points = (ring[:, None] + (np.roll(ring, -1, axis=0) - ring)[:, None] * steps).reshape(-1, 2)
    start, along = other.astype(float), (np.roll(other, -1, axis=0) - other).astype(float)
    share = ((points[:, None] - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
    nearest = start + np.clip(share, 0, 1)[..., None] * along
    return float(np.sqrt(((nearest - points[:, None]) ** 2).sum(-1)).min(axis=1).max())


@settings(max_examples=100, deadline=None)
@given(label_maps(), st.sampled_from([0.4, 1.0, 1.5, 3.0]))
def test_no_border_moves_farther(label_map: NDArray[np.int16], pixels: float) -> None:
    exact, simple = polygons(label_map), polygons(label_map, simplify=pixels)
    for one, other in zip(exact, simple, strict=True):
        assert (one.class_id, one.region, len(one.rings)) == (other.class_id, other.region, len(other.rings))
        for place, (before, after) in enumerate(zip(one.rings, other.rings, strict=True)):
            assert len(after) >= 3
            assert (ring_areas(after, np.array([0]))[0] > 0) == (place == 0)
            assert farthest(before, after) <= pixels + 1e-9
            assert farthest(after, before) <= pixels + 1e-9


@settings(max_examples=100, deadline=None)
@given(label_maps(lowest=0), st.sampled_from([0.4, 1.0, 1.5, 3.0]))
def test_shared_borders_stay_shared(label_map: NDArray[np.int16], pixels: float) -> None:
    """Every edge is walked once each way, or is the border of the image: no gap can open, and nothing overlap."""
    height, width = label_map.shape
    edges: dict[tuple[tuple[int, int], tuple[int, int]], int] = {}
    for polygon in polygons(label_map, simplify=pixels):
        for ring in polygon.rings:
            corners = [(x, y) for x, y in ring.tolist()]
            for edge in zip(corners, [*corners[1:], corners[0]], strict=True):
                edges[edge] = edges.get(edge, 0) + 1
    for (start, stop), count in edges.items():
        on_border = any(
            a == b == end
            for a, b, ends in zip(start, stop, ((0, width), (0, height)), strict=True)
            for end in ends
        )
        assert edges.get((stop, start), 0) == (0 if on_border else count)


def test_stairs_become_a_line() -> None:
    label_map = np.tri(60, 90, -1, np.int16)
    exact, simple = polygons(label_map), polygons(label_map, simplify=1.0)
    assert sum(len(ring) for polygon in exact for ring in polygon.rings) > 200
    assert sum(len(ring) for polygon in simple for ring in polygon.rings) == 8


@pytest.mark.parametrize("pixels", [2.0, 50.0])
def test_small_regions_stay(pixels: float) -> None:
    label_map = np.zeros((40, 40), np.int16)
    label_map[10:13, 10:13] = 1
    label_map[20, 20] = 2
    label_map[30:32, 5:30] = 3
    found = polygons(label_map, simplify=pixels)
    assert [polygon.class_id for polygon in found] == [0, 1, 2, 3]
    assert all(ring_areas(ring, np.array([0]))[0] != 0 for polygon in found for ring in polygon.rings)


@settings(max_examples=100, deadline=None)
@given(label_maps(), st.sampled_from([0.75, 1.5, 3.0, 100.0]))
def test_every_outline_holds_a_pixel(label_map: NDArray[np.int16], pixels: float) -> None:
    """Readers fill by centres: what holds none would be gone."""
    for polygon in polygons(label_map, simplify=pixels):
        assert fill(polygon.rings[:1], label_map.shape)[1].any()
