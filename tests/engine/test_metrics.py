"""The metrics: detectron2's own answers, a plain loop, and what must hold for any label maps."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from san_cli.engine.metrics import confusion_of, confusions, empty_confusion, metrics_of
from san_cli.evaluate.detectron2_json import image_entries

CASES = Path(__file__).parents[1] / "data" / "eval_cases.npz"  # what detectron2's SemSegEvaluator returned
NAMES = sorted({key.split("/")[0] for key in np.load(CASES).files})


def pairs_of(case: str) -> tuple[list[tuple[np.ndarray, np.ndarray]], int, int]:
    with np.load(CASES) as held:
        classes, ignore, images = held[f"{case}/facts"].tolist()
        pairs = [(held[f"{case}/pred{i}"], held[f"{case}/truth{i}"]) for i in range(images)]
    return pairs, classes, ignore


@pytest.mark.parametrize("case", NAMES)
def test_detectron2s_answers(case: str) -> None:
    pairs, classes, ignore = pairs_of(case)
    confusion = sum((confusion_of(*pair, classes, ignore) for pair in pairs), empty_confusion(classes))
    assert confusion.dtype == np.int64
    found = metrics_of(confusion)
    with np.load(CASES) as held:
        expected = empty_confusion(classes)
        for predicted, truth, count in held[f"{case}/cells"].tolist():
            expected[predicted, truth] = count
        assert np.array_equal(confusion, expected)
        scores = [found.mIoU, found.mIoU_v06, found.fwIoU, found.mACC, found.pACC]
        np.testing.assert_allclose(scores, held[f"{case}/scores"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.class_iou, held[f"{case}/iou"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.class_accuracy, held[f"{case}/acc"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", NAMES)
def test_detectron2s_prediction_files(case: str) -> None:
    pairs, _, _ = pairs_of(case)
    with np.load(CASES) as held:
        expected = json.loads(held[f"{case}/predictions"].tobytes())
        ids = held[f"{case}/dataset_ids"].tolist() if f"{case}/dataset_ids" in held else None
    texts = [
        image_entries(f"images/{case}_{i}.jpg", predicted.astype(np.int16), ids)
        for i, (predicted, _) in enumerate(pairs)
    ]
    assert json.loads(f"[{', '.join(texts)}]") == expected


def by_loop(pairs: list[tuple[np.ndarray, np.ndarray]], classes: int, ignore: int) -> dict[str, float]:
    """Both rules, pixel by pixel and class by class."""
    hit, truth, predicted = ([0] * classes for _ in range(3))
    for label_map, label in pairs:
        for p, t in zip(label_map.ravel().tolist(), label.ravel().tolist(), strict=True):
            if t == ignore:
                continue
            truth[t] += 1
            if p >= 0:
                predicted[p] += 1
                hit[p] += p == t
    present = [c for c in range(classes) if truth[c]]
    ious = [hit[c] / (truth[c] + predicted[c] - hit[c]) for c in present]
    seen = [c for c in range(classes) if truth[c] or predicted[c]]
    pixels = sum(truth)
    return {
        "mIoU": 100 * sum(ious) / len(present) if present else float("nan"),
        "mIoU_v06": 100 * sum(ious) / len(seen) if seen else float("nan"),
        "fwIoU": 100 * sum(iou * truth[c] / pixels for iou, c in zip(ious, present, strict=True)),
        "mACC": 100 * sum(hit[c] / truth[c] for c in present) / len(present) if present else float("nan"),
        "pACC": 100 * sum(hit) / pixels if pixels else float("nan"),
    }


@st.composite
def datasets(draw: st.DrawFn) -> tuple[list[tuple[np.ndarray, np.ndarray]], int, int]:
    classes = draw(st.integers(1, 6))
    ignore = draw(st.sampled_from([255, 65535]))
    ids = st.integers(0, classes - 1)
    images = []
    for _ in range(draw(st.integers(1, 4))):
        height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        size = height * width
        label_map = draw(st.lists(st.one_of(ids, st.just(-1)), min_size=size, max_size=size))
        truth = draw(st.lists(st.one_of(ids, st.just(ignore)), min_size=size, max_size=size))
        images.append(
            (
                np.array(label_map, np.int16).reshape(height, width),
                np.array(truth, np.uint16).reshape(height, width),
            )
        )
    return images, classes, ignore


@given(datasets())
@settings(max_examples=150, deadline=None)
def test_equals_the_plain_loop(dataset: tuple[list[tuple[np.ndarray, np.ndarray]], int, int]) -> None:
    pairs, classes, ignore = dataset
    confusion = sum((confusion_of(*pair, classes, ignore) for pair in pairs), empty_confusion(classes))
    found = metrics_of(confusion)
    for name, expected in by_loop(pairs, classes, ignore).items():
        assert getattr(found, name) == pytest.approx(expected, abs=1e-9, nan_ok=True), name


@given(datasets(), st.data())
@settings(max_examples=50, deadline=None)
def test_additive_over_splits(
    dataset: tuple[list[tuple[np.ndarray, np.ndarray]], int, int], data: st.DataObject
) -> None:
    pairs, classes, ignore = dataset
    cut = data.draw(st.integers(0, len(pairs)))
    parts = [
        sum((confusion_of(*pair, classes, ignore) for pair in part), empty_confusion(classes))
        for part in (pairs[:cut], pairs[cut:])
    ]
    whole = sum((confusion_of(*pair, classes, ignore) for pair in reversed(pairs)), empty_confusion(classes))
    assert np.array_equal(parts[0] + parts[1], whole)


def test_the_two_rules() -> None:
    """Three classes, of which the last is only predicted: it lowers the mean of the old rule alone."""
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    label_map = np.array([[0, 2, 1, 1]], np.int16)
    found = metrics_of(confusion_of(label_map, truth, 3, 255))
    assert found.mIoU == pytest.approx(100 * (0.5 + 1) / 2)
    assert found.mIoU_v06 == pytest.approx(100 * (0.5 + 1) / 3)
    assert (found.classes_present, found.classes_seen) == (2, 3)
    assert np.isnan(found.class_iou[2])
    assert confusions(confusion_of(label_map, truth, 3, 255), 5) == [(0, 2, 1)]


def test_large_images_are_counted_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    label_map, truth = generator.integers(0, 9, (2, 37, 41)).astype(np.uint8)
    whole = confusion_of(label_map, truth, 9, 255)
    monkeypatch.setattr("san_cli.engine.metrics._BAND_PIXELS", 100)
    assert np.array_equal(confusion_of(label_map, truth, 9, 255), whole)
    assert whole.sum() == label_map.size


def test_values_out_of_range_are_not_counted_elsewhere() -> None:
    truth = np.array([[0, 20]], np.uint8)
    with pytest.raises(ValueError, match="outside"):
        confusion_of(np.zeros((1, 2), np.int16), truth, 20, 255)
    with pytest.raises(ValueError, match="outside"):
        confusion_of(np.full((1, 2), 20, np.int16), np.zeros((1, 2), np.uint8), 20, 255)
    with pytest.raises(ValueError, match="can't be compared"):
        confusion_of(np.zeros((2, 1), np.int16), truth, 20, 255)
