"""The formulas for all sizes are the eager code's: maxima to the bit, positions to rounding."""

from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from san_cli.models.any_size import (
    fitting_positions_of_any,
    longest_window,
    max_pool_of_any,
    resized_positions_of_any,
)
from san_cli.models.clip import resized_positions
from san_cli.models.presets import PRESETS, VIT_B_16

_SIDES = st.integers(1, 24)


@given(_SIDES, _SIDES, st.integers(2, 12))
def test_positions_are_resized_as_by_pytorch(height: int, width: int, side: int) -> None:
    learned = torch.randn(1, side**2, 3, generator=torch.Generator().manual_seed(height))
    resized = resized_positions_of_any(learned, (height, width))
    torch.testing.assert_close(resized, resized_positions(learned, (height, width)), atol=2e-5, rtol=0)
    assert torch.equal(resized_positions_of_any(learned, (side, side)), learned)


def test_positions_keep_their_layout_where_their_number_fits() -> None:
    learned = torch.randn(1, 36, 3)
    for grid in ((6, 6), (4, 9), (36, 1)):
        assert torch.equal(fitting_positions_of_any(learned, grid), learned)
    assert torch.equal(fitting_positions_of_any(learned, (7, 5)), resized_positions_of_any(learned, (7, 5)))


@given(st.data())
def test_pooling_is_pytorch_s_to_the_bit(data: Any) -> None:
    size, grid = [], []
    for _ in range(2):
        size.append(data.draw(st.integers(1, 20)))
        grid.append(data.draw(st.integers(1, size[-1])))
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(sum(grid)))
    most = max(-(-one // to) + (one % to > 0) for one, to in zip(size, grid, strict=True))
    pooled = max_pool_of_any(maps, (grid[0], grid[1]), most)
    assert torch.equal(pooled, F.adaptive_max_pool2d(maps, grid))


def test_the_longest_window_is_that_of_the_sizes_that_occur() -> None:
    assert longest_window(VIT_B_16) == 2  # CLIP's grid is always half as fine
    for preset in PRESETS.values():
        for height in range(32, 2561, 32):
            side, clip = (
                height // preset.side_patch_size,
                int(height * preset.clip_scale) // preset.clip.patch_size,
            )
            maps = torch.randn(1, 1, side, 1)
            if clip:
                pooled = max_pool_of_any(maps, (clip, 1), longest_window(preset))
                assert torch.equal(pooled, F.adaptive_max_pool2d(maps, (clip, 1))), (preset.name, height)
