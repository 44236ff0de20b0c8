"""COCO-Stuff and ADE20K-150: 8-bit maps that a lookup turns into train ids, pixel for pixel."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Dataset
from san_cli.datasets.labels import Labels, decode_label
from san_cli.prepare.plan import (
    PREPARED,
    ImageTask,
    LabelTask,
    Plan,
    choose,
    pair_up,
    to_train_ids,
    train_id_table,
)
from san_cli.prepare.sources import Member


def plan_coco(dataset: Dataset, split: str, members: Sequence[Member]) -> Plan:
    """`{train,val}2017/*.jpg` and the `.png` of stuffthingmaps: COCO-Stuff id − 1, 255 unlabelled.

    The 11 ids that COCO never used are ignored. A wholly unlabelled image keeps its file.
    """
    folder = f"{split}2017"

    def image(member: Member) -> int | None:
        return 0 if member.suffix == ".jpg" and member.parts[-2:-1] == (folder,) else None

    def label(member: Member) -> int | None:
        parts = member.parts
        if member.suffix != ".png" or parts[-2:-1] != (folder,) or not PREPARED.isdisjoint(parts):
            return None
        return 0 if "stuffthingmaps" in parts else 1

    table = train_id_table(dataset.name, (*range(182), 255))
    return _plan(dataset, split, choose(members, image), choose(members, label), table)


def plan_ade150(dataset: Dataset, split: str, members: Sequence[Member]) -> Plan:
    """`images/*/*.jpg` and `annotations/*/*.png`: 1..150 → 0..149, 0 ignored."""
    folder = {"val": "validation", "train": "training"}[split]

    def image(member: Member) -> int | None:
        return 0 if member.suffix == ".jpg" and member.parts[-3:-1] == ("images", folder) else None

    def label(member: Member) -> int | None:
        return 0 if member.suffix == ".png" and member.parts[-3:-1] == ("annotations", folder) else None

    table = train_id_table(dataset.name, (0,))
    return _plan(dataset, split, choose(members, image), choose(members, label), table)


def _plan(
    dataset: Dataset,
    split: str,
    images: dict[str, Member],
    labels: dict[str, Member],
    table: NDArray[np.int32],
) -> Plan:
    where = dataset.splits[split]
    stems = pair_up(dataset, split, images, labels)
    return Plan(
        split,
        tuple(ImageTask(f"{where.images}/{stem}.jpg", images[stem]) for stem in stems),
        tuple(
            LabelTask(
                f"{where.labels}/{stem}.png",
                labels[stem],
                partial(_convert, dataset, table, str(labels[stem])),
            )
            for stem in stems
        ),
    )


def _convert(dataset: Dataset, table: NDArray[np.int32], name: str, data: bytes) -> Labels:
    return to_train_ids(decode_label(data, name), table, dataset, name)
