"""A label map as regions, and without its specks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_maps import label_maps
from numpy.typing import NDArray
from scipy import ndimage

from san_cli.regions.fill import fill
from san_cli.regions.rle import Region, decode
from san_cli.regions.specks import drop_specks
from san_cli.regions.split import split

_ROUND = np.ones((3, 3))


@settings(max_examples=200, deadline=None)
@given(label_maps())
def test_regions_are_exact(label_map: NDArray[np.int16]) -> None:
    """Against SciPy's labelling, class by class."""
    expected = []
    for class_id in range(3):
        labelled, count = ndimage.label(label_map == class_id, _ROUND)
        masks = [labelled == number for number in range(1, count + 1)]
        expected += [(class_id, mask) for mask in sorted(masks, key=lambda mask: int(mask.ravel().argmax()))]
    found = split(label_map, run_lengths=True, outlines=True)
    for (class_id, mask), region in zip(expected, found, strict=True):
        assert region.class_id == class_id
        np.testing.assert_array_equal(decode(region.region.counts, label_map.shape), mask)
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert region.region.area == mask.sum()
        assert region.region.bbox == (x, y, columns.max() + 1 - x, rows.max() + 1 - y)
        again = np.zeros(label_map.shape, bool)
        for outline in region.outlines:
            window, inside = fill([np.array(outline).reshape(-1, 2)], label_map.shape)
            again[window] |= inside
        np.testing.assert_array_equal(again, mask)


def test_what_was_not_asked_for_is_not_there() -> None:
    (region,) = split(np.zeros((2, 2), np.int16))
    assert region.region == Region("", 4, (0.0, 0.0, 2.0, 2.0))
    assert region.outlines == ()
    assert split(np.full((3, 3), -1, np.int16), run_lengths=True, outlines=True) == ()


@settings(max_examples=200, deadline=None)
@given(label_maps(), st.integers(1, 9))
def test_no_speck_is_left(label_map: NDArray[np.int16], min_area: int) -> None:
    before = label_map.copy()
    drop_specks(label_map, min_area)
    assert (label_map[before == -1] == -1).all(), "nothing is made up where nothing was known"
    large = np.zeros(before.shape, bool)
    for class_id in range(3):
        labelled, count = ndimage.label(label_map == class_id, _ROUND)
        assert not count or np.bincount(labelled.ravel())[1:].min() >= min_area
        labelled, _ = ndimage.label(before == class_id, _ROUND)
        large |= (np.bincount(labelled.ravel())[labelled] >= min_area) & (labelled > 0)
    np.testing.assert_array_equal(label_map[large], before[large])


@pytest.mark.parametrize(
    ("row", "min_area", "expected"),
    [
        ([0, 0, 1, 2, 2, 2], 2, [0, 0, 0, 2, 2, 2]),  # borders as long: the lesser id
        ([0, 0, 1, 3, 2, 2, 2], 2, [0, 0, 0, 2, 2, 2, 2]),  # neighbours of specks come in turn
        ([-1, -1, 1, -1], 2, [-1, -1, -1, -1]),  # nothing but what is unlabelled around it
        ([0, 1, 2], 2, [-1, -1, -1]),  # nothing but specks
        ([0, 0, -1, 0], 2, [0, 0, -1, -1]),  # what is unlabelled is no speck
    ],
)
def test_specks_go_to_the_longest_border(row: list[int], min_area: int, expected: list[int]) -> None:
    label_map = np.array([row], np.int16)
    drop_specks(label_map, min_area)
    assert label_map.tolist() == [expected]


def test_the_longest_border_counts_by_class() -> None:
    label_map = np.array([[0, 0, 0], [1, 2, 1], [3, 3, 3]], np.int16)
    drop_specks(label_map, 2)
    assert label_map[1].tolist() == [0, 0, 0]
    label_map = np.array([[0, 0, 0], [1, 2, 5], [1, 1, 1]], np.int16)
    drop_specks(label_map, 2)
    assert label_map[1].tolist() == [1, 1, 0]
