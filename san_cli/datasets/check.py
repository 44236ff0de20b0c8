"""A look at labelled images: `san data check` at all of a benchmark, a training at some of its own beforehand."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Dataset, Pair, get_split, list_pairs
from san_cli.datasets.images import displayed_size
from san_cli.datasets.labels import check_range, read_label
from san_cli.datasets.source import PairSource, Source
from san_cli.errors import ExitCode, SanError
from san_cli.text import counted, printable
from san_cli.vocabulary.class_lists import load_dataset_vocabulary

MOST = 500  # images of a training that are read: seconds

Pixels = NDArray[np.int64]  # [classes], how many of each
Step = Callable[[int, int], None]  # told how many images are done, and of how many


@dataclass(frozen=True)
class CheckedDataset:
    """A split: `images_with` counts for each class the images that it occurs in."""

    pairs: int
    known_pairs: int | None
    faults: tuple[SanError, ...]
    images_with: tuple[int, ...]
    absent: tuple[str, ...]
    unexpected: tuple[str, ...]  # absent, though official labels of a whole split hold them


@dataclass(frozen=True)
class CheckedSource:
    """Findings in `read` of `images` images, evenly spread. Both tuples are by class."""

    images: int
    read: int
    images_with: tuple[int, ...]  # that the class occurs in
    pixels: tuple[int, ...]
    absent: tuple[str, ...]  # names of the classes without a pixel

    @property
    def sentence(self) -> str:
        """Tell it to the user."""
        classes = len(self.pixels)
        images = f"{self.read:,} of " if self.read < self.images else ""
        images += f"{counted(self.images, 'image')} read"
        absent = printable(", ".join(self.absent[:5])) + (", …" if len(self.absent) > 5 else "")
        found = f"{classes - len(self.absent):,} of {counted(classes, 'class')} occur in them"
        return f"{images}; {found}" + (f" (not: {absent})" if absent else "")


def check_dataset(
    dataset: Dataset, split: str, root: Path, *, step: Step = lambda done, total: None
) -> CheckedDataset:
    """Read every label and every image's header; SanError as `list_pairs` where pairs are missing.

    A pair is at fault if the label can't be read or holds a value out of range, or if the image can't be
    opened or differs in size (EXIF orientation applied to the image alone, as the evaluation does).
    """
    pairs = list_pairs(dataset, split, root)
    classes = load_dataset_vocabulary(dataset.name).classes
    look = partial(_look_at_files, dataset=dataset, classes=len(classes))
    _, images_with, faults = _look_at_all(look, pairs, len(classes), step)
    absent = [entry for entry, count in zip(classes, images_with, strict=True) if not count]
    known = get_split(dataset, split).count
    whole = known == len(pairs) and split == dataset.default_split
    return CheckedDataset(
        pairs=len(pairs),
        known_pairs=known,
        faults=faults,
        images_with=images_with,
        absent=tuple(entry.name for entry in absent),
        unexpected=tuple(entry.name for entry in absent if whole and entry.in_val is not False),
    )


def check_training_data(
    source: Source,
    classes: Sequence[str],
    ignore_label: int,
    *,
    most: int = MOST,
    step: Step = lambda done, total: None,
) -> CheckedSource:
    """Look for every file, and read at most `most` images with their labels as training will.

    SanError for the first fault, with the number of others: nothing there, a missing file, what can't be
    decoded, an image and a label of different sizes, an id out of range, no labelled pixel at all.
    """
    if not len(source):
        raise SanError("there is nothing to train on", code=ExitCode.NO_INPUT)
    if isinstance(source, PairSource):
        _find_files(source)
    read = min(len(source), most)
    spread = [place * len(source) // read for place in range(read)]
    look = partial(_look_at_sample, source=source, classes=len(classes), ignore_label=ignore_label)
    pixels, images_with, faults = _look_at_all(look, spread, len(classes), step)
    if faults:
        raise _first_of(faults, f"images at fault among the {read:,} read")
    if not any(pixels):
        raise SanError(
            f"no pixel of the {read:,} labels read belongs to a class: all are {ignore_label}, which is ignored",
            hint="Check the ignore label, and that the labels hold class ids from 0.",
            code=ExitCode.NO_INPUT,
        )
    absent = tuple(name for name, count in zip(classes, pixels, strict=True) if not count)
    return CheckedSource(len(source), read, images_with, pixels, absent)


def _look_at_all(
    look: Callable[..., tuple[Pixels, SanError | None]], items: Sequence[object], classes: int, step: Step
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[SanError, ...]]:
    """Look at each item, many at a time: each class's pixels, the images it occurs in, and the faults in order."""
    pixels, images_with = np.zeros((2, classes), np.int64)
    faults = []
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        for done, (counts, fault) in enumerate(pool.map(look, items), 1):
            pixels += counts
            images_with += counts > 0
            if fault is not None:
                faults.append(fault)
            step(done, len(items))
    return tuple(pixels.tolist()), tuple(images_with.tolist()), tuple(faults)


def _look_at_files(pair: Pair, *, dataset: Dataset, classes: int) -> tuple[Pixels, SanError | None]:
    """Read the label, and of the image no more than its size."""
    try:
        labels = read_label(pair.label, classes, dataset.ignore_label)
    except SanError as error:
        return np.zeros(classes, np.int64), error
    pixels = np.bincount(labels.ravel(), minlength=classes)[:classes]
    size = displayed_size(pair.image)
    if size is None:
        return pixels, SanError(
            printable(f"{pair.image} is no image that can be read"), hint="Copy or prepare it again."
        )
    if size != labels.shape:
        height, width = labels.shape
        return pixels, SanError(
            printable(f"{pair.image} has {size[1]} × {size[0]} pixels, its label {width} × {height}"),
            hint=f"They don't belong together: delete both and run `san data prepare {dataset.name}` again.",
        )
    return pixels, None


def _look_at_sample(
    index: int, *, source: Source, classes: int, ignore_label: int
) -> tuple[Pixels, SanError | None]:
    """Read image and labels as training does."""
    try:
        _, labels, name = source.read(index)
        check_range(labels, classes, ignore_label, name)
    except SanError as error:
        return np.zeros(classes, np.int64), error
    return np.bincount(labels[labels != ignore_label], minlength=classes)[:classes], None


def _find_files(source: PairSource) -> None:
    paths = (path for pair in source.pairs for path in (pair.image, pair.label))
    missing = [
        SanError(printable(f"there is no file '{path}'"), code=ExitCode.NO_INPUT)
        for path in paths
        if not path.exists()
    ]
    if missing:
        raise _first_of(missing, "files missing")


def _first_of(faults: Sequence[SanError], what: str) -> SanError:
    first = faults[0]
    more = f" ({len(faults):,} {what})" if len(faults) > 1 else ""
    return SanError(first.message + more, hint=first.hint, code=first.code)
