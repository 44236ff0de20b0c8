"""Evaluations of label maps that need no model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Pair
from san_cli.datasets.task import Task
from san_cli.errors import SanError
from san_cli.evaluate.counting import Evaluation, Origin
from san_cli.evaluate.plan import Plan
from san_cli.evaluate.run import count
from san_cli.evaluate.state import Counts

NOISE = Origin(None, "noise", None, settings={"model": "noise"})


@dataclass(frozen=True)
class Noise:
    """Label maps that depend on the image's name alone; some images are slow or faulty on demand."""

    faulty: tuple[str, ...] = ()
    before_image: Callable[[str], None] = lambda _: None

    def load(self, pair: Pair, size: tuple[int, int]) -> NDArray[Any]:
        if pair.stem in self.faulty:
            raise SanError(f"{pair.stem} is faulty")
        generator = np.random.default_rng(int(pair.stem[1:]))
        return np.append(generator.integers(0, 20, size).ravel(), int(pair.stem[1:]))

    def label_map(
        self, loaded: NDArray[Any], size: tuple[int, int], lap: Callable[[str], None]
    ) -> NDArray[Any]:
        self.before_image(f"p{loaded[-1]:02d}")
        lap("model")
        return loaded[:-1].reshape(size).astype(np.int16)


QUIET = Noise()


def run(plan: Plan, task: Task, maps: Noise = QUIET, origin: Origin = NOISE) -> Counts:
    """The counts of a task as the leading process has them."""
    counts = count(Evaluation(task.name, task, maps, origin), plan)
    assert counts is not None
    return counts


def same(one: Counts, other: Counts) -> bool:
    return (
        np.array_equal(one.confusion, other.confusion)
        and np.array_equal(one.done, other.done)
        and np.array_equal(one.image_iou, other.image_iou, equal_nan=True)
        and one.skipped == other.skipped
    )
