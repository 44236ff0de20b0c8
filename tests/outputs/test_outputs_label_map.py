"""Label maps survive the way to the disk and back."""

import json
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from san_cli.errors import SanError
from san_cli.outputs.colours import colour_of
from san_cli.outputs.label_map import read_label_map, write_class_table, write_label_map


def vocabulary(size: int) -> list[str]:
    return [f"class number {i}" for i in range(size)]


@st.composite
def maps_and_sizes(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    size = draw(st.sampled_from([1, 2, 3, 16, 17, 128, 255, 256, 847]))
    dtype = draw(st.sampled_from([np.int16, np.int32, np.int64]))
    shape = hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)
    return draw(hnp.arrays(dtype, shape, elements=st.integers(-1, size - 1))), size


@settings(max_examples=60, deadline=None)
@given(maps_and_sizes())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, case: tuple[np.ndarray, int]) -> None:
    label_map, size = case
    path = tmp_path_factory.getbasetemp() / "round_trip.png"
    write_label_map(path, label_map, vocabulary(size))
    assert np.array_equal(read_label_map(path), label_map)


@pytest.mark.parametrize(
    ("size", "mode", "unlabelled"), [(5, "P", 255), (255, "P", 255), (256, "I;16", 65535)]
)
def test_pixels_are_ids(tmp_path: Path, size: int, mode: str, unlabelled: int) -> None:
    path = tmp_path / "labels.png"
    write_label_map(path, np.array([[0, 1, -1, size - 1]]), vocabulary(size))
    with Image.open(path) as image:
        assert image.mode == mode
        assert np.asarray(image).tolist() == [[0, 1, unlabelled, size - 1]]


def test_the_palette_shows_the_class_colours(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    names = vocabulary(255)
    write_label_map(path, np.arange(-1, 255)[None], names)
    with Image.open(path) as image:
        shown = [tuple(pixel) for pixel in np.asarray(image.convert("RGB"))[0].tolist()]
    assert shown == [(0, 0, 0), *map(colour_of, names)]


def test_narrow_maps_as_the_engine_makes_them(tmp_path: Path) -> None:
    for label_map in (np.array([[0, 170]], np.uint8), np.array([[0, 846]], np.uint16)):
        write_label_map(tmp_path / "labels.png", label_map, vocabulary(847))
        assert np.array_equal(read_label_map(tmp_path / "labels.png"), label_map)


@pytest.mark.parametrize("wrong", [-2, 3, 255])
def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path, wrong: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        write_label_map(tmp_path / "labels.png", np.array([[0, wrong]]), vocabulary(3))
    assert list(tmp_path.iterdir()) == []


def test_more_classes_than_16_bits_hold(tmp_path: Path) -> None:
    with pytest.raises(SanError, match="65535"):
        write_label_map(tmp_path / "labels.png", np.zeros((1, 1), int), [""] * 65536)


def test_other_pictures_are_not_label_maps(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "photo.png")
    with pytest.raises(SanError, match="not a label map"):
        read_label_map(tmp_path / "photo.png")


def test_class_table(tmp_path: Path) -> None:
    names = ["sky", 'a "quoted" name', "[red]x[/red]", "naïve\n\x1b[31m", "tv \udcff"]
    write_class_table(tmp_path / "classes.json", names)
    written = (tmp_path / "classes.json").read_bytes()
    table = json.loads(written)
    assert [row["id"] for row in table] == [0, 1, 2, 3, 4]
    assert [row["name"] for row in table] == [*names[:4], "tv \\udcff"]
    assert table[0]["colour"] == "#{:02x}{:02x}{:02x}".format(*colour_of("sky"))
    assert all(byte == 10 or 32 <= byte < 127 for byte in written), "inert on a terminal"
    write_class_table(tmp_path / "again.json", names)
    assert (tmp_path / "again.json").read_bytes() == written
