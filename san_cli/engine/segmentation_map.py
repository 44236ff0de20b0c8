"""From mask and class logits to a label map: `S = M × Pᵀ` (Eq. 4) and its argmax, without ever holding S.

The official code resizes N = 100 masks to the output size and mixes them into a float tensor [C, H, W], 5 GB at
1500 × 1000 with 847 classes, of which only the argmax is wanted. Here it is made in blocks of rows, and in each
block only for classes that can win there:

    S[c] = Σ_q P[q, c] · sigmoid(M[q])  ≤  U[c] = Σ_q P[q, c] · max of sigmoid(M[q]) over the block

so a class with U[c] below the winning score of a pixel can't win that pixel. A few sampled pixels say which
classes are worth computing everywhere; the pixels that this leaves undecided are then compared with the rest.
The result is the plain formula's: nothing is approximated but the order in which floats are added.

The confidence of a pixel is its winner's share of all evidence there, S[c] / Σ_c' S[c']. The sum needs no class's
score: Σ_c' S[c'] = Σ_q sigmoid(M[q]) · Σ_c' P[q, c'], one more column of the matrix product.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.engine.mask_blocks import Frame, block_pixels, resized_masks

UNLABELLED = -1
_CLASS_CHUNK = 96  # classes mixed at a time, so that a block's memory doesn't grow with the vocabulary
_NARROW = 16  # a matrix product with fewer columns takes longer than one with 16
_SAMPLES = 128  # pixels a block whose winner is found first
_FEW_CLASSES = 24  # too few for skipping some to pay
_NEGLIGIBLE_IN_ALL = 1e-6  # of the sum of all scores
_SMALLEST = 1e-30  # evidence below it is none
_ROUNDING = 1e-5  # by which a float32 sum of 100 terms may exceed its bound, generously
_NEGLIGIBLE = 1e-8  # of the winning score: below float32's rounding of the sum itself
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
    blocks = _blocks(mask_logits, class_probabilities.contiguous(), frame, block_rows)
    classes = class_probabilities.shape[1]
    return map_of_blocks(blocks, frame.output, classes, least=least, keep_scores=keep_scores, no_data=no_data)


def _blocks(
    mask_logits: Tensor, probabilities: Tensor, frame: Frame, block_rows: int | None
) -> Iterator[Block]:
    """Yield the blocks of one forward pass: as many whole rows at a time as are best."""
    height, width = frame.output
    most = block_pixels(mask_logits.device)
    columns = min(width, most)
    evidence = probabilities.sum(dim=1)  # [N]
    resized = resized_masks(mask_logits, frame)
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
        best, winner, total = _winners(masks, class_probabilities, evidence)  # [pixels in the block]
        confidence = (best / total.clamp_min_(_SMALLEST)).clamp_max_(1.0)
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
        found = winner if seen is None else winner.masked_fill(~seen, UNLABELLED)
        for value, limit in zip(values, least, strict=True):
            if np.any(limit):
                bound = torch.as_tensor(limit, dtype=torch.float32, device=value.device)
                found = found.masked_fill(value < (bound if bound.ndim == 0 else bound[winner]), UNLABELLED)

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


def _winners(masks: Tensor, probabilities: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Best score [P], its class [P] and the sum of all classes' scores [P] of a block.

    Of its masks [P, N], class probabilities [N, C] and their sums over classes [N].
    """
    if probabilities.shape[1] <= _FEW_CLASSES:
        return _compare(masks, probabilities, evidence, None)
    largest = masks.amax(dim=0)  # [N]
    bound = (largest @ probabilities) * (1 + _ROUNDING)  # [C]: no pixel of the block scores higher
    sampled = masks[:: max(1, len(masks) // _SAMPLES)]
    typical = (sampled @ probabilities).amax(dim=1)  # the sample's winning scores
    active, lost = _active_queries(largest * probabilities.amax(dim=1), float(typical.min()))
    if active is None:
        return _winners_by_bound(masks, probabilities, evidence, bound, typical)
    best, winner, total = _winners_by_bound(
        masks[:, active], probabilities[active], evidence[active], bound, typical
    )
    # Where what was left out is not nothing: to a class, or to all of them together.
    lost_in_all = float((largest * evidence).index_fill(0, active, 0.0).sum())
    redo = ((best * _NEGLIGIBLE < lost) | (total * _NEGLIGIBLE_IN_ALL < lost_in_all)).nonzero()[:, 0]
    if len(redo):
        best[redo], winner[redo], total[redo] = _compare(masks[redo], probabilities, evidence, None)
    return best, winner, total


def _winners_by_bound(
    masks: Tensor, probabilities: Tensor, evidence: Tensor, bound: Tensor, typical: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compare the classes that can win most pixels everywhere, and the rest only where they still can win."""
    likely = bound >= torch.quantile(typical, 0.02)
    unlikely = (~likely).nonzero()[:, 0]
    if 4 * len(unlikely) < len(bound):  # little to skip
        return _compare(masks, probabilities, evidence, None)
    best, winner, total = _compare(masks, probabilities, evidence, likely.nonzero()[:, 0])
    undecided = (best <= bound[unlikely].max()).nonzero()[:, 0]
    if len(undecided):
        able = unlikely[bound[unlikely] >= best[undecided].min()]
        rest_best, rest_winner, _ = _compare(masks[undecided], probabilities, evidence, able)
        so_far, by = best[undecided], winner[undecided]
        wins = (rest_best > so_far) | ((rest_best == so_far) & (rest_winner < by))
        best[undecided] = torch.where(wins, rest_best, so_far)
        winner[undecided] = torch.where(wins, rest_winner, by)
    return best, winner, total


def _active_queries(contribution: Tensor, lowest: float) -> tuple[Tensor | None, float]:
    """The queries [N'] that matter to scores down to `lowest`, and what the others can add to any score.

    `contribution` [N] is the most a query adds to a score in the block. None where leaving the others out
    would not be worth the copy.
    """
    ordered, order = contribution.sort()
    added = ordered.cumsum(0)
    idle = added < _NEGLIGIBLE * lowest
    count = int(idle.sum())
    if 4 * count < len(order):
        return None, 0.0
    return order[count:].sort().values, float(added[count - 1])


def _compare(
    masks: Tensor, probabilities: Tensor, evidence: Tensor, classes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Best score [P] among `classes` (ascending, None: all), the class it belongs to [P], and the evidence [P]."""
    chosen = probabilities if classes is None else probabilities[:, classes]
    count = chosen.shape[1]
    first = min(count, _CLASS_CHUNK)
    columns = torch.cat([chosen[:, :first], evidence[:, None]], dim=1)  # the sum is one more column
    if first + 1 < _NARROW:
        columns = F.pad(columns, (0, _NARROW - first - 1))
    scores = masks @ columns
    total = scores[:, first].clone()  # a view would keep all of them
    best, winner = scores[:, :first].max(dim=1)
    for start in range(first, count, _CLASS_CHUNK):
        score, index = (masks @ chosen[:, start : start + _CLASS_CHUNK]).max(dim=1)
        wins = score > best
        best = torch.where(wins, score, best)
        winner = torch.where(wins, index + start, winner)
    return best, winner if classes is None else classes[winner], total
