"""What the model can do so far: mIoU on some labelled images, and a few of them to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from san_cli.engine.metrics import Confusion, Metrics, confusion_of, empty_confusion, metrics_of
from san_cli.engine.segmenter import Segmenter
from san_cli.models.checkpoint import Checkpoint
from san_cli.outputs.sample_sheet import SheetRow
from san_cli.training.processes import Processes
from san_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from san_cli.datasets.training_set import Source


@dataclass(frozen=True)
class Validation:
    """An evaluation in the middle of a training."""

    metrics: Metrics
    images: int


def segmenter_of(
    checkpoint: Checkpoint, text_embeddings: Tensor, vocabulary: Vocabulary, processes: Processes
) -> Segmenter:
    """A segmenter on the model's own tensors (nothing is copied), which knows this vocabulary alone."""
    segmenter = Segmenter(
        checkpoint,
        lambda: {},
        weights_sha256="in training",
        device=processes.device,
        precision=torch.float32,
        templates="vild",
    )
    segmenter.remember(vocabulary, text_embeddings)
    return segmenter


def validate(
    segmenter: Segmenter,
    source: "Source",
    indices: Sequence[int],
    vocabulary: Vocabulary,
    ignore_label: int,
    processes: Processes,
) -> Validation:
    """Evaluate these images of `source` as `san eval` does, shared out over the processes."""
    confusion = empty_confusion(len(vocabulary))
    for index in indices[processes.rank :: processes.world]:
        image, truth, _ = source.read(index)
        found = segmenter.segment(image, vocabulary)
        confusion += confusion_of(found.label_map, truth, len(vocabulary), ignore_label)
    total = _sum(confusion, processes)
    return Validation(metrics_of(total), len(indices))


def sheet_rows(
    segmenter: Segmenter, source: "Source", indices: Sequence[int], vocabulary: Vocabulary, ignore_label: int
) -> list[SheetRow]:
    """These images with truth and prediction."""
    rows = []
    for index in indices:
        image, truth, _ = source.read(index)
        found = segmenter.segment(image, vocabulary)
        signed = np.where(truth == ignore_label, -1, truth.astype(np.int32))
        rows.append(SheetRow(image, signed, found.label_map))
    return rows


def _sum(confusion: Confusion, processes: Processes) -> Confusion:
    return np.sum(np.stack([np.asarray(one) for one in processes.gather(confusion)]), axis=0)
