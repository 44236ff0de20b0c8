"""PASCAL-Context, 59 and 459 classes: LabelMap of the .mat files, or the segments of PASCAL in Detail."""

import re
from collections.abc import Sequence
from functools import partial
from importlib import resources

import numpy as np

from san_cli.datasets.catalogue import Dataset
from san_cli.datasets.labels import Labels
from san_cli.errors import ExitCode, SanError
from san_cli.prepare import detail
from san_cli.prepare.matfile import read_mat
from san_cli.prepare.plan import (
    ImageTask,
    LabelTask,
    NothingFound,
    Plan,
    choose,
    pair_up,
    read_stems,
    to_train_ids,
    train_id_table,
)
from san_cli.prepare.sources import Member

_RAW_IDS = range(460)  # 0 is unlabelled


def plan_pcontext(dataset: Dataset, split: str, members: Sequence[Member]) -> Plan:
    """Images of VOC 2010. pc59: the JSON's segments if it is given, else the .mat files; pc459: these.

    The split is the JSON's, else a list's (pascalcontext_val.txt), else for val the list that comes with san.
    """
    mats = choose(members, _mat_rank)
    merged = next((member for member in members if _is_detail(member)), None)
    from_json = merged is not None and dataset.name == "pc59"
    if not mats and not from_json:
        raise NothingFound(dataset, split, "labels")
    stems = _stems(dataset, split, members, merged, mats)
    where = dataset.splits[split]
    labels: dict[str, LabelTask] = {}
    for stem in stems:
        target = f"{where.labels}/{stem}{dataset.label_suffix}"
        if merged is not None and from_json:
            labels[stem] = LabelTask(target, None, partial(_painted, dataset, merged, stem))
        elif stem in mats:
            labels[stem] = LabelTask(target, mats[stem], partial(_mapped, dataset, str(mats[stem])))
    listed = set(stems)
    images = {stem: member for stem, member in choose(members, _image_rank).items() if stem in listed}
    if images and labels:
        images = {stem: member for stem, member in images.items() if stem in labels}
    paired = pair_up(dataset, split, images, labels)
    return Plan(
        split,
        tuple(ImageTask(f"{where.images}/{stem}.jpg", images[stem]) for stem in paired),
        tuple(labels[stem] for stem in paired),
    )


def _is_detail(member: Member) -> bool:
    given_itself = (
        member.suffix == ".json" and member.source.path.is_file() and len(member.source.members) == 1
    )
    return member.parts[-1] == detail.NAME or given_itself


def _mat_rank(member: Member) -> int | None:
    return 0 if member.suffix == ".mat" and member.parts[-2:-1] != ("cls",) else None


def _image_rank(member: Member) -> int | None:
    if member.suffix != ".jpg" or member.parts[-2:-1] != ("JPEGImages",):
        return None
    return 0 if "VOC2010" in member.parts else 2 if "VOC2012" in member.parts else 1


def _stems(
    dataset: Dataset, split: str, members: Sequence[Member], merged: Member | None, mats: dict[str, Member]
) -> tuple[str, ...]:
    if merged is not None:
        images = detail.read_detail(merged, with_segments=dataset.name == "pc59")
        return tuple(sorted(stem for stem, image in images.items() if image.phase == split))
    pattern = re.compile(rf"pascal[-_]?context.*_{split}(?![a-z]).*\.txt", re.IGNORECASE)
    own = re.compile(rf"(?!.*trainval).*{split}.*\.txt", re.IGNORECASE)
    for member in members:
        given_itself = member.source.path.name == member.parts[-1]
        if pattern.fullmatch(member.parts[-1]) or (given_itself and own.fullmatch(member.parts[-1])):
            return read_stems(member)
    if split == "val":
        return tuple(sorted(_val_list() & mats.keys()))
    raise NothingFound(
        dataset,
        split,
        "list",
        hint=f"Which images are train is in {detail.NAME} (see pc59) or in a list pascalcontext_train.txt.",
    )


def _val_list() -> frozenset[str]:
    """Read the 5,104 validation images of PASCAL-Context, as its users list them."""
    file = resources.files(__package__) / "pascal_context_val.txt"
    return frozenset(file.read_text(encoding="ascii").split())


def _painted(dataset: Dataset, merged: Member, stem: str, data: bytes) -> Labels:
    image = detail.read_detail(merged, with_segments=True)[stem]
    name = f"{stem} in {merged}"
    return to_train_ids(detail.paint(image), train_id_table(dataset.name, (0,)), dataset, name)


def _mapped(dataset: Dataset, name: str, data: bytes) -> Labels:
    """An 8-bit LabelMap could not hold 459 ids: it would be another file, and is refused."""
    try:
        raw = read_mat(data).get("LabelMap")
    except ValueError as error:
        raise SanError(f"{name}: {error}", code=ExitCode.SOME_FAILED) from error
    if not isinstance(raw, np.ndarray) or raw.dtype != np.uint16 or raw.size == 0:
        raise SanError(f"{name} holds no LabelMap of 16 bits", code=ExitCode.SOME_FAILED)
    return to_train_ids(raw, train_id_table(dataset.name, tuple(_RAW_IDS)), dataset, name)
