"""A colour belongs to its name."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from san_cli.outputs.colours import colour_of, palette


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB bytes [n, 3] as OKLab, by the published matrices; the code under test goes the other way."""
    channel = rgb / 255
    linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ to_lms.T) @ to_lab.T


def test_colours_never_change() -> None:
    # Pictures of different releases must be comparable: a failure here is a change that users see.
    assert palette(["sky", "tree", "person", "golden retriever"]).tolist() == [
        [107, 144, 189],
        [71, 160, 83],
        [241, 111, 110],
        [148, 87, 3],
    ]


@given(st.text(), st.lists(st.text(), max_size=4))
def test_the_vocabulary_around_a_name_does_not_matter(name: str, others: list[str]) -> None:
    assert tuple(palette([*others, name])[-1].tolist()) == colour_of(name)


def test_case_blanks_and_unicode_form_do_not_matter() -> None:
    assert len({colour_of(name) for name in ["Potted Plant", "potted plant", " POTTED  plant\n"]}) == 1
    assert colour_of("caf\u00e9") == colour_of("cafe\u0301")
    assert colour_of("cafe") != colour_of("caf\u00e9")


@pytest.mark.parametrize("name", ["", " ", "\udcff", "\x00", "猫", "x" * 10_000])
def test_any_name_has_a_colour(name: str) -> None:
    assert all(0 <= channel <= 255 for channel in colour_of(name))


def test_colours_are_spread_and_never_harsh() -> None:
    names = [f"thing {i}" for i in range(700)]
    lab = oklab(palette(names))
    lightness, chroma, hue = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2]), np.arctan2(lab[:, 2], lab[:, 1])
    assert lightness.min() > 0.49
    assert lightness.max() < 0.88
    assert chroma.min() > 0.05
    assert chroma.max() < 0.2
    twelfths = np.histogram(hue, 12, (-np.pi, np.pi))[0]
    assert twelfths.min() > len(names) / 12 / 2
    assert len({colour_of(name) for name in names}) > 0.98 * len(names)


def test_common_things_differ_to_the_eye() -> None:
    lab = oklab(
        palette(["sky", "tree", "grass", "road", "person", "car", "sea", "sand", "cat", "dog", "chair"])
    )
    distance = np.linalg.norm(lab[:, None] - lab, axis=2)
    assert distance[np.triu_indices(len(lab), 1)].min() > 0.02


def test_no_names_no_colours() -> None:
    assert palette([]).shape == (0, 3)


def test_the_hash_seed_does_not_matter() -> None:
    script = "from san_cli.outputs.colours import palette; print(palette(['sky', 'tree', 'Été']).tolist())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "01"
    }
    assert len(seen) == 1
