"""A label map as regions: what hangs together by sides or corners (8-connected)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from san_cli.regions.bridges import joined
from san_cli.regions.outlines import polygons
from san_cli.regions.parts import Parts, connected
from san_cli.regions.rle import Region, encode_label_map

Outline = tuple[
    int, ...
]  # x, y, x, y … of one ring, its holes joined to it; (0, 0) is the corner of the first pixel


class FoundRegion(NamedTuple):
    """A connected region of a class in an image."""

    class_id: int
    region: Region  # `counts` is empty where run lengths weren't asked for
    outlines: tuple[Outline, ...] = ()  # one for each part that hangs together by sides


def split(
    label_map: NDArray[np.integer],
    *,
    run_lengths: bool = False,
    outlines: bool = False,
    simplify: float = 0.0,
) -> tuple[FoundRegion, ...]:
    """Find the regions of `label_map` [H, W] that have an id of 0 or more, by class, then by their first pixels.

    Areas, boxes and run lengths are those of the pixels; `simplify`, in pixels, is for the outlines alone.
    """
    parts = connected(label_map)
    numbers, classes, found = _measured(parts, label_map.shape)
    if run_lengths and numbers:
        found = dict(zip(numbers, _encoded(parts, label_map, numbers), strict=True))
    rings: dict[int, list[Outline]] = {}
    if outlines:
        for polygon in polygons(label_map, simplify=simplify, regions=parts):
            ring = tuple(joined(polygon))
            rings.setdefault(polygon.region, []).append(ring)
    return tuple(
        FoundRegion(class_id, found[number], tuple(rings.get(number, ())))
        for number, class_id in zip(numbers, classes, strict=True)
    )


def _measured(parts: Parts, size: tuple[int, ...]) -> tuple[list[int], list[int], dict[int, Region]]:
    """List the regions that have a class, by class, and their classes; and the area and box of each, by number."""
    height, width = size
    length = np.diff(parts.start, append=height * width)
    row, left = np.divmod(parts.start, width)
    by_part = np.argsort(parts.part, kind="stable")  # and so by row
    first = np.flatnonzero(np.diff(parts.part[by_part], prepend=-1))
    last = np.append(first[1:], len(by_part)) - 1
    area = np.add.reduceat(length[by_part], first)
    x, y = np.minimum.reduceat(left[by_part], first), row[by_part][first]
    right = np.maximum.reduceat((left + length)[by_part], first)
    boxes = np.stack([x, y, right - x, row[by_part][last] + 1 - y], axis=1).astype(float).tolist()
    label = parts.label[by_part][first]
    numbers = [number for number in np.argsort(label, kind="stable").tolist() if label[number] >= 0]
    found = {number: Region("", int(area[number]), tuple(boxes[number])) for number in numbers}
    return numbers, label[numbers].tolist(), found


def _encoded(parts: Parts, label_map: NDArray[np.integer], numbers: list[int]) -> list[Region]:
    """Encode the run lengths of the regions of these numbers: of a map of numbers, 4 bytes a pixel."""
    place = np.full(int(parts.part.max()) + 1, -1, np.int32)
    place[numbers] = np.arange(len(numbers))
    length = np.diff(parts.start, append=label_map.size)
    encoded = encode_label_map(np.repeat(place[parts.part], length).reshape(label_map.shape))
    return [encoded[number] for number in range(len(numbers))]
