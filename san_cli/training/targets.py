"""What a training image should be segmented into."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """One image's masks: a binary one for each class present, read off the label map."""

    label_map: Tensor  # [H, W] train ids at the network's input size; a label not in `classes` is in no mask
    classes: Tensor  # [T] int64, ascending


def targets_of(label_map: Tensor, num_classes: int, ignore_label: int) -> Targets:
    """The masks in `label_map` [H, W] of any integer type; a label outside 0 … num_classes-1 belongs to none."""
    labels = label_map.flatten().long()
    known = labels[(labels >= 0) & (labels < num_classes) & (labels != ignore_label)]
    return Targets(label_map, known.bincount(minlength=num_classes).nonzero().flatten())
