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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.models.presets import PAD_TO

UNLABELLED = -1
_CPU_BLOCK = 1 << 14  # pixels a block: a block's masks (100 × 16,384 floats) stay in the last-level cache
_GPU_BLOCK = 1 << 19
_CLASS_CHUNK = 96  # classes mixed at a time, so that a block's memory doesn't grow with the vocabulary
_NARROW = 16  # a matrix product with fewer columns takes longer than one with 16
_SAMPLES = 128  # pixels a block whose winner is found first
_FEW_CLASSES = 24  # too few for skipping some to pay
_NEGLIGIBLE_IN_ALL = 1e-6  # of the sum of all scores
_SMALLEST = 1e-30  # evidence below it is none
_ROUNDING = 1e-5  # by which a float32 sum of 100 terms may exceed its bound, generously
_NEGLIGIBLE = 1e-8  # of the winning score: below float32's rounding of the sum itself
UNCERTAIN = 0.5  # confidence below which a pixel counts as uncertain: others have more evidence together


@dataclass(frozen=True)
class Frame:
    """The three sizes (height, width) in pixels that a mask passes through on its way to the output."""

    padded: tuple[int, int]  # the network's input
    resized: tuple[int, int]  # the part of it that is image (top left)
    output: tuple[int, int]  # the label map


def frame_of(resized: np.ndarray, output: tuple[int, int]) -> Frame:
    """Give the sizes on the way from an image [h, w, 3] at network size to a label map of `output`."""
    height, width = resized.shape[:2]
    return Frame((height + -height % PAD_TO, width + -width % PAD_TO), (height, width), output)


class Least(NamedTuple):
    """What a pixel's winner must reach: one number for all classes, or one for each [C]."""

    score: np.ndarray | float = 0.0
    confidence: np.ndarray | float = 0.0


NO_LIMIT = Least()


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
    height, width = frame.output
    classes = class_probabilities.shape[1]
    class_probabilities = class_probabilities.contiguous()
    evidence = class_probabilities.sum(dim=1)  # [N]
    limits = [
        torch.as_tensor(limit, dtype=torch.float32, device=mask_logits.device) if np.any(limit) else None
        for limit in least
    ]
    label_map = np.empty((height, width), dtype=np.int16 if classes <= 1 << 15 else np.int32)
    kept = [np.empty((height, width), dtype=np.float32) for _ in range(2)] if keep_scores else []
    pixels, sums = np.zeros(classes, dtype=np.int64), np.zeros((2, classes), dtype=np.float64)
    highest = [(0.0, 0), (0.0, 0)]
    uncertain, looked_at = 0, 0
    for block, masks in _mask_blocks(mask_logits, frame, block_rows):
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
        uncertain += int(doubtful.sum())
        looked_at += len(winner) if seen is None else int(seen.sum())

        # Pixels that no class is to have.
        found = winner if seen is None else winner.masked_fill(~seen, UNLABELLED)
        for value, limit in zip(values, limits, strict=True):
            if limit is not None:
                found = found.masked_fill(value < (limit if limit.ndim == 0 else limit[winner]), UNLABELLED)

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
        uncertain / looked_at if looked_at else None,
        *(kept or (None, None)),
        *highest,
    )


def _mask_blocks(
    mask_logits: Tensor, frame: Frame, block_rows: int | None
) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Yield (place in the output, masks [rows * columns, N] in 0..1)."""
    height, width = frame.output
    device, queries = mask_logits.device, mask_logits.shape[0]
    most = _CPU_BLOCK if device.type == "cpu" else _GPU_BLOCK
    columns = min(width, most)
    step = block_rows or max(1, most // columns)
    down = _two_resizes(mask_logits.shape[1], frame.padded[0], frame.resized[0], height)  # [H, h]
    across = _two_resizes(mask_logits.shape[2], frame.padded[1], frame.resized[1], width)  # [W, w]
    queries_last = mask_logits.permute(1, 2, 0).contiguous()  # [h, w, N]
    for left in range(0, width, columns):
        place = slice(left, min(left + columns, width))
        weights = torch.from_numpy(across[place]).to(device)
        wide, first = torch.empty(0, len(weights), queries, device=device), 0  # coarse rows from `first` on
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            used = np.flatnonzero(down[rows].any(axis=0))
            start, stop = int(used[0]), int(used[-1]) + 1
            have = max(start, first + len(wide))  # rows above are there from the block before
            fresh = weights @ queries_last[have:stop]  # [new coarse rows, columns, N]
            wide, first = torch.cat([wide[start - first :], fresh]), start
            share = torch.from_numpy(down[rows, start:stop].copy()).to(device)
            yield (rows, place), (share @ wide.flatten(1)).sigmoid_().view(-1, queries)


def _two_resizes(coarse: int, padded: int, resized: int, output: int) -> np.ndarray:
    """The weights [output, coarse] of both bilinear resizes and the crop between, along one axis."""
    low, high, share = _neighbours(coarse, padded)
    first = np.zeros((padded, coarse))
    np.add.at(first, (np.arange(padded), low), 1 - share)
    np.add.at(first, (np.arange(padded), high), share)
    low, high, share = _neighbours(resized, output)
    share = share[:, None]
    return (first[low] * (1 - share) + first[high] * share).astype(np.float32)


def _neighbours(size: int, to: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two sources of each of `to` pixels and the second one's share, in bilinear resizing from `size`.

    As in `F.interpolate(align_corners=False)`, coordinates being computed in float32 so that they round alike.
    """
    scale = np.float32(size) / np.float32(to)
    centre = np.maximum(scale * (np.arange(to, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    low = np.minimum(centre.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), (centre - low).astype(np.float32)


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
