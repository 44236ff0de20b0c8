"""The user's decisions about reading images where the file leaves it open: the range of values, and the bands."""

import math
from dataclasses import dataclass
from typing import Literal

from san_cli.datasets.bad_image import MAX_PIXELS
from san_cli.errors import SanError
from san_cli.text import quoted

Range = tuple[float, float] | Literal["auto"]


@dataclass(frozen=True)
class Reading:
    """The way from an image's numbers to colours; by default as the file says."""

    range: Range | None = None  # what becomes black and white, for samples of more than 8 bits
    bands: tuple[int, ...] | None = None  # from 1: those shown as red, green, blue, or one as grey
    max_pixels: int = MAX_PIXELS  # of a file that the Python API is given; the command has --max-pixels

    def __post_init__(self) -> None:
        """SanError for what can't be meant."""
        if self.range is not None and self.range != "auto":
            _check_range(self.range)
        if self.bands is not None:
            _check_bands(self.bands)


AS_STORED = Reading()


def parse_range(text: str) -> Range:
    """`LO,HI` or `auto`. SanError for anything else."""
    if text.strip().lower() == "auto":
        return "auto"
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise _bad_range(text) from None
    _check_range((low, high))
    return low, high


def parse_bands(text: str) -> tuple[int, ...]:
    """`R,G,B` or one number for grey, counted from 1. SanError for anything else."""
    try:
        bands = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise _bad_bands(text) from None
    _check_bands(bands)
    return bands


def _check_range(range: tuple[float, float]) -> None:
    if len(range) != 2 or not all(isinstance(end, (int, float)) and math.isfinite(end) for end in range):
        raise _bad_range(str(range))
    low, high = range
    if not low < high or not math.isfinite(high - low):
        raise _bad_range(f"{low:g},{high:g}")


def _check_bands(bands: tuple[int, ...]) -> None:
    if len(bands) not in (1, 3) or not all(isinstance(band, int) and 1 <= band <= 65535 for band in bands):
        raise _bad_bands(",".join(map(str, bands)))


def _bad_range(text: str) -> SanError:
    return SanError(
        f"--range takes two numbers LO,HI with LO below HI, or auto; not {quoted(text)}",
        hint="--range 0,4095 suits a 12-bit camera; --range=-100,300 has a negative end.",
    )


def _bad_bands(text: str) -> SanError:
    return SanError(
        f"--bands takes three numbers R,G,B or one for grey, counted from 1; not {quoted(text)}",
        hint="--bands 1,2,3 leaves out what follows the third band; --bands 4,3,2 is usual for Sentinel-2.",
    )
