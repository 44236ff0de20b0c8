"""The result of one evaluation as numbers, and what several of them come to."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

METRICS = ("mIoU", "mIoU_v06", "fwIoU", "mACC", "pACC")


@dataclass(frozen=True)
class ClassResult:
    """One class; percent, None where it is not in the ground truth."""

    id: int
    name: str
    IoU: float | None
    ACC: float | None
    truth_pixels: int
    predicted_pixels: int
    hit_pixels: int


@dataclass(frozen=True)
class EvalResult:
    """One dataset evaluated with one model; metrics in percent, None where undefined."""

    dataset: str
    title: str
    split: str
    model: str | None  # preset, None for predictions from a file
    weights: str  # as the user named them; or the file of predictions
    weights_sha256: str | None
    images: int  # evaluated
    classes_seen: int  # in the ground truth or predicted
    mIoU: float | None
    mIoU_v06: float | None
    fwIoU: float | None
    mACC: float | None
    pACC: float | None
    per_class: tuple[ClassResult, ...]
    seconds: Mapping[str, float]  # by stage, summed over processes, and the leader's total
    unclassified_pixels: int = 0  # that count, but have no prediction
    confused: tuple[tuple[int, int, int], ...] = ()  # (truth, predicted, pixels), the most costly first
    skipped: tuple[tuple[str, str], ...] = ()  # (image, why)
    logged: Mapping[str, float] | None = None  # the official log's metrics
    paper: str | None = None  # mIoU as the paper prints it, by the v0.6 rule
    notes: tuple[str, ...] = ()
    groups: Mapping[str, float | None] = field(default_factory=dict)  # mIoU over some of the classes, by name

    @property
    def classes_present(self) -> int:
        """Classes in the ground truth."""
        return sum(one.truth_pixels > 0 for one in self.per_class)

    @property
    def rules_differ(self) -> bool:
        """Whether the two rules for mIoU give different numbers here."""
        return self.classes_seen != self.classes_present


def result_json(result: EvalResult) -> dict[str, Any]:
    """A result in the layout that `--json` promises; `skipped` only where there is something."""
    row: dict[str, Any] = {
        "dataset": result.dataset,
        "model": result.model,
        "weights_sha256": result.weights_sha256,
        "images": result.images,
        "classes": len(result.per_class),
        "classes_present": result.classes_present,
        **{metric: getattr(result, metric) for metric in METRICS},
        **{f"mIoU_{name}": value for name, value in result.groups.items()},
        "per_class": [
            {"id": one.id, "name": one.name, "IoU": one.IoU, "ACC": one.ACC} for one in result.per_class
        ],
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.seconds.items()},
    }
    if result.skipped:
        row["skipped"] = [{"image": image, "why": why} for image, why in result.skipped]
    return row


@dataclass(frozen=True)
class Trials:
    """One dataset over several weights."""

    dataset: str
    count: int
    mean: Mapping[str, float]
    deviation: Mapping[str, float]  # of the sample: divided by count - 1


def trials_of(results: Sequence[EvalResult]) -> list[Trials]:
    """Mean and standard deviation of each dataset that was evaluated with several weights, in order."""
    found = []
    for dataset in dict.fromkeys(result.dataset for result in results):
        same = [result for result in results if result.dataset == dataset]
        values = {metric: [getattr(result, metric) for result in same] for metric in METRICS}
        defined = {metric: row for metric, row in values.items() if None not in row}
        if len(same) > 1 and defined:
            mean = {metric: statistics.fmean(row) for metric, row in defined.items()}
            deviation = {metric: statistics.stdev(row) for metric, row in defined.items()}
            found.append(Trials(dataset, len(same), mean, deviation))
    return found


def or_none(value: float) -> float | None:
    """NaN has no spelling in JSON."""
    return None if math.isnan(value) else float(value)
