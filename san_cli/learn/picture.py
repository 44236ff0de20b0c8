"""A labelled picture as the frozen model sees it: regions, masks on a coarse grid, and where the classes are."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from san_cli.datasets.labels import Labels
from san_cli.engine.mask_blocks import frame_of, resized_masks
from san_cli.engine.segmenter import Segmenter
from san_cli.regions.parts import connected
from san_cli.vocabulary.grammar import Vocabulary

CELL = 8  # pixels of the network's input: masks have 16, and small things should not fall between cells
MOST_PARTS = 50  # of a class in a picture, the largest
SMALLEST = 4  # cells of a part


@dataclass(frozen=True)
class Picture:
    """What `san vocab learn` keeps of a picture."""

    name: str
    regions: Tensor  # [N, D] float32, normalised
    class_logits: Tensor  # [N, C+1] float32, of plain words; the last one is "no object"
    masks: Tensor  # [cells, N] float16, 0..1
    labels: NDArray[np.int32]  # [h, w] cells: class of the vocabulary, -1 for anything else

    def others(self, index: int) -> Tensor:
        """Give the logarithm [N] of what all classes but one, and "no object", come to: ln Σ exp(logit)."""
        logits = self.class_logits.clone()
        logits[:, index] = -torch.inf
        return logits.logsumexp(dim=1)

    def overlaps(self, index: int) -> Tensor:
        """IoU [shapes, N] of the masks with all of a class and each connected part; none where it isn't."""
        there = self.labels == index
        if not there.any():
            return torch.zeros(0, self.masks.shape[1])
        shapes = torch.from_numpy(_shapes(there)).float()  # [shapes, cells]
        masks = self.masks.float()
        shared = shapes @ masks
        return shared / (shapes.sum(dim=1)[:, None] + masks.sum(dim=0) - shared)

    def counted(self, index: int, row_logits: Tensor | None = None) -> tuple[int, int]:
        """Count cells that are rightly given to a class, and those that are or should be: intersection and union.

        `row_logits` [N] stand in for its own.
        """
        logits = self.class_logits
        if row_logits is not None:
            logits = logits.clone()
            logits[:, index] = row_logits
        probabilities = logits.softmax(dim=1)[:, :-1]  # [N, C]
        won = ((self.masks.float() @ probabilities).argmax(dim=1) == index).numpy()  # [cells]
        there = (self.labels == index).ravel()
        return int((won & there).sum()), int((won | there).sum())


def look_at(
    segmenter: Segmenter,
    vocabulary: Vocabulary,
    image: NDArray[np.uint8],
    labels: Labels,
    class_of: NDArray[np.int32],
    name: str,
) -> Picture:
    """Run the network on an RGB image [H, W, 3] with its ids [H, W]; `class_of` [65536] are the vocabulary's classes.

    Raises NotFinite.
    """
    resized = segmenter.resize(image)
    raw = segmenter.raw(resized, vocabulary)
    height, width = (max(1, round(side / CELL)) for side in resized.shape[:2])
    masks = resized_masks(torch.from_numpy(raw.mask_logits), frame_of(resized, (height, width)))
    ((_, cells),) = masks.blocks(slice(0, height), slice(0, width), height)
    # The label of a cell is the one at its centre.
    rows, columns = _centres(labels.shape[0], height), _centres(labels.shape[1], width)
    return Picture(
        name,
        torch.from_numpy(raw.region_embeddings).float(),
        torch.from_numpy(raw.class_logits),
        cells.half(),
        class_of[labels[np.ix_(rows, columns)]],
    )


def _centres(size: int, cells: int) -> NDArray[np.int64]:
    """Pixels [cells] at the centres of equal parts of `size` pixels."""
    return ((np.arange(cells) + 0.5) * size / cells).astype(np.int64)


def _shapes(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All of `there` [h, w], and its connected parts if it has several: [shapes, h * w]."""
    whole = there.ravel()
    number = connected(there.astype(np.int8)).part_at(np.arange(whole.size))  # [h * w]
    parts, sizes = np.unique(number[whole], return_counts=True)
    large = parts[np.argsort(-sizes, kind="stable")][: min(MOST_PARTS, int((sizes >= SMALLEST).sum()))]
    if len(parts) == 1:
        large = large[:0]
    return np.concatenate([whole[None], number[None] == large[:, None]])
