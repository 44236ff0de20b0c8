"""The colour jitter of SSD (Liu et al., 2016), as the official training applies it to 8-bit pixels.

Each of the four changes happens with probability 1/2 and ends in whole 8-bit numbers, so each is a table of 256
values: of all three colours (brightness, contrast) or of one plane of the HSV image (saturation, hue).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from san_cli.train.hsv import HUES, Planes, hsv_to_rgb, rgb_to_hsv

_LEVELS = np.arange(256, dtype=np.float32)
_HUE, _SATURATION = 0, 1
_BAND = 1 << 14  # pixels changed at a time, so that what is computed on the way stays in the cache


@dataclass(frozen=True)
class Step:
    """One change: `table` holds what each level becomes, in plane `hsv_plane` of the HSV image or in RGB (None)."""

    table: NDArray[np.uint8]  # [256]
    hsv_plane: int | None = None


def draw_jitter(generator: np.random.Generator) -> tuple[Step, ...]:
    """Draw the changes for one image: brightness ± 32 first; contrast × 0.5 to 1.5 next or last; between them
    saturation × 0.5 to 1.5 and hue ± 18 of 180."""
    brightness = _chosen(generator, Step(_linear(offset=generator.uniform(-32, 32))))
    contrast = _chosen(generator, Step(_linear(factor=generator.uniform(0.5, 1.5))))
    saturation = _chosen(generator, Step(_linear(factor=generator.uniform(0.5, 1.5)), _SATURATION))
    hue = _chosen(generator, Step(_turned(int(generator.integers(-18, 19))), _HUE))
    if generator.random() < 0.5:
        return (*brightness, *contrast, *saturation, *hue)
    return (*brightness, *saturation, *hue, *contrast)


def apply_jitter(rgb: Planes, steps: tuple[Step, ...]) -> None:
    """Change uint8 RGB [3, H, W] in place."""
    if not steps:
        return
    rows = max(1, _BAND // rgb.shape[2])
    for top in range(0, rgb.shape[1], rows):
        band = np.ascontiguousarray(rgb[:, top : top + rows])
        for step in steps:
            band = _apply(band, step)
        rgb[:, top : top + rows] = band


def _apply(rgb: Planes, step: Step) -> Planes:
    if step.hsv_plane is None:
        return step.table.take(rgb)
    hsv = rgb_to_hsv(rgb)
    hsv[step.hsv_plane] = step.table.take(hsv[step.hsv_plane])
    return hsv_to_rgb(hsv)


def _chosen(generator: np.random.Generator, step: Step) -> tuple[Step, ...]:
    return (step,) if generator.random() < 0.5 else ()


def _linear(factor: float = 1.0, offset: float = 0.0) -> NDArray[np.uint8]:
    """In single precision, clipped and then truncated."""
    return np.clip(_LEVELS * np.float32(factor) + np.float32(offset), 0, 255).astype(np.uint8)


def _turned(steps: int) -> NDArray[np.uint8]:
    return ((np.arange(256) + steps) % HUES).astype(np.uint8)
