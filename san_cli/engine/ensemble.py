"""One label map from several models: their segmentation maps are added, each with a share (footnote 2).

A segmentation map is a sum over queries (Eq. 4), so the sum of two models' maps is the map of all their queries
together, with class probabilities scaled by the share. Hence it is made in the same bounded memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Pair
from san_cli.engine.segmentation_map import frame_of, segmentation_map
from san_cli.engine.segmenter import Segmenter
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

    def load(self, pair: Pair, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read a pair's image [h, w, 3], upright and at network size.

        SanError where it can't be read, or its label is of another `size` (height, width).
        """
        pixels = pair.read_image()
        if pixels.shape[:2] != size:
            raise pair.other_size(pixels.shape[:2], size)
        return self.members[0].segmenter.resize(pixels)

    @torch.inference_mode()
    def label_map(
        self, loaded: NDArray[np.uint8], size: tuple[int, int], on_network_done: Callable[[], None]
    ) -> NDArray[np.int16]:
        """Make the label map [H, W] of `size` for an image [h, w, 3] at network size: argmax of Σ share · S.

        With one member this is what `Segmenter.segment_resized` makes. SanError where a network's output is not
        finite. `on_network_done` is called between the networks and the making of the map, for those who time them.
        """
        factors = [member.segmenter.map_factors([loaded], self.vocabulary) for member in self.members]
        device = self.members[0].segmenter.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        on_network_done()
        # The queries of all models, one model's behind the other's: the sum over them is that of the models' maps.
        mask_logits = torch.cat([masks[0] for masks, _ in factors])  # [ΣN, h, w]
        shares = [member.share for member in self.members]
        probabilities = torch.cat(  # [ΣN, C]
            [share * classes[0] for share, (_, classes) in zip(shares, factors, strict=True)]
        )
        return segmentation_map(mask_logits, probabilities, frame_of(loaded, size)).label_map


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
