"""Points at which masks are compared instead of whole masks: drawn, chosen by uncertainty, looked up.

A point is (x, y) in [0, 1) of the padded input's width and height. B images, M masks, P points per mask, C classes.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Draw = Callable[[int, int, str, tuple[int, ...]], Tensor]
"""(decoded layer, 0 the final one; image in this batch; purpose; shape) to uniform numbers in [0, 1), float32."""

OVERSAMPLING = 3  # candidates per point
UNCERTAIN = 0.75  # of the points; the rest lie anywhere


def seeded_draw(seed: int, step: int, slots: Sequence[int], device: torch.device) -> Draw:
    """Numbers that depend on the seed, the step and the image's place in the whole step's batch alone.

    `slots[i]` is that place of the i-th image here: whichever process or micro-batch an image comes to, its
    points are the same.
    """
    generator = torch.Generator(device)

    def draw(layer: int, image: int, purpose: str, shape: tuple[int, ...]) -> Tensor:
        key = f"{seed} {step} {slots[image]} {layer} {purpose}".encode()
        generator.manual_seed(int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big"))
        return torch.rand(shape, generator=generator, device=device)

    return draw


def sample_logits(mask_logits: Tensor, points: Tensor) -> Tensor:
    """Mask logits [M, N, h, w] at `points` [M, P, 2] as [M, N, P]: bilinear, zero beyond the border."""
    return F.grid_sample(mask_logits, 2 * points[:, None] - 1, align_corners=False)[:, :, 0]


def sample_masks(label_maps: Tensor, images: Tensor, classes: Tensor, points: Tensor) -> Tensor:
    """Sample the binary masks of `classes` [M, C] at `points` [M, P, 2] of `images` [M]: [M, C, P] in [0, 1].

    The same as sampling the masks `label_maps[images] == classes` like logits, without making them: 100 masks of
    640 × 640 would be 164 MB. `label_maps` [B, H, W] is of any integer type.
    """
    height, width = label_maps.shape[1:]
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5  # [M, P] pixels, 0 the first's centre
    left, top = x.floor(), y.floor()
    labels = label_maps.flatten()
    values = torch.zeros((*classes.shape, points.shape[1]), device=points.device)
    for column, across in ((left, left + 1 - x), (left + 1, x - left)):
        for row, down in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            label = labels[images[:, None] * (height * width) + place]  # [M, P]
            values += (across * down * inside)[:, None] * (label[:, None] == classes[:, :, None])
    return values


def uncertain_points(mask_logits: Tensor, candidates: Tensor, anywhere: Tensor, count: int) -> Tensor:
    """Return the `count` of `candidates` [M, K, 2] nearest the masks' borders (logit 0), then `anywhere` [M, R, 2].

    `mask_logits` [M, h, w]; returns [M, count+R, 2].
    """
    uncertainty = -sample_logits(mask_logits[:, None], candidates)[:, 0].abs()  # [M, K]
    chosen = uncertainty.topk(count, dim=1).indices
    return torch.cat([candidates.gather(1, chosen[..., None].expand(-1, -1, 2)), anywhere], dim=1)


@torch.no_grad()
def draw_uncertain_points(
    mask_logits: Tensor, masks_of: Sequence[int], points: int, layer: int, draw: Draw
) -> Tensor:
    """Points [M, P, 2] for the loss of `mask_logits` [M, h, w], of which `masks_of[i]` in turn are image i's."""
    near = int(UNCERTAIN * points)

    def drawn(purpose: str, number: int) -> Tensor:
        return torch.cat([draw(layer, i, purpose, (m, number, 2)) for i, m in enumerate(masks_of)])

    candidates = drawn("candidates", OVERSAMPLING * points)
    return uncertain_points(mask_logits, candidates, drawn("anywhere", points - near), near)
