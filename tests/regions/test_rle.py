"""Run lengths are COCO's, byte for byte."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from san_cli.regions.rle import Region, decode, encode_label_map

label_maps = st.sampled_from([np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
        elements=st.integers(0 if np.dtype(dtype).kind == "u" else -1, 4),
    )
)


def by_pycocotools(label_map: np.ndarray, unlabelled: int = -1) -> dict[int, Region]:
    regions = {}
    for class_id in sorted({*label_map.ravel().tolist()} - {unlabelled}):
        rle = coco_mask.encode(np.asfortranarray(label_map == class_id, np.uint8))
        box = tuple(coco_mask.toBbox(rle).tolist())
        regions[class_id] = Region(rle["counts"].decode("ascii"), int(coco_mask.area(rle)), box)
    return regions


def blobs(height: int, width: int, classes: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (9 + 5 * c) + c) + np.cos(y / (11 + 3 * c) - c) for c in range(classes)]
    return np.argmax(waves, axis=0)


@settings(max_examples=300, deadline=None)
@given(label_maps)
def test_every_class_as_pycocotools_encodes_it(label_map: np.ndarray) -> None:
    assert encode_label_map(label_map) == by_pycocotools(label_map)


@pytest.mark.parametrize(
    "label_map",
    [
        blobs(301, 407, 7),
        blobs(1, 5000, 3),
        blobs(5000, 1, 3),
        np.zeros((1200, 1100), np.uint8),  # one count above 2^20
        np.pad(
            np.ones((1, 1), np.int16), ((700, 900), (800, 600))
        ),  # a large step back: a long negative number
        np.random.default_rng(0).integers(-1, 40_000, (60, 70)),
        np.asfortranarray(blobs(40, 50, 4)),
        blobs(80, 90, 4)[::2, ::3],
    ],
    ids=["blobs", "row", "column", "one class", "one pixel", "many ids", "Fortran order", "strided"],
)
def test_shapes_and_sizes(label_map: np.ndarray) -> None:
    assert encode_label_map(label_map) == by_pycocotools(label_map)


def test_the_unlabelled_id_is_left_out_whatever_it_is() -> None:
    label_map = np.array([[0, 255], [255, 7]], np.uint8)
    assert list(encode_label_map(label_map)) == [0, 7, 255]
    assert encode_label_map(label_map, unlabelled=255) == by_pycocotools(label_map, 255)
    assert encode_label_map(np.full((3, 4), -1)) == {}


def test_values_are_plain_python_for_json() -> None:
    [(class_id, region)] = encode_label_map(np.full((2, 3), 5, np.int16)).items()
    assert (class_id, region.area, region.bbox) == (5, 6, (0.0, 0.0, 3.0, 2.0))
    assert [type(value) for value in (class_id, region.area, *region.bbox)] == [int, int, *[float] * 4]


@settings(max_examples=100, deadline=None)
@given(label_maps)
def test_decoding_gives_the_masks_back(label_map: np.ndarray) -> None:
    for class_id, region in encode_label_map(label_map).items():
        mask = decode(region.counts, label_map.shape)
        assert mask.dtype == bool
        assert np.array_equal(mask, label_map == class_id)
        assert mask.sum() == region.area


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, numpy 2
def test_pycocotools_decodes_the_same() -> None:
    label_map = blobs(123, 257, 6)
    for region in encode_label_map(label_map).values():
        theirs = coco_mask.decode({"counts": region.counts.encode("ascii"), "size": [123, 257]})
        assert np.array_equal(decode(region.counts, (123, 257)), theirs)


def test_counts_of_another_size_are_refused() -> None:
    region = encode_label_map(np.ones((4, 5), np.uint8))[1]
    with pytest.raises(ValueError, match="not those of a mask of 5×5"):
        decode(region.counts, (5, 5))


@pytest.mark.parametrize("counts", ["", "P" * 12 + "1", "oooooooo1", "2" * 30, "PPPPPPPPP1PPPPPPPPP1"])
def test_damaged_counts_do_not_ask_for_memory(counts: str) -> None:
    """A digit string may say 2^40 pixels: it is refused before anything of that size is made."""
    with pytest.raises((ValueError, IndexError)):
        decode(counts, (4, 5))
