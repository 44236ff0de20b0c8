"""Mask logits on their way to the output: resized and squashed a block of pixels at a time.

Both bilinear resizes of the official code, and the crop between them, are one small matrix for each axis. A block's
masks are two products with them, so that masks never stand at full size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from san_cli.models.presets import PAD_TO

_CPU_BLOCK = 1 << 14  # pixels a block: a block's masks (100 × 16,384 floats) stay in the last-level cache
_GPU_BLOCK = 1 << 19


@dataclass(frozen=True)
class Frame:
    """The three sizes (height, width) in pixels that a mask passes through on its way to the output."""

    padded: tuple[int, int]  # the network's input
    resized: tuple[int, int]  # the part of it that is image (top left)
    output: tuple[int, int]  # the label map


def frame_of(resized: np.ndarray, output: tuple[int, int]) -> Frame:
    """Give the sizes on the way from an image [h, w, 3] at network size to a label map of `output`."""
    height, width = resized.shape[:2]
    return Frame((height + -height % PAD_TO, width + -width % PAD_TO), (height, width), output)


@dataclass(frozen=True)
class ResizedMasks:
    """Masks of a forward pass, and the matrices that resize them."""

    queries_last: Tensor  # [h, w, N] logits
    down: NDArray[np.float32]  # [H, h]
    across: NDArray[np.float32]  # [W, w]

    def blocks(self, rows: slice, columns: slice, step: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows of the output, masks [their pixels in `columns`, N] in 0..1), `step` rows at a time."""
        device, queries = self.queries_last.device, self.queries_last.shape[2]
        weights = torch.from_numpy(self.across[columns]).to(device)
        wide, first = torch.empty(0, len(weights), queries, device=device), 0  # coarse rows from `first` on
        for top in range(rows.start, rows.stop, step):
            block = slice(top, min(top + step, rows.stop))
            used = np.flatnonzero(self.down[block].any(axis=0))
            start, stop = int(used[0]), int(used[-1]) + 1
            have = max(start, first + len(wide))  # rows above are there from the block before
            fresh = weights @ self.queries_last[have:stop]  # [new coarse rows, columns, N]
            wide, first = torch.cat([wide[start - first :], fresh]), start
            share = torch.from_numpy(self.down[block, start:stop].copy()).to(device)
            yield block, (share @ wide.flatten(1)).sigmoid_().view(-1, queries)

    def at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Tensor:
        """Return masks [P, N] in 0..1 at P pixels of the output."""
        device = self.queries_last.device
        wide = torch.einsum("ph,hwn->pwn", torch.from_numpy(self.down[rows]).to(device), self.queries_last)
        across = torch.from_numpy(self.across[columns]).to(device)
        return torch.einsum("pwn,pw->pn", wide, across).sigmoid_()


def resized_masks(mask_logits: Tensor, frame: Frame) -> ResizedMasks:
    """Prepare the mask logits [N, h, w] of a forward pass for the output of `frame`."""
    return ResizedMasks(
        mask_logits.permute(1, 2, 0).contiguous(),
        _two_resizes(mask_logits.shape[1], frame.padded[0], frame.resized[0], frame.output[0]),
        _two_resizes(mask_logits.shape[2], frame.padded[1], frame.resized[1], frame.output[1]),
    )


def block_pixels(device: torch.device) -> int:
    """Return how many pixels of the masks of one forward pass are best made at a time."""
    return _CPU_BLOCK if device.type == "cpu" else _GPU_BLOCK


@lru_cache(maxsize=8)
def _two_resizes(coarse: int, padded: int, resized: int, output: int) -> NDArray[np.float32]:
    """The weights [output, coarse] of both bilinear resizes and the crop between, along one axis."""
    low, high, share = neighbours(coarse, padded)
    first = np.zeros((padded, coarse))
    np.add.at(first, (np.arange(padded), low), 1 - share)
    np.add.at(first, (np.arange(padded), high), share)
    low, high, share = neighbours(resized, output)
    share = share[:, None]
    return (first[low] * (1 - share) + first[high] * share).astype(np.float32)


def neighbours(size: int, to: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two sources of each of `to` pixels and the second one's share, in bilinear resizing from `size`.

    As in `F.interpolate(align_corners=False)`, coordinates being computed in float32 so that they round alike.
    """
    scale = np.float32(size) / np.float32(to)
    centre = np.maximum(scale * (np.arange(to, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    low = np.minimum(centre.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), (centre - low).astype(np.float32)
