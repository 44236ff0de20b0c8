"""The tasks of a split, each a file to be made of a member, and how a converter finds its files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Dataset
from san_cli.datasets.labels import Labels
from san_cli.errors import ExitCode, SanError
from san_cli.prepare.sources import Member
from san_cli.text import printable
from san_cli.vocabulary.class_lists import load_dataset_vocabulary

PREPARED = frozenset(("annotations_detectron2", "images_detectron2", "stuffthingmaps_detectron2"))


@dataclass(frozen=True)
class ImageTask:
    """Write a member's bytes, as they are or converted, to `target` (relative to the root)."""

    target: str
    member: Member
    convert: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class LabelTask:
    """Write the train ids that `convert` makes of the member's bytes; None means no file.

    Without a member `convert` gets no bytes: what it needs has been read already.
    """

    target: str
    member: Member | None
    convert: Callable[[bytes], Labels | None]


@dataclass(frozen=True)
class Plan:
    """The tasks of a split."""

    split: str
    images: tuple[ImageTask, ...]
    labels: tuple[LabelTask, ...]


Planner = Callable[[Dataset, str, Sequence[Member]], Plan]


class NothingFound(SanError):
    """The sources hold no images or no labels of the split at all."""

    def __init__(self, dataset: Dataset, split: str, what: str, hint: str = "") -> None:
        lines = "\n".join(f"  {line}" for line in dataset.sources)
        super().__init__(
            f"found no {what} for {dataset.name} {split} in what --from names",
            hint=hint or f"Give all of its archives, or the folders they were unpacked to:\n{lines}",
            code=ExitCode.NO_INPUT,
        )


def choose(
    members: Iterable[Member],
    rank: Callable[[Member], int | None],
    stem: Callable[[Member], str] = lambda member: member.stem,
) -> dict[str, Member]:
    """Choose for each stem the member of lowest rank; None ranks what is not meant.

    SanError for a stem that is no safe file name, and for two different files of the same rank.
    """
    best: dict[str, tuple[int, Member]] = {}
    for member in members:
        place = rank(member)
        if place is None:
            continue
        if not member.has_safe_stem:
            raise SanError(
                f"{member} has a name that no official file has",
                hint="Give --from the official archive, or what it was unpacked to.",
                code=ExitCode.NO_INPUT,
            )
        first = best.setdefault(stem(member), (place, member))
        if place < first[0]:
            best[stem(member)] = place, member
        elif place == first[0] and member.size != first[1].size:
            raise SanError(
                f"{first[1]} and {member} differ and could both be meant",
                hint="Give --from only one of them.",
                code=ExitCode.NO_INPUT,
            )
    return {key: member for key, (_, member) in best.items()}


def pair_up(
    dataset: Dataset, split: str, images: Mapping[str, object], labels: Mapping[str, object]
) -> tuple[str, ...]:
    """Return the stems of a split in order. NothingFound if a side is empty, SanError if one has leftovers."""
    for side, what in ((images, "images"), (labels, "labels")):
        if not side:
            raise NothingFound(dataset, split, what)
    leftovers = (
        ("label", "image", labels.keys() - images.keys()),
        ("image", "label", set() if dataset.spare_images else images.keys() - labels.keys()),
    )
    for one, other, lone in leftovers:
        if lone:
            example = printable(min(lone))
            raise SanError(
                f"{dataset.name} {split}: {len(lone):,} {one}{'s' * (len(lone) > 1)} without {other}, "
                f"for example {example}",
                hint="An archive is missing or incomplete; nothing was written.",
                code=ExitCode.NO_INPUT,
            )
    return tuple(sorted(labels))


def plan_pairs(
    dataset: Dataset,
    split: str,
    images: Mapping[str, Member],
    labels: Mapping[str, Member],
    convert: Callable[[Member, bytes], Labels | None],
    *,
    convert_image: Callable[[Member, bytes], bytes] | None = None,
    folder: Callable[[str], str] = lambda stem: "",
) -> Plan:
    """Plan a split whose images and labels each are a file, named by their stems; `folder` is where, with a slash.

    NothingFound, SanError as for `pair_up`.
    """
    where = dataset.splits[split]
    stems = pair_up(dataset, split, images, labels)
    return Plan(
        split,
        tuple(
            ImageTask(
                f"{where.images}/{folder(stem)}{stem}{dataset.image_suffix}",
                images[stem],
                partial(convert_image, images[stem]) if convert_image is not None else None,
            )
            for stem in stems
        ),
        tuple(
            LabelTask(
                f"{where.labels}/{folder(stem)}{stem}{dataset.label_suffix}",
                labels[stem],
                partial(convert, labels[stem]),
            )
            for stem in stems
        ),
    )


def read_stems(member: Member) -> tuple[str, ...]:
    """Read the stems in a list, one a line, sorted, each once; SanError for an empty list or one that is not text.

    Of "2007_000033", "JPEGImages/2007_000033.jpg" and "2007_000033 1" it takes the stem.
    """
    try:
        lines = member.read(2**24).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SanError(f"{member} is no text file", code=ExitCode.NO_INPUT) from None
    words = [line.split()[0].replace("\\", "/") for line in lines if line.strip()]
    stems = {word.rpartition("/")[2].partition(".")[0] for word in words} - {""}
    if not stems:
        raise SanError(f"{member} lists no images", code=ExitCode.NO_INPUT)
    return tuple(sorted(stems))


@cache
def train_id_table(name: str, unlabelled: tuple[int, ...]) -> NDArray[np.int32]:
    """Raw value → train id [65536]: `unlabelled` values → ignore label, and -1 for those that mean nothing."""
    vocabulary = load_dataset_vocabulary(name)
    table = np.full(65536, -1, np.int32)
    table[list(unlabelled)] = vocabulary.ignore_label
    for train_id, entry in enumerate(vocabulary.classes):
        table[entry.raw_id] = train_id
    return table


def to_train_ids(raw: NDArray[np.integer], table: NDArray[np.int32], dataset: Dataset, name: str) -> Labels:
    """Raw values [H, W] to train ids, uint8 or uint16 by the dataset; SanError for a meaningless value."""
    ids = table[raw]
    if ids.min() < 0:
        value = int(raw.ravel()[int(ids.argmin())])
        raise SanError(
            f"{name} holds the value {value}, which raw labels of {dataset.name} never have",
            hint="Are these the official labels? Files that hold train ids already need no preparation.",
            code=ExitCode.SOME_FAILED,
        )
    return ids.astype(np.uint8) if dataset.ignore_label == 255 else ids.astype(np.uint16)
