"""The training augmentation: where every pixel comes from, and what happens to its colour."""

import colorsys
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from san_cli.datasets.resize import benchmark_size, resize_for_network
from san_cli.train.augment import OFFICIAL, PADDING, PAPER, Augmentation, augment
from san_cli.train.colour_jitter import Step, apply_jitter, draw_jitter
from san_cli.train.hsv import hsv_to_rgb, rgb_to_hsv

# RGB, what OpenCV 4.6 makes of it in HSV, and what it makes of that in RGB.
OPENCV = np.array(
    json.loads((Path(__file__).parents[1] / "data" / "hsv_opencv.json").read_text()), np.uint8
).transpose(1, 2, 0)
PLAIN = Augmentation((48,), crop=64, max_size=200, colour=False, flip=0)


def seeded(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return seeded(seed).integers(0, 256, (height, width, 3), np.uint8)


def places(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """An image and ids that both say where each pixel is; sides up to 256."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)
    return image, (rows * 256 + columns).astype(np.uint16)


# Geometry


def test_the_recipes_of_the_code_and_of_the_paper() -> None:
    assert list(OFFICIAL.short_sides) == [320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960]
    assert (min(PAPER.short_sides), max(PAPER.short_sides), len(PAPER.short_sides)) == (320, 1024, 705)
    small = OFFICIAL.scaled_to(320)
    assert small.short_sides == (160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 480)
    assert (small.crop, small.max_size, small.flip) == (320, 1280, 0.5)
    assert OFFICIAL.scaled_to(640) == replace(OFFICIAL, short_sides=tuple(OFFICIAL.short_sides))


@given(
    st.integers(8, 256),
    st.integers(8, 256),
    st.integers(8, 120),
    st.integers(16, 100),
    st.integers(0, 9),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_image_and_ids_stay_aligned_and_the_rest_is_padding(
    h: int, w: int, short: int, crop: int, seed: int, flip: bool
) -> None:
    image, ids = places(h, w)
    augmentation = Augmentation((short,), crop, 4 * crop, colour=False, flip=float(flip))
    planes, moved = augment(image, ids, augmentation, 65535, seeded(seed))
    assert planes.shape == (3, crop, crop) and planes.dtype == np.uint8
    assert moved.shape == (crop, crop) and moved.dtype == np.int32
    new_h, new_w = benchmark_size(h, w, short, 4 * crop)
    inside = np.zeros((crop, crop), bool)
    inside[: min(new_h, crop), : min(new_w, crop)] = True
    assert np.array_equal(moved != 65535, inside)
    assert (planes[:, ~inside] == PADDING).all()
    for plane, source, scale in ((planes[0], moved // 256, h / new_h), (planes[1], moved % 256, w / new_w)):
        off = plane.astype(int)[inside] - source[inside]
        assert abs(off).max() <= 0.7 * scale + 1.5  # half from corner to centre; edges average less
    across = np.diff((moved % 256)[0, : min(new_w, crop)])
    assert (across <= 0).all() if flip else (across >= 0).all()


@given(
    st.integers(20, 130),
    st.integers(20, 130),
    st.integers(20, 140),
    st.integers(16, 128),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_pixels_are_a_window_of_the_whole_resized_image(
    h: int, w: int, short: int, crop: int, seed: int
) -> None:
    image, ids = noise(h, w, seed), np.zeros((h, w), np.uint8)
    augmentation = Augmentation((short,), crop, 2560, colour=False, flip=0)
    planes, _ = augment(image, ids, augmentation, 255, seeded(seed))
    whole = resize_for_network(image, short, 2560)
    height, width = min(crop, whole.shape[0]), min(crop, whole.shape[1])
    window = planes[:, :height, :width].transpose(1, 2, 0)
    windows = np.lib.stride_tricks.sliding_window_view(whole, (height, width, 3))[:, :, 0]
    starts = np.argwhere((windows[:, :, 0, 0] == window[0, 0]).all(axis=2))
    assert any(np.array_equal(windows[top, left], window) for top, left in starts)


@pytest.mark.parametrize(("h", "w"), [(333, 500), (480, 640), (427, 640), (97, 61), (300, 211)])
@pytest.mark.parametrize("short", [96, 320, 1000])
def test_ids_are_resized_as_torch_does_it(h: int, w: int, short: int) -> None:
    ids = seeded(h * w).integers(0, 255, (h, w), np.uint8)
    augmentation = Augmentation((short,), 2000, 2000, colour=False, flip=0)
    _, moved = augment(np.zeros((h, w, 3), np.uint8), ids, augmentation, 255, seeded(0))
    new_h, new_w = benchmark_size(h, w, short, 2000)
    expected = F.interpolate(torch.from_numpy(ids)[None, None].double(), (new_h, new_w), mode="nearest")
    assert np.array_equal(moved[:new_h, :new_w], expected[0, 0].to(torch.uint8).numpy())
    assert (moved[new_h:] == 255).all() and (moved[:, new_w:] == 255).all()


def test_ids_of_8_bits_stay_so_unless_the_ignore_label_is_greater() -> None:
    image, ids = noise(20, 30), np.full((20, 30), 7, np.uint8)
    assert augment(image, ids, PLAIN, 255, seeded(0))[1].dtype == np.uint8
    wide = augment(image, ids, PLAIN, 65535, seeded(0))[1]
    assert wide.dtype == np.int32 and set(np.unique(wide)) == {7, 65535}
    assert augment(image, ids.astype(np.uint16) + 800, PLAIN, 255, seeded(0))[1].max() == 807


def test_all_short_sides_windows_and_both_flips_occur() -> None:
    image, ids = places(40, 60)
    augmentation = Augmentation((20, 30, 40), crop=24, max_size=200, colour=False)
    results = [augment(image, ids, augmentation, 65535, seeded(seed))[1] for seed in range(200)]
    heights = {int((one[:, 0] != 65535).sum()) for one in results}
    assert heights == {20, 24}
    assert len({one.tobytes() for one in results}) > 120
    mirrored = sum(bool(one[0, 0] % 256 > one[0, 1] % 256) for one in results)
    assert 70 < mirrored < 130
    corners = {int(min(one[0, 0] % 256, one[0, 23] % 256)) for one in results}
    assert 0 in corners and max(corners) >= 33  # both ends can be reached


def test_what_is_drawn_depends_on_the_generator_and_the_size_alone() -> None:
    ids = places(50, 70)[1]
    augmentation = Augmentation((40, 60, 80), crop=48, max_size=300)
    first = augment(noise(50, 70, 1), ids, augmentation, 65535, seeded(5))
    again = augment(noise(50, 70, 1), ids, augmentation, 65535, seeded(5))
    other = augment(noise(50, 70, 2), ids, augmentation, 65535, seeded(5))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], other[1])
    assert not np.array_equal(first[0], other[0])


def test_the_input_is_not_changed() -> None:
    image, ids = noise(40, 40), np.zeros((40, 40), np.uint8)
    image.flags.writeable = ids.flags.writeable = False
    for seed in range(8):
        augment(image, ids, replace(PLAIN, short_sides=(40,), colour=True, flip=1.0), 255, seeded(seed))


# Colour


def test_hsv_is_opencvs() -> None:
    rgb, hsv, back = OPENCV
    assert np.array_equal(rgb_to_hsv(rgb.reshape(3, -1)), hsv)
    assert np.array_equal(hsv_to_rgb(hsv), back)


def test_hsv_is_the_textbooks_but_for_rounding() -> None:
    rgb = noise(30, 30, 3).reshape(-1, 3)
    hsv = rgb_to_hsv(np.ascontiguousarray(rgb.T)).T
    assert hsv[:, 0].max() < 180
    for pixel, found in zip((rgb / 255).tolist(), hsv.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        turn = abs(found[0] - hue * 180)
        assert min(turn, 180 - turn) <= 0.66  # half a step, and what the fixed-point table is off
        assert abs(found[1] - saturation * 255) <= 0.66  # half a step, and what the fixed-point table is off
        assert abs(found[2] - value * 255) < 1e-9
    back = hsv_to_rgb(np.ascontiguousarray(hsv.T)).T
    expected = [colorsys.hsv_to_rgb(h / 180, s / 255, v / 255) for h, s, v in hsv.tolist()]
    off = np.array(expected) * 255 - back
    assert off.min() > -1e-3 and off.max() < 1 + 1e-3  # truncated


def test_grey_stays_grey_and_shape_is_kept() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None].reshape(1, 16, 16), 3, axis=0)
    hsv = rgb_to_hsv(grey)
    assert hsv.shape == grey.shape and not hsv[:2].any()
    assert np.array_equal(hsv_to_rgb(hsv), grey)


def test_every_change_happens_half_the_time_in_one_of_two_orders() -> None:
    drawn = [draw_jitter(seeded(seed)) for seed in range(600)]
    for plane in (0, 1):
        assert 240 < sum(any(step.hsv_plane == plane for step in steps) for steps in drawn) < 360
    rgb_steps = [sum(step.hsv_plane is None for step in steps) for steps in drawn]
    assert 110 < rgb_steps.count(0) < 190 and 110 < rgb_steps.count(2) < 190
    full = [[step.hsv_plane for step in steps] for steps in drawn if len(steps) == 4]
    assert {tuple(order) for order in full} == {(None, None, 1, 0), (None, 1, 0, None)}


def test_changes_are_within_their_bounds_and_truncated() -> None:
    levels = np.arange(256)
    for steps in (draw_jitter(seeded(seed)) for seed in range(300)):
        for step in steps:
            table = step.table.astype(int)
            assert step.table.dtype == np.uint8 and table.shape == (256,)
            if step.hsv_plane == 0:
                shift = (table[:180] - levels[:180]) % 180
                assert len(set(shift.tolist())) == 1 and (shift[0] <= 18 or shift[0] >= 162)
            else:
                assert (np.diff(table) >= 0).all()
                if step.hsv_plane == 1:
                    assert (table >= levels // 2).all() and (table <= levels * 1.5).all()
                else:
                    assert (table >= np.minimum(levels // 2, levels - 32 - 1)).all()
                    assert (table <= np.maximum(levels * 1.5, levels + 32)).all()


def test_saturation_and_hue_do_what_they_say() -> None:
    rgb = np.array([200, 120, 80], np.uint8).reshape(3, 1, 1)
    halved = rgb.copy()
    apply_jitter(halved, (Step((np.arange(256) // 2).astype(np.uint8), 1),))
    assert halved.ravel().tolist() == [200, 160, 140]
    turned = rgb.copy()
    apply_jitter(turned, (Step(((np.arange(256) + 60) % 180).astype(np.uint8), 0),))
    assert abs(turned.ravel().astype(int) - [80, 200, 120]).max() <= 1  # by 120 degrees


def test_the_whole_image_is_changed_alike() -> None:
    colours = noise(1, 61, 4).transpose(2, 0, 1)
    steps = next(steps for steps in map(draw_jitter, map(seeded, range(99))) if len(steps) == 4)
    alone = np.ascontiguousarray(colours)
    apply_jitter(alone, steps)
    many = np.zeros((3, 700, 100), np.uint8)
    inside = many[:, 5:695, 9:70]  # not contiguous, more than a band
    inside[...] = colours
    apply_jitter(inside, steps)
    assert (inside == alone).all()
    assert not many[:, :5].any() and not many[:, :, :9].any() and not many[:, :, 70:].any()


def test_padding_keeps_its_grey() -> None:
    image = np.asarray(Image.new("RGB", (30, 20), "red"))
    augmentation = Augmentation((20,), crop=40, max_size=160)
    colours = set()
    for seed in range(20):
        planes, _ = augment(image, np.zeros((20, 30), np.uint8), augmentation, 255, seeded(seed))
        assert (planes[:, 20:] == PADDING).all() and (planes[:, :, 30:] == PADDING).all()
        colours.add(tuple(planes[:, 0, 0].tolist()))
    assert len(colours) > 8
