"""What the CLIP of `tiny` looks at: emoji pictures, rectangular crops of them, and what these show.

Most crops lie around a thing: roughly, but its box is read off the scene's labels, for unseen concepts, too.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from san_cli.datasets.emoji.scenes import EmojiScenes, Layout
from san_cli.models.presets import TINY
from san_cli.vocabulary.emoji_concepts import all_ids, concepts

SEED = 20_000  # of the scenes; other seeds are for SAN
CROPS = 12  # of a picture, beside the whole
AROUND_A_THING = 0.75  # probability; other crops lie anywhere
SMALLEST, LARGEST = 32, 224  # pixels, the longer side of an emoji
PATCH = TINY.clip.patch_size
THINGS = sum(bool(concept.emoji) for concept in concepts())  # their ids come first


@dataclass(frozen=True)
class Pictures:
    """Pictures with their crops, and what these hold."""

    images: Tensor  # uint8 [B, 3, H, W]
    boxes: Tensor  # bool [B, K, h, w], patches; the first crop is the whole picture
    holds: Tensor  # bool [B, K, C]: the concepts that a crop shows
    lacks: Tensor  # bool [B, K, C]: those that it doesn't; of the rest only a bit is there


class Cropped(Dataset):
    """Pictures of `size` pixels, one by one; the smallest emoji have as many pixels in all sizes."""

    def __init__(self, size: int) -> None:
        scale = (SMALLEST / size, min(1.1, LARGEST / size))
        things = Layout(count=(1, max(2, size // 40)), scale=scale, margin=0.1, two_backgrounds=0.2)
        texture = Layout(count=(0, 0), two_backgrounds=0)
        self.kinds = [EmojiScenes(SEED, all_ids(), size, layout) for layout in (things, texture)]

    def __getitem__(self, index: int) -> Pictures:
        """Picture number `index`, as a batch of one."""
        rng = np.random.default_rng((SEED, 1, index))  # the scene's own numbers come from (SEED, index)
        scene = self.kinds[int(rng.random() < 0.04)][index]
        boxes = crops(rng, scene.labels)
        holds, lacks = seen_in(scene.labels, boxes)
        image = torch.from_numpy(scene.image).permute(2, 0, 1)
        return Pictures(image[None], boxes[None], holds[None], lacks[None])


def collate(parts: list[Pictures]) -> Pictures:
    """Several batches as one."""
    names = ("images", "boxes", "holds", "lacks")
    return Pictures(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def crops(rng: Generator, labels: NDArray[np.uint16]) -> Tensor:
    """The whole picture and rectangles in it, most around a thing, as patches: bool [CROPS + 1, h, w]."""
    side = len(labels) // PATCH
    things = [i for i in np.unique(labels) if i < THINGS]
    boxes = torch.ones(1 + CROPS, side, side, dtype=torch.bool)
    for box in boxes[1:]:
        if things and rng.random() < AROUND_A_THING:
            rows, columns = _around(rng, labels == things[rng.integers(len(things))])
        else:
            rows, columns = _anywhere(rng, side)
        box[:] = False
        box[rows, columns] = True
    return boxes


def _around(rng: Generator, thing: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The patches of a rectangle around something, not exactly: its edges are off by some of its size."""
    sides = []
    for axis in (1, 0):
        inside = np.flatnonzero(thing.any(axis))
        first, last = inside[0], inside[-1] + 1
        off = rng.normal(0, 0.1, 2) * (last - first)
        side = len(thing) // PATCH
        start = int(np.clip(round((first + off[0]) / PATCH), 0, side - 1))
        sides.append(slice(start, int(np.clip(round((last + off[1]) / PATCH), start + 1, side))))
    return sides[0], sides[1]


def _anywhere(rng: Generator, side: int) -> tuple[slice, slice]:
    """The patches of a rectangle of random size, shape and place."""
    height = math.exp(rng.uniform(math.log(2), math.log(side)))
    width = height * math.exp(rng.normal(0, 0.3))
    rows, columns = (min(side, max(2, round(length))) for length in (height, width))
    top, left = (int(rng.integers(side - length + 1)) for length in (rows, columns))
    return slice(top, top + rows), slice(left, left + columns)


def seen_in(labels: NDArray[np.uint16], boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Bool [K, C] twice: what someone would say is in each crop `boxes` [K, h, w], and what certainly isn't.

    Of the whole picture, the first, one tells what has a size worth a word; of a crop what it shows mostly.
    """
    pixels = _pixels(labels)  # [hw, C]
    within = boxes.flatten(1).float() @ pixels  # [K, C]
    area = within / within.sum(1, keepdim=True)
    things = torch.arange(len(concepts())) < THINGS
    holds = torch.where(things, area >= 0.3, area >= 0.6)
    holds[0] = torch.where(things, area[0] >= 0.02, area[0] >= 0.4)
    lacks = torch.where(things, area < 0.1, area < 0.3)
    lacks[0] = area[0] == 0
    return holds, lacks


def _pixels(labels: NDArray[np.uint16]) -> Tensor:
    """How many pixels of each concept a patch has, float32 [hw, C]."""
    side, count = len(labels) // PATCH, len(concepts())
    patches = np.arange(side * side).reshape(side, side).repeat(PATCH, 0).repeat(PATCH, 1)
    found = np.bincount((patches * count + labels).ravel(), minlength=side * side * count)
    return torch.from_numpy(found.astype(np.float32)).view(-1, count)
