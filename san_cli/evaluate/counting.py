"""The images of a dataset, each with its label map counted against its label.

    threads: read label and image, resize  →  this one: network, label map  →  a thread: count  →  the caller

Queues are bounded and keep the order.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Pair
from san_cli.datasets.task import Task
from san_cli.engine.metrics import Confusion, confusion_of
from san_cli.engine.pipeline import threaded
from san_cli.errors import SanError
from san_cli.evaluate.detectron2_json import image_entries
from san_cli.text import printable

STAGES = ("data", "model", "label_map", "metric")


class LabelMaps(Protocol):
    """Makes the label map of a pair's image in two steps, of which the first runs in a thread."""

    def load(self, pair: Pair, size: tuple[int, int]) -> NDArray[Any]:
        """Return what the label map [H, W] of `size` is made from. SanError, naming the file, for any fault of it."""
        ...

    def label_map(
        self, loaded: NDArray[Any], size: tuple[int, int], lap: Callable[[str], None]
    ) -> NDArray[np.integer]:
        """Make the label map [H, W] of `size`: train ids, below 0 where a pixel has no class.

        `lap` is told the stage that the time was spent on since it was told before.
        """
        ...


@dataclass(frozen=True)
class Origin:
    """Source of label maps, as a report tells it."""

    model: str | None  # preset, None for predictions from a file
    weights: str  # as the user named them; or the file of predictions
    sha256: str | None  # of the weights
    settings: Mapping[str, Any] = field(default_factory=dict)  # what the maps depend on, in JSON's types
    notes: tuple[str, ...] = ()
    comparable: bool = True  # may stand beside published numbers
    device: str | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """A dataset with one source of label maps."""

    name: str  # in the names of files: the dataset's, and the trial's where there are several weights
    task: Task
    maps: LabelMaps
    origin: Origin
    workers: int = 1  # threads that read ahead


@dataclass(frozen=True)
class Loaded:
    """A pair that has been read."""

    position: int
    truth: NDArray[np.integer]  # [H, W]
    loaded: NDArray[Any]  # for the label map, see `LabelMaps.load`


@dataclass(frozen=True)
class Segmented:
    """A pair with its label map."""

    position: int
    truth: NDArray[np.integer]  # [H, W]
    label_map: NDArray[np.integer]  # [H, W]


@dataclass(frozen=True)
class Counted:
    """An image's part of the confusion matrix [N+1, N+1]."""

    position: int  # in the task's list
    cells: NDArray[np.int64]  # [K] places in the flat matrix that aren't zero
    pixels: NDArray[np.int64]  # [K] what stands there
    iou: float  # mean of the classes in the label, percent; NaN where it has none
    entries: str = ""  # for a file of predictions
    seconds: tuple[float, ...] = (0.0,) * len(STAGES)  # since the image before


@dataclass(frozen=True)
class Skipped:
    """A pair that can't be evaluated."""

    position: int
    fault: SanError


def count_images(
    evaluation: Evaluation, positions: Iterable[int], *, with_entries: bool = False
) -> Generator[Counted | Skipped, None, None]:
    """Evaluate the pairs at `positions` of the task's list, in this order; a faulty one is skipped.

    `with_entries` makes each image's entries for a file of predictions.
    """
    clock = _Clock()
    read, workers = partial(_read, evaluation), evaluation.workers
    count = partial(_count, evaluation.task, with_entries)
    with (
        closing(threaded(read, positions, threads=workers, ahead=workers)) as loaded,
        closing(threaded(count, _segmented(evaluation, loaded, clock), threads=1, ahead=1)) as counted,
    ):
        for image in counted:
            clock.lap("metric")
            yield replace(image, seconds=clock.taken()) if isinstance(image, Counted) else image


def load_pair(evaluation: Evaluation, position: int) -> Loaded:
    """Read the label and the image of a pair. SanError for any fault of them."""
    task = evaluation.task
    pair = task.pairs[position]
    truth = pair.read_labels(len(task.classes), task.ignore_label)
    return Loaded(position, truth, evaluation.maps.load(pair, _size(truth)))


def label_map_of(evaluation: Evaluation, position: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Make the label map and read the truth of one pair once more, both [H, W]."""
    image = load_pair(evaluation, position)
    return evaluation.maps.label_map(image.loaded, _size(image.truth), lambda stage: None), image.truth


def image_iou(confusion: Confusion) -> float:
    """Return the mean IoU, in percent, of the classes in one image's label; NaN where the label has none."""
    hit = np.diagonal(confusion)[:-1]
    truth, predicted = confusion[:, :-1].sum(axis=0), confusion[:-1, :-1].sum(axis=1)
    present = np.flatnonzero(truth)
    if not len(present):
        return np.nan
    return 100 * float((hit[present] / (truth + predicted - hit)[present]).mean())


class _Clock:
    """Shares this thread's time out among the stages that it waits for or works on."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count all time since the last lap as spent on `stage`."""
        now = time.perf_counter()
        self._seconds[stage] += now - self._last
        self._last = now

    def taken(self) -> tuple[float, ...]:
        """Return the seconds of each stage since this was asked before."""
        seconds = tuple(self._seconds.values())
        self._seconds = dict.fromkeys(STAGES, 0.0)
        return seconds


def _size(truth: NDArray[np.integer]) -> tuple[int, int]:
    return truth.shape[0], truth.shape[1]


def _read(evaluation: Evaluation, position: int) -> Loaded | Skipped:
    try:
        return load_pair(evaluation, position)
    except SanError as fault:
        return Skipped(position, fault)


def _segmented(
    evaluation: Evaluation, loaded: Iterator[Loaded | Skipped], clock: _Clock
) -> Iterator[Segmented | Skipped]:
    while True:
        clock.lap("metric")
        image = next(loaded, None)
        clock.lap("data")
        if image is None:
            return
        if isinstance(image, Skipped):
            yield image
            continue
        try:
            label_map = evaluation.maps.label_map(image.loaded, _size(image.truth), clock.lap)
        except SanError as fault:
            where = printable(str(evaluation.task.pairs[image.position].image))
            fault = SanError(f"{where}: {fault.message}", hint=fault.hint, code=fault.code)
            yield Skipped(image.position, fault)
        else:
            clock.lap("label_map")
            yield Segmented(image.position, image.truth, label_map)


def _count(task: Task, with_entries: bool, image: Segmented | Skipped) -> Counted | Skipped:
    if isinstance(image, Skipped):
        return image
    confusion = confusion_of(image.label_map, image.truth, len(task.classes), task.ignore_label)
    cells = np.flatnonzero(confusion)
    entries = ""
    if with_entries:
        entries = image_entries(str(task.pairs[image.position].image), image.label_map, task.dataset_ids)
    return Counted(image.position, cells, confusion.ravel()[cells], image_iou(confusion), entries)
