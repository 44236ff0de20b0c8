"""Semantic segmentation metrics from a confusion matrix, in the two ways that published numbers use.

`C[p, t]` counts the pixels predicted as class p whose truth is class t, over a whole dataset. Row and column N
are for pixels without a class: column N holds what the ignore label covers and counts nowhere; row N holds
pixels that a predictor left without a class, which count as misses (our own label maps have none).

The two rules for mIoU divide the same sum of IoUs:

- `mIoU`: by the number of classes in the ground truth (detectron2 since July 2022, and SAN's released logs);
- `mIoU_v06`: by the number of classes in the ground truth or predicted (detectron2 up to v0.6, and the paper's
  Table 2). A class that is only predicted adds nothing to the sum, but one to the divisor.

They are equal where every predicted class occurs in the ground truth. On PASCAL-Context-459 only 345 of the
classes do: that is why one model has 16.7 in the log and 12.6 in the paper.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Confusion = NDArray[np.int64]  # [N+1, N+1], [predicted, truth]
_BAND_PIXELS = 1 << 20  # counted at a time: bincount makes 8 bytes of every pixel it is given


@dataclass(frozen=True)
class Metrics:
    """All numbers in percent, NaN where undefined."""

    mIoU: float
    mIoU_v06: float
    fwIoU: float
    mACC: float
    pACC: float
    class_iou: NDArray[np.float64]  # [N], NaN for a class that is not in the ground truth
    class_accuracy: NDArray[np.float64]  # [N], likewise
    classes_present: int  # in the ground truth
    classes_seen: int  # in the ground truth or predicted on a pixel that counts


def empty_confusion(classes: int) -> Confusion:
    """Make a matrix [N+1, N+1] of zeros."""
    return np.zeros((classes + 1, classes + 1), np.int64)


def confusion_of(
    label_map: NDArray[np.integer], truth: NDArray[np.integer], classes: int, ignore_label: int
) -> Confusion:
    """Count the confusion matrix [N+1, N+1] of one image.

    `label_map` [H, W] holds train ids, below 0 where a pixel has no class; `truth` [H, W] train ids or
    `ignore_label`. ValueError for other sizes or values.
    """
    if label_map.shape != truth.shape:
        raise ValueError(f"a label map of {label_map.shape} can't be compared with a truth of {truth.shape}")
    side = classes + 1
    flat = np.zeros(side * side, np.int64)
    predicted_all, truth_all = label_map.reshape(-1), truth.reshape(-1)
    for start in range(0, predicted_all.size, _BAND_PIXELS):
        predicted = predicted_all[start : start + _BAND_PIXELS].astype(np.intp)
        true = truth_all[start : start + _BAND_PIXELS].astype(np.intp)
        ignored = true == ignore_label
        # Checked first: a value out of range would count in another cell.
        if predicted.max() >= classes or true.min() < 0 or ((true >= classes) & ~ignored).any():
            raise ValueError(f"a label map or truth holds values outside 0 … {classes - 1}")
        true[ignored] = classes
        predicted[predicted < 0] = classes
        predicted *= side
        predicted += true  # in place: the cell of each pixel
        flat += np.bincount(predicted, minlength=side * side)
    return flat.reshape(side, side)


def metrics_of(confusion: Confusion) -> Metrics:
    """Compute the metrics of a confusion matrix [N+1, N+1], in float64.

    A class in the ground truth that is never predicted has IoU and accuracy 0. Without a single pixel that
    counts everything is NaN, but for fwIoU, which is an empty sum (as in detectron2).
    """
    hit = np.diagonal(confusion)[:-1].astype(np.float64)  # [N]
    truth = confusion[:, :-1].sum(axis=0).astype(np.float64)  # [N], missed pixels without a class included
    predicted = confusion[:-1, :-1].sum(axis=1).astype(np.float64)  # [N], those on ignored pixels left out
    present = truth > 0
    count, seen = int(present.sum()), int((truth + predicted > 0).sum())
    iou, accuracy = np.full(len(hit), np.nan), np.full(len(hit), np.nan)
    iou[present] = hit[present] / (truth + predicted - hit)[present]
    accuracy[present] = hit[present] / truth[present]
    total, sum_of_iou = truth.sum(), iou[present].sum()
    return Metrics(
        mIoU=100 * sum_of_iou / count if count else np.nan,
        mIoU_v06=100 * sum_of_iou / seen if seen else np.nan,
        fwIoU=100 * float((iou[present] * (truth[present] / total)).sum()),
        mACC=100 * accuracy[present].sum() / count if count else np.nan,
        pACC=100 * hit.sum() / total if count else np.nan,
        class_iou=100 * iou,
        class_accuracy=100 * accuracy,
        classes_present=count,
        classes_seen=seen,
    )


def confusions(confusion: Confusion, most: int) -> list[tuple[int, int, int]]:
    """Return the (truth, predicted, pixels) that cost the most, largest first; pixels without class excluded."""
    wrong = confusion[:-1, :-1].copy()
    np.fill_diagonal(wrong, 0)
    flat = wrong.ravel()
    order = np.argsort(-flat, kind="stable")[:most]
    return [(int(i % len(wrong)), int(i // len(wrong)), int(flat[i])) for i in order if flat[i]]
