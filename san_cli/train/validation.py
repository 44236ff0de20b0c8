"""Validation: mIoU on some labelled images, and a few of them to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from san_cli.engine.metrics import Metrics, confusion_of, empty_confusion, metrics_of
from san_cli.engine.results import NotFinite
from san_cli.engine.segmenter import Segmenter
from san_cli.errors import SanError
from san_cli.runs.processes import ProcessGroup
from san_cli.text import printable
from san_cli.train.data import TrainingData
from san_cli.train.sample_sheet import SheetRow
from san_cli.weights.checkpoint import Checkpoint

SHEET_ROWS = 8


@dataclass(frozen=True)
class Validation:
    """An evaluation in the middle of a training."""

    metrics: Metrics
    images: int
    faults: tuple[str, ...]  # images that can't be read, in words
    rows: tuple[SheetRow, ...]  # some of this process's images


def evaluated_images(length: int, most: int) -> list[int]:
    """Choose at most `most` of `length` images, evenly spread."""
    count = min(length, most)
    return [place * length // count for place in range(count)]


def segmenter_of(
    checkpoint: Checkpoint, text_embeddings: Tensor, data: TrainingData, processes: ProcessGroup
) -> Segmenter:
    """Make a segmenter on the model's own tensors (nothing is copied), which knows the data's vocabulary alone."""
    segmenter = Segmenter(
        checkpoint,
        None,
        weights_sha256="in training",
        device=processes.device,
        precision=torch.float32,
        templates="vild",
    )
    segmenter.remember(data.vocabulary, text_embeddings)
    return segmenter


def validate(
    segmenter: Segmenter,
    data: TrainingData,
    indices: Sequence[int],
    processes: ProcessGroup,
    step: Callable[[int, int], None],
) -> Validation:
    """Evaluate these validation images as `san eval` does, shared out over the processes.

    `step` hears how many of this process's images are done, and of how many.

    An image that can't be read is left out and named: a training doesn't end for it, nor keep others waiting.
    """
    # Every process takes its part of the images, segments and counts, as `san eval` does.
    classes = len(data.vocabulary)
    confusion = empty_confusion(classes)
    faults: list[str] = []
    rows: list[SheetRow] = []
    own = indices[processes.rank :: processes.world]
    for done, index in enumerate(own):
        step(done, len(own))
        try:
            image, truth, name = data.validation.read(index)
        except SanError as fault:
            faults.append(fault.message)
            continue
        try:
            found = segmenter.segment(image, data.vocabulary)
        except NotFinite as fault:  # a training that has diverged ends by its loss
            faults.append(printable(f"{name}: {fault.cause}"))
            continue
        confusion += confusion_of(found.label_map, truth, classes, data.ignore_label)
        if len(rows) < SHEET_ROWS:
            signed = np.where(truth == data.ignore_label, -1, truth.astype(np.int32))
            rows.append(SheetRow(image, signed, found.label_map))
    step(len(own), len(own))

    # Counts add up, so that the scores are those of one process.
    everyones = processes.gather((confusion, faults))
    confusion = np.sum([matrix for matrix, _ in everyones], axis=0)
    all_faults = tuple(fault for _, theirs in everyones for fault in theirs)
    return Validation(metrics_of(confusion), len(indices) - len(all_faults), all_faults, tuple(rows))
