"""ADE20K-847: object indices in the colours of `_seg.png`, and everything shrunk to a short side of 512."""

from collections.abc import Sequence
from functools import partial
from io import BytesIO

import numpy as np
from PIL import Image

from san_cli.datasets.catalogue import Dataset
from san_cli.datasets.labels import Labels
from san_cli.errors import ExitCode, SanError
from san_cli.prepare.cv2_resize import resize_linear, resize_nearest
from san_cli.prepare.plan import (
    PREPARED,
    Plan,
    choose,
    plan_pairs,
    to_train_ids,
    train_id_table,
)
from san_cli.prepare.sources import Member

_SHORT_SIDE = 512
_SEG = "_seg"


def plan_ade847(dataset: Dataset, split: str, members: Sequence[Member]) -> Plan:
    """`images/ADE/**/ADE_*.jpg` and `ADE_*_seg.png`; the file name tells the split. No pickle is needed.

    Releases before 2021 number the objects otherwise: their folders are not looked at.
    """

    def meant(member: Member) -> bool:
        if not member.parts[-1].startswith("ADE_") or "ADE" not in member.parts[:-1]:
            return False
        is_val = member.parts[-1].split("_")[1] == "val"
        return PREPARED.isdisjoint(member.parts) and is_val == (split == "val")

    def image(member: Member) -> int | None:
        return 0 if member.suffix == ".jpg" and meant(member) else None

    def label(member: Member) -> int | None:
        return 0 if member.suffix == ".png" and member.stem.endswith(_SEG) and meant(member) else None

    images = choose(members, image)
    labels = choose(members, label, stem=lambda member: member.stem.removesuffix(_SEG))
    return plan_pairs(dataset, split, images, labels, partial(_convert, dataset), convert_image=_shrink_image)


def prepared_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) after the rule: a short side above 512 becomes 512, the other rounds half to even."""
    if min(height, width) <= _SHORT_SIDE:
        return height, width
    if width >= height:
        return _SHORT_SIDE, round(width / height * _SHORT_SIDE)
    return round(height / width * _SHORT_SIDE), _SHORT_SIDE


def _shrink_image(member: Member, data: bytes) -> bytes:
    """JPEG of Pillow's default quality, also where the size stays: the published numbers were taken so."""
    with _opened(data, "JPEG", str(member)) as image:
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    height, width = prepared_size(*pixels.shape[:2])
    if (height, width) != pixels.shape[:2]:
        pixels = resize_linear(pixels, height, width)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def _convert(dataset: Dataset, member: Member, data: bytes) -> Labels:
    """The index is floor(R / 10) × 256 + G; those that the 847 classes don't list are ignored."""
    name = str(member)
    with _opened(data, "PNG", name) as image:
        if image.mode != "RGB":
            raise SanError(f"{name} is no RGB image as the official one is", code=ExitCode.SOME_FAILED)
        colours = np.asarray(image)
    raw = colours[:, :, 0].astype(np.uint16) // 10 * 256 + colours[:, :, 1]
    height, width = prepared_size(*raw.shape)
    table = train_id_table(dataset.name, tuple(range(65536)))
    return to_train_ids(resize_nearest(raw, height, width), table, dataset, name)


def _opened(data: bytes, kind: str, name: str) -> Image.Image:
    """Decode an image; SanError with `name` if it can't be decoded."""
    try:
        image = Image.open(BytesIO(data), formats=(kind,))
        image.load()
        return image
    except Exception as error:  # whatever a damaged file makes of the decoder
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise SanError(f"{name} is damaged ({cause})", code=ExitCode.SOME_FAILED) from error
