"""Label maps made by blocks against the plain formula: any sizes, classes, distributions, limits."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from san_cli.engine import segmentation_map as maps
from san_cli.engine.mask_blocks import Frame, resized_masks
from san_cli.engine.segmentation_map import UNLABELLED, Least, measured_pixels, segmentation_map
from san_cli.engine.whole_blocks import fill_by_blocks
from tests.engine.test_segmentation_map import cases, probabilities


def by_blocks(masks, classes, frame, largest: int = 64, **options):
    """Make a map as one of more than `largest` pixels is made."""
    with mock.patch.object(maps, "ALL_MEASURED", min(largest, frame.output[0] * frame.output[1] - 1)):
        return segmentation_map(masks, classes, frame, **options)


def exact_scores(masks, classes, frame) -> np.ndarray:
    return maps.segmentation_scores(masks.double(), classes.double(), frame).numpy()


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equals_the_plain_formula(case) -> None:
    masks, classes, frame, _ = case
    if frame.output == (1, 1):
        return
    exact = exact_scores(masks, classes, frame)
    made = by_blocks(masks, classes, frame)
    chosen = np.take_along_axis(exact, made.label_map[None].astype(np.int64), axis=0)[0]
    best = exact.max(axis=0)
    assert (best - chosen <= 2e-5 * best + 1e-12).all()


@settings(max_examples=100, deadline=None)
@given(cases(), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_limits_are_those_of_pixels(case, score: float, confidence: float, holed: bool) -> None:
    masks, classes, frame, seed = case
    if frame.output == (1, 1):
        return
    rng = np.random.default_rng(seed)
    exact = exact_scores(masks, classes, frame)
    best, total = exact.max(axis=0), exact.sum(axis=0)
    score = score * best.max()
    no_data = rng.random(frame.output) < 0.3 if holed else None
    made = by_blocks(masks, classes, frame, least=Least(score, confidence), no_data=no_data)
    seen = np.ones(frame.output, bool) if no_data is None else ~no_data
    share = best / np.maximum(total, 1e-30)
    left = (best < score) | (share < confidence)
    clear = (np.abs(best - score) > 1e-4 * best) & (np.abs(share - confidence) > 1e-4) & (total > 1e-20)
    assert ((made.label_map == UNLABELLED) == left)[seen & clear].all()
    assert (made.label_map[~seen] == UNLABELLED).all()


def test_limits_by_class() -> None:
    generator = torch.Generator().manual_seed(6)
    masks = torch.randn(20, 5, 7, generator=generator) * 6
    classes = probabilities("random", 20, 8, generator)
    frame = Frame((80, 112), (75, 100), (190, 220))
    plain = segmentation_map(masks, classes, frame, keep_scores=True)
    common, rare = np.argsort(np.bincount(plain.label_map.ravel(), minlength=8))[[-1, -2]]
    for kind, values in (("score", plain.scores), ("confidence", plain.confidence)):
        limit = np.zeros(8, np.float32)
        limit[common], limit[rare] = np.median(values), 10.0
        kept = by_blocks(masks, classes, frame, least=Least(**{kind: limit})).label_map
        expected = np.where(values < limit[plain.label_map], UNLABELLED, plain.label_map)
        assert np.array_equal(kept, expected)
        assert (kept == common).any() and not (kept == rare).any()


@pytest.mark.parametrize("classes", [5, 64])
def test_exact_ties_go_to_the_lower_class(classes: int) -> None:
    found = torch.rand(10, 1).expand(-1, classes).contiguous()
    made = by_blocks(torch.randn(10, 4, 4), found, Frame((64, 64), (60, 50), (200, 240)))
    assert (made.label_map == 0).all()


def test_blocks_that_one_class_wins_are_not_looked_into() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.full((3, 10, 10), -8.0)
    masks[0, :5], masks[1, 5:] = 7.0, 8.0  # the border is in no row between blocks
    classes = probabilities("peaked", 3, 40, generator)
    classes[:2] = 0.001
    classes[0, 7], classes[1, 9] = 0.9, 0.9
    frame = Frame((160, 160), (160, 160), (1000, 1000))
    looked_at = []

    def compare(found: torch.Tensor) -> torch.Tensor:
        looked_at.append(len(found))
        return (found @ classes).argmax(dim=1)

    label_map = np.full(frame.output, -9, np.int16)
    fill_by_blocks(label_map, resized_masks(masks, frame), frame, classes, [], compare)
    assert np.array_equal(label_map, exact_scores(masks, classes, frame).argmax(axis=0))
    assert 0 < sum(looked_at) < 0.02 * label_map.size


@settings(max_examples=60, deadline=None)
@given(cases())
def test_measures_are_those_of_the_measured_pixels(case) -> None:
    masks, classes, frame, _ = case
    if frame.output == (1, 1):
        return
    exact = exact_scores(masks, classes, frame)
    best, total = exact.max(axis=0), exact.sum(axis=0)
    made = by_blocks(masks, classes, frame, largest=100)
    with mock.patch.object(maps, "ALL_MEASURED", min(100, best.size - 1)):
        at = measured_pixels(frame.output)
    labels, scores = made.label_map[at], best[at]
    if classes.shape[1] > 1:  # which of two equal ones wins is for the rounding
        second = np.partition(exact, -2, axis=0)[-2]
        if (best - second <= 1e-4 * best).any():
            return
    for label in np.unique(made.label_map):
        where = labels == label
        values = scores[where] if where.any() else best[made.label_map == label]
        if where.any() or len(values) < maps._FEW_PIXELS:
            assert made.class_scores[label] == pytest.approx(values.mean(), rel=1e-3, abs=1e-6)
    there = np.zeros(classes.shape[1], bool)
    there[np.unique(made.label_map)] = True
    assert not made.class_scores[~there].any() and not made.class_confidences[~there].any()
    assert made.highest[0] == pytest.approx(scores.max(), rel=1e-4)
    told = total[at] > 1e-20
    if told.all():
        share = scores / total[at]
        clear = np.abs(share - 0.5) > 1e-4
        assert abs(made.uncertain - (share < 0.5).mean()) <= (~clear).mean() + 1e-9


def test_a_class_beside_the_measured_pixels_has_its_score_too() -> None:
    masks = torch.full((2, 40, 40), -6.0)
    masks[0] = 6.0
    masks[0, 20, 20], masks[1, 20, 20] = -2.0, 2.0  # wins some hundred pixels around it
    classes = torch.tensor([[0.9, 0.0], [0.0, 0.9]])
    frame = Frame((640, 640), (640, 640), (1500, 1500))
    with mock.patch.object(maps, "ALL_MEASURED", 900):
        found, at = segmentation_map(masks, classes, frame), measured_pixels(frame.output)
    rows, columns = np.nonzero(found.label_map == 1)
    assert 100 < len(rows) <= maps._FEW_PIXELS and not (found.label_map[at] == 1).any()
    exact = exact_scores(masks, classes, frame)[:, rows, columns]
    assert found.class_scores[1] == pytest.approx(exact[1].mean(), rel=1e-4)
    assert found.class_confidences[1] == pytest.approx((exact[1] / exact.sum(axis=0)).mean(), rel=1e-4)


def test_kept_scores_change_nothing_else() -> None:
    generator = torch.Generator().manual_seed(3)
    masks = torch.randn(30, 6, 9, generator=generator) * 5
    classes = probabilities("peaked", 30, 60, generator)
    frame = Frame((96, 144), (96, 144), (300, 420))
    plain, kept = (by_blocks(masks, classes, frame, keep_scores=keep) for keep in (False, True))
    assert np.array_equal(plain.label_map, kept.label_map)
    assert np.array_equal(plain.class_scores, kept.class_scores) and plain.uncertain == kept.uncertain
    assert plain.scores is None and kept.scores.shape == frame.output


def test_all_pixels_are_measured_of_maps_that_are_not_large() -> None:
    assert measured_pixels((640, 853)) == (slice(0, None, 1), slice(0, None, 1))
    rows, columns = measured_pixels((4000, 6000))
    assert rows == columns == slice(5, None, 10)


def test_threads_change_nothing() -> None:
    generator = torch.Generator().manual_seed(4)
    masks = torch.randn(100, 10, 14, generator=generator) * 4
    classes = probabilities("random", 100, 171, generator)
    frame = Frame((160, 224), (160, 220), (900, 1300))
    before = torch.get_num_threads()
    try:
        made = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(segmentation_map(masks, classes, frame))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(made[0].label_map, made[1].label_map)
    assert np.array_equal(made[0].class_scores, made[1].class_scores)


class _Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that is made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            self.numbers = max(self.numbers, one.numel() if isinstance(one, torch.Tensor) else 0)
        return made


def test_of_many_classes_fewer_blocks_are_bounded_at_a_time() -> None:
    generator = torch.Generator().manual_seed(5)
    masks = torch.randn(4, 20, 20, generator=generator) * 5
    frame = Frame((320, 320), (320, 320), (1100, 1100))
    classes = probabilities("peaked", 4, 20_000, generator)
    with _Largest() as largest:
        made = segmentation_map(masks, classes, frame)
    assert largest.numbers < 256 * 20_000  # as many pixels are sampled of others
    there, place = np.unique(made.label_map, return_inverse=True)
    exact = exact_scores(masks, classes[:, there], frame)
    chosen = np.take_along_axis(exact, place.reshape(1, *frame.output), axis=0)[0]
    assert (exact.max(axis=0) - chosen <= 2e-5 * chosen).all()
