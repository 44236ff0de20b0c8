"""PASCAL VOC 2012: objects of the palette masks, neither background nor outline; train also by SBD's masks."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from san_cli.datasets.catalogue import Dataset
from san_cli.datasets.labels import Labels, decode_label
from san_cli.errors import ExitCode, SanError
from san_cli.prepare.matfile import read_mat
from san_cli.prepare.plan import (
    NothingFound,
    Plan,
    choose,
    plan_pairs,
    read_stems,
    to_train_ids,
    train_id_table,
)
from san_cli.prepare.sources import Member

_MASKS = {"SegmentationClassAug": 0, "SegmentationClass": 1, "cls": 2}  # by preference; "cls" is SBD's
_AUGMENTED_LISTS = ("trainaug.txt", "train_aug.txt")


def plan_voc(dataset: Dataset, split: str, members: Sequence[Member]) -> Plan:
    """`JPEGImages/*.jpg`, masks, and the lists of ImageSets/Segmentation (or beside JPEGImages).

    val is the list; train is trainaug.txt where it is given, else every mask that is not of val.
    """
    members = [member for member in members if "VOC2010" not in member.parts]
    masks = choose(members, _mask_rank)
    if not masks:
        raise NothingFound(dataset, split, "labels")
    stems = _stems(dataset, split, members, masks)
    missing = sorted(set(stems) - masks.keys())
    if missing:
        raise SanError(
            f"voc {split}: {len(missing):,} of the listed images have no mask, for example {missing[0]}",
            hint="The masks of trainaug are in SegmentationClassAug.zip or SBD's benchmark.tgz; nothing was "
            "written.",
            code=ExitCode.NO_INPUT,
        )
    labels = {stem: masks[stem] for stem in stems}
    return plan_pairs(dataset, split, choose(members, _image_rank), labels, partial(_convert, dataset))


def _image_rank(member: Member) -> int | None:
    if member.suffix != ".jpg" or member.parts[-2:-1] != ("JPEGImages",):
        return None
    return 0 if "VOC2012" in member.parts else 1


def _mask_rank(member: Member) -> int | None:
    folder = member.parts[-2] if len(member.parts) > 1 else ""
    if member.suffix != (".mat" if folder == "cls" else ".png"):
        return None
    return _MASKS.get(folder)


def _stems(
    dataset: Dataset, split: str, members: Sequence[Member], masks: dict[str, Member]
) -> tuple[str, ...]:
    if split == "train":
        augmented = [member for member in members if member.parts[-1] in _AUGMENTED_LISTS]
        if augmented:
            return read_stems(augmented[0])
    lists = [
        member
        for member in members
        if member.parts[-1] == "val.txt" and member.parts[-2:-1] in (("Segmentation",), ("VOC2012",))
    ]
    if not lists:
        raise NothingFound(dataset, split, "list ImageSets/Segmentation/val.txt")
    val = read_stems(lists[0])
    return val if split == "val" else tuple(sorted(masks.keys() - set(val)))


def _convert(dataset: Dataset, member: Member, data: bytes) -> Labels | None:
    """1..20 → 0..19; None where no object is: the official preparation writes no file then."""
    raw = _sbd_mask(data, str(member)) if member.suffix == ".mat" else decode_label(data, str(member))
    labels = to_train_ids(raw, train_id_table(dataset.name, (0, 255)), dataset, str(member))
    return None if (labels == dataset.ignore_label).all() else labels


def _sbd_mask(data: bytes, name: str) -> Labels:
    try:
        fields = read_mat(data)["GTcls"]
        mask = fields["Segmentation"] if isinstance(fields, dict) else None
        if isinstance(mask, np.ndarray) and mask.dtype == np.uint8:
            return mask
        fault = "it has no GTcls.Segmentation of 8 bits"
    except (ValueError, KeyError) as error:
        fault = str(error)
    raise SanError(f"{name} is no mask of SBD: {fault}", code=ExitCode.SOME_FAILED)
