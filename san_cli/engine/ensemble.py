"""One label map from several models: their segmentation maps are added, each with a share (footnote 2).

A segmentation map is a sum over queries (Eq. 4), so the sum of two models' maps is the map of all their queries
together, with class probabilities scaled by the share. Hence it is made in the same bounded memory, of a picture seen
whole or through windows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from san_cli.datasets.catalogue import Pair
from san_cli.datasets.pillow_image import LoadedImage
from san_cli.engine.device import wait_for
from san_cli.engine.mask_blocks import frame_of
from san_cli.engine.segmentation_map import map_of_blocks, segmentation_map
from san_cli.engine.segmenter import Segmenter
from san_cli.engine.tiles import see_windows, tiled_blocks
from san_cli.engine.tiling import Tile, Tiling, tiling_of
from san_cli.errors import SanError
from san_cli.vocabulary.grammar import Vocabulary


@dataclass(frozen=True)
class Member:
    """A model and the share with which its segmentation map counts."""

    segmenter: Segmenter
    share: float = 1.0


def parse_member(text: str) -> tuple[str, float]:
    """Split `WEIGHTS[:share]` into weights and share; SanError for a share that is no positive number."""
    weights, colon, share = text.rpartition(":")
    if not colon or not share or not (share[0].isdigit() or share[0] in ".-+"):
        return text, 1.0  # a path, though with a colon
    try:
        value = float(share)
    except ValueError:
        return text, 1.0
    if not weights or not 0 < value < float("inf"):
        raise SanError(
            f"--ensemble '{text}' has no positive share", hint="Write WEIGHTS:share, such as more.pth:0.5."
        )
    return weights, value


@dataclass(frozen=True)
class Ensemble:
    """Models whose segmentation maps of one vocabulary are added, be it a single one; see `check_members`."""

    members: Sequence[Member]
    vocabulary: Vocabulary
    tile: Tile | None = None  # see `engine/tiling.py`

    def load(self, pair: Pair, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read a pair's image [h, w, 3], upright: at network size, or as it is where it is seen through windows.

        SanError where it can't be read, or its label is of another `size` (height, width).
        """
        pixels = pair.read_image()
        if pixels.shape[:2] != size:
            raise pair.other_size(pixels.shape[:2], size)
        return self.members[0].segmenter.resize(pixels) if self._tiling(size) is None else pixels

    @torch.inference_mode()
    def label_map(
        self, loaded: NDArray[np.uint8], size: tuple[int, int], lap: Callable[[str], None]
    ) -> NDArray[np.integer]:
        """Make the label map [H, W] of `size` for what was loaded: argmax of Σ share · S.

        With one member this is what `Segmenter.segment` makes. SanError where a network's output is not finite.
        `lap` is told what the time since it was told before was spent on, "model" or "label_map".
        """
        tiling = self._tiling(size)
        if tiling is not None:
            return self._through_windows(loaded, tiling, size, lap)
        mask_logits, probabilities = self._factors([loaded], lap)
        return segmentation_map(mask_logits[0], probabilities[0], frame_of(loaded, size)).label_map

    def _through_windows(
        self, pixels: NDArray[np.uint8], tiling: Tiling, size: tuple[int, int], lap: Callable[[str], None]
    ) -> NDArray[np.integer]:
        """Make the label map of an image [H, W, 3] as `Segmenter.segment_tiled` does."""

        def factors(resized: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
            lap("label_map")  # of the windows before
            return self._factors(resized, lap)

        windows = see_windows(LoadedImage(pixels), tiling, self.members[0].segmenter.resize, factors, 1)
        return map_of_blocks(tiled_blocks(tiling, windows), size, len(self.vocabulary)).label_map

    def _factors(
        self, resized: Sequence[NDArray[np.uint8]], lap: Callable[[str], None]
    ) -> tuple[Tensor, Tensor]:
        """Compute mask logits [B, ΣN, h, w] and class probabilities [B, ΣN, C], times the shares, of all members.

        The queries of all models stand one model's behind the other's: the sum over them is that of the models' maps.
        """
        factors = [member.segmenter.map_factors(resized, self.vocabulary) for member in self.members]
        wait_for(self.members[0].segmenter.device)
        lap("model")
        shares = [member.share for member in self.members]
        return (
            torch.cat([masks for masks, _ in factors], dim=1),
            torch.cat([share * classes for share, (_, classes) in zip(shares, factors, strict=True)], dim=1),
        )

    def _tiling(self, size: tuple[int, int]) -> Tiling | None:
        """Lay windows over an image of `size`: those of all members are the same, see `check_members`."""
        return tiling_of(*size, self.tile, self.members[0].segmenter.preset)


def check_members(members: Sequence[Member]) -> None:
    """Raise SanError where the models see images of different sizes or make masks of different grids."""
    first = members[0].segmenter.preset
    for member in members[1:]:
        other = member.segmenter.preset
        for what in ("input_size", "longest_side", "side_patch_size"):
            if getattr(first, what) != getattr(other, what):
                raise SanError(
                    f"{first.name} and {other.name} can't be added: {what} is {getattr(first, what)} "
                    f"and {getattr(other, what)}",
                    hint="An ensemble needs models of the same input size and patch size.",
                )
