"""Matching of queries and targets: the one of least cost (Sec. 3, as in MaskFormer [7]).

One query a target in the paper; more where the recipe says so.

B images, N queries, T targets, C classes, P points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from san_cli.train.points import sample_logits, sample_masks
from san_cli.train.targets import Targets

WORST = (
    1e9  # stands for a cost that is not finite, so that the matching ends; the loss won't be finite either
)


@dataclass(frozen=True)
class LossWeights:
    """The weights of Eq. 5, in the matching as in the loss; `no_object` counts queries without a target.

    `queries_per_mask` queries answer for each target: 1 in the paper; more teach more queries in each step.
    """

    ce: float = 2.0
    mask: float = 5.0
    dice: float = 5.0
    no_object: float = 0.1
    queries_per_mask: int = 1

    def answers(self, targets: int, queries: int) -> int:
        """Return how many queries answer for each of an image's `targets`: fewer where queries are few."""
        return max(1, min(self.queries_per_mask, queries // max(targets, 1)))


@torch.no_grad()
def match(
    class_logits: Tensor,
    mask_logits: Tensor,
    targets: Sequence[Targets],
    points: Tensor,
    weights: LossWeights,
) -> list[tuple[Tensor, Tensor]]:
    """For each image the matched queries and their targets: two int64 [min(N, T)] on the CPU, queries ascending.

    Shapes as in `matching_costs`. With several queries per mask, each target comes as often.
    """
    costs = matching_costs(class_logits, mask_logits, targets, points, weights)
    costs = torch.where(costs.isfinite(), costs, WORST).cpu()
    pairs = []
    for cost, present in zip(costs, (len(t.classes) for t in targets), strict=True):
        copies = cost[:, :present].repeat(1, weights.answers(present, len(cost)))
        queries, chosen = linear_sum_assignment(copies)
        pairs.append((torch.from_numpy(queries), torch.from_numpy(chosen) % max(present, 1)))
    return pairs


def matching_costs(
    class_logits: Tensor,
    mask_logits: Tensor,
    targets: Sequence[Targets],
    points: Tensor,
    weights: LossWeights,
) -> Tensor:
    """Return the cost [B, N, T] of each query for each target, float32; T is the most that any image has.

    `class_logits` [B, N, C+1], `mask_logits` [B, N, h, w]; `points` [B, P, 2] are shared by an image's masks.
    Columns beyond an image's own targets mean nothing.
    """
    classes = pad_sequence([t.classes for t in targets], batch_first=True)  # [B, T]
    label_maps = torch.stack([t.label_map for t in targets])
    images = torch.arange(len(targets), device=points.device)
    masks = sample_masks(label_maps, images, classes, points)  # [B, T, P]
    logits = sample_logits(mask_logits.float(), points)  # [B, N, P]

    probabilities = class_logits.float().softmax(dim=-1)
    ce = -probabilities.gather(2, classes[:, None].expand(-1, logits.shape[1], -1))
    return weights.ce * ce + weights.mask * _bce(logits, masks) + weights.dice * _dice(logits, masks)


def _bce(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean binary cross-entropy [B, N, T] of each [B, N, P] with each [B, T, P]: softplus(x) - x t."""
    softplus = F.softplus(logits).mean(dim=-1, keepdim=True)
    return softplus - logits @ masks.transpose(1, 2) / logits.shape[-1]


def _dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice loss [B, N, T] of each [B, N, P] with each [B, T, P]."""
    inside = logits.sigmoid()
    both = inside @ masks.transpose(1, 2)
    either = inside.sum(dim=-1, keepdim=True) + masks.sum(dim=-1)[:, None]
    return 1 - (2 * both + 1) / (either + 1)
