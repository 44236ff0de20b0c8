"""The block-wise label map against the plain formula: any sizes, classes, distributions and block heights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from san_cli.engine import mask_blocks
from san_cli.engine.mask_blocks import Frame
from san_cli.engine.segmentation_map import (
    UNCERTAIN,
    UNLABELLED,
    Least,
    segmentation_map,
    segmentation_scores,
)

KINDS = ("random", "peaked", "flat", "one class", "background", "ties", "adversarial")


def probabilities(kind: str, queries: int, classes: int, generator: torch.Generator) -> torch.Tensor:
    """Class probabilities [N, C] whose rows sum to less than 1: the rest is "no object"."""
    logits = torch.randn(queries, classes + 1, generator=generator)
    if kind == "peaked":
        logits[range(queries), torch.randint(classes, (queries,), generator=generator)] += 20
    elif kind == "flat":
        logits *= 1e-3
    elif kind == "one class":
        logits[:, classes // 2] += 30
    elif kind == "background":
        logits[:, -1] += 40
    found = logits.softmax(dim=-1)[:, :-1]
    if kind == "ties":
        found = found[:, :1].expand(-1, classes).contiguous()
    elif kind == "adversarial":  # classes that are nearly as good as each other, everywhere
        found = found[:, :1] * (1 + 1e-4 * torch.rand(1, classes, generator=generator))
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, Frame, int]:
    """(mask logits, class probabilities, frame, block rows)."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    h, w = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    padded = (16 * h, 16 * w)
    resized = (
        draw(st.integers(max(1, padded[0] - 31), padded[0])),
        draw(st.integers(max(1, padded[1] - 31), padded[1])),
    )
    output = (draw(st.integers(1, 130)), draw(st.integers(1, 130)))
    queries = draw(st.sampled_from([1, 3, 10, 100]))
    classes = draw(st.sampled_from([1, 2, 5, 20, 33, 171, 847, 1000]))
    spread = draw(st.sampled_from([0.0, 1.0, 8.0, 60.0]))
    masks = torch.randn(queries, h, w, generator=generator) * spread
    if draw(st.booleans()):  # nearly all masks far from nearly all pixels, holes in what is left
        masks = torch.where(torch.rand(masks.shape, generator=generator) < 0.9, masks - 25, masks)
        masks[:, torch.rand(h, w, generator=generator) < 0.1] -= 35
    return (
        masks,
        probabilities(draw(st.sampled_from(KINDS)), queries, classes, generator),
        Frame(padded, resized, output),
        draw(st.integers(1, 140)),
    )


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equals_the_plain_formula(case) -> None:
    masks, classes, frame, block_rows = case
    exact = segmentation_scores(masks.double(), classes.double(), frame)
    made = segmentation_map(masks, classes, frame, keep_scores=True, block_rows=block_rows)
    assert made.label_map.shape == frame.output
    assert made.scores is not None
    best = exact.amax(dim=0).numpy()
    chosen = exact.gather(0, torch.from_numpy(made.label_map.astype(np.int64))[None])[0].numpy()
    # The class chosen has the best score, to the rounding of a float32 sum; where another class is
    # clearly worse, that means the same class.
    assert (best - chosen <= 2e-5 * best + 1e-12).all()
    assert np.allclose(made.scores, chosen, rtol=1e-4, atol=1e-12)


@settings(max_examples=80, deadline=None)
@given(cases(), st.floats(0, 1), st.booleans())
def test_confidence_is_the_winners_share_of_the_plain_formula(case, least: float, holed: bool) -> None:
    masks, classes, frame, block_rows = case
    exact = segmentation_scores(masks.double(), classes.double(), frame)
    total = exact.sum(dim=0)
    share = (exact.amax(dim=0) / total).numpy()
    told = (total > 1e-20).numpy()  # below, float32 has nothing to say
    no_data = np.random.default_rng(block_rows).random(frame.output) < 0.3 if holed else None
    made = segmentation_map(
        masks,
        classes,
        frame,
        keep_scores=True,
        no_data=no_data,
        least=Least(confidence=least),
        block_rows=block_rows,
    )
    assert made.confidence is not None
    seen = np.ones(frame.output, bool) if no_data is None else ~no_data
    assert (made.confidence[~seen] == 0).all() and (made.label_map[~seen] == UNLABELLED).all()
    assert made.confidence.min() >= 0 and made.confidence.max() <= 1
    assert np.allclose(made.confidence[seen & told], share[seen & told], rtol=1e-4)
    clear = seen & told & (np.abs(share - least) > 1e-4)
    assert ((made.label_map == UNLABELLED) == (share < least))[clear].all()
    if seen.any():
        assert made.uncertain == pytest.approx((made.confidence[seen] < UNCERTAIN).mean())
        assert made.surest[0] == pytest.approx(made.confidence.max(), abs=1e-6) or not seen.all()
    for index in np.unique(made.label_map[made.label_map >= 0]):
        mean = made.confidence[made.label_map == index].mean()
        assert made.class_confidences[index] == pytest.approx(mean, rel=1e-4, abs=1e-6)


