"""The batches of a training run, prepared ahead by worker processes."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from san_cli.errors import ExitCode, SanError
from san_cli.runs.shares import WHOLE, Share
from san_cli.text import printable
from san_cli.train.training_set import Sample, TrainingSet

_GRACE = 120  # seconds: a step on a CPU can be long


def batches(
    training_set: TrainingSet,
    steps: range,
    batch: int,
    *,
    share: Share = WHOLE,
    accumulate: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[list[list[Sample]]]:
    """Prepare our share of consecutive `steps`: for each, `accumulate` micro-batches of equal size.

    Step s consists of positions s × batch to (s + 1) × batch - 1, whoever computes it. Share i of n has those at
    places i, i + n, … of the batch, and its micro-batches are consecutive runs of them. Workers (0: none, samples
    are made when they are asked for) keep a batch ready beside what they are working on. Close the iterator to
    end them early. SanError where the batch can't be split, where a sample can't be read (at the step that
    needs it), and where a worker has died.
    """
    check_split(batch, share.count, accumulate)
    positions = range(steps.start * batch, steps.stop * batch)[share.index :: share.count]
    loader = _loader(training_set, positions, workers, batch // share.count, pin_memory)
    return _grouped(loader, accumulate, batch // (share.count * accumulate))


def _loader(
    training_set: TrainingSet, positions: range, workers: int, ahead: int, pin_memory: bool
) -> DataLoader[Sample | SanError]:
    """Sample by sample (no batches), so that all workers work on the first batch together."""
    options: dict[str, Any] = {}
    if workers:
        options = {"prefetch_factor": 1 - (-ahead // workers), "worker_init_fn": _live_as_long}
    return DataLoader(
        _Faults(training_set),
        batch_size=None,
        sampler=positions,
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or it would draw from the global one, which others depend on
        **options,
    )


@dataclass(frozen=True)
class _Faults(Dataset["Sample | SanError"]):
    """Errors as values: torch would raise those of a worker as another error whose message is a traceback."""

    training_set: TrainingSet

    def __getitem__(self, position: int) -> "Sample | SanError":
        try:
            return self.training_set[position]
        except SanError as error:
            return error


def _grouped(
    loader: DataLoader[Sample | SanError], accumulate: int, micro_batch: int
) -> Iterator[list[list[Sample]]]:
    samples = _samples(loader)
    while step := [list(islice(samples, micro_batch)) for _ in range(accumulate)]:
        if not step[-1]:
            return
        yield step


def _samples(loader: DataLoader[Sample | SanError]) -> Iterator[Sample]:
    iterator = iter(loader)
    try:
        while True:
            with explaining_worker_deaths():
                sample = next(iterator, None)
            if sample is None:
                return
            if isinstance(sample, SanError):
                raise sample
            yield sample
    finally:
        del (
            iterator
        )  # ends the workers; an exception's traceback would keep it, and the program waiting for them


@contextmanager
def explaining_worker_deaths() -> Iterator[None]:
    """Raise SanError for a worker that has died. torch tells wherever the program is: put it around the loop."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise SanError(
            f"a process that prepares training images has died ({printable(' '.join(str(error).split()))})",
            hint="Most often memory has run out: use fewer --workers. --resume goes on from the last checkpoint.",
            code=ExitCode.SOME_FAILED,
        ) from error


def check_split(batch: int, world: int, accumulate: int) -> None:
    """Raise SanError where a batch can't be split evenly into `accumulate` parts in each of `world` processes."""
    split = world * accumulate
    if batch % split:
        what = (
            f"{world} processes × {accumulate} micro-batches" if world > 1 else f"{accumulate} micro-batches"
        )
        raise SanError(
            f"a batch of {batch} can't be split evenly into {what}",
            hint=f"Take a batch that is a multiple of {split}, or change the number of micro-batches.",
        )


def _live_as_long(worker: int) -> None:
    """Let a worker live as long as its training: through the signals that end it in order, and no longer."""
    _outlive_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the training to die. torch's own look doesn't happen while a queue is full that nobody empties."""
    parent = multiprocessing.parent_process()
    while parent is not None and os.getppid() == parent.pid:
        time.sleep(1)
    os._exit(1)


def _outlive_signals() -> None:
    """Ctrl-C and SIGTERM reach the whole process group, but the training still finishes its step and is saved.

    It ends its workers itself; one whose SIGTERM came from elsewhere goes after a while.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):  # not on Windows
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))
