"""Cityscapes: the 19 evaluated classes of gtFine, in the folders of detectron2 and of Cityscapes itself."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from san_cli.datasets.catalogue import Dataset
from san_cli.datasets.labels import Labels, check_range, decode_label
from san_cli.prepare.plan import (
    Plan,
    choose,
    plan_pairs,
    to_train_ids,
    train_id_table,
)
from san_cli.prepare.sources import Member
from san_cli.vocabulary.class_lists import load_dataset_vocabulary

_IMAGE, _RAW, _TRAIN_IDS = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
_RAW_IDS = (*range(34), 255)  # 255 is what 8 bits make of the licence plates' -1


def plan_cityscapes(dataset: Dataset, split: str, members: Sequence[Member]) -> Plan:
    """`leftImg8bit/SPLIT/CITY/*.png` and `gtFine/SPLIT/CITY/*_labelIds.png`, or *_labelTrainIds.png as it is."""
    images = choose(members, _ranked(split, (_IMAGE,)), _stem)
    labels = choose(members, _ranked(split, (_RAW, _TRAIN_IDS)), _stem)
    return plan_pairs(dataset, split, images, labels, partial(_convert, dataset), folder=_city)


def _ranked(split: str, endings: tuple[str, ...]) -> Callable[[Member], int | None]:
    def rank(member: Member) -> int | None:
        if member.parts[-3:-2] != (split,):
            return None
        return next((n for n, ending in enumerate(endings) if member.name.endswith(ending)), None)

    return rank


def _stem(member: Member) -> str:
    """frankfurt_000000_000294 of frankfurt_000000_000294_leftImg8bit.png."""
    return "_".join(member.parts[-1].split("_")[:3])


def _city(stem: str) -> str:
    return stem.partition("_")[0] + "/"


def _convert(dataset: Dataset, member: Member, data: bytes) -> Labels:
    labels = decode_label(data, str(member))
    if member.name.endswith(_RAW):
        return to_train_ids(labels, train_id_table(dataset.name, _RAW_IDS), dataset, str(member))
    check_range(labels, len(load_dataset_vocabulary(dataset.name).classes), 255, str(member))
    return labels.astype(np.uint8)
