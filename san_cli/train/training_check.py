"""Before the first step: can the training data be read, and which classes does it hold?"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.labels import check_range
from san_cli.errors import ExitCode, SanError
from san_cli.text import counted, printable
from san_cli.train.training_set import PairSource, Source

MOST = 500  # images read: seconds


@dataclass(frozen=True)
class CheckedSource:
    """What was found in `read` of `images` images, evenly spread. Both tuples are by class."""

    images: int
    read: int
    images_with: tuple[int, ...]  # that the class occurs in
    pixels: tuple[int, ...]
    absent: tuple[str, ...]  # names of the classes without a pixel

    @property
    def sentence(self) -> str:
        """For the user."""
        classes = len(self.pixels)
        images = f"{self.read:,} of " if self.read < self.images else ""
        images += f"{counted(self.images, 'image')} read"
        absent = printable(", ".join(self.absent[:5])) + (", …" if len(self.absent) > 5 else "")
        found = f"{classes - len(self.absent):,} of {counted(classes, 'class')} occur in them"
        return f"{images}; {found}" + (f" (not: {absent})" if absent else "")


def check_source(
    source: Source,
    classes: Sequence[str],
    ignore_label: int,
    *,
    most: int = MOST,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> CheckedSource:
    """Look for every file, and read at most `most` images with their labels as training will.

    SanError for the first fault, with the number of others: nothing there, a missing file, what can't be
    decoded, an image and a label of different sizes, an id out of range, no labelled pixel at all.
    `step(done, total)` is called after each image.
    """
    if not len(source):
        raise SanError("there is nothing to train on", code=ExitCode.NO_INPUT)
    if isinstance(source, PairSource):
        _find_files(source)
    read = min(len(source), most)
    pixels, images_with = np.zeros((2, len(classes)), np.int64)
    faults: list[SanError] = []
    look = partial(_count, source, len(classes), ignore_label)
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        for done, counts in enumerate(
            pool.map(look, (place * len(source) // read for place in range(read))), 1
        ):
            if isinstance(counts, SanError):
                faults.append(counts)
            else:
                pixels += counts
                images_with += counts > 0
            step(done, read)
    if faults:
        raise _first_of(faults, f"images at fault among the {read:,} read")
    if not pixels.any():
        raise SanError(
            f"no pixel of the {read:,} labels read belongs to a class: all are {ignore_label}, which is ignored",
            hint="Check the ignore label, and that the labels hold class ids from 0.",
            code=ExitCode.NO_INPUT,
        )
    absent = tuple(name for name, count in zip(classes, pixels.tolist(), strict=True) if not count)
    return CheckedSource(len(source), read, tuple(images_with.tolist()), tuple(pixels.tolist()), absent)


def _find_files(source: PairSource) -> None:
    paths = (path for pair in source.pairs for path in (pair.image, pair.label))
    missing = [
        SanError(printable(f"there is no file '{path}'"), code=ExitCode.NO_INPUT)
        for path in paths
        if not path.exists()
    ]
    if missing:
        raise _first_of(missing, "files missing")


def _count(source: Source, classes: int, ignore_label: int, index: int) -> NDArray[np.int64] | SanError:
    """The pixels of each class that is not ignored, or the fault."""
    try:
        _, labels, name = source.read(index)
        check_range(labels, classes, ignore_label, name)
    except SanError as error:
        return error
    return np.bincount(labels[labels != ignore_label], minlength=classes)[:classes]


def _first_of(faults: list[SanError], what: str) -> SanError:
    first = faults[0]
    more = f" ({len(faults):,} {what})" if len(faults) > 1 else ""
    return SanError(first.message + more, hint=first.hint, code=first.code)
