"""Shapes as annotation tools draw them, and the label maps that they come to.

One rule for all tools: a pixel belongs to a shape where its centre lies inside (`regions.fill`), and where shapes
overlap the later one is on top. Coordinates are those of pixels' edges: (0, 0) is the corner of the first pixel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from san_cli.regions.fill import fill
from san_cli.vocabulary.terms import word_key

_GRID = 0.11  # of a pixel; `outputs/annotations/fractions.py` keeps to a tenth
NOTHING = -1  # in a label map, where no shape is, or one that is to be ignored

Size = tuple[int, int]  # height, width
Patch = tuple[tuple[slice, slice], NDArray[np.bool_]]  # a window of the picture, and what in it is inside


class Cover(Protocol):
    """What a shape covers."""

    def inside(self, size: Size) -> Patch:
        """Tell the pixels of a picture of `size` that are inside; ValueError where it can't be of this picture."""
        ...


@dataclass(frozen=True, eq=False)
class Outlines:
    """Rings [n, 2] of x and y that are filled by the even-odd rule: outlines and holes."""

    rings: tuple[NDArray[np.number], ...]
    relative: bool = False  # x and y are shares of width and height

    def inside(self, size: Size) -> Patch:
        """See `Cover`."""
        if not self.relative:
            return fill(self.rings, size)
        return fill([_on_grid(np.asarray(ring, np.float64) * size[::-1]) for ring in self.rings], size)


def _on_grid(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take corners within a tenth of a pixel of the grid's points for these: shares are written with few decimals."""
    nearest = np.rint(corners)
    return np.where(np.abs(corners - nearest) <= _GRID, nearest, corners)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse, turned clockwise as seen."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    degrees: float = 0.0

    def inside(self, size: Size) -> Patch:
        """See `Cover`."""
        values = (self.x, self.y, self.radius_x, self.radius_y, self.degrees)
        if not np.isfinite(values).all() or min(self.radius_x, self.radius_y) < 0:
            raise ValueError("an ellipse has radii or a centre that are no numbers")
        reach = max(self.radius_x, self.radius_y)
        window = (
            _window(self.y - reach, self.y + reach, size[0]),
            _window(self.x - reach, self.x + reach, size[1]),
        )
        y = np.arange(window[0].start, window[0].stop)[:, None] + 0.5 - self.y
        x = np.arange(window[1].start, window[1].stop) + 0.5 - self.x
        angle = np.deg2rad(self.degrees)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return window, (along / self.radius_x) ** 2 + (across / self.radius_y) ** 2 <= 1


@dataclass(frozen=True, eq=False)
class Bitmap:
    """Pixels [h, w] whose first one lies at column `left` and row `top`."""

    left: int
    top: int
    pixels: NDArray[np.bool_]

    def inside(self, size: Size) -> Patch:
        """See `Cover`."""
        height, width = self.pixels.shape
        rows = slice(max(0, self.top), max(0, min(size[0], self.top + height)))
        columns = slice(max(0, self.left), max(0, min(size[1], self.left + width)))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
        part = self.pixels[rows.start - self.top : rows.stop - self.top]
        return (rows, columns), part[:, columns.start - self.left : columns.stop - self.left]


@dataclass(frozen=True, eq=False)
class Runs:
    """Lengths [R] of runs outside, inside, outside … down the columns of a picture of `size`, as in COCO."""

    lengths: NDArray[np.int64]
    size: Size

    def inside(self, size: Size) -> Patch:
        """See `Cover`."""
        if self.size != size or self.lengths.sum() != size[0] * size[1]:
            told = "×".join(map(str, self.size[::-1]))
            raise ValueError(f"run lengths are of {told} pixels, the image has {size[1]}×{size[0]}")
        flat = np.repeat(np.arange(len(self.lengths)) % 2 == 1, self.lengths)
        return (slice(0, size[0]), slice(0, size[1])), flat.reshape(size[1], size[0]).T


@dataclass(frozen=True, eq=False)
class Union:
    """Parts of one object: inside any of them is inside."""

    parts: tuple[Cover, ...]

    def inside(self, size: Size) -> Patch:
        """See `Cover`."""
        patches = [part.inside(size) for part in self.parts]
        held = [window for window, inside in patches if inside.size]
        if not held:
            return patches[0]
        rows, columns = (
            slice(min(window[axis].start for window in held), max(window[axis].stop for window in held))
            for axis in (0, 1)
        )
        whole = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
        for (own_rows, own_columns), inside in patches:
            if inside.size:
                top, left = own_rows.start - rows.start, own_columns.start - columns.start
                whole[top : top + inside.shape[0], left : left + inside.shape[1]] |= inside
        return (rows, columns), whole


@dataclass(frozen=True)
class Shape:
    """An area that somebody has drawn, and the name of its class as it is written there."""

    name: str
    cover: Cover


def rectangle(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Outlines:
    """Return a rectangle, turned clockwise as seen about its centre."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return Outlines((turned(corners, corners.mean(axis=0), degrees),))


def turned(points: NDArray[np.float64], about: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Turn points [n, 2] clockwise as seen."""
    if not degrees:
        return points
    angle = np.deg2rad(degrees)
    x, y = (points - about).T
    return about + np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], 1)


def label_map_of(
    shapes: Sequence[Shape], size: Size, ids: Mapping[str, int], *, rest: int = NOTHING
) -> NDArray[np.int16] | NDArray[np.int32]:
    """Make the label map [H, W] of shapes in the order in which they are drawn; `rest` where there are none.

    `ids` gives the value for `word_key` of each name; KeyError for one that isn't there. ValueError for a shape that
    can't be of a picture of `size` = (height, width), or has corners that are no numbers.
    """
    highest = max([rest, *ids.values()])
    label_map = np.full(size, rest, np.int16 if highest < 2**15 else np.int32)
    for shape in shapes:
        window, inside = shape.cover.inside(size)
        np.copyto(label_map[window], ids[word_key(shape.name)], where=inside)
    return label_map


def contested_pixels(shapes: Sequence[Shape], size: Size) -> int:
    """Count the pixels in which a shape lies over one of another class."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(word_key(one.name) for one in shapes))}
    label_map = np.full(size, NOTHING, np.int32)
    contested = np.zeros(size, bool)
    for shape in shapes:
        window, inside = shape.cover.inside(size)
        below, own = label_map[window], numbers[word_key(shape.name)]
        contested[window] |= inside & (below != own) & (below != NOTHING)
        np.copyto(below, own, where=inside)
    return int(np.count_nonzero(contested))


def _window(low: float, high: float, side: int) -> slice:
    first, last = np.clip([np.floor(low), np.ceil(high)], 0, side).astype(int).tolist()
    return slice(first, last)
