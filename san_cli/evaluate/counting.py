"""The evaluation of a dataset: every image once, its label map counted against the label.

    threads: read label and image, resize  →  this one: network, label map  →  a thread: count  →  this one: add

Queues are bounded and keep the order. What is wrong with a pair is an error at that pair, or noted in the tally
with `keep_going`. The tally may be saved whenever it says that it is whole, so that whatever ends the run it can go
on.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.task import Task
from san_cli.engine.metrics import Confusion, confusion_of
from san_cli.engine.pipeline import threaded
from san_cli.errors import ExitCode, SanError
from san_cli.evaluate.detectron2_json import image_entries
from san_cli.evaluate.map_source import MapSource
from san_cli.evaluate.tally import Tally
from san_cli.text import printable

if TYPE_CHECKING:
    from san_cli.datasets.catalogue import Pair


@dataclass
class _Passing:
    """A pair on its way; each stage adds what it makes and drops what no later one needs."""

    position: int
    pair: "Pair"
    truth: NDArray[Any] | None = None  # [H, W]
    loaded: NDArray[Any] | None = None
    label_map: NDArray[Any] | None = None  # [H, W]
    confusion: Confusion | None = None
    entries: str = ""  # for a file of predictions
    fault: SanError | None = None


@dataclass(frozen=True)
class Counted:
    """An image that is in the tally now, or was skipped."""

    position: int
    fault: str | None = None


def count_images(
    task: Task,
    source: MapSource,
    positions: Iterable[int],
    tally: Tally,
    *,
    workers: int = 1,
    keep_going: bool = False,
    keep_entries: Callable[[int, str], None] | None = None,
) -> Generator[Counted, None, None]:
    """Evaluate the pairs at `positions` of the task's list and add them to `tally`, in order.

    Between two items the tally is complete: all that was yielded and nothing else. SanError for a pair that
    can't be evaluated, unless `keep_going`. `keep_entries` is given the position of each image and its entries
    for a file of predictions (see `image_entries`) before it counts, so that no image counts without them.
    """
    clock = _Clock(tally.seconds)
    passing = (_Passing(position, task.pairs[position]) for position in positions)
    with (
        closing(threaded(_loader(task, source), passing, threads=workers, ahead=workers)) as loaded,
        closing(
            threaded(
                _counter(task, keep_entries is not None), _mapped(source, loaded, clock), threads=1, ahead=1
            )
        ) as counted,
    ):
        for image in counted:
            if image.fault is not None:
                if not keep_going:
                    raise _with_way_out(image.fault) from image.fault
                tally.failed[image.position] = _one_line(image.fault)
                yield Counted(image.position, tally.failed[image.position])
                continue
            if keep_entries is not None:
                keep_entries(image.position, image.entries)
            assert image.confusion is not None
            tally.add_image(image.position, image.confusion, image_iou(image.confusion))
            clock.lap("metric")
            yield Counted(image.position)


def image_iou(confusion: Confusion) -> float:
    """The mean IoU, in percent, of the classes in one image's label; NaN where the label has none."""
    hit = np.diagonal(confusion)[:-1]
    truth, predicted = confusion[:, :-1].sum(axis=0), confusion[:-1, :-1].sum(axis=1)
    present = np.flatnonzero(truth)
    if not len(present):
        return np.nan
    return 100 * float((hit[present] / (truth + predicted - hit)[present]).mean())


def label_map_of(task: Task, source: MapSource, position: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The label map and the truth of one pair, once more."""
    image = _loader(task, source)(_Passing(position, task.pairs[position]))
    if image.fault is not None:
        raise image.fault
    assert image.truth is not None and image.loaded is not None
    return source.label_map(image.loaded, _size(image.truth), lambda: None), image.truth


def _size(truth: NDArray[Any]) -> tuple[int, int]:
    return truth.shape[0], truth.shape[1]


class _Clock:
    """Shares this thread's time out among the stages that it waits for or works on."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """All time since the last lap was spent on `stage`."""
        now = time.perf_counter()
        self._seconds[stage] += now - self._last
        self._last = now


def _loader(task: Task, source: MapSource) -> Callable[[_Passing], _Passing]:
    def load(image: _Passing) -> _Passing:
        try:
            image.truth = image.pair.read_labels(len(task.classes), task.ignore_label)
            image.loaded = source.load(image.pair, _size(image.truth))
        except SanError as fault:
            image.fault = fault
        return image

    return load


def _mapped(source: MapSource, loaded: Iterator[_Passing], clock: _Clock) -> Iterator[_Passing]:
    while True:
        clock.lap("metric")
        image = next(loaded, None)
        clock.lap("data")
        if image is None:
            return
        if image.fault is None:
            assert image.loaded is not None and image.truth is not None
            try:
                size = _size(image.truth)
                image.label_map = source.label_map(image.loaded, size, lambda: clock.lap("model"))
            except SanError as fault:
                where = printable(str(image.pair.image))
                image.fault = SanError(f"{where}: {fault.message}", hint=fault.hint, code=fault.code)
            clock.lap("label_map")
            image.loaded = None
        yield image


def _counter(task: Task, with_entries: bool) -> Callable[[_Passing], _Passing]:
    def count(image: _Passing) -> _Passing:
        if image.fault is None:
            assert image.label_map is not None and image.truth is not None
            image.confusion = confusion_of(image.label_map, image.truth, len(task.classes), task.ignore_label)
            if with_entries:
                image.entries = image_entries(str(image.pair.image), image.label_map, task.dataset_ids)
        image.label_map = image.truth = None
        return image

    return count


def _with_way_out(fault: SanError) -> SanError:
    way = "--keep-going skips such images; a run with -o DIR goes on from here with --resume."
    return SanError(fault.message, hint=f"{fault.hint}\n{way}".strip(), code=fault.code)


def _one_line(fault: SanError) -> str:
    return printable(fault.message)


def nothing_left(task: Task, tally: Tally) -> SanError | None:
    """What to say where not a single image could be evaluated, or not a single pixel counts."""
    if tally.confusion[:, :-1].any():
        return None
    if tally.done.any():
        return SanError(
            f"no pixel of {task.name} counts: the labels hold nothing but what is ignored",
            hint="Check the labels, and what --ignore says of your own." if task.ignored is not None else "",
            code=ExitCode.NO_INPUT,
        )
    first = next(iter(tally.failed.values()), "there are no images")
    return SanError(
        f"no image of {task.name} could be evaluated; the first fault: {first}", code=ExitCode.NO_INPUT
    )


def worst_images(tally: Tally, most: int) -> Sequence[int]:
    """The places of the images with the lowest mean IoU, worst first; of equal ones the earlier first."""
    scored = np.flatnonzero(~np.isnan(tally.image_iou))
    order = np.argsort(tally.image_iou[scored], kind="stable")[:most]
    return [int(position) for position in scored[order]]
