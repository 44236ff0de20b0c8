"""Windows laid over a picture that is too large for the network: where they lie, and how much each counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.resize import benchmark_size
from san_cli.errors import SanError, WrongType
from san_cli.models.presets import Preset
from san_cli.text import quoted

Tile = int | Literal["auto"]  # source pixels along a window's side

SMALLEST = 64  # pixels: a smaller window shows the network nothing that it would know
OVERLAP = 0.5  # of a window's side, at least
# Training sees an image at 0.67 to 2.67 times COCO's size, tiny's scenes around 1.5. Of a mosaic of scenes 2 finds as
# much as of the scenes alone, 1.5 some points less at half the cost (docs/large-pictures.md).
_ENLARGED = 2.0
SQUEEZED = 0.5  # a picture that the network would see at less of its size is too large for it


@dataclass(frozen=True)
class Axis:
    """Windows along one side of a picture: where they begin, and how much each counts where they overlap."""

    starts: tuple[int, ...]  # pixels, ascending
    window: int  # pixels
    weights: NDArray[np.float32]  # [windows, window]; at every pixel those of all windows sum to 1

    def cells(self) -> Iterator[tuple[slice, tuple[int, ...]]]:
        """Yield the stretches of pixels that the same windows see, and these windows."""
        edges = sorted({*self.starts, *(start + self.window for start in self.starts)})
        for start, stop in pairwise(edges):
            yield (
                slice(start, stop),
                tuple(
                    i for i, first in enumerate(self.starts) if first <= start and stop <= first + self.window
                ),
            )


@dataclass(frozen=True)
class Tiling:
    """The windows of a picture."""

    rows: Axis
    columns: Axis

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a window in pixels."""
        return self.rows.window, self.columns.window

    def places(self, row: int) -> list[tuple[slice, slice]]:
        """List rows and columns of the picture that the windows of a row see, from left to right."""
        top = self.rows.starts[row]
        return [
            (slice(top, top + self.rows.window), slice(left, left + self.columns.window))
            for left in self.columns.starts
        ]

    def above(self, row: int) -> int:
        """Count the windows that see nothing from a row of the picture on."""
        ended = sum(start + self.rows.window <= row for start in self.rows.starts)
        return ended * len(self.columns.starts)

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)


def parse_tile(text: str) -> Tile | None:
    """Parse `off` (None), `auto`, or pixels along a window's side. SanError for anything else."""
    plain = text.strip().lower()
    if plain == "off":
        return None
    if plain == "auto":
        return "auto"
    if not plain.isdecimal() or int(plain) < SMALLEST:
        raise SanError(
            f"--tile takes a window's side in pixels, of at least {SMALLEST}, auto or off; not {quoted(text)}",
            hint="--tile auto suits most large pictures, and leaves small ones whole.",
        )
    return int(plain)


def check_tile(tile: object) -> Tile | None:
    """Take what the Python API is given: pixels, "auto", "off" or None. Raises WrongType or SanError."""
    if tile is None or isinstance(tile, str):
        return parse_tile(tile or "off")
    if not isinstance(tile, Integral) or isinstance(tile, bool):
        raise WrongType(f'tile is a window\'s side in pixels, "auto" or None, not {type(tile).__name__}')
    return parse_tile(str(tile))


def is_squeezed(height: int, width: int, preset: Preset) -> bool:
    """Tell whether the network would see a picture at less than half its size."""
    seen = benchmark_size(height, width, preset.input_size, preset.longest_side)
    return max(seen) < SQUEEZED * max(height, width)


def auto_side(preset: Preset) -> int:
    """Return the pixels along a window's side that `auto` stands for."""
    return round(preset.input_size / _ENLARGED)


def tiling_of(height: int, width: int, tile: Tile | None, preset: Preset) -> Tiling | None:
    """Lay windows over a picture; None for one that is seen whole."""
    if tile is None or (tile == "auto" and not is_squeezed(height, width, preset)):
        return None
    side = auto_side(preset) if tile == "auto" else tile
    if side >= max(height, width):
        return None
    return Tiling(axis(height, side), axis(width, side))


def axis(length: int, window: int, overlap: float = OVERLAP) -> Axis:
    """Lay windows of `window` pixels (or the whole) over `length` pixels, so that neighbours share a part of them.

    They begin at whole steps, but the last, which ends where the picture does: so a picture that is cut off at whole
    steps is seen through the same windows as before.
    """
    window = min(window, length)
    step = max(1, round(window * (1 - overlap)))
    starts = (*range(0, length - window, step), length - window)
    return Axis(starts, window, _weights(starts, window, length))


def _weights(starts: Sequence[int], window: int, length: int) -> NDArray[np.float32]:
    """Weigh each window's pixels [windows, window]: a bump (sin²) in the window, divided by the sum of all bumps."""
    bump = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2
    total = np.zeros(length)
    for start in starts:
        total[start : start + window] += bump
    return np.stack([bump / total[start : start + window] for start in starts]).astype(np.float32)
