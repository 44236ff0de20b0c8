"""COCO's compressed run lengths for every class of a label map, from one scan.

A COCO mask is read down its columns and stored as the lengths of alternating runs, first of zeros, then of
ones, and so on. All classes share one list of runs of equal labels: sorted by class, the runs of a class are
its ones and the distances between them its zeros, so nothing of size H×W×C is ever built.
At 3 megapixels and 20 classes this takes about 8 ms, where encoding a stack of masks takes 421 ms.

Memory grows with the runs, not with the pixels: columns are looked at in blocks, classes encoded in groups.

R runs over all classes, K classes present.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_IntArray = NDArray[np.int32]

_BLOCK_PIXELS = 2**21  # whose columns are looked at in one go
_GROUP_RUNS = 2**18  # encoded in one go, some 100 bytes each; a class with more is one group


@dataclass(frozen=True)
class Region:
    """All pixels of one class in one image.

    `counts` is COCO's compressed RLE as text, `area` counts pixels, `bbox` is the tight (x, y, width,
    height).
    """

    counts: str
    area: int
    bbox: tuple[float, float, float, float]


def encode_label_map(label_map: NDArray[np.integer], *, unlabelled: int = -1) -> dict[int, Region]:
    """Each class present in `label_map` [H, W], by ascending id; `unlabelled` pixels belong to none.

    Byte for byte what `pycocotools.mask.encode`, `area` and `toBbox` give for `label_map == id`.
    ValueError from 2 gigapixels on, which COCO's 32-bit counts can't hold.
    """
    height, width = label_map.shape
    if height * width >= 2**31:
        raise ValueError(f"a label map of {width}×{height} pixels is too large for COCO run lengths")
    start, stop, label = _labelled_runs(label_map, unlabelled)
    if len(label) == 0:
        return {}
    first = _run_starts(label)
    # Classes that begin among the same so many runs are a group.
    heads = first[np.flatnonzero(np.diff(first // _GROUP_RUNS, prepend=-1))]
    regions: dict[int, Region] = {}
    for begin, end in pairwise([*heads.tolist(), len(label)]):
        regions |= _regions(start[begin:end], stop[begin:end], label[begin:end], label_map.shape)
    return regions


def _regions(
    start: _IntArray, stop: _IntArray, label: NDArray[np.integer], size: tuple[int, ...]
) -> dict[int, Region]:
    """Encode the classes of which all runs [R] are given, by label, then position, in a map of `size` = (H, W)."""
    first = _run_starts(label)
    last = np.append(first[1:], len(label)) - 1
    area = np.add.reduceat(stop - start, first).tolist()
    bbox = _bounding_boxes(start, stop, first, last, size[0])
    counts = _compressed_counts(start, stop, first, last, size[0] * size[1])
    return {
        class_id: Region(*fields)
        for class_id, *fields in zip(label[first].tolist(), counts, area, bbox, strict=True)
    }


def decode(counts: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode the mask [H, W] that `counts` describes, with `size` = (H, W); ValueError if they don't match."""
    height, width = size
    lengths = run_lengths(counts, size)
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def run_lengths(counts: str, size: tuple[int, int]) -> NDArray[np.int64]:
    """Decode the lengths [R] of the runs of zeros, ones, zeros … down the columns of a mask of `size` = (H, W).

    ValueError, IndexError or UnicodeEncodeError where `counts` are no such lengths. 2,000 segments of 480 × 640
    pixels take 0.23 s; pycocotools doesn't check them: it hands out memory that nobody wrote where they are too few.
    """
    pixels = size[0] * size[1]
    digits = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(digits & 32 == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    length = last + 1 - first
    place = np.arange(len(digits)) - np.repeat(first, length)
    stored = np.add.reduceat((digits & 31) << 5 * place, first)
    stored -= (digits[last] >> 4 & 1) << 5 * length  # the highest bit of the last digit is the sign
    stored[1::2] = np.cumsum(stored[1::2])
    stored[2::2] = np.cumsum(stored[2::2])
    if stored.min() < 0 or stored.max() > pixels or stored.sum() != pixels:  # else terabytes may be asked for
        raise ValueError(f"the run lengths are not those of a mask of {size[1]}×{size[0]}")
    return stored


def _labelled_runs(
    label_map: NDArray[np.integer], unlabelled: int
) -> tuple[_IntArray, _IntArray, NDArray[np.integer]]:
    """Start, stop (exclusive) and label [R] of the runs down the columns, sorted by label, then position."""
    start, label = _column_runs(label_map)
    stop = np.append(start[1:], np.int32(label_map.size))
    if label.min() >= -(2**15) and label.max() < 2**15:
        label = label.astype(np.int16)  # 16-bit keys are sorted by radix: 4 times faster on a noisy map
    order = np.argsort(label, kind="stable")
    order = order[label[order] != unlabelled]
    return start[order], stop[order], label[order]


def _column_runs(label_map: NDArray[np.integer]) -> tuple[_IntArray, NDArray[np.integer]]:
    """Start and label [R] of the runs down the columns."""
    height, width = label_map.shape
    columns = max(1, _BLOCK_PIXELS // height)
    starts, labels = [], []
    for left in range(0, width, columns):
        block = _transposed(label_map[:, left : left + columns]).ravel()
        start = _run_starts(block)
        if left and block[0] == label_map[-1, left - 1]:  # the run from the block before goes on
            start = start[1:]
        starts.append(start + np.int32(left * height))
        labels.append(block[start])
    return np.concatenate(starts), np.concatenate(labels)


def _transposed(label_map: NDArray[np.integer]) -> NDArray[np.integer]:
    """A contiguous [W, H] copy; by bands of 16 rows, as writing whole cache lines is 4 times faster than
    numpy's own order."""
    height, width = label_map.shape
    columns = np.empty((width, height), label_map.dtype)
    for top in range(0, height, 16):
        columns[:, top : top + 16] = label_map[top : top + 16].T
    return columns


def _run_starts(values: NDArray[np.integer]) -> _IntArray:
    """Mark where a run of equal values begins in `values` [n], n ≥ 1."""
    changes = np.flatnonzero(values[1:] != values[:-1])
    return np.concatenate(([0], changes + 1), dtype=np.int32)


def _bounding_boxes(
    start: _IntArray, stop: _IntArray, first: _IntArray, last: _IntArray, height: int
) -> list[tuple[float, float, float, float]]:
    """Tight (x, y, width, height) of each of the K classes whose runs are first[k] … last[k]."""
    left, top = np.divmod(start, height)
    right, bottom = np.divmod(stop - 1, height)
    wraps = right > left  # goes on in the next column, so it touches the lowest row and the highest
    top[wraps], bottom[wraps] = 0, height - 1
    x, y = left[first], np.minimum.reduceat(top, first)
    # Runs are in column order: a class's last run is the one that reaches farthest right.
    box = np.stack([x, y, right[last] + 1 - x, np.maximum.reduceat(bottom, first) + 1 - y], axis=1)
    return [(x, y, w, h) for x, y, w, h in box.astype(float).tolist()]


def _compressed_counts(
    start: _IntArray, stop: _IntArray, first: _IntArray, last: _IntArray, pixels: int
) -> list[str]:
    """The compressed counts of each of the K classes."""
    zeros_before = np.diff(stop, prepend=0)
    zeros_before[1:] = start[1:] - stop[:-1]
    zeros_before[first] = start[first]
    # A class with r runs has 2r + 1 counts, the last being the zeros behind its last run.
    klass = np.arange(len(first))
    head, tail = 2 * first + klass, 2 * last + klass + 2
    at = 2 * np.arange(len(start)) + np.repeat(klass, last + 1 - first)
    counts = np.empty(2 * len(start) + len(first), np.int32)
    counts[at], counts[at + 1], counts[tail] = zeros_before, stop - start, pixels - stop[last]
    # From the fourth on, COCO stores a count as its difference to the one before last.
    stored = counts.copy()
    stored[2:] -= counts[:-2]
    for i in range(3):
        stored[head + i] = counts[head + i]
    digits = _digit_count(stored)
    digits[tail[counts[tail] == 0]] = 0  # no zeros behind the last run: not written
    text, end = _text(stored, digits), np.cumsum(digits, dtype=np.int32)[tail].tolist()
    return [text[begin:stop] for begin, stop in zip([0, *end], end, strict=False)]


def _digit_count(values: _IntArray) -> NDArray[np.uint8]:
    """Count the 5-bit digits that hold each of `values` [n] in two's complement."""
    magnitude = values ^ (values >> 31)
    digits = np.ones(len(values), np.uint8)
    largest, bits = int(magnitude.max()), 4
    while largest >> bits:
        digits += magnitude >= 1 << bits
        bits += 5
    return digits


def _text(values: _IntArray, digits: NDArray[np.uint8]) -> str:
    """`values` [n] in so many 5-bit digits, low ones first; 0 digits write nothing.

    A character is 48 + digit, and 32 more if another one follows (as in LEB128).
    """
    longest = int(digits.max())
    table = np.empty((len(values), longest), np.uint8)
    for place in range(longest):
        character = (values >> 5 * place & 31).astype(np.uint8) + 48
        character += (digits > place + 1).view(np.uint8) << 5
        table[:, place] = character * (digits > place)
    return table.tobytes().translate(None, b"\0").decode("ascii")
