"""From mask and class logits to a label map: `S = M × Pᵀ` (Eq. 4) and its argmax, without ever holding S.

The official code resizes N = 100 masks to the output size and mixes them into a float tensor [C, H, W], 5 GB at
1500 × 1000 with 847 classes, of which only the argmax is wanted. Here it is made in blocks of rows, and in each
block only for classes that can win there (`winners.py`). Of large maps, pixels are looked at only where more than
one class can win (`whole_blocks.py`). The result is the plain formula's: nothing is approximated but the order in
which floats are added.

The confidence of a pixel is its winner's share of all evidence there, S[c] / Σ_c' S[c']. The sum needs no class's
score: Σ_c' S[c'] = Σ_q sigmoid(M[q]) · Σ_c' P[q, c'], one more column of the matrix product.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.engine.mask_blocks import Frame, ResizedMasks, block_pixels, resized_masks
from san_cli.engine.whole_blocks import Limit, fill_by_blocks
from san_cli.engine.winners import winners

UNLABELLED = -1
ALL_MEASURED = 1 << 20  # pixels: larger maps are made by blocks, and measured on fewer pixels
_FEW_PIXELS = 256  # on which a class is measured that has none of those
_BAND = 1024  # rows
_SMALLEST = 1e-30  # evidence below it is none
UNCERTAIN = 0.5  # confidence below which a pixel counts as uncertain: others have more evidence together


class Least(NamedTuple):
    """What a pixel's winner must reach: one number for all classes, or one for each [C]."""

    score: np.ndarray | float = 0.0
    confidence: np.ndarray | float = 0.0


NO_LIMIT = Least()


class Block(NamedTuple):
    """Part of the output with all that is needed for its scores, `masks @ probabilities`."""

    place: tuple[slice, slice]  # rows and columns
    masks: Tensor  # [P, N] of its P pixels, row by row
    probabilities: Tensor  # [N, C]
    evidence: Tensor  # [N], their sums over classes


@dataclass(frozen=True)
class SegmentationMap:
    """A label map and what was learned while making it."""

    label_map: np.ndarray  # [H, W] int16, class index or UNLABELLED
    class_scores: np.ndarray  # [C] float32: mean winning score over a class's pixels, 0 where it has none
    class_confidences: np.ndarray  # [C] float32: the same of the confidence
    uncertain: float | None  # share of the pixels with data whose confidence is below `UNCERTAIN`
    scores: np.ndarray | None = None  # [H, W] float32, where asked for: the winning score, 0 without data
    confidence: np.ndarray | None = None  # [H, W] float32 in 0…1, with the scores
    highest: tuple[float, int] = (0.0, 0)  # the largest winning score and its class, limits or not
    surest: tuple[float, int] = (0.0, 0)  # the largest confidence and its class, limits or not


@dataclass
class Unfinished:
    """A label map that is whole down to a row, with all that was counted above it."""

    label_map: np.ndarray  # [H, W] int16, int32 for very many classes; UNLABELLED from `rows` on
    pixels: np.ndarray  # [C] int64, with each label
    sums: np.ndarray  # [2, C] float64, of the winning scores and of the confidences
    highest: list[tuple[float, int]]  # the largest of both, and its class
    uncertain: int = 0  # pixels
    looked_at: int = 0  # pixels
    rows: int = 0  # that are whole, from the top
    on_rows: Callable[["Unfinished"], object] = lambda so_far: None  # told whenever there are more

    @classmethod
    def new(cls, output: tuple[int, int], classes: int) -> "Unfinished":
        """Begin a map of `output` (height, width)."""
        label_map = np.full(output, UNLABELLED, dtype=np.int16 if classes <= 1 << 15 else np.int32)
        pixels, sums = np.zeros(classes, dtype=np.int64), np.zeros((2, classes), dtype=np.float64)
        return cls(label_map, pixels, sums, [(0.0, 0), (0.0, 0)])


def segmentation_scores(mask_logits: Tensor, class_probabilities: Tensor, frame: Frame) -> Tensor:
    """The plain formula, for tests and benchmarks: scores [C, H, W].

    Mask logits [N, h, w] are resized bilinearly to the padded input, cropped, and resized again to the output,
    both always, and only then squashed (official code). `class_probabilities` is [N, C].
    """
    padded = F.interpolate(mask_logits[None], size=frame.padded, mode="bilinear", align_corners=False)
    inside = padded[:, :, : frame.resized[0], : frame.resized[1]]
    masks = F.interpolate(inside, size=frame.output, mode="bilinear", align_corners=False)[0].sigmoid()
    return torch.einsum("qc,qhw->chw", class_probabilities, masks)


