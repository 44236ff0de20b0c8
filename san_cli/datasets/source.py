"""Labelled images by index, as training reads them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Pair
from san_cli.datasets.labels import Labels


class Source(Protocol):
    """Images with labels, by index; the same index always gives the same. It is sent to worker processes."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[NDArray[np.uint8], Labels, str]:
        """Read RGB [H, W, 3], ids [H, W] and a name for messages; SanError that names what can't be read."""
        ...


@dataclass(frozen=True)
class PairSource:
    """Files: images as the evaluation reads them (turned upright), labels of `classes` classes."""

    pairs: tuple[Pair, ...]
    classes: int
    ignore_label: int

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[NDArray[np.uint8], Labels, str]:
        """See `Source`. SanError as well where an id is out of range or the two sizes differ."""
        pair = self.pairs[index]
        labels = pair.read_labels(self.classes, self.ignore_label)
        image = pair.read_image()
        if image.shape[:2] != labels.shape:
            (height, width), (label_height, label_width) = image.shape[:2], labels.shape
            raise pair.other_size((height, width), (label_height, label_width))
        return image, labels, pair.stem
