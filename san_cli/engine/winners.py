"""Who wins the pixels of a block: classes that can't are not computed.

In a block of pixels

    S[c] = Σ_q P[q, c] · sigmoid(M[q])  ≤  U[c] = Σ_q P[q, c] · max of sigmoid(M[q]) over the block

so a class with U[c] below the winning score of a pixel can't win that pixel. A few sampled pixels say which
classes are worth computing everywhere; the pixels that this leaves undecided are then compared with the rest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_CLASS_CHUNK = 96  # classes mixed at a time, so that a block's memory doesn't grow with the vocabulary
_NARROW = 16  # a matrix product with fewer columns takes longer than one with 16
_SAMPLES = 128  # pixels a block whose winner is found first
_FEW_CLASSES = 24  # too few for skipping some to pay
_NEGLIGIBLE_IN_ALL = 1e-6  # of the sum of all scores
_ROUNDING = 1e-5  # by which a float32 sum of 100 terms may exceed its bound, generously
_NEGLIGIBLE = 1e-8  # of the winning score: below float32's rounding of the sum itself


def winners(masks: Tensor, probabilities: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