def segmentation_map(
    mask_logits: Tensor,
    class_probabilities: Tensor,
    frame: Frame,
    *,
    least: Least = NO_LIMIT,
    keep_scores: bool = False,
    no_data: np.ndarray | None = None,
    block_rows: int | None = None,
) -> SegmentationMap:
    """The argmax over classes of the plain formula; of equal scores the lower class index wins.

    `mask_logits` [N, h, w] and `class_probabilities` [N, C], both float32. Pixels whose winning score or confidence
    is below the `least` stay UNLABELLED, and so do those where `no_data` [H, W] is true.
    Peak memory grows neither with C nor, beyond the result, with the output.
    """
    probabilities, classes = class_probabilities.contiguous(), class_probabilities.shape[1]
    resized = resized_masks(mask_logits, frame)
    large = None
    if frame.output[0] * frame.output[1] > ALL_MEASURED:
        large = _large_map(resized, probabilities, frame, least, no_data)
        if not keep_scores:
            return large
    made = map_of_blocks(
        pixel_blocks(resized, probabilities, block_rows), frame.output, classes,
        least=least, keep_scores=keep_scores, no_data=no_data,
    )  # fmt: skip
    return made if large is None else replace(large, scores=made.scores, confidence=made.confidence)


def _large_map(
    resized: ResizedMasks, probabilities: Tensor, frame: Frame, least: Least, no_data: np.ndarray | None
) -> SegmentationMap:
    """A label map that is made by blocks, and measured on every n-th row and column, see `measured_pixels`."""
    evidence, classes = probabilities.sum(dim=1), probabilities.shape[1]
    limits = []
    if np.any(least.score):
        limits.append(Limit(probabilities, _each(least.score, probabilities).expand(classes)))
    if np.any(least.confidence):  # S[c] ≥ t · Σ S is (P[c] − t · Σ P) · masks ≥ 0
        share = _each(least.confidence, probabilities)
        limits.append(Limit(probabilities - evidence[:, None] * share, torch.zeros_like(probabilities[0])))

    def compare(masks: Tensor) -> Tensor:
        best, winner, total = winners(masks, probabilities, evidence)
        return _reaching(winner, (best, _confidence(best, total)), least)

    label_map = Unfinished.new(frame.output, classes).label_map
    fill_by_blocks(label_map, resized, frame, probabilities, limits, compare)
    if no_data is not None:
        label_map[no_data] = UNLABELLED

    # What is measured, measured on fewer pixels; of a class that has none of these, on its own.
    at = measured_pixels(frame.output)
    if no_data is not None and no_data[at].all():
        at = slice(None), slice(None)
    thin = replace(resized, down=resized.down[at[0]], across=resized.across[at[1]])
    made = map_of_blocks(
        pixel_blocks(thin, probabilities),
        (len(thin.down), len(thin.across)),
        classes,
        least=least,
        no_data=None if no_data is None else no_data[at],
    )
    means = np.stack([made.class_scores, made.class_confidences])
    pixels = _pixels(label_map, classes)
    means[:, pixels == 0] = 0.0
    for label in np.flatnonzero((pixels > 0) & (_pixels(made.label_map, classes) == 0)):
        where = np.flatnonzero(label_map == label)
        rows, columns = np.divmod(where[:: -(-len(where) // _FEW_PIXELS)], frame.output[1])
        masks = resized.at(rows, columns)
        best = masks @ probabilities[:, label]
        means[:, label] = float(best.mean()), float(_confidence(best, masks @ evidence).mean())
    return replace(made, label_map=label_map, class_scores=means[0], class_confidences=means[1])


def measured_pixels(output: tuple[int, int]) -> tuple[slice, slice]:
    """Give the rows and columns whose pixels scores, confidences and doubt are measured on.

    All of them up to `ALL_MEASURED` pixels, otherwise every n-th: about a quarter as many.
    """
    height, width = output
    pixels = height * width
    step = 1 if pixels <= ALL_MEASURED else math.ceil(math.sqrt(4 * pixels / ALL_MEASURED))
    return slice(min(step, height) // 2, None, step), slice(min(step, width) // 2, None, step)


def _pixels(label_map: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of each class [C], some rows at a time."""
    counts = np.zeros(classes + 1, np.int64)
    for top in range(0, len(label_map), _BAND):
        counts += np.bincount(label_map[top : top + _BAND].ravel().astype(np.intp) + 1, minlength=classes + 1)
    return counts[1:]


def pixel_blocks(
    resized: ResizedMasks, probabilities: Tensor, block_rows: int | None = None
) -> Iterator[Block]:
    """Yield the blocks of one forward pass: as many whole rows at a time as are best."""
    height, width = len(resized.down), len(resized.across)
    most = block_pixels(probabilities.device)
    columns = min(width, most)
    evidence = probabilities.sum(dim=1)  # [N]
    for left in range(0, width, columns):
        place = slice(left, min(left + columns, width))
        for rows, masks in resized.blocks(slice(0, height), place, block_rows or max(1, most // columns)):
            yield Block((rows, place), masks, probabilities, evidence)


def map_of_blocks(
    blocks: Iterable[Block],
    output: tuple[int, int],
    classes: int,
    *,
    least: Least = NO_LIMIT,
    keep_scores: bool = False,
    no_data: np.ndarray | None = None,
    so_far: Unfinished | None = None,
) -> SegmentationMap:
    """The argmax of an `output` (height, width) that comes in blocks, see `segmentation_map`.

    No pixel is in two blocks; one in none stays UNLABELLED. `so_far` is filled, and may have rows already, which the
    blocks then don't have, unless scores are kept.
    """
    so_far = so_far or Unfinished.new(output, classes)
    assert not (keep_scores and so_far.rows), "scores of the rows that are done are not there"
    label_map, pixels, sums, highest = so_far.label_map, so_far.pixels, so_far.sums, so_far.highest
    kept = [np.zeros(output, dtype=np.float32) for _ in range(2)] if keep_scores else []
    for block, masks, class_probabilities, evidence in blocks:
        # Who wins, and its share of all that is claimed there.
        best, winner, total = winners(masks, class_probabilities, evidence)  # [pixels in the block]
        confidence = _confidence(best, total)
        values = (best, confidence)
        seen = None
        if no_data is not None:
            seen = ~torch.from_numpy(no_data[block].ravel()).to(winner.device)
            values = (best * seen, confidence * seen)
        for kind, value in enumerate(values):
            top = int(value.argmax())
            highest[kind] = max(highest[kind], (float(value[top]), int(winner[top])), key=lambda one: one[0])
        doubtful = confidence < UNCERTAIN if seen is None else (confidence < UNCERTAIN) & seen
        so_far.uncertain += int(doubtful.sum())
        so_far.looked_at += len(winner) if seen is None else int(seen.sum())

        # Pixels that no class is to have.
        found = _reaching(winner, values, least)
        if seen is not None:
            found = found.masked_fill(~seen, UNLABELLED)

        # The block's part of the map and of the means.
        labels = found.to(torch.int32).cpu().numpy()
        shape = label_map[block].shape
        label_map[block] = labels.reshape(shape)
        bins = labels.astype(np.intp) + 1  # unlabelled pixels fall into bin 0
        pixels += np.bincount(bins, minlength=classes + 1)[1:]
        for kind, value in enumerate(values):
            numbers = value.cpu().numpy()
            sums[kind] += np.bincount(bins, weights=numbers, minlength=classes + 1)[1:]
            if kept:
                kept[kind][block] = numbers.reshape(shape)
    means = (sums / np.maximum(pixels, 1)).astype(np.float32)
    return SegmentationMap(
        label_map,
        means[0],
        means[1],
        so_far.uncertain / so_far.looked_at if so_far.looked_at else None,
        *(kept or (None, None)),
        *highest,
    )


def _confidence(best: Tensor, total: Tensor) -> Tensor:
    """The winners' shares [P] of all evidence."""
    return (best / total.clamp_min(_SMALLEST)).clamp_max_(1.0)


def _reaching(winner: Tensor, values: tuple[Tensor, Tensor], least: Least) -> Tensor:
    """The classes [P] whose score and confidence [P] reach their limits, elsewhere UNLABELLED."""
    found = winner
    for value, limit in zip(values, least, strict=True):
        if np.any(limit):
            bound = _each(limit, value)
            found = found.masked_fill(value < (bound if bound.ndim == 0 else bound[winner]), UNLABELLED)
    return found


def _each(limit: np.ndarray | float, like: Tensor) -> Tensor:
    """A limit, one for all classes or [C], as a tensor."""
    return torch.as_tensor(limit, dtype=torch.float32, device=like.device)
