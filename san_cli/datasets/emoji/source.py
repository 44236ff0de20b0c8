"""The emoji world as something to train on: scenes by number, like files in a folder."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.emoji.scenes import EmojiScenes
from san_cli.datasets.labels import Labels

IGNORE_LABEL = 65535  # no pixel has it: scenes are labelled everywhere


@dataclass(frozen=True)
class EmojiSource:
    """`length` scenes of the `wanted` concepts, rendered when they are read; ids are places in `wanted`."""

    seed: int
    wanted: tuple[int, ...]
    size: int  # pixels, the side of a scene
    length: int

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> tuple[NDArray[np.uint8], Labels, str]:
        """See `san_cli.train.training_set.Source`. SanError where the font is missing."""
        scene = self._scenes[index]
        return scene.image, scene.labels, f"emoji scene {index} of seed {self.seed}"

    @cached_property
    def _scenes(self) -> EmojiScenes:
        return EmojiScenes(self.seed, self.wanted, self.size)
