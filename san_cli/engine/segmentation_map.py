"""From mask and class logits to a label map: `S = M × Pᵀ` (Eq. 4) and its argmax."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

UNLABELLED = -1


@dataclass(frozen=True)
class Frame:
    """The three sizes (height, width) in pixels that a mask passes through on its way to the output."""

    padded: tuple[int, int]  # the network's input
    resized: tuple[int, int]  # the part of it that is image (top left)
    output: tuple[int, int]  # the label map


@dataclass(frozen=True)
class SegmentationMap:
    """A label map and what was learned while making it."""

    label_map: np.ndarray  # [H, W] int16, class index or UNLABELLED
    class_scores: np.ndarray  # [C] float32: mean winning score over a class's pixels, 0 where it has none
    scores: np.ndarray | None = None  # [H, W] float32, the winning score per pixel, where asked for


def segmentation_scores(mask_logits: Tensor, class_probabilities: Tensor, frame: Frame) -> Tensor:
    """The plain formula: scores [C, H, W] of class c at a pixel, sum over queries of P[q, c] * sigmoid(M[q]).

    `mask_logits` [N, h, w] are resized bilinearly to the padded input, cropped, and resized again to the
    output, both always, and only then squashed (official code). `class_probabilities` is [N, C].
    """
    return torch.einsum("qc,qhw->chw", class_probabilities, resize_mask_logits(mask_logits, frame).sigmoid())


def resize_mask_logits(mask_logits: Tensor, frame: Frame) -> Tensor:
    """Mask logits [N, h, w] at output size [N, H, W], by the official code's two steps."""
    padded = F.interpolate(mask_logits[None], size=frame.padded, mode="bilinear", align_corners=False)
    inside = padded[:, :, : frame.resized[0], : frame.resized[1]]
    return F.interpolate(inside, size=frame.output, mode="bilinear", align_corners=False)[0]


def segmentation_map(
    mask_logits: Tensor,
    class_probabilities: Tensor,
    frame: Frame,
    *,
    min_score: float = 0.0,
    keep_scores: bool = False,
) -> SegmentationMap:
    """The label map of mask logits [N, h, w] under class probabilities [N, C]."""
    scores, label_map = segmentation_scores(mask_logits, class_probabilities, frame).max(dim=0)
    classes = class_probabilities.shape[1]
    label_map[scores < min_score] = UNLABELLED
    labelled = label_map >= 0
    pixels = torch.bincount(label_map[labelled], minlength=classes)
    sums = torch.bincount(label_map[labelled], weights=scores[labelled].double(), minlength=classes)
    return SegmentationMap(
        label_map.to(torch.int16).cpu().numpy(),
        (sums / pixels.clamp(min=1)).float().cpu().numpy(),
        scores.cpu().numpy() if keep_scores else None,
    )
