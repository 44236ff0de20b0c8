"""Steps that take another way for another size of image, each as one formula for all sizes, for `torch.export`.

A program is traced with one image and must hold for every other: there a branch on the size would be decided once and
for all, and a pooling's windows be those of that image. Eager code goes the faster ways in `clip.py` and
`side_adapter.py`; maxima are the same bits, positions differ by rounding.
"""

import math

import torch
from torch import Tensor

from san_cli.models.presets import PAD_TO, Preset

_SHARPNESS, _REACH = -0.75, 2  # of the bicubic kernel, as in PyTorch
_SIZES = 256  # multiples of PAD_TO that are looked at: more pixels than any image has at network size


def exporting() -> bool:
    """Tell whether `torch.export` is tracing; PyTorch before 2.7 can't say so, and isn't exported from."""
    return bool(getattr(torch.compiler, "is_exporting", bool)())


def resized_positions_of_any(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize learned positions of a square [1, side², width] to a grid bicubically: [1, hw, width].

    Two products with small matrices; for the learned grid itself they are the identity.
    """
    side = math.isqrt(positions.shape[1])
    # Beyond the border its last position counts.
    with_border = torch.arange(-_REACH, side + _REACH).clamp(0, side - 1)
    square = positions[0].unflatten(0, (side, side))[with_border][:, with_border]  # [side+4, side+4, width]
    down, across = (_bicubic(side, size) for size in grid)  # [h, side+4], [w, side+4]
    rows = (down @ square.flatten(1)).unflatten(1, (side + 2 * _REACH, -1))  # [h, side+4, width]
    return (across @ rows).flatten(0, 1)[None]


def fitting_positions_of_any(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize positions as above, but keep their layout where only the NUMBER of patches is the learned one."""
    learned, number = positions.shape[1], grid[0] * grid[1]
    as_they_are = positions[:, torch.arange(number) % learned]
    same = torch.full((), number) == learned
    return torch.where(same, as_they_are, resized_positions_of_any(positions, grid))


def _bicubic(size: int, to: int) -> Tensor:
    """Make the matrix [to, size+4] that resizes bicubically what has a border of two on either side.

    As `F.interpolate(align_corners=False)` does.
    """
    centre = (torch.arange(to) + 0.5) * (size / to) - 0.5
    distance = (centre[:, None] - torch.arange(-_REACH, size + _REACH)).abs().clamp(max=_REACH)
    near = ((_SHARPNESS + 2) * distance - (_SHARPNESS + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * (distance * _SHARPNESS) - 4 * _SHARPNESS
    return torch.where(distance <= 1, near, far)


def max_pool_of_any(maps: Tensor, grid: tuple[int, int], most: int) -> Tensor:
    """Pool [B, C, H', W'] adaptively (maximum) to `grid`, along one axis and then the other: bitwise the same.

    `most` is the length of the longest window, see `longest_window`.
    """
    for axis, to in ((2, grid[0]), (3, grid[1])):
        size = maps.shape[axis]
        place = torch.arange(to)
        first, last = place * size // to, ((place + 1) * size + to - 1) // to - 1  # of each window
        pooled = maps.index_select(axis, first)
        for step in range(1, most):
            pooled = torch.maximum(pooled, maps.index_select(axis, torch.minimum(first + step, last)))
        maps = pooled
    return maps


def longest_window(preset: Preset) -> int:
    """Return the length of the longest window when attention biases are pooled to CLIP's grid, whatever the image."""
    most = 1
    for size in range(PAD_TO, (_SIZES + 1) * PAD_TO, PAD_TO):
        side, clip = size // preset.side_patch_size, int(size * preset.clip_scale) // preset.clip.patch_size
        if clip:
            most = max(most, -(-side // clip) + (side % clip > 0))
    return most
