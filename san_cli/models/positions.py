"""Position embeddings for another grid of patches than they were learned on, CLIP's and the side adapter's."""

import torch.nn.functional as F
from torch import Tensor


def resized_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Learned positions of a square [1, side², width] for another grid of patches (bicubic), [1, grid's, width]."""
    side = round(positions.shape[1] ** 0.5)
    square = positions.transpose(1, 2).unflatten(2, (side, side))  # [1, width, side, side]
    resized = F.interpolate(square.float(), size=grid, mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2).to(positions.dtype)
