"""Fractions of a side come back as the pixels that they were, whether a reader rounds or cuts, in 32 bits or 64."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from san_cli.outputs.annotations.fractions import fractions


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 65_500), st.sampled_from([1, 100]))
@example(1, 100)
@example(65_500, 1)
def test_every_pixel_of_a_side_comes_back(side: int, whole: int) -> None:
    pixels = np.arange(side + 1)
    texts = fractions(side, whole)
    assert (texts[0], texts[-1]) == ("0", str(whole))
    for dtype in (np.float32, np.float64):
        read = np.array(texts).astype(dtype) * dtype(side / whole)
        assert np.array_equal(np.round(read), pixels)
        assert (read < pixels + 0.12).all()
    read = np.array(texts).astype(np.float32) / np.float32(whole) * np.float32(side)
    if whole == 1:
        assert np.array_equal(read.astype(int), pixels)
        assert max(map(len, texts)) <= 8  # 0.123456


def test_no_more_digits_than_needed() -> None:
    assert fractions(4)[:3] == ("0", "0.25", "0.5")
    assert fractions(640)[1] == "0.0016"
    assert fractions(640, 100)[1] == "0.16"


@pytest.mark.parametrize("side", [640, 4032])
def test_computed_once_for_each_size(side: int) -> None:
    assert fractions(side) is fractions(side)
