"""Large label maps: no pixel is looked at in a block that one class wins whole.

Between the corner pixels of a block a mask's logits are bilinear, if the block lies in one piece of both bilinear
resizes. So the values there of a mask, sigmoid(M[q]), lie between those of its lowest and its highest corner, lo[q]
and hi[q], and everywhere in the block

    S[c] − S[w]  ≤  Σ_q max(P[q, c] − P[q, w], 0) · hi[q] + min(P[q, c] − P[q, w], 0) · lo[q]

Where that is below 0 for all other classes c, the block is w's. Other blocks are halved along both axes, and pixels
are compared in those that are small. It is the plain formula's map: bounds decide only what no rounding can turn.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from san_cli.engine.mask_blocks import Frame, ResizedMasks, neighbours

_LARGEST, _SMALLEST = 128, 8  # pixels a side: of the first blocks, and of those whose pixels are compared
_TOGETHER = 1 << 11  # blocks: the logits at their corners (4 × 100 × 2,048) are 3.3 MB
_SCORES = 1 << 21  # of blocks and classes, bounded together: 8 MB a matrix, of which there are a few
_PIXELS = 1 << 14  # compared together, as in `mask_blocks`
_ROUNDING = 1e-5  # of a score: by which a float32 sum of 100 terms may be wrong, generously
_BETWEEN = 1e-6  # of the largest logit: by which one between corners may be
_UNDECIDED = -2

# Chooses the classes [P] of pixels by their masks [P, N], as they come into the label map.
Compare = Callable[[Tensor], Tensor]


class Limit(NamedTuple):
    """What Σ_q weights[q] · sigmoid(M[q]) must reach, or a pixel stays unlabelled."""

    weights: Tensor  # [N, C], by the class that wins
    least: Tensor  # [C]


class Blocks(NamedTuple):
    """Some blocks of the output."""

    places: NDArray[np.int64]  # [B, 4] rows from, to, columns from, to
    corners: Tensor  # [B, 4, N] mask logits at the corner pixels, row by row


def fill_by_blocks(
    label_map: np.ndarray,
    resized: ResizedMasks,
    frame: Frame,
    probabilities: Tensor,
    limits: list[Limit],
    compare: Compare,
) -> None:
    """Fill `label_map` [H, W] with the classes that win, by their `probabilities` [N, C] float32; see above.

    Where a winner doesn't reach all `limits`, the pixel is -1. `compare` must choose as they do.
    """
    down = _axis(resized.down.shape[1], frame.padded[0], frame.resized[0], frame.output[0])
    across = _axis(resized.across.shape[1], frame.padded[1], frame.resized[1], frame.output[1])
    slack = _BETWEEN * float(resized.queries_last.abs().max())
    together = max(1, min(_TOGETHER, _SCORES // probabilities.shape[1]))
    for first in _first_blocks(resized, down, across):
        waiting = [first]  # those of a block before the block's neighbours, so that few wait
        while waiting:
            places, corners = waiting.pop()
            if len(places) > together:
                waiting.append(Blocks(places[together:], corners[together:]))
                places, corners = places[:together], corners[:together]
            labels = _decide(corners, probabilities, limits, slack)
            for (top, bottom, left, right), label in zip(places.tolist(), labels.tolist(), strict=True):
                label_map[top:bottom, left:right] = label
            undecided = np.flatnonzero(labels == _UNDECIDED)
            places, corners = places[undecided], corners[torch.from_numpy(undecided)]
            small = (places[:, 1::2] - places[:, ::2]).max(axis=1) <= _SMALLEST
            _compare_pixels(label_map, Blocks(places[small], corners[small]), down, across, compare)
            if not small.all():
                waiting.append(_halved(Blocks(places[~small], corners[~small]), down, across))


class _Axis(NamedTuple):
    """Rows or columns of the output."""

    position: NDArray[np.float64]  # [pixels] at the network's size, between whose pixels masks are linear
    starts: NDArray[np.int64]  # [blocks + 1] the first pixels of the first blocks, and the end


@lru_cache(maxsize=8)
def _axis(coarse: int, padded: int, resized: int, output: int) -> _Axis:
    low, _, share = neighbours(resized, output)
    position = np.minimum(low + share.astype(np.float64), resized - 1)
    # The coarse grid's centres bend the first resize, which the second one's pixels beside them show.
    centres = (np.arange(coarse) + 0.5) * (padded / coarse) - 0.5
    bends = np.unique([np.floor(centres), np.ceil(centres)])
    piece = np.searchsorted(bends, position, side="right")
    ends = np.flatnonzero(np.diff(piece, append=-1)) + 1
    starts = [np.array([0])]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        parts = -(-(end - start) // _LARGEST)
        starts.append(start + (end - start) * np.arange(1, parts + 1) // parts)
    return _Axis(position, np.concatenate(starts))


def _first_blocks(resized: ResizedMasks, down: _Axis, across: _Axis) -> Iterator[Blocks]:
    """Cut the output into blocks that lie in one piece of the resizes each; some rows of them at a time."""
    device, queries = resized.queries_last.device, resized.queries_last.shape[2]
    tops, lefts = down.starts, across.starts
    columns = np.stack([lefts[:-1], lefts[1:] - 1], axis=1).ravel()  # first and last of each block
    wide = torch.from_numpy(resized.across[columns]).to(device) @ resized.queries_last  # [h, 2 × blocks, N]
    across_count = len(lefts) - 1
    step = max(1, _TOGETHER // across_count)
    for at in range(0, len(tops) - 1, step):
        from_to = np.stack([tops[:-1], tops[1:]], axis=1)[at : at + step]
        rows = (from_to - [0, 1]).ravel()
        logits = torch.from_numpy(resized.down[rows]).to(device) @ wide.flatten(1)  # [2 × blocks, …]
        corners = (
            logits.view(len(from_to), 2, across_count, 2, queries).transpose(1, 2).reshape(-1, 4, queries)
        )
        places = np.empty((len(from_to), across_count, 4), np.int64)
        places[..., :2], places[..., 2], places[..., 3] = from_to[:, None], lefts[:-1], lefts[1:]
        yield Blocks(places.reshape(-1, 4), corners)


def _decide(corners: Tensor, probabilities: Tensor, limits: list[Limit], slack: float) -> NDArray[np.int64]:
    """Decide what the pixels of each block come to [B]: a class, UNLABELLED (-1), or _UNDECIDED."""
    low = (corners.amin(dim=1) - slack).sigmoid_()  # [B, N]
    high = (corners.amax(dim=1) + slack).sigmoid_()
    sure, winner = (low @ probabilities).max(dim=1)  # the winner's score everywhere, if it is the winner
    most = (high @ probabilities).scatter_(1, winner[:, None], -torch.inf)  # the others' [B, C]
    rivals = most >= (sure * (1 - _ROUNDING))[:, None]  # the bound above is dearer, and for these alone
    rivalled = rivals.any(dim=1)
    labels = torch.where(rivalled, _UNDECIDED, winner)
    for label in winner[rivalled].unique().tolist():
        blocks = (rivalled & (winner == label)).nonzero()[:, 0]
        others = rivals[blocks].any(dim=0).nonzero()[:, 0]
        own = probabilities[:, label, None]
        lead = _largest(low[blocks], high[blocks], probabilities[:, others] - own).amax(dim=1)
        wins = lead < -_ROUNDING * (high[blocks] @ own)[:, 0]
        labels[blocks[wins]] = label
    for limit in limits:
        _apply(limit, labels, low, high)
    return labels.cpu().numpy()


def _apply(limit: Limit, labels: Tensor, low: Tensor, high: Tensor) -> None:
    """Take blocks from their classes where these don't reach a limit, or may not everywhere."""
    for label in labels.unique().tolist():
        if label < 0:
            continue
        blocks = (labels == label).nonzero()[:, 0]
        weights, least = limit.weights[:, label, None], float(limit.least[label])
        lowest, highest = low[blocks], high[blocks]
        inexact = _ROUNDING * (highest @ weights.abs())[:, 0]
        below = _largest(lowest, highest, weights)[:, 0] < least - inexact
        reached = -_largest(lowest, highest, -weights)[:, 0] > least + inexact
        labels[blocks] = torch.where(below, -1, torch.where(reached, label, _UNDECIDED))


