"""Whole pixels as decimal fractions of a side, which come back whole however a reader computes."""

from functools import lru_cache

import numpy as np

_ERROR = 0.1  # of a pixel at most


@lru_cache(maxsize=16)
def fractions(side: int, whole: int = 1) -> tuple[str, ...]:
    """Return 0 … `side` pixels in decimals, as parts of a side that is `whole` (1, or 100 for percent).

    All have as few digits as keep them within a tenth of a pixel, so that neighbours who share a border get the same
    numbers. They are rounded up: multiplied by `side`, in 32 bits too, they give the pixel or a little more, so
    readers that cut and readers that round both get it exactly. 65,500 pixels, as many as a JPEG has, take 6 digits.
    """
    digits = max(3, len(str(int(side / _ERROR) - 1)))
    pixel = np.arange(side + 1)
    number = -(-pixel * 10**digits // side)
    while len(short := np.flatnonzero(_read(number, digits, side) < pixel)):
        number[short] += 1
    shift = len(str(whole)) - 1
    return tuple(_text(one, digits - shift) for one in number.tolist())


def _read(number: np.ndarray, digits: int, side: int) -> np.ndarray:
    """Multiply as a reader does that stores the fractions in 32 bits."""
    return (number / 10**digits).astype(np.float32) * np.float32(side)


def _text(number: int, digits: int) -> str:
    """Write `number` / 10^`digits` without zeros at its end."""
    text = str(number).zfill(digits + 1)
    return f"{text[:-digits]}.{text[-digits:]}".rstrip("0").rstrip(".")
