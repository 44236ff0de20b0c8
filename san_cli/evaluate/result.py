"""From a tally to the numbers that are reported, with the published ones that may stand beside them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.task import Task
from san_cli.engine.metrics import confusions, metrics_of
from san_cli.evaluate.published import OFFICIAL_LOG, paper_value
from san_cli.evaluate.report_data import ClassResult, EvalResult, or_none
from san_cli.evaluate.tally import Tally

_CONFUSIONS = 20


def result_of(
    task: Task,
    tally: Tally,
    *,
    model: str | None,
    weights: str,
    weights_sha256: str | None,
    total_seconds: float,
    comparable: bool,
    notes: tuple[str, ...] = (),
) -> EvalResult:
    """The result of a finished evaluation; published numbers only if `comparable` and the dataset is whole."""
    metrics = metrics_of(tally.confusion)
    truth = tally.confusion[:, :-1].sum(axis=0).tolist()
    predicted = tally.confusion[:-1, :-1].sum(axis=1).tolist()
    hit = tally.confusion.diagonal().tolist()
    classes = zip(task.classes, metrics.class_iou.tolist(), metrics.class_accuracy.tolist(), strict=True)
    per_class = tuple(
        ClassResult(i, name, or_none(iou), or_none(acc), truth[i], predicted[i], hit[i])
        for i, (name, iou, acc) in enumerate(classes)
    )
    groups = {name: _mean_iou(metrics.class_iou[list(ids)]) for name, ids in task.groups}
    comparable = comparable and task.is_benchmark and not tally.failed
    logged = OFFICIAL_LOG.get((model or "", task.name)) if comparable else None
    return EvalResult(
        dataset=task.name,
        title=task.title,
        split=task.split,
        model=model,
        weights=weights,
        weights_sha256=weights_sha256,
        images=int(tally.done.sum()),
        classes_seen=metrics.classes_seen,
        mIoU=or_none(metrics.mIoU),
        mIoU_v06=or_none(metrics.mIoU_v06),
        fwIoU=or_none(metrics.fwIoU),
        mACC=or_none(metrics.mACC),
        pACC=or_none(metrics.pACC),
        per_class=per_class,
        seconds={**tally.seconds, "total": total_seconds},
        unclassified_pixels=int(tally.confusion[-1, :-1].sum()),
        confused=tuple(confusions(tally.confusion, _CONFUSIONS)),
        skipped=tuple((str(task.pairs[i].image), why) for i, why in sorted(tally.failed.items())),
        logged=None if logged is None else vars(logged),
        paper=paper_value(model, task.name) if comparable else None,
        notes=(*notes, *_notes(task, tally), *_group_notes(task, groups)),
        groups=groups,
    )


def _mean_iou(class_iou: NDArray[np.float64]) -> float | None:
    """The mean over the classes that are in the ground truth, percent."""
    present = class_iou[~np.isnan(class_iou)]
    return float(present.mean()) if present.size else None


def _group_notes(task: Task, groups: Mapping[str, float | None]) -> list[str]:
    sizes = {name: len(ids) for name, ids in task.groups}
    return [
        f"mIoU over the {sizes[name]} {name} classes: {'–' if value is None else f'{value:.2f} %'}"
        for name, value in groups.items()
    ]


def _notes(task: Task, tally: Tally) -> list[str]:
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
    unclassified = int(tally.confusion[-1, :-1].sum())
    if unclassified:
        notes.append(f"{unclassified:,} pixels have no prediction and count as wrong")
    return notes
