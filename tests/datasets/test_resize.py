"""The benchmark's resize: known sizes, the closed form, known pixels."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from san_cli.datasets.images import BadImage
from san_cli.datasets.resize import benchmark_size, resize_for_network

KNOWN = json.loads((Path(__file__).parents[1] / "data" / "resize.json").read_text())


def waves(h: int, w: int) -> np.ndarray:
    """A uint8 image [h, w, 3] from integers alone, so that it is the same everywhere."""
    y, x, c = np.ogrid[:h, :w, :3]
    return ((y * y * 3 + x * x * 5 + x * y * 7) // (11 + c) + y * (c + 2) + x).astype(np.uint8)


@pytest.mark.parametrize(("h", "w", "new_h", "new_w"), KNOWN["sizes"])
def test_known_sizes(h: int, w: int, new_h: int, new_w: int) -> None:
    assert benchmark_size(h, w) == (new_h, new_w)


@pytest.mark.parametrize(("h", "w", "short", "longest", "digest"), KNOWN["digests"])
def test_known_pixels(h: int, w: int, short: int, longest: int, digest: str) -> None:
    resized = resize_for_network(waves(h, w), short, longest)
    assert hashlib.sha256(resized.tobytes()).hexdigest()[:16] == digest


@given(st.integers(1, 30_000), st.integers(1, 30_000))
def test_size_is_the_closed_form_to_a_pixel(h: int, w: int) -> None:
    scale = min(Fraction(640, min(h, w)), Fraction(2560, max(h, w)))
    if min(h, w) * scale < 1:
        return
    new_h, new_w = benchmark_size(h, w)
    assert abs(new_h - h * scale) <= 1
    assert abs(new_w - w * scale) <= 1
    assert max(new_h, new_w) <= 2560
    assert min(new_h, new_w) <= 640
    assert benchmark_size(w, h) == (new_w, new_h)


@given(st.integers(1, 30_000))
def test_squares_become_the_short_side(side: int) -> None:
    assert benchmark_size(side, side) == (640, 640)


@pytest.mark.parametrize(("h", "w"), [(1, 6000), (6000, 1), (0, 5), (5, 0)])
def test_nothing_left_is_refused(h: int, w: int) -> None:
    with pytest.raises(BadImage):
        benchmark_size(h, w)


def test_shrinking_averages_and_the_result_can_be_written() -> None:
    stripes = np.zeros((1280, 1280, 3), np.uint8)
    stripes[:, ::2] = 200
    resized = resize_for_network(stripes)
    assert resized.shape == (640, 640, 3)
    assert abs(int(resized[:, 2:-2].astype(int).mean()) - 100) <= 1
    assert resized.flags.writeable


def test_equal_size_is_the_identity_and_the_input_is_kept() -> None:
    image = waves(640, 800)
    before = image.copy()
    assert np.array_equal(resize_for_network(image), image)
    assert np.array_equal(image, before)
