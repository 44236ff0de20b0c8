"""OpenCV's two resize rules on NumPy arrays, as ADE20K-847 was prepared with them.

Equal to OpenCV 4's `cv2.resize` on 8 bits pixel by pixel, without the dependency.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ONE = 2048  # weights have 11 fractional bits


def resize_nearest(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """[H, W] to [height, width] by INTER_NEAREST: pixel i is taken from floor(i / (new / old))."""
    rows = _nearest_index(pixels.shape[0], height)
    columns = _nearest_index(pixels.shape[1], width)
    return pixels[rows][:, columns]


def _nearest_index(old: int, new: int) -> NDArray[np.intp]:
    index = np.floor(np.arange(new) * (1.0 / (new / old))).astype(np.intp)
    return np.minimum(index, old - 1)


def resize_linear(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """uint8 [H, W] or [H, W, C] to [height, width(, C)] by INTER_LINEAR; no averaging when it shrinks.

    Two exceptions of OpenCV's own are kept: an exact half is the mean of four pixels, and the vertical pass
    drops low bits before it multiplies.
    """
    if pixels.shape[:2] == (2 * height, 2 * width):
        four = pixels.reshape(height, 2, width, 2, *pixels.shape[2:]).astype(np.int32).sum(axis=(1, 3))
        return ((four + 2) >> 2).astype(np.uint8)
    wide = pixels.reshape(pixels.shape[0], pixels.shape[1], -1).astype(np.int32)
    left, right, weights = _linear_taps(pixels.shape[1], width)
    across = wide[:, left] * weights[0][:, None] + wide[:, right] * weights[1][:, None]
    top, bottom, weights = _linear_taps(pixels.shape[0], height, inside=False)
    across >>= 4
    high = (across[top] * weights[0][:, None, None]) >> 16
    low = (across[bottom] * weights[1][:, None, None]) >> 16
    result = np.clip((high + low + 2) >> 2, 0, 255).astype(np.uint8)
    return result.reshape(height, width, *pixels.shape[2:])


def _linear_taps(
    old: int, new: int, *, inside: bool = True
) -> tuple[NDArray[np.intp], NDArray[np.intp], tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """For each new pixel the two old ones and their weights in units of 1/2048; positions are float32."""
    scale = 1.0 / (new / old)
    position = ((np.arange(new) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.intp)
    fraction = position - first.astype(np.float32)
    if inside:
        fraction = np.where((first < 0) | (first >= old - 1), np.float32(0), fraction)
    second = np.rint(fraction * np.float32(_ONE)).astype(np.int32)
    rest = np.rint((np.float32(1) - fraction) * np.float32(_ONE)).astype(np.int32)
    low = np.clip(first, 0, old - 1)
    return low, np.clip(first + 1, 0, old - 1), (rest, second)
