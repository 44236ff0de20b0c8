"""`san data check`: is a prepared tree what the evaluation needs?"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Dataset, Pair, get_split, list_pairs
from san_cli.datasets.images import displayed_size
from san_cli.datasets.labels import read_label
from san_cli.errors import SanError
from san_cli.text import printable
from san_cli.vocabulary.class_lists import load_dataset_vocabulary


@dataclass(frozen=True)
class Fault:
    """What is wrong with one pair, and the way out."""

    what: str
    fix: str


@dataclass(frozen=True)
class Checked:
    """A split: `images_with` counts for each class the images that it occurs in."""

    pairs: int
    known_pairs: int | None
    faults: tuple[Fault, ...]
    images_with: tuple[int, ...]
    absent: tuple[str, ...]
    unexpected: tuple[str, ...]  # absent, though official labels of a whole split hold them


def check_dataset(
    dataset: Dataset, split: str, root: Path, *, step: Callable[[int, int], None] = lambda done, total: None
) -> Checked:
    """Read every label and every image's header; SanError as `list_pairs` where pairs are missing.

    A pair is at fault if the label can't be read or holds a value out of range, or if the image can't be
    opened or differs in size (EXIF orientation applied to the image alone, as the evaluation does).
    """
    pairs = list_pairs(dataset, split, root)
    classes = load_dataset_vocabulary(dataset.name).classes
    images_with = np.zeros(len(classes), np.int64)
    faults = []
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        check = partial(_check_pair, dataset=dataset, classes=len(classes))
        for done, (present, fault) in enumerate(pool.map(check, pairs), start=1):
            images_with += present
            if fault is not None:
                faults.append(fault)
            step(done, len(pairs))
    absent = [entry for entry, count in zip(classes, images_with.tolist(), strict=True) if not count]
    known = get_split(dataset, split).count
    whole = known == len(pairs) and split == dataset.default_split
    return Checked(
        pairs=len(pairs),
        known_pairs=known,
        faults=tuple(faults),
        images_with=tuple(images_with.tolist()),
        absent=tuple(entry.name for entry in absent),
        unexpected=tuple(entry.name for entry in absent if whole and entry.in_val is not False),
    )


def _check_pair(pair: Pair, *, dataset: Dataset, classes: int) -> tuple[NDArray[np.bool_], Fault | None]:
    present = np.zeros(classes, bool)
    try:
        labels = read_label(pair.label, classes, dataset.ignore_label)
    except SanError as error:
        return present, Fault(error.message, error.hint)
    counts = np.bincount(labels.ravel(), minlength=classes)[:classes]
    present[:] = counts > 0
    size = displayed_size(pair.image)
    if size is None:
        return present, Fault(
            printable(f"{pair.image} is no image that can be read"), "Copy or prepare it again."
        )
    if size != labels.shape:
        height, width = labels.shape
        return present, Fault(
            printable(f"{pair.image} has {size[1]} × {size[0]} pixels, its label {width} × {height}"),
            f"They don't belong together: delete both and run `san data prepare {dataset.name}` again.",
        )
    return present, None
