"""PASCAL in Detail's trainval_merged.json: which image belongs to which split, and its painted segments."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.json_stream import json_elements
from san_cli.errors import ExitCode, SanError
from san_cli.prepare.sources import Member
from san_cli.regions.rle import decode

NAME = "trainval_merged.json"
_MAX_BYTES = 2**30  # the official file has 590 MB
_LONGEST_SIDE = 2**14  # pixels, of VOC's 500
_SAFE_STEM = re.compile(r"\w[\w-]*", re.ASCII)


@dataclass(frozen=True)
class Segment:
    """A binary mask as compressed run lengths, to be painted with `category`."""

    category: int
    size: tuple[int, int]  # height, width
    counts: str


@dataclass(frozen=True)
class DetailImage:
    """`size` is (height, width); segments are painted in this order, later ones over earlier ones."""

    stem: str
    phase: str
    size: tuple[int, int]
    segments: list[Segment] = field(default_factory=list)


@lru_cache(maxsize=1)  # both splits, and 590 MB are read once
def read_detail(member: Member, *, with_segments: bool) -> dict[str, DetailImage]:
    """Read the images by stem; SanError if the file is something else.

    Elements are decoded one at a time: the file's parts, boundaries and occlusions would need gigabytes.
    """
    images: dict[int, DetailImage] = {}
    segments: list[tuple[int, Segment]] = []
    try:
        for element in json_elements(BytesIO(member.read(_MAX_BYTES))):
            row = element.value
            if element.key == "images":
                images[row["image_id"]] = _image(row)
            elif element.key == "annos_segmentation" and with_segments:
                segments.append((row["image_id"], _segment(row)))
        for image_id, segment in segments:
            images[image_id].segments.append(segment)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        IndexError,
    ) as error:
        raise SanError(
            f"{member} is not PASCAL in Detail's {NAME} ({type(error).__name__}: {str(error)[:80]})",
            code=ExitCode.NO_INPUT,
        ) from error
    return {image.stem: image for image in images.values()}


def paint(image: DetailImage) -> NDArray[np.uint16]:
    """Paint category ids [H, W], 0 where no segment is; SanError for a segment that does not fit."""
    labels = np.zeros(image.size, np.uint16)
    for segment in image.segments:
        try:
            labels[decode(segment.counts, segment.size)] = segment.category
        except (ValueError, IndexError, OverflowError, MemoryError):
            raise SanError(
                f"the segment of category {segment.category} of {image.stem} in {NAME} is damaged",
                code=ExitCode.SOME_FAILED,
            ) from None
    return labels


def _image(row: dict[str, Any]) -> DetailImage:
    stem = row["file_name"].rpartition(".")[0]
    if not _SAFE_STEM.fullmatch(stem):
        raise ValueError(f"an image called {stem!r}")
    return DetailImage(stem, row["phase"], _size(row["height"], row["width"]))


def _size(height: Any, width: Any) -> tuple[int, int]:
    """ValueError for what no picture has."""
    size = int(height), int(width)
    if not all(0 < side <= _LONGEST_SIDE for side in size):
        raise ValueError(f"a picture of {width} x {height} pixels"[:80])
    return size


def _segment(row: dict[str, Any]) -> Segment:
    height, width = row["segmentation"]["size"]
    counts = row["segmentation"]["counts"]
    if not isinstance(counts, str) or not 0 <= row["category_id"] < 65536:
        raise ValueError("a segmentation that is not compressed run lengths")
    return Segment(int(row["category_id"]), _size(height, width), counts)
