"""Outlines of label maps: filled again they are the very map, and what each ring promises."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from label_maps import label_maps
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from san_cli.regions.bridges import joined
from san_cli.regions.fill import fill
from san_cli.regions.outlines import Polygon, polygons
from san_cli.regions.parts import count_parts
from san_cli.regions.ring_areas import ring_areas
from san_cli.regions.rle import encode_label_map


def filled(found: Sequence[Polygon], size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The map that polygons make, and how many have each pixel."""
    label_map, hits = np.full(size, -1), np.zeros(size, np.int64)
    for polygon in found:
        window, inside = fill(polygon.rings, size)
        label_map[window][inside] = polygon.class_id
        hits[window] += inside
    return label_map, hits


@settings(max_examples=300, deadline=None)
@given(label_maps())
def test_polygons_give_the_map_back(label_map: NDArray[np.int16]) -> None:
    again, hits = filled(polygons(label_map), label_map.shape)
    np.testing.assert_array_equal(again, label_map)
    assert hits.max() <= 1


@settings(max_examples=200, deadline=None)
@given(label_maps())
def test_rings_are_simple_and_turn_the_right_way(label_map: NDArray[np.int16]) -> None:
    for polygon in polygons(label_map):
        for place, ring in enumerate(polygon.rings):
            assert len({tuple(corner) for corner in ring.tolist()}) == len(ring) >= 4
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps != 0).sum(axis=1) == 1).all(), "edges go along the grid"
            turns = np.sign(steps[:, 0]) * np.sign(np.roll(steps, -1, axis=0)[:, 1])
            turns -= np.sign(steps[:, 1]) * np.sign(np.roll(steps, -1, axis=0)[:, 0])
            assert (turns != 0).all(), "every corner turns"
            assert (ring_areas(ring, np.array([0]))[0] > 0) == (place == 0)


@settings(max_examples=200, deadline=None)
@given(label_maps())
def test_regions_are_those_that_tables_count(label_map: NDArray[np.int16]) -> None:
    found = polygons(label_map)
    counts: dict[int, set[int]] = {}
    for polygon in found:
        counts.setdefault(polygon.class_id, set()).add(polygon.region)
    regions = encode_label_map(label_map)
    assert {class_id: len(parts) for class_id, parts in counts.items()} == count_parts(label_map, regions)
    order = [(polygon.class_id, polygon.region) for polygon in found]
    assert order == sorted(order)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
@settings(max_examples=200, deadline=None)
@given(label_maps())
def test_a_bridge_encloses_nothing(label_map: NDArray[np.int16]) -> None:
    """By our rule, and by that of COCO's own program."""
    height, width = label_map.shape
    for polygon in polygons(label_map):
        window, inside = fill(polygon.rings, (height, width))
        whole = np.zeros((height, width), bool)
        whole[window] = inside
        ring = np.array(joined(polygon)).reshape(-1, 2)
        again, joined_inside = fill([ring], (height, width))
        assert again == window
        np.testing.assert_array_equal(joined_inside, inside)
        encoded = coco_mask.merge(coco_mask.frPyObjects([ring.ravel().tolist()], height, width))
        np.testing.assert_array_equal(coco_mask.decode(encoded), whole)


@pytest.mark.parametrize(
    ("rows", "corners"),
    [
        ([[0]], [[4]]),
        ([[0, 0, 0], [0, -1, 0], [0, 0, 0]], [[4, 4]]),  # a hole
        ([[0, -1], [-1, 0]], [[4], [4]]),  # one region, whose two polygons touch at a corner
        ([[0, 0, 0], [0, -1, 0], [-1, 0, 0]], [[6, 4]]),  # a hole that touches the outline
        ([[1, 1, 1], [1, 0, 1], [1, 1, 1]], [[4], [4, 4]]),
        ([[0], [1], [0]], [[4], [4], [4]]),
    ],
)
def test_shapes_by_hand(rows: list[list[int]], corners: list[list[int]]) -> None:
    found = polygons(np.array(rows, np.int16))
    assert [[len(ring) for ring in polygon.rings] for polygon in found] == corners


def test_corners_are_where_they_are_seen() -> None:
    (polygon,) = polygons(np.array([[-1, -1, -1], [-1, 3, 3]], np.int16))
    assert polygon.class_id == 3
    assert [ring.tolist() for ring in polygon.rings] == [[[1, 1], [3, 1], [3, 2], [1, 2]]]


def test_many_holes_are_joined_in_time() -> None:
    """A comb of 10,000 holes: joining looks for no border twice."""
    label_map = np.zeros((400, 401), np.int16)
    label_map[1::4, 1::4] = -1
    (polygon,) = polygons(label_map)
    assert len(polygon.rings) == 1 + 100 * 100
    _, inside = fill([np.array(joined(polygon)).reshape(-1, 2)], label_map.shape)
    np.testing.assert_array_equal(inside, label_map == 0)


@given(arrays(np.float64, (5, 2), elements=st.floats(-20, 20)), st.integers(1, 12), st.integers(1, 12))
def test_fill_is_the_even_odd_rule(ring: NDArray[np.float64], height: int, width: int) -> None:
    window, inside = fill([ring], (height, width))
    whole = np.zeros((height, width), bool)
    whole[window] = inside
    for row in range(height):
        for column in range(width):
            assert whole[row, column] == _is_inside(ring, column + 0.5, row + 0.5)


def _is_inside(ring: NDArray[np.float64], x: float, y: float) -> bool:
    """A ray to the left, edge by edge."""
    inside = False
    for (x0, y0), (x1, y1) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        if y0 <= y < y1 and x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x:
            inside = not inside
    return inside


@pytest.mark.parametrize(
    "ring", [[], [[0, 0], [5, 5]], [[0, 0], [3, 0], [9, 0]], [[50, 50], [60, 50], [60, 60]]]
)
def test_what_covers_no_centre_fills_nothing(ring: list[list[int]]) -> None:
    _, inside = fill([np.array(ring).reshape(-1, 2)], (10, 10))
    assert not inside.any()


def test_a_polygon_without_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        fill([np.array([[0, 0], [np.nan, 1], [1, 1]])], (3, 3))
