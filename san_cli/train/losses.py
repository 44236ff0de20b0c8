"""The training loss (Eq. 5), with deep supervision: every decoded layer is matched and judged by itself.

B images, N queries, C classes, M matched queries of the whole batch, P points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.train.matcher import LossWeights, match
from san_cli.train.points import Draw, draw_uncertain_points, sample_logits, sample_masks
from san_cli.train.targets import Targets

POINTS = 12544  # 112 × 112
WEIGHTS = LossWeights()


@dataclass(frozen=True)
class Normalisers:
    """Divisors of the loss: sums over ALL images of a step, in every process and micro-batch.

    They are known before any forward pass, so the losses and gradients of the parts of a step simply add up.
    """

    masks: float  # targets, each as often as queries answer for it
    class_weight: float  # 1 for each matched query, `no_object` for each other


@dataclass(frozen=True)
class SetLoss:
    """The loss of a batch, a summand of its step's."""

    terms: dict[
        str, Tensor
    ]  # ce, mask, dice of the final layer, then ce_0, … of the others; unweighted scalars
    total: Tensor  # Eq. 5 over all layers, to be differentiated
    per_image: Tensor  # [B], detached: each image's share of the total


def normalisers_of(targets: Sequence[Targets], queries: int, weights: LossWeights = WEIGHTS) -> Normalisers:
    """Return the sums over these images; add up both numbers over the parts of a step."""
    present = [len(t.classes) for t in targets]
    counts = [count * weights.answers(count, queries) for count in present]
    matched = sum(min(queries, count) for count in counts)
    others = queries * len(counts) - matched
    return Normalisers(float(sum(counts)), matched + weights.no_object * others)


def set_loss(
    outputs: Sequence[tuple[Tensor, Tensor]],
    targets: Sequence[Targets],
    normalisers: Normalisers,
    draw: Draw,
    weights: LossWeights = WEIGHTS,
    points: int = POINTS,
) -> SetLoss:
    """Eq. 5 for (class logits [B, N, C+1], mask logits [B, N, h, w]) of each decoded layer, the final one first.

    Computed in float32 whatever the logits are. All label maps have one size, that of the network's input. Not
    finite where the logits aren't; without any target the masks' terms are 0 and everything still has a gradient.
    """
    each: dict[str, Tensor] = {}
    with torch.autocast(outputs[0][0].device.type, enabled=False):
        for layer, (class_logits, mask_logits) in enumerate(outputs):
            suffix = f"_{layer - 1}" if layer else ""
            logits = class_logits.float(), mask_logits.float()
            ce, mask, dice = _layer_loss(*logits, targets, draw, layer, weights, points)
            each[f"ce{suffix}"] = ce / normalisers.class_weight
            each[f"mask{suffix}"] = mask / max(normalisers.masks, 1)
            each[f"dice{suffix}"] = dice / max(normalisers.masks, 1)
        weight = {name: getattr(weights, name.split("_")[0]) for name in each}
        per_image = torch.stack([weight[name] * term for name, term in each.items()]).sum(dim=0)
    terms = {name: term.sum() for name, term in each.items()}
    return SetLoss(terms, per_image.sum(), per_image.detach())


def _layer_loss(
    class_logits: Tensor,
    mask_logits: Tensor,
    targets: Sequence[Targets],
    draw: Draw,
    layer: int,
    weights: LossWeights,
    points: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy, mask and dice loss of each image: three [B], not normalised."""
    batch, _, no_object = (*class_logits.shape[:2], class_logits.shape[2] - 1)
    shared = torch.stack([draw(layer, image, "match", (points, 2)) for image in range(batch)])
    pairs = match(class_logits, mask_logits, targets, shared, weights)
    images, queries, classes = _matched(pairs, targets)

    wanted = torch.full_like(class_logits[..., 0], no_object, dtype=torch.long)  # [B, N]
    wanted[images, queries] = classes
    importance = torch.ones_like(class_logits[0, 0])
    importance[no_object] = weights.no_object
    ce = F.cross_entropy(class_logits.transpose(1, 2), wanted, importance, reduction="none").sum(dim=1)

    masks = mask_logits[images, queries]  # [M, h, w]
    where = draw_uncertain_points(masks, [len(chosen) for _, chosen in pairs], points, layer, draw)
    logits = sample_logits(masks[:, None], where)[:, 0]  # [M, P]
    label_maps = torch.stack([t.label_map for t in targets])
    truth = sample_masks(label_maps, images, classes[:, None], where)[:, 0]
    bce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=1)
    none = ce.new_zeros(batch)
    return ce, none.index_add(0, images, bce), none.index_add(0, images, dice_loss(logits, truth))


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - (2 |A and B| + 1) / (|A| + |B| + 1) of each mask [M], from logits and truth [M, P]."""
    inside = logits.sigmoid()
    return 1 - (2 * (inside * truth).sum(dim=1) + 1) / (inside.sum(dim=1) + truth.sum(dim=1) + 1)


def _matched(
    pairs: Sequence[tuple[Tensor, Tensor]], targets: Sequence[Targets]
) -> tuple[Tensor, Tensor, Tensor]:
    """Image, query and class of each match, three int64 [M] on the targets' device; images in order."""
    all_classes = torch.cat([t.classes for t in targets])
    rows, before = [], 0
    for image, (queries, chosen) in enumerate(pairs):
        rows.append(torch.stack([torch.full_like(queries, image), queries, chosen + before]))
        before += len(targets[image].classes)
    images, queries, places = torch.cat(rows, dim=1).to(all_classes.device)
    return images, queries, all_classes[places]