def test_limits_by_class() -> None:
    generator = torch.Generator().manual_seed(6)
    masks = torch.randn(20, 5, 7, generator=generator) * 6
    classes = probabilities("random", 20, 8, generator)
    frame = Frame((80, 112), (75, 100), (90, 120))
    plain = segmentation_map(masks, classes, frame, keep_scores=True)
    common, rare = np.argsort(np.bincount(plain.label_map.ravel(), minlength=8))[[-1, -2]]
    for kind, values in (("score", plain.scores), ("confidence", plain.confidence)):
        assert values is not None
        limit = np.zeros(8, np.float32)
        limit[common], limit[rare] = np.median(values), 10.0
        kept = segmentation_map(masks, classes, frame, least=Least(**{kind: limit})).label_map
        expected = np.where(values < limit[plain.label_map], UNLABELLED, plain.label_map)
        assert np.array_equal(kept, expected)
        assert (kept == common).any() and not (kept == rare).any()


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(1, 140))
def test_block_height_changes_nothing(case, other: int) -> None:
    masks, classes, frame, block_rows = case
    exact = segmentation_scores(masks.double(), classes.double(), frame)
    top = exact.topk(min(2, len(exact)), dim=0).values
    decided = (top[0] - top[-1] > 2e-5 * top[0]).numpy() | (len(exact) == 1)
    one = segmentation_map(masks, classes, frame, block_rows=block_rows).label_map
    two = segmentation_map(masks, classes, frame, block_rows=other).label_map
    assert (one[decided] == two[decided]).all()


@pytest.mark.parametrize("classes", [5, 64, 400])
def test_exact_ties_go_to_the_lower_class(classes: int) -> None:
    generator = torch.Generator().manual_seed(3)
    masks = torch.randn(10, 4, 4, generator=generator)
    same = torch.full((10, classes), 0.01)
    made = segmentation_map(masks, same, Frame((64, 64), (60, 50), (61, 95)))
    assert (made.label_map == 0).all()


def test_a_hole_between_samples_keeps_its_class() -> None:
    """Queries that add nothing almost everywhere decide where the one strong mask has a hole."""
    masks = torch.full((100, 40, 40), -26.0)
    masks[0] = 12.0
    classes = torch.full((100, 200), 1e-6)
    classes[0, 7] = classes[1:, 3] = 0.99
    frame = Frame((640, 640), (640, 640), (640, 640))
    for y, x in ((5, 8), (20, 20), (33, 14)):
        holed = masks.clone()
        holed[0, y, x] = -60.0
        scores = segmentation_scores(holed.double(), classes.double(), frame)
        made = segmentation_map(holed, classes, frame).label_map
        first, second = scores.topk(2, dim=0).values
        decided = (first - second > 1e-4 * first).numpy()
        assert (made[decided] == scores.argmax(dim=0).numpy()[decided]).all()


def test_wide_images_are_cut_into_columns(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(9)
    masks, classes = (
        torch.randn(10, 3, 40, generator=generator) * 5,
        probabilities("random", 10, 30, generator),
    )
    frame = Frame((48, 640), (45, 633), (61, 901))
    whole = segmentation_map(masks, classes, frame, keep_scores=True)
    monkeypatch.setattr(mask_blocks, "_CPU_BLOCK", 128)
    cut = segmentation_map(masks, classes, frame, keep_scores=True)
    assert np.allclose(whole.scores, cut.scores, rtol=1e-5)
    assert (whole.label_map != cut.label_map).mean() < 1e-4


def test_more_classes_than_16_bits_hold() -> None:
    classes = torch.zeros(2, 40_000)
    classes[:, 39_999] = 0.9
    made = segmentation_map(torch.zeros(2, 2, 2), classes, Frame((32, 32), (32, 32), (20, 30)))
    assert (made.label_map == 39_999).all()


def test_scores_and_threshold() -> None:
    generator = torch.Generator().manual_seed(5)
    masks, classes = (
        torch.randn(20, 5, 7, generator=generator) * 6,
        probabilities("peaked", 20, 40, generator),
    )
    frame = Frame((80, 112), (75, 100), (90, 120))
    plain = segmentation_scores(masks, classes, frame).amax(dim=0).numpy()
    made = segmentation_map(masks, classes, frame, keep_scores=True)
    assert np.allclose(made.scores, plain, atol=1e-5)
    threshold = float(np.median(plain))
    kept = segmentation_map(masks, classes, frame, least=Least(threshold))
    clear = np.abs(plain - threshold) > 1e-4
    assert ((kept.label_map == UNLABELLED) == (plain < threshold))[clear].all()
    assert (kept.label_map[kept.label_map >= 0] == made.label_map[kept.label_map >= 0]).all()
    for index in range(40):
        mean = plain[made.label_map == index].mean() if (made.label_map == index).any() else 0
        assert made.class_scores[index] == pytest.approx(mean, abs=1e-4)


def test_two_resizes_differ_from_one() -> None:
    """The official path resizes twice; a single resize to the output would be another function."""
    masks = torch.arange(36.0).view(1, 6, 6) - 18
    frame = Frame((96, 96), (80, 70), (41, 33))
    twice = segmentation_scores(masks, torch.ones(1, 1), frame)[0]
    once = torch.nn.functional.interpolate(masks[None], size=(41, 33), mode="bilinear")[0, 0].sigmoid()
    made = segmentation_map(masks, torch.ones(1, 1), frame, keep_scores=True)
    assert np.allclose(made.scores, twice.numpy(), atol=1e-6)
    assert not np.allclose(made.scores, once.numpy(), atol=1e-2)
