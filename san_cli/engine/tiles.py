"""Tiles: a picture too large for the network is seen through windows that overlap, and blended exactly.

The score of a class at a pixel is the weighted sum of the windows' scores there (Eq. 4 for each), the weights being
smooth and their sum 1. Since S = M × Pᵀ, windows that overlap are nothing but further queries whose masks are
weighted, so the argmax is found in the same bounded memory as that of a single picture. Windows are made a row of
them at a time, and forgotten once the pixels that they see are done.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from san_cli.datasets.pillow_image import LoadedImage
from san_cli.engine.mask_blocks import ResizedMasks, block_pixels, frame_of, resized_masks
from san_cli.engine.segmentation_map import Block, Unfinished
from san_cli.engine.tiling import Tiling
from san_cli.outputs.large import drop_pages


@dataclass(frozen=True)
class Window:
    """What the network said of a window."""

    masks: ResizedMasks  # of N queries
    probabilities: Tensor  # [N, C]


def see_windows(
    image: LoadedImage,
    tiling: Tiling,
    resize: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    factors: Callable[[Sequence[NDArray[np.uint8]]], tuple[Tensor, Tensor]],
    batch: int,
) -> Callable[[int], list[Window | None]]:
    """Return what makes the windows of a row, up to `batch` in one forward pass.

    `resize` brings a window [h, w, 3] to the network's size, `factors` makes mask logits [B, N, h, w] and class
    probabilities [B, N, C] of images of that size. Windows without data aren't looked at.
    """

    def windows_of(row: int) -> list[Window | None]:
        places = tiling.places(row)
        found: list[Window | None] = [None] * len(places)
        wanted = [
            number
            for number, place in enumerate(places)
            if image.no_data is None or not image.no_data[place].all()
        ]
        for at in range(0, len(wanted), batch):
            numbers = wanted[at : at + batch]
            resized = [resize(np.ascontiguousarray(image.pixels[places[number]])) for number in numbers]
            frame = frame_of(resized[0], tiling.size)
            for number, masks, probabilities in zip(numbers, *factors(resized), strict=True):
                found[number] = Window(resized_masks(masks, frame), probabilities)
        drop_pages(image.pixels)  # of a large picture, which count as memory once they were read
        return found

    return windows_of


def tiled_blocks(
    tiling: Tiling, windows_of: Callable[[int], Sequence[Window | None]], so_far: Unfinished | None = None
) -> Iterator[Block]:
    """Yield the blocks of a whole picture from top to bottom, see `segmentation_map.map_of_blocks`.

    `windows_of` makes the windows of a row; it is asked once for each, in order. None is a window without data:
    what only such windows see is in no block. With `so_far`, the map that is made of the blocks, they begin below its
    rows, which grow as stretches of them come to be whole; no window is asked for that sees none of the others.
    """
    held: dict[int, Sequence[Window | None]] = {}
    for rows, seeing in tiling.rows.cells():
        if so_far is not None and rows.stop <= so_far.rows:
            continue
        held = {row: held[row] for row in seeing if row in held}  # others go before new ones come
        held |= {row: windows_of(row) for row in seeing if row not in held}
        for columns, beside in tiling.columns.cells():
            seen = [
                (row, column, window)
                for row in seeing
                for column in beside
                if (window := held[row][column]) is not None
            ]
            if seen:
                yield from _cell(tiling, (rows, columns), seen)
        if so_far is not None:  # whoever takes the blocks is done with the last one, as it asks for the next
            so_far.rows = rows.stop
            so_far.on_rows(so_far)


def _cell(
    tiling: Tiling, place: tuple[slice, slice], seen: Sequence[tuple[int, int, Window]]
) -> Iterator[Block]:
    """Yield the blocks of pixels that the same windows see: the queries of all, one window's behind the other's."""
    probabilities = torch.cat([window.probabilities for _, _, window in seen])  # [ΣN, C]
    evidence = probabilities.sum(dim=1)
    across = place[1].stop - place[1].start
    most = max(1, block_pixels(probabilities.device) // len(seen) // across)
    parts = [_weighted(tiling, place, *one, most) for one in seen]
    for blocks in zip(*parts, strict=True):
        rows = slice(blocks[0][0].start, blocks[0][0].stop)
        yield Block(
            (rows, place[1]), torch.cat([masks for _, masks in blocks], dim=1), probabilities, evidence
        )


def _weighted(
    tiling: Tiling, place: tuple[slice, slice], row: int, column: int, window: Window, step: int
) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of the picture and a window's masks [P, N] there, times its weight; `step` rows at a time."""
    top, left = tiling.rows.starts[row], tiling.columns.starts[column]
    inside = slice(place[0].start - top, place[0].stop - top)
    columns = slice(place[1].start - left, place[1].stop - left)
    down, across = tiling.rows.weights[row], tiling.columns.weights[column][columns]
    for rows, masks in window.masks.blocks(inside, columns, step):
        weights = torch.from_numpy(np.outer(down[rows], across).reshape(-1, 1)).to(masks.device)
        yield slice(rows.start + top, rows.stop + top), masks.mul_(weights)
