"""The course of a training, for whoever watches it: the lines of its log, and its pace."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """A line of the log, as the user sees it while the training runs."""

    iteration: int
    losses: dict[str, float]
    learning_rate: float
    images_per_s: float
    seconds_per_iteration: float
    data_wait: float  # share of the time
    memory_mb: float
    skipped: int


@dataclass(frozen=True)
class Watch:
    """Listeners to a training."""

    iteration: Callable[[int], None]  # of each: how many are done
    report: Callable[[Report], None]  # of each line of the log
    evaluated: Callable[[int, int], None]  # in an evaluation: images done, and of how many


UNWATCHED = Watch(lambda done: None, lambda report: None, lambda done, images: None)


def unwatched(total: int, first: int) -> AbstractContextManager[Watch]:
    """Show a training to nobody."""
    return nullcontext(UNWATCHED)


class Pace:
    """The pace at which iterations follow each other, evaluations and checkpoints left out."""

    def __init__(self) -> None:
        self.iterations, self.seconds, self.waited = 0, 0.0, 0.0
        self._clock = time.perf_counter()

    def add(self, waited: float) -> None:
        """Count the iteration that has just ended, `waited` seconds of which its data weren't there."""
        now = time.perf_counter()
        self.iterations += 1
        self.seconds += now - self._clock
        self.waited += waited
        self._clock = now

    def leave_out(self) -> None:
        """Forget the time since the last iteration."""
        self._clock = time.perf_counter()

    @property
    def seconds_per_iteration(self) -> float:
        """Mean, data wait included."""
        return self.seconds / max(1, self.iterations)

    @property
    def data_wait(self) -> float:
        """Share of the time that went by waiting for data."""
        return self.waited / max(1e-9, self.seconds)
