"""A dry run: a few iterations of a training that is then thrown away, to learn its memory and speed."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from san_cli.train.memory import peak_memory_mb
from san_cli.train.run import Training
from san_cli.train.step import MicroBatch


@dataclass(frozen=True)
class Trial:
    """What two iterations took; nothing was written."""

    seconds: float  # of the second iteration, reading the data included
    memory_mb: float  # peak
    losses: dict[str, float]  # of the first


def try_out(training: Training) -> Trial:
    """Make two iterations."""
    with closing(training.batches()) as batches:
        return _two_iterations(training, batches)


def _two_iterations(training: Training, batches: Iterator[tuple[list[MicroBatch], float]]) -> Trial:
    parts, _ = next(batches)
    first = training.trainer.step(0, parts)
    before = time.perf_counter()
    again = next(batches, None)
    training.trainer.step(1, parts if again is None else again[0])
    seconds = time.perf_counter() - before
    return Trial(seconds, peak_memory_mb(training.processes.device), first.losses)
