"""Results of the Python API for an image, and the error where there is none."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from san_cli.errors import ExitCode, SanError


class NotFinite(SanError):
    """The network's output for an image is no number somewhere, so that no label map can be made of it."""

    def __init__(self, precision: torch.dtype) -> None:
        self.cause = f"the network's output is not finite (an overflow in {str(precision)[6:]})"
        way = (
            "Weights with numbers this large are damaged, or a training of them has diverged: take others."
            if precision == torch.float32
            else "Use --precision fp32; if that overflows, too, the weights are damaged or have diverged."
        )
        super().__init__(self.cause, hint=way, code=ExitCode.SOME_FAILED)


@dataclass(frozen=True)
class Segmentation:
    """A segmented image, at its own resolution."""

    label_map: np.ndarray  # [H, W] int16, index into vocabulary, or -1: unlabelled
    vocabulary: tuple[str, ...]
    class_scores: np.ndarray  # [C] float32: mean winning score (Eq. 4) of each class's pixels
    class_confidences: np.ndarray  # [C] float32: mean confidence of each class's pixels, 0…1
    uncertain: float | None  # share of the pixels with data whose confidence is below 0.5
    scores: np.ndarray | None = None  # [H, W] float32: the winning score, with keep_scores
    confidence: np.ndarray | None = None  # [H, W] float32: its share of all evidence there, with keep_scores
    notes: tuple[str, ...] = ()  # what reading the image did to it, one line each


@dataclass(frozen=True)
class RawOutput:
    """The network's output for one image, before the label map is made; all float32."""

    mask_logits: np.ndarray  # [N, H/16, W/16]
    class_logits: np.ndarray  # [N, C+1], last column "no object"
    region_embeddings: np.ndarray  # [N, D], normalised
    text_embeddings: np.ndarray  # [words+1, D], normalised, last row the learned background


def is_finite(mask_logits: Tensor, class_logits: Tensor, regions: Tensor) -> Tensor:
    """Tell which images [B] of a batch have an output without NaN or infinity; the three are small (h, w: 1/16).

    A region embedding that overflowed before it was normalised has length 0 where it isn't NaN.
    """
    finite = (regions.square().sum(dim=-1) > 0.5).all(dim=1)
    for logits in (mask_logits.flatten(1), class_logits.flatten(1)):  # extremes: a tenth of isfinite()'s time
        finite = finite & logits.amax(dim=1).isfinite() & logits.amin(dim=1).isfinite()
    return finite
