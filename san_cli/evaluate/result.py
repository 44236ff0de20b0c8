"""The figures of an evaluation: what its counts come to, and the published numbers that may stand beside them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.task import Task
from san_cli.engine.metrics import confusions, metrics_of
from san_cli.errors import ExitCode, SanError
from san_cli.evaluate.counting import Evaluation
from san_cli.evaluate.published import OFFICIAL_LOG, LoggedResult, paper_value
from san_cli.evaluate.state import Counts

METRICS = ("mIoU", "mIoU_v06", "fwIoU", "mACC", "pACC")
_CONFUSIONS = 20


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
    logged: LoggedResult | None = None  # of the official log
    paper: str | None = None  # mIoU as the paper prints it, by the v0.6 rule
    notes: tuple[str, ...] = ()
    groups: Mapping[str, float | None] = field(default_factory=dict)  # mIoU over some of the classes, by name

    @property
    def classes_present(self) -> int:
        """Count the classes in the ground truth."""
        return sum(one.truth_pixels > 0 for one in self.per_class)

    @property
    def rules_differ(self) -> bool:
        """Tell whether the two rules for mIoU give different numbers here."""
        return self.classes_seen != self.classes_present


def result_of(evaluation: Evaluation, counts: Counts, total_seconds: float) -> EvalResult:
    """Compute the result of a finished evaluation; published numbers only where they are comparable."""
    task, origin = evaluation.task, evaluation.origin
    confusion = counts.confusion
    metrics = metrics_of(confusion)
    truth = confusion[:, :-1].sum(axis=0).tolist()
    predicted = confusion[:-1, :-1].sum(axis=1).tolist()
    hit = confusion.diagonal().tolist()
    classes = zip(task.classes, metrics.class_iou.tolist(), metrics.class_accuracy.tolist(), strict=True)
    per_class = tuple(
        ClassResult(i, name, _or_none(iou), _or_none(acc), truth[i], predicted[i], hit[i])
        for i, (name, iou, acc) in enumerate(classes)
    )
    groups = {name: _mean_iou(metrics.class_iou[list(ids)]) for name, ids in task.groups}
    comparable = origin.comparable and task.is_benchmark and not counts.skipped
    return EvalResult(
        dataset=task.name,
        title=task.title,
        split=task.split,
        model=origin.model,
        weights=origin.weights,
        weights_sha256=origin.sha256,
        images=int(counts.done.sum()),
        classes_seen=metrics.classes_seen,
        mIoU=_or_none(metrics.mIoU),
        mIoU_v06=_or_none(metrics.mIoU_v06),
        fwIoU=_or_none(metrics.fwIoU),
        mACC=_or_none(metrics.mACC),
        pACC=_or_none(metrics.pACC),
        per_class=per_class,
        seconds={**counts.seconds, "total": total_seconds},
        unclassified_pixels=int(confusion[-1, :-1].sum()),
        confused=tuple(confusions(confusion, _CONFUSIONS)),
        skipped=tuple((str(task.pairs[i].image), why) for i, why in sorted(counts.skipped.items())),
        logged=OFFICIAL_LOG.get((origin.model or "", task.name)) if comparable else None,
        paper=paper_value(origin.model, task.name) if comparable else None,
        notes=(*origin.notes, *_notes(task, counts), *_group_notes(task, groups)),
        groups=groups,
    )


def nothing_left(task: Task, counts: Counts) -> SanError | None:
    """Return the error for a dataset of which not a single image could be evaluated, or not a single pixel counts."""
    if counts.confusion[:, :-1].any():
        return None
    if counts.done.any():
        return SanError(
            f"no pixel of {task.name} counts: the labels hold nothing but what is ignored",
            hint="Check the labels, and what --ignore says of your own." if task.ignored is not None else "",
            code=ExitCode.NO_INPUT,
        )
    first = next(iter(counts.skipped.values()), "there are no images")
    return SanError(
        f"no image of {task.name} could be evaluated; the first fault: {first}", code=ExitCode.NO_INPUT
    )


@dataclass(frozen=True)
class Trials:
    """One dataset over several weights."""

    dataset: str
    count: int
    mean: Mapping[str, float]
    deviation: Mapping[str, float]  # of the sample: divided by count - 1


def trials_of(results: Sequence[EvalResult]) -> list[Trials]:
    """Compute mean and standard deviation of each dataset that was evaluated with several weights, in order."""
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


def _or_none(value: float) -> float | None:
    """Spell NaN, which JSON can't."""
    return None if math.isnan(value) else float(value)


def _mean_iou(class_iou: NDArray[np.float64]) -> float | None:
    """Return the mean over the classes that are in the ground truth, percent."""
    present = class_iou[~np.isnan(class_iou)]
    return float(present.mean()) if present.size else None


def _group_notes(task: Task, groups: Mapping[str, float | None]) -> list[str]:
    sizes = {name: len(ids) for name, ids in task.groups}
    return [
        f"mIoU over the {sizes[name]} {name} classes: {'–' if value is None else f'{value:.2f} %'}"
        for name, value in groups.items()
    ]


def _notes(task: Task, counts: Counts) -> list[str]:
    notes = list(task.notes)
    if task.expected is not None and task.expected != len(task.pairs) and not task.limited:
        notes.append(
            f"{len(task.pairs):,} images, where the published numbers are of {task.expected:,}: not comparable"
        )
    if task.limited:
        first = f"only the first {len(task.pairs):,} image{'s' * (len(task.pairs) != 1)}"
        notes.append(f"{first}: not comparable with published numbers" if task.expected else first)
    if task.own_words:
        notes.append("the words for the classes are not the dataset's own")
    unclassified = int(counts.confusion[-1, :-1].sum())
    if unclassified:
        notes.append(f"{unclassified:,} pixels have no prediction and count as wrong")
    return notes
