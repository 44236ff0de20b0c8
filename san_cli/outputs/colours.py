"""A colour for every class name, the same in every picture, vocabulary and run.

The colour is a hash of the name, so no vocabulary can shift it; two names may then be close, and from some
60 classes on no scheme keeps them apart: outlines, names in the picture and the legend do the rest.
Colours are drawn in OKLCH (Ottosson 2020), where equal steps look equal: every hue, but lightness and chroma
within bounds that read on a photograph without shouting.
"""

import hashlib
import math
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Picked from 110 million: sky and sea come out blue, tree and grass green, road mauve, person coral, and
# names that often share a photograph far apart. Another salt is as right, but changes every colour.
_SALT = (227365456).to_bytes(4, "big")
_LIGHTNESS = 0.50, 0.87
_CHROMA = 0.06, 0.19


@lru_cache(maxsize=4096)
def colour_of(name: str) -> tuple[int, int, int]:
    """Return the sRGB colour (0 … 255) of a class name; case and the amount of blank space don't matter."""
    key = " ".join(unicodedata.normalize("NFC", name).casefold().split())
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, salt=_SALT).digest()
    hue = int.from_bytes(digest[:2], "big") / 2**16 * math.tau
    lightness = _between(*_LIGHTNESS, digest[2])
    chroma = _between(*_CHROMA, digest[3])
    while not all(0 <= channel <= 1 for channel in _linear_srgb(lightness, chroma, hue)):
        chroma *= 0.97  # some hues are less colourful on a screen than others
    red, green, blue = (_gamma_encoded(channel) for channel in _linear_srgb(lightness, chroma, hue))
    return red, green, blue


def palette(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return the colours [C, 3] of `names` [C]."""
    return np.array([colour_of(name) for name in names], np.uint8).reshape(-1, 3)


def _between(low: float, high: float, byte: int) -> float:
    return low + (high - low) * byte / 255


def _linear_srgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """Convert OKLCH to linear sRGB; outside 0 … 1 where a screen can't show the colour."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma_encoded(linear: float) -> int:
    """Return a channel of linear sRGB as the byte that a screen expects."""
    encoded = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * encoded)
