"""The augmentation of training: resize, crop, colour jitter, flip, pad, all drawn from one generator.

Geometry and pixels are those of the official training (detectron2's ResizeShortestEdge, RandomCrop, RandomFlip
and SSD's colour jitter); the order of draws is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from san_cli.datasets.labels import Labels
from san_cli.datasets.resize import benchmark_size
from san_cli.train.colour_jitter import apply_jitter, draw_jitter

PADDING = 128  # the level right of and below the image, before normalisation


@dataclass(frozen=True)
class Augmentation:
    """The range of changes to an image. Sizes are in pixels."""

    short_sides: Sequence[int]  # one is chosen; a range is one as well
    crop: int = 640  # side of the square that comes out
    max_size: int = 2560  # of the long side after resizing; the short one gives way
    colour: bool = True
    flip: float = 0.5  # probability of a horizontal flip

    def scaled_to(self, crop: int) -> "Augmentation":
        """Return the same for a network with another input size: all sizes in the ratio of the crops."""
        sides = tuple(side * crop // self.crop for side in self.short_sides)
        return replace(self, short_sides=sides, crop=crop, max_size=self.max_size * crop // self.crop)


OFFICIAL = Augmentation(range(320, 960 + 1, 64))
PAPER = Augmentation(range(320, 1024 + 1))  # Sec. 4.2


@dataclass(frozen=True)
class _Geometry:
    """Geometry of a sample: where each pixel of the result comes from."""

    size: tuple[int, int]  # (height, width) after resizing
    rows: slice  # of the resized image
    columns: slice
    flipped: bool


def augment(
    image: NDArray[np.uint8],
    label_map: Labels,
    augmentation: Augmentation,
    ignore_label: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | NDArray[np.int32]]:
    """Turn RGB [H, W, 3] and ids [H, W] into RGB planes [3, crop, crop] and ids [crop, crop].

    Padding is 128 in the image and `ignore_label` in the ids, which come out as int32 where 8 bits can't hold
    them all. What is drawn depends on the size of the image and on nothing else that it is.
    """
    geometry = _draw_geometry(label_map.shape, augmentation, generator)
    steps = draw_jitter(generator) if augmentation.colour else ()
    crop = augmentation.crop
    height, width = geometry.rows.stop - geometry.rows.start, geometry.columns.stop - geometry.columns.start
    planes = np.full((3, crop, crop), PADDING, np.uint8)
    inside = planes[:, :height, :width]
    inside[...] = _resize_image(image, geometry).transpose(2, 0, 1)
    apply_jitter(inside, steps)
    narrow = label_map.dtype == np.uint8 and 0 <= ignore_label <= 255
    ids = np.full((crop, crop), ignore_label, np.uint8 if narrow else np.int32)
    ids[:height, :width] = _resize_labels(label_map, geometry)
    return planes, ids


def _draw_geometry(
    size: tuple[int, ...], augmentation: Augmentation, generator: np.random.Generator
) -> _Geometry:
    sides = augmentation.short_sides
    short = sides[int(generator.integers(len(sides)))]
    height, width = benchmark_size(size[0], size[1], short, augmentation.max_size)
    rows, columns = (_draw_window(side, augmentation.crop, generator) for side in (height, width))
    return _Geometry((height, width), rows, columns, bool(generator.random() < augmentation.flip))


def _draw_window(side: int, crop: int, generator: np.random.Generator) -> slice:
    length = min(crop, side)
    start = int(generator.integers(side - length + 1))
    return slice(start, start + length)


def _resize_image(image: NDArray[np.uint8], geometry: _Geometry) -> NDArray[np.uint8]:
    height, width = geometry.size
    rows, columns = geometry.rows, geometry.columns
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    region = np.asarray(resized.crop((columns.start, rows.start, columns.stop, rows.stop)))
    return region[:, ::-1] if geometry.flipped else region


def _resize_labels(label_map: Labels, geometry: _Geometry) -> Labels:
    rows = _nearest(label_map.shape[0], geometry.size[0])[geometry.rows]
    columns = _nearest(label_map.shape[1], geometry.size[1])[geometry.columns]
    return label_map[rows[:, None], columns[::-1] if geometry.flipped else columns]


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """Return the source of each pixel in torch's `interpolate(mode="nearest")`, which the official training resizes
    labels with: rounded down from the corner, where Pillow rounds from the centre."""
    return np.arange(new) * old // new