def _largest(low: Tensor, high: Tensor, weights: Tensor) -> Tensor:
    """Bound Σ_q weights[q] · m[q] from above, [B, K], for low ≤ m ≤ high [B, N] and weights [N, K]."""
    return high @ weights.clamp(min=0) + low @ weights.clamp(max=0)


def _halved(blocks: Blocks, down: _Axis, across: _Axis) -> Blocks:
    """Cut blocks in half along both axes; a small side stays whole."""
    first, last = blocks.places[:, ::2], blocks.places[:, 1::2]  # [B, 2] rows and columns
    middle = np.where(last - first > _SMALLEST, (first + last + 1) // 2, last)
    sides = np.stack([first, middle, middle, last], axis=-1)  # [B, 2, 4] from, to, from, to
    pixels = np.minimum(sides - [0, 1, 0, 1], last[..., None] - 1)  # for a half of none, any
    corners = _between(blocks, pixels[:, 0], pixels[:, 1], down, across)  # [B, 4, 4, N]
    count, queries = len(corners), corners.shape[-1]
    corners = corners.view(count, 2, 2, 2, 2, queries).transpose(2, 3).reshape(-1, 4, queries)
    rows, columns = sides.reshape(count, 2, 2, 2).transpose(1, 0, 2, 3)  # [B, halves, from and to]
    halves = np.empty((count, 2, 2, 4), np.int64)
    halves[..., :2], halves[..., 2:] = rows[:, :, None], columns[:, None]
    places = halves.reshape(-1, 4)
    there = (places[:, ::2] < places[:, 1::2]).all(axis=1)
    return Blocks(places[there], corners[torch.from_numpy(there)])


def _compare_pixels(
    label_map: np.ndarray, blocks: Blocks, down: _Axis, across: _Axis, compare: Compare
) -> None:
    """Fill blocks pixel by pixel; where they are smaller than the largest, their last pixels are filled twice."""
    if not len(blocks.places):
        return
    height, width = (blocks.places[:, 1::2] - blocks.places[:, ::2]).max(axis=0)
    step = max(1, _PIXELS // int(height * width))
    for at in range(0, len(blocks.places), step):
        some = Blocks(blocks.places[at : at + step], blocks.corners[at : at + step])
        top, bottom, left, right = some.places.T[:, :, None]
        rows = np.minimum(top + np.arange(height), bottom - 1)  # [B, height]
        columns = np.minimum(left + np.arange(width), right - 1)
        masks = _between(some, rows, columns, down, across).sigmoid_()  # [B, height, width, N]
        found = compare(masks.flatten(0, 2)).view(masks.shape[:3])
        label_map[rows[:, :, None], columns[:, None]] = found.cpu().numpy()


def _between(
    blocks: Blocks, rows: NDArray[np.int64], columns: NDArray[np.int64], down: _Axis, across: _Axis
) -> Tensor:
    """Mask logits [B, R, K, N] of blocks at `rows` [B, R] × `columns` [B, K] of the output, from their corners."""
    by_row = _shares(down, rows, blocks.places[:, :2])
    by_column = _shares(across, columns, blocks.places[:, 2:])
    pixels = rows.shape[1] * columns.shape[1]
    shares = np.einsum("brv,bkh->brkvh", by_row, by_column).reshape(len(rows), pixels, 4)
    logits = torch.bmm(torch.from_numpy(shares).to(blocks.corners.device), blocks.corners)
    return logits.view(len(rows), rows.shape[1], columns.shape[1], logits.shape[-1])


def _shares(axis: _Axis, at: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the first and the last of the pixels `ends` (from, to) [B, 2] count at `at` [B, P]: [B, P, 2]."""
    first, last = axis.position[ends[:, :1]], axis.position[ends[:, 1:] - 1]
    share = (axis.position[at] - first) / np.where(last > first, last - first, 1)
    return np.stack([1 - share, share], axis=-1).astype(np.float32)
