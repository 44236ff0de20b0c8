"""Scenes to evaluate on: like an image and a label file, but rendered when they are read.

A mosaic is a larger picture of the scenes of a split in their order: the pixels are the same, so the metrics of
mosaics and of single scenes may be compared.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Pair
from san_cli.datasets.emoji.scenes import EmojiScenes, Scene
from san_cli.datasets.labels import Labels
from san_cli.vocabulary.emoji_concepts import all_ids

SIZE = 320  # pixels, the side of a scene
SCENES = 500  # of a split
SEEDS = {"val": 1000, "val-2": 2000, "val-3": 3000}  # of scenes; training has others
MOSAICS = "mosaics"  # those of `val`
MOSAIC_SIDE = 5  # scenes
SPLITS = (*SEEDS, MOSAICS)


@dataclass(frozen=True)
class ScenePair(Pair):
    """Scene `index` of `seed`, with all concepts; the paths are names for reports."""

    seed: int
    index: int

    def read_image(self) -> NDArray[np.uint8]:
        """RGB [SIZE, SIZE, 3]. SanError where the font is missing."""
        return self._scene().image

    def read_labels(self, classes: int, ignore_label: int) -> Labels:
        """Ids [SIZE, SIZE] of concepts; nothing is ignored."""
        return self._scene().labels

    def _scene(self) -> Scene:
        return _scene(self.seed, self.index)


@dataclass(frozen=True)
class MosaicPair(ScenePair):
    """Mosaic `index` of `seed`: MOSAIC_SIDE² scenes, row by row; its side is MOSAIC_SIDE · SIZE pixels."""

    def _scene(self) -> Scene:
        return _mosaic(self.seed, self.index)


def scene_pairs(split: str) -> tuple[ScenePair, ...]:
    """The scenes, or mosaics, of a split of `SPLITS`."""
    seed, count, kind = SEEDS.get(split, SEEDS["val"]), SCENES, ScenePair
    if split == MOSAICS:
        count, kind = SCENES // MOSAIC_SIDE**2, MosaicPair
    stems = [f"emoji-{split}-{index:05d}" for index in range(count)]
    return tuple(
        kind(Path(f"{stem}.png"), Path(f"{stem}.labels"), stem, seed, index)
        for index, stem in enumerate(stems)
    )


@lru_cache(maxsize=32)
def _scene(seed: int, index: int) -> Scene:
    return EmojiScenes(seed, all_ids(), SIZE)[index]


@lru_cache(maxsize=4)
def _mosaic(seed: int, index: int) -> Scene:
    scenes = EmojiScenes(seed, all_ids(), SIZE)
    first = index * MOSAIC_SIDE**2
    rows = [
        [scenes[first + row * MOSAIC_SIDE + column] for column in range(MOSAIC_SIDE)]
        for row in range(MOSAIC_SIDE)
    ]
    return Scene(
        np.concatenate([np.concatenate([one.image for one in row], axis=1) for row in rows]),
        np.concatenate([np.concatenate([one.labels for one in row], axis=1) for row in rows]),
    )
