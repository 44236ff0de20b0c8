"""Scenes to evaluate on: like an image and a label file, but rendered when they are read."""

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
SEEDS = {"val": 1000, "val-2": 2000, "val-3": 3000}  # splits; training has others


@dataclass(frozen=True)
class ScenePair(Pair):
    """Scene `index` of `seed`, with all concepts; the paths are names for reports."""

    seed: int
    index: int

    def read_image(self) -> NDArray[np.uint8]:
        """RGB [SIZE, SIZE, 3]. SanError where the font is missing."""
        return _scene(self.seed, self.index).image

    def read_labels(self, classes: int, ignore_label: int) -> Labels:
        """Ids [SIZE, SIZE] of concepts; nothing is ignored."""
        return _scene(self.seed, self.index).labels


def scene_pairs(split: str) -> tuple[ScenePair, ...]:
    """The scenes of a split of `SEEDS`."""
    seed = SEEDS[split]
    stems = [f"emoji-{split}-{index:05d}" for index in range(SCENES)]
    return tuple(
        ScenePair(Path(f"{stem}.png"), Path(f"{stem}.labels"), stem, seed, index)
        for index, stem in enumerate(stems)
    )


@lru_cache(maxsize=32)
def _scene(seed: int, index: int) -> Scene:
    return EmojiScenes(seed, all_ids(), SIZE)[index]
