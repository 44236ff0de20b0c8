"""Windows over a picture: they cover it, their weights sum to 1, and blending equals the plain formula."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from san_cli.datasets.pillow_image import LoadedImage
from san_cli.engine.mask_blocks import Frame, resized_masks
from san_cli.engine.segmentation_map import (
    UNLABELLED,
    Least,
    Unfinished,
    map_of_blocks,
    segmentation_scores,
)
from san_cli.engine.tiles import Window, see_windows, tiled_blocks
from san_cli.engine.tiling import Tiling, axis, check_tile, is_squeezed, parse_tile, tiling_of
from san_cli.errors import SanError, WrongType
from san_cli.models.presets import TINY, VIT_B_16

lengths = st.integers(1, 400)
sides = st.integers(1, 150)


@given(lengths, sides, st.sampled_from([0.0, 0.25, 0.5, 0.6]))
def test_windows_cover_a_side_with_weights_that_sum_to_one(length: int, side: int, overlap: float) -> None:
    made = axis(length, side, overlap)
    total = np.zeros(length)
    for start, weights in zip(made.starts, made.weights, strict=True):
        assert start >= 0 and start + made.window <= length
        total[start : start + made.window] += weights
    assert made.window == min(side, length) and (made.weights > 0).all()
    assert made.starts[0] == 0 and made.starts[-1] == length - made.window
    assert np.allclose(total, 1, atol=1e-6)
    gaps = np.diff(made.starts)
    assert (gaps >= 1).all() and (gaps <= np.ceil(made.window * (1 - overlap))).all()


@given(lengths, sides)
def test_cells_are_the_stretches_that_the_same_windows_see(length: int, side: int) -> None:
    made = axis(length, side)
    seen = [
        tuple(i for i, start in enumerate(made.starts) if start <= pixel < start + made.window)
        for pixel in range(length)
    ]
    cells = list(made.cells())
    assert [pixel for stretch, _ in cells for pixel in range(stretch.start, stretch.stop)] == list(
        range(length)
    )
    for stretch, windows in cells:
        assert {seen[pixel] for pixel in range(stretch.start, stretch.stop)} == {windows}


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Tiling, list[list[Window]], list[list[torch.Tensor]]]:
    """(tiling, windows by row and column, the plain formula's scores [C, window] of each)."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    height, width, side = (draw(st.integers(least, most)) for least, most in ((1, 90), (1, 90), (30, 70)))
    tiling = Tiling(axis(height, side), axis(width, side))
    h, w = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    padded = (32 * h, 32 * w)
    frame = Frame(padded, (padded[0] - draw(st.integers(0, 31)), padded[1]), tiling.size)
    queries, classes = draw(st.sampled_from([1, 3, 20])), draw(st.sampled_from([1, 2, 20, 60, 300]))
    spread = draw(st.sampled_from([0.0, 2.0, 30.0]))
    windows: list[list[Window]] = []
    scores: list[list[torch.Tensor]] = []
    for _ in tiling.rows.starts:
        windows.append([])
        scores.append([])
        for _ in tiling.columns.starts:
            masks = torch.randn(queries, 2 * h, 2 * w, generator=generator) * spread
            found = (torch.randn(queries, classes + 1, generator=generator) * 3).softmax(dim=-1)[:, :-1]
            windows[-1].append(Window(resized_masks(masks, frame), found.contiguous()))
            scores[-1].append(segmentation_scores(masks.double(), found.double(), frame))
    return tiling, windows, scores


def blended(tiling: Tiling, scores: list[list[torch.Tensor]]) -> torch.Tensor:
    """The weighted sum of the windows' scores [C, H, W], by definition."""
    size = (tiling.rows.starts[-1] + tiling.rows.window, tiling.columns.starts[-1] + tiling.columns.window)
    total = torch.zeros(scores[0][0].shape[0], *size, dtype=torch.float64)
    for row, of_row in enumerate(scores):
        for column, window in enumerate(of_row):
            weights = np.outer(tiling.rows.weights[row], tiling.columns.weights[column])
            place = (slice(None), *tiling.places(row)[column])
            total[place] += window * torch.from_numpy(weights)
    return total


@settings(max_examples=60, deadline=None)
@given(pictures())
def test_blending_equals_the_plain_formula(picture) -> None:
    tiling, windows, scores = picture
    exact = blended(tiling, scores)
    made = map_of_blocks(
        tiled_blocks(tiling, lambda row: windows[row]), exact.shape[1:], len(exact), keep_scores=True
    )
    best = exact.amax(dim=0).numpy()
    chosen = exact.gather(0, torch.from_numpy(made.label_map.astype(np.int64))[None])[0].numpy()
    assert (best - chosen <= 2e-5 * best + 1e-12).all()
    assert made.scores is not None and made.confidence is not None
    assert np.allclose(made.scores, chosen, rtol=1e-4, atol=1e-12)
    evidence = exact.sum(dim=0).numpy()
    some = evidence > 1e-20  # of less, float32 can't tell shares
    assert np.allclose(made.confidence[some], (chosen / evidence)[some], rtol=1e-3, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(pictures(), st.floats(0, 2))
def test_limits_and_missing_windows_hold_in_tiles(picture, least: float) -> None:
    tiling, windows, scores = picture
    exact = blended(tiling, scores)
    no_data = np.zeros(exact.shape[1:], bool)
    no_data[tiling.places(0)[0]] = True
    # The first window has no data at all, and so isn't looked at.
    cut = [[None if (row, column) == (0, 0) else window for column, window in enumerate(of_row)]
           for row, of_row in enumerate(windows)]  # fmt: skip
    made = map_of_blocks(
        tiled_blocks(tiling, lambda row: cut[row]),
        exact.shape[1:],
        len(exact),
        least=Least(score=least),
        no_data=no_data,
    )
    best = exact.amax(dim=0).numpy()
    clear = np.abs(best - least) > 1e-4 * best
    assert (made.label_map[no_data] == UNLABELLED).all()
    assert ((made.label_map == UNLABELLED) == (no_data | (best < least)))[clear].all()


@settings(max_examples=30, deadline=None)
@given(pictures(), st.floats(0, 2))
def test_a_map_that_goes_on_is_that_of_an_undisturbed_run(picture, least: float) -> None:
    tiling, windows, scores = picture
    classes = len(scores[0][0])
    size = (tiling.rows.starts[-1] + tiling.rows.window, tiling.columns.starts[-1] + tiling.columns.window)
    no_data = np.zeros(size, bool)
    no_data[size[0] // 3 :, : size[1] // 2] = True

    def made(so_far: Unfinished, asked: list[int]) -> tuple[object, ...]:
        blocks = tiled_blocks(tiling, lambda row: asked.append(row) or windows[row], so_far)
        found = map_of_blocks(blocks, size, classes, least=Least(least), no_data=no_data, so_far=so_far)
        bytes_of = (
            found.label_map.tobytes(),
            found.class_scores.tobytes(),
            found.class_confidences.tobytes(),
        )
        return *bytes_of, found.uncertain, found.highest, found.surest

    stretches: list[Unfinished] = []
    undisturbed = Unfinished.new(size, classes)
    undisturbed.on_rows = lambda so_far: stretches.append(deepcopy(so_far))
    whole = made(undisturbed, [])
    assert [one.rows for one in stretches] == [rows.stop for rows, _ in tiling.rows.cells()]
    for begun in stretches:
        assert (begun.label_map[begun.rows :] == UNLABELLED).all()
        begun.on_rows = lambda so_far: None
        rows, asked = begun.rows, list[int]()
        assert made(begun, asked) == whole
        ended = len(tiling.rows.starts) - len(asked)
        assert asked == [*range(ended, len(tiling.rows.starts))]
        assert tiling.above(rows) == ended * len(tiling.columns.starts)


def test_rows_of_windows_are_asked_for_once_and_in_order() -> None:
    tiling = Tiling(axis(500, 100), axis(100, 100))
    asked: list[int] = []

    def windows_of(row: int) -> list[Window]:
        asked.append(row)
        masks = torch.zeros(1, 2, 2)
        return [Window(resized_masks(masks, Frame((32, 32), (32, 32), (100, 100))), torch.ones(1, 2))]

    for block in tiled_blocks(tiling, windows_of):
        # Nothing is made before it is needed: memory holds the windows of a few rows alone.
        assert asked[-1] <= block.place[0].start // 50 + 1
    assert asked == list(range(len(tiling.rows.starts)))


def test_windows_without_data_are_not_looked_at() -> None:
    no_data = np.zeros((100, 400), bool)
    no_data[:, :150] = True
    image = LoadedImage(np.zeros((100, 400, 3), np.uint8), no_data=no_data)
    seen: list[int] = []

    def factors(resized):
        seen.append(len(resized))
        return torch.zeros(len(resized), 1, 2, 2), torch.ones(len(resized), 1, 2)

    tiling = Tiling(axis(100, 100), axis(400, 100))
    found = see_windows(image, tiling, lambda pixels: pixels, factors, 2)(0)
    assert [window is None for window in found] == [True, True, *[False] * 5]
    assert seen == [2, 2, 1]


@pytest.mark.parametrize(
    ("size", "preset", "windows"),
    [
        ((480, 640), VIT_B_16, 1),
        ((1280, 1280), VIT_B_16, 1),  # half its size: as far as training goes
        ((1290, 1290), VIT_B_16, 64),
        ((640, 5200), VIT_B_16, 3 * 32),  # a panorama would be squeezed to 2560
        ((960, 960), TINY, 1),
        ((1600, 1600), TINY, 169),
        ((100, 200), TINY, 1),
    ],
)
def test_auto_leaves_small_pictures_whole(size: tuple[int, int], preset, windows: int) -> None:
    tiling = tiling_of(*size, "auto", preset)
    assert (1 if tiling is None else len(tiling)) == windows
    assert is_squeezed(*size, preset) == (windows > 1)
    assert tiling_of(*size, None, preset) is None


def test_a_number_cuts_whatever_is_larger() -> None:
    assert tiling_of(300, 400, 400, TINY) is None
    made = tiling_of(300, 401, 400, TINY)
    assert made is not None and made.size == (300, 400) and len(made) == 2


@pytest.mark.parametrize(("text", "tile"), [("off", None), ("AUTO", "auto"), (" 640 ", 640), ("64", 64)])
def test_tile_is_read(text: str, tile) -> None:
    assert parse_tile(text) == tile


@pytest.mark.parametrize("text", ["", "63", "0", "-640", "640x640", "640,640", "1e3", "640px", "½", "big"])
def test_other_tiles_are_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(SanError, match="--tile takes") as fault:
        parse_tile(text)
    assert "--tile auto" in (fault.value.hint or "")


def test_the_python_api_takes_numbers_and_names() -> None:
    assert [check_tile(tile) for tile in (None, "off", "auto", 640, np.int64(640))] == [
        None,
        None,
        "auto",
        640,
        640,
    ]
    for wrong in (640.0, True, (640, 640)):
        with pytest.raises(WrongType):
            check_tile(wrong)
    with pytest.raises(SanError):
        check_tile(3)
