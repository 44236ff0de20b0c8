"""Results of the Python API for an image, and the error where there is none."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from san_cli.engine.given import ImageLike
from san_cli.engine.segmentation_map import SegmentationMap
from san_cli.errors import ExitCode, SanError, WrongType
from san_cli.outputs.overlay import render_overlay
from san_cli.regions.outlines import Polygon, polygons
from san_cli.regions.split import FoundRegion, split


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
    class_scores: np.ndarray  # [C] float32: mean winning score (Eq. 4) of each class's measured pixels
    class_confidences: np.ndarray  # [C] float32: mean confidence of each class's pixels, 0…1
    uncertain: float | None  # share of the pixels with data whose confidence is below 0.5
    scores: np.ndarray | None = None  # [H, W] float32: the winning score, with keep_scores
    confidence: np.ndarray | None = None  # [H, W] float32: its share of all evidence there, with keep_scores
    notes: tuple[str, ...] = ()  # what reading the image did to it, one line each

    def overlay(self, image: ImageLike) -> Image.Image:
        """Draw the image that was segmented under the colours of its classes, with outlines, names and a legend."""
        from san_cli.engine.saving import pixels_of

        return render_overlay(pixels_of(self, image), self.label_map, self.vocabulary)

    def regions(self) -> tuple[FoundRegion, ...]:
        """Find what hangs together by sides or corners: by class, each with area, box (x, y, w, h) and COCO's RLE."""
        return split(self.label_map, run_lengths=True)

    def polygons(self, simplify: float = 0.0) -> list[Polygon]:
        """Trace what hangs together by sides: outlines and holes along the edges of pixels.

        `simplify` leaves out corners such that no border moves by more than so many pixels.
        """
        if isinstance(simplify, bool) or not isinstance(simplify, int | float):
            raise WrongType(f"`simplify` is a number of pixels, not {type(simplify).__name__}")
        if not 0 <= simplify < math.inf:
            raise SanError(f"`simplify` is a number of pixels from 0 on, not {simplify}")
        return polygons(self.label_map, simplify=simplify)

    def save(
        self,
        path: str | os.PathLike[str],
        kinds: Sequence[str] | None = None,
        image: ImageLike | None = None,
    ) -> dict[str, Path]:
        """Write files as `san predict` does, named after `path`: of `out/cat` the labels are `out/cat.labels.png`.

        `kinds` are some of overlay, labels, labels-gray, scores, labelme, yolo, masks and cutouts; without them
        labels, and an overlay where the `image` is given. Returns the path of each, of masks and cutouts their
        folder. SanError for other kinds, and where an image or scores are wanting; OSError where writing fails.
        """
        from san_cli.engine.saving import save_results

        return save_results(self, path, kinds, image)


def segmentation_of(
    made: SegmentationMap, vocabulary: tuple[str, ...], notes: tuple[str, ...]
) -> Segmentation:
    """Make the result of the API of an image's maps."""
    return Segmentation(
        made.label_map,
        vocabulary,
        made.class_scores,
        made.class_confidences,
        made.uncertain,
        made.scores,
        made.confidence,
        notes,
    )


@dataclass(frozen=True)
class RawOutput:
    """The network's output for one image, before the label map is made; all float32."""

    mask_logits: np.ndarray  # [N, H/16, W/16]
    class_logits: np.ndarray  # [N, C+1], last column "no object"
    region_embeddings: np.ndarray  # [N, D], normalised
    text_embeddings: np.ndarray  # [words+1, D], normalised unless learned; last row the background


def is_finite(mask_logits: Tensor, class_logits: Tensor, regions: Tensor) -> Tensor:
    """Tell which images [B] of a batch have an output without NaN or infinity; the three are small (h, w: 1/16).

    A region embedding that overflowed before it was normalised has length 0 where it isn't NaN.
    """
    finite = (regions.square().sum(dim=-1) > 0.5).all(dim=1)
    for logits in (mask_logits.flatten(1), class_logits.flatten(1)):  # extremes: a tenth of isfinite()'s time
        finite = finite & logits.amax(dim=1).isfinite() & logits.amin(dim=1).isfinite()
    return finite
