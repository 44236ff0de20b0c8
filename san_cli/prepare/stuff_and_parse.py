"""COCO-Stuff and ADE20K-150: 8-bit maps that a lookup turns into train ids, pixel for pixel."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Dataset
from san_cli.datasets.labels import Labels, decode_label
from san_cli.prepare.plan import (
    PREPARED,
    Plan,
    choose,
    plan_pairs,
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
    convert = partial(_convert, dataset, table)
    return plan_pairs(dataset, split, choose(members, image), choose(members, label), convert)


def plan_ade150(dataset: Dataset, split: str, members: Sequence[Member]) -> Plan:
    """`images/*/*.jpg` and `annotations/*/*.png`: 1..150 → 0..149, 0 ignored."""
    folder = {"val": "validation", "train": "training"}[split]

    def image(member: Member) -> int | None:
        return 0 if member.suffix == ".jpg" and member.parts[-3:-1] == ("images", folder) else None

    def label(member: Member) -> int | None:
        return 0 if member.suffix == ".png" and member.parts[-3:-1] == ("annotations", folder) else None

    table = train_id_table(dataset.name, (0,))
    convert = partial(_convert, dataset, table)
    return plan_pairs(dataset, split, choose(members, image), choose(members, label), convert)


def _convert(dataset: Dataset, table: NDArray[np.int32], member: Member, data: bytes) -> Labels:
    return to_train_ids(decode_label(data, str(member)), table, dataset, str(member))
