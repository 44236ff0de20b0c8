"""The training set: an endless row of augmented samples.

The position in that row (step × batch + place in the batch) and the seed say everything about a sample: which
image it is and how it is augmented. Neither processes, workers, micro-batches nor where a run was resumed matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from san_cli.datasets.source import Source
from san_cli.train.augment import Augmentation, augment

_ORDER, _AUGMENTATION = 0, 1  # what a seed is used for; each has generators of its own


@dataclass(frozen=True)
class Sample:
    """A sample: one image as the network is trained on it, at one position."""

    image: Tensor  # uint8 RGB [3, crop, crop]
    label_map: Tensor  # [crop, crop], uint8, or int32 where ids or the ignore label need it
    name: str
    position: int

    def pin_memory(self) -> "Sample":
        """Copy it to page-locked memory, for an asynchronous copy to a GPU (torch's loader calls this)."""
        return Sample(self.image.pin_memory(), self.label_map.pin_memory(), self.name, self.position)

    def __reduce__(self) -> tuple[Callable[..., "Sample"], tuple[object, ...]]:
        """Send it as plain bytes: torch would put tensors into /dev/shm, which is 64 MB in containers."""
        return _sample, (self.image.numpy(), self.label_map.numpy(), self.name, self.position)


def _sample(image: NDArray[np.uint8], ids: NDArray[np.integer], name: str, position: int) -> Sample:
    return Sample(torch.from_numpy(image), torch.from_numpy(ids), name, position)


@dataclass(frozen=True)
class TrainingSet(Dataset[Sample]):
    """The row of samples: `training_set[position]` for any position from 0."""

    source: Source
    augmentation: Augmentation
    seed: int  # from 0
    ignore_label: int

    def __getitem__(self, position: int) -> Sample:
        image, labels, name = self.source.read(sample_order(self.seed, len(self.source), position))
        generator = _generator(self.seed, _AUGMENTATION, position)
        planes, ids = augment(image, labels, self.augmentation, self.ignore_label, generator)
        return _sample(planes, ids, name, position)


def sample_order(seed: int, length: int, position: int) -> int:
    """Return the index of the image at `position`: each of `length` images once an epoch, newly shuffled in each."""
    epoch, place = divmod(position, length)
    return int(_permutation(seed, length, epoch)[place])


@lru_cache(maxsize=4)
def _permutation(seed: int, length: int, epoch: int) -> NDArray[np.intp]:
    return _generator(seed, _ORDER, epoch).permutation(length)


def _generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose, number))))
