"""The targets of a training image: the masks that it should be segmented into."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """One image's masks: a binary one for each class present, read off the label map."""

    label_map: Tensor  # [H, W] train ids at the network's input size; a label not in `classes` is in no mask
    classes: Tensor  # [T] int64, ascending


def targets_of(label_map: Tensor, num_classes: int, ignore_label: int) -> Targets:
    """Find the masks in `label_map` [H, W], integers; labels outside 0 … num_classes-1 are in none."""
    labels = label_map.flatten()
    counts = labels[labels >= 0].bincount(minlength=num_classes)[:num_classes]
    if 0 <= ignore_label < num_classes:
        counts[ignore_label] = 0
    return Targets(label_map, counts.nonzero().flatten())
