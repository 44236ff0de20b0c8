"""8-bit RGB to 8-bit HSV and back, as OpenCV does it: hue in steps of 2 degrees (0 to 179).

The training's colour jitter goes through these two, and their rounding is part of it: OpenCV's fixed-point
tables on the way there, single precision and truncation on the way back (what its vector code does; the last few
columns of an image whose width is no multiple of a vector are rounded instead, which is not repeated here).
Pillow's HSV has other steps of hue: of random pixels turned by 20 degrees 92 % would differ, by up to 16 levels.
"""

import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.uint8]  # [3, ...]

HUES = 180
_BITS = 12  # of the fraction in the two tables of reciprocals


def _reciprocals(numerator: float) -> NDArray[np.int32]:
    table = np.zeros(256, np.int32)  # what has no value or no saturation is divided by nothing
    table[1:] = np.rint(numerator * (1 << _BITS) / np.arange(1, 256))
    return table


_PER_VALUE = _reciprocals(255)
_PER_CHROMA = _reciprocals(HUES / 6)


def _weights(falling: int, rising: int) -> NDArray[np.float32]:
    """By hue: the share of the chroma that a channel lacks, which falls in one sector and rises in another.

    The channel has all of it in the two sectors after the one where the share falls, none in the other two.
    """
    sector, fraction = np.divmod(np.arange(HUES, dtype=np.float32) * np.float32(6 / HUES), np.float32(1))
    weights = np.ones(HUES, np.float32)
    weights[(sector == (falling + 1) % 6) | (sector == (falling + 2) % 6)] = 0
    weights[sector == falling] = 1 - fraction[sector == falling]
    weights[sector == rising] = fraction[sector == rising]
    return weights


_LACKS = (_weights(4, 1), _weights(0, 3), _weights(2, 5))  # red, green, blue


def rgb_to_hsv(rgb: Planes) -> Planes:
    """uint8 RGB [3, ...] to uint8 hue (0 to 179, 0 for grey), saturation and value [3, ...]."""
    red, green, blue = rgb
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    signed = rgb.astype(np.int16)
    step = 2 * chroma.astype(np.int16)
    from_green, from_blue = signed[2] - signed[0] + step, signed[0] - signed[1] + 2 * step
    distance = np.where(red == value, signed[1] - signed[2], np.where(green == value, from_green, from_blue))
    half = 1 << (_BITS - 1)
    hue = (distance * _PER_CHROMA.take(chroma) + half) >> _BITS
    hsv = np.empty_like(rgb)
    hsv[0] = hue + (hue >> 31 & HUES)  # what is negative has all its upper bits set
    hsv[1] = (chroma * _PER_VALUE.take(value) + half) >> _BITS
    hsv[2] = value
    return hsv


def hsv_to_rgb(hsv: Planes) -> Planes:
    """uint8 HSV [3, ...] (hue below 180) to uint8 RGB [3, ...], truncated to whole numbers."""
    hue = hsv[0].astype(np.intp)
    saturation, value = hsv[1:] * np.float32(1 / 255)
    rgb = np.empty_like(hsv)
    for plane, lacks in zip(rgb, _LACKS, strict=True):
        share = lacks.take(hue)
        share *= saturation
        np.subtract(1, share, out=share)
        share *= value
        share *= 255
        plane[...] = share
    return rgb
