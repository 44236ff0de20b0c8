"""The overlay: what it must and must not touch, at every size."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from san_cli.outputs.colours import colour_of
from san_cli.outputs.legend import (
    Entry,
    drawable,
    elided,
    font,
    legend_below,
    legend_beside,
    percent,
    text_width,
)
from san_cli.outputs.overlay import render_overlay, write_overlay
from san_cli.outputs.placement import place_names

NAMES = ["sky", "tree", "person", "a very long name of a class that no region of a picture could hold"]


def photo(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3 % 256, y * 2 % 256, (x + y) % 256], axis=2).astype(np.uint8)


def quarters(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return 2 * (2 * y >= height) + (2 * x >= width)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(-1, 3), st.integers(0, 5))
def test_every_shape_is_drawn_with_the_photograph_at_the_top_left(
    height: int, width: int, low: int, seed: int
) -> None:
    label_map = np.random.default_rng(seed).integers(low, 4, (height, width))
    picture = render_overlay(photo(height, width), label_map, NAMES)
    assert picture.mode == "RGB"
    assert picture.width >= width
    assert picture.height >= height
    assert picture.size != (width, height), "there is a legend"


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (100, 2000), (1500, 90), (1, 1)])
def test_the_legend_is_below_or_beside(height: int, width: int) -> None:
    picture = render_overlay(photo(height, width), quarters(height, width), NAMES)
    assert (picture.width > width) if height > width else (picture.height > height)


def test_unlabelled_pixels_stay_the_photograph() -> None:
    image = photo(120, 160)
    label_map = np.full((120, 160), -1)
    label_map[:, 100:] = 1
    shown = np.asarray(render_overlay(image, label_map, NAMES))[:120, :160]
    assert np.array_equal(shown[:, :98], image[:, :98])
    assert not np.array_equal(shown[:, 102:], image[:, 102:])


def test_an_image_without_any_class() -> None:
    image = photo(50, 60)
    picture = render_overlay(image, np.full((50, 60), -1), NAMES)
    assert np.array_equal(np.asarray(picture)[:50, :60], image)


def test_the_tint_is_half_the_class_colour() -> None:
    image = photo(40, 40)
    shown = np.asarray(render_overlay(image, np.zeros((40, 40), np.uint8), ["x" * 60]))[:40, :40].astype(int)
    expected = (image.astype(int) + colour_of("x" * 60)) / 2
    assert np.abs(shown - expected).max() <= 2


def test_regions_are_outlined() -> None:
    label_map = np.zeros((40, 40), int)
    label_map[:, 20:] = 1
    flat = np.full((40, 40, 3), 60, np.uint8)
    shown = np.asarray(render_overlay(flat, label_map, ["x" * 60, "y" * 60]))[:40, :40].astype(int)
    line = np.flatnonzero(shown.min(axis=2)[20] > 190)
    assert len(line) == 1
    assert line[0] in (19, 20)


def test_a_colour_stays_with_its_name_in_any_vocabulary() -> None:
    image, label_map = photo(64, 64), np.zeros((64, 64), int)
    alone = render_overlay(image, label_map, ["tree"])
    among_others = render_overlay(image, label_map + 2, ["sky", "person", "tree", "cat"])
    assert alone.tobytes() == among_others.tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_the_type_of_the_label_map_does_not_matter(dtype: type) -> None:
    image, label_map = photo(90, 120), quarters(90, 120)
    expected = render_overlay(image, label_map, NAMES).tobytes()
    assert render_overlay(image, label_map.astype(dtype), NAMES).tobytes() == expected


@pytest.mark.parametrize("classes", [254, 255, 256, 70_000])
def test_any_number_of_classes(classes: int) -> None:
    names = [f"class {i}" for i in range(classes)]
    label_map = np.full((60, 80), classes - 1)
    label_map[:, :40] = -1
    shown = np.asarray(render_overlay(photo(60, 80), label_map, names))[:60, :80]
    assert np.array_equal(shown[:, :38], photo(60, 80)[:, :38])
    assert not np.array_equal(shown[:, 42:], photo(60, 80)[:, 42:])


def test_inputs_are_not_changed() -> None:
    image, label_map = photo(60, 80), quarters(60, 80)
    before = image.copy(), label_map.copy()
    render_overlay(image, label_map, NAMES)
    assert np.array_equal(image, before[0])
    assert np.array_equal(label_map, before[1])


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        render_overlay(photo(10, 20), np.zeros((20, 10), int), NAMES)


def random_boxes(seed: int) -> list[tuple[int, list[tuple[int, int]]]]:
    rng = np.random.default_rng(seed)
    return [(label, [(int(rng.integers(10, 90)), 15), (8, 8)]) for label in range(6)]


@settings(max_examples=60, deadline=None)
@example(9866, 1)  # the specks that a box may hold were a corner of another box
@given(st.integers(0, 10_000), st.integers(1, 7))
def test_names_stand_in_their_own_regions_and_never_overlap(seed: int, step: int) -> None:
    height, width = 150, 200
    waves = np.random.default_rng(seed).normal(size=(6, 4, 5))
    labels = np.argmax(waves.repeat(38, axis=1).repeat(40, axis=2)[:, :height, :width], axis=0).astype(
        np.uint8
    )
    sizes = random_boxes(seed)
    covered = np.zeros((height, width), int)
    for label, place in place_names(labels, sizes, step).items():
        box_width, box_height = dict(sizes)[label][place.choice]
        rows = slice(round(place.y - box_height / 2), round(place.y + box_height / 2))
        columns = slice(round(place.x - box_width / 2), round(place.x + box_width / 2))
        assert (labels[rows, columns] == label).mean() > 0.8  # the grid is coarser than the pixels
        covered[rows, columns] += 1
    assert covered.max() <= 1


def test_a_name_goes_deep_inside_its_largest_part() -> None:
    labels = np.zeros((100, 300), np.uint8)
    labels[10:90, 20:180] = 1
    labels[40:60, 220:290] = 1
    place = place_names(labels, [(1, [(40, 12)])], step=2)[1]
    assert abs(place.x - 100) < 20
    assert abs(place.y - 50) < 4


def test_a_name_takes_the_size_that_fits_or_none() -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[20:32, 5:45] = 1
    assert place_names(labels, [(1, [(58, 20), (36, 10)])], step=1)[1].choice == 1
    assert place_names(labels, [(1, [(58, 20)])], step=1) == {}
    assert place_names(labels, [(2, [(5, 5)])], step=1) == {}


ENTRIES = [Entry(f"class number {i}", 1 / (i + 2), (9 * i % 256, 90, 160)) for i in range(60)]


@pytest.mark.parametrize("count", [1, 2, 5, 17, 60])
@pytest.mark.parametrize(("width", "height"), [(640, 170), (90, 30), (2000, 40)])
def test_legends_keep_their_bounds(count: int, width: int, height: int) -> None:
    strip = legend_below(ENTRIES[:count], em=12, width=width, height=height)
    assert strip.width >= width
    assert strip.height <= max(height, 140)
    panel = legend_beside(ENTRIES[:count], em=12, width=height, height=width)
    assert panel.height >= width
    assert panel.width <= max(height, 200)


def test_a_legend_says_how_many_it_leaves_out() -> None:
    seen = [
        legend_below(ENTRIES[:count], em=12, width=400, height=80).tobytes() for count in (58, 59, 60, 60)
    ]
    assert len(set(seen)) == 3, "the count of the others is part of the picture"


def test_shares_in_percent() -> None:
    assert [percent(share) for share in (0.0, 1e-5, 0.001, 0.0512, 0.0996, 0.345, 1.0)] == [
        "0.0%",
        "<0.1%",
        "0.1%",
        "5.1%",
        "10%",
        "34%",
        "100%",
    ]


def test_names_that_the_font_can_not_draw() -> None:
    assert drawable("golden retriever", 3) == "golden retriever"
    assert drawable("  café\n [red]Å[/red] ", 3) == "cafe [red]A[/red]"
    for name in ("猫", "кошка", "", "a\x1b[31m", "\udcff", "🐈"):
        assert drawable(name, 3) == "class 3"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40), st.integers(20, 200))
def test_long_names_are_cut(text: str, width: int) -> None:
    short = elided(text, 14, width)
    assert text_width(short, 14) <= width
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


def test_all_drawable_characters_have_a_glyph() -> None:
    missing = bytes(font(20).getmask("\U0010ffff"))
    for character in "".join(map(chr, range(33, 127))) + "©«°±´·»‘’“”…‹›⁄™":
        assert bytes(font(20).getmask(character)) != missing, character


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "JPEG"), ("a.jpeg", "JPEG"), ("a.PNG", "PNG")])
def test_the_extension_decides_the_format_and_bytes_repeat(tmp_path: Path, name: str, kind: str) -> None:
    picture = render_overlay(photo(60, 80), quarters(60, 80), NAMES)
    write_overlay(tmp_path / name, picture)
    first = (tmp_path / name).read_bytes()
    write_overlay(tmp_path / name, render_overlay(photo(60, 80), quarters(60, 80), NAMES))
    assert (tmp_path / name).read_bytes() == first
    with Image.open(tmp_path / name) as image:
        assert image.format == kind
        assert image.size == picture.size


def test_sides_that_jpeg_can_not_hold_are_scaled_down(tmp_path: Path) -> None:
    write_overlay(tmp_path / "a.jpg", Image.new("RGB", (66_000, 2)))
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.width == 65_500
