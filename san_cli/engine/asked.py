"""What a label map is asked for: the limits for all classes that compete, and those of them that it shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from san_cli.engine.map_options import Limit, MapOptions, limits, shown_ids, shown_names
from san_cli.engine.segmentation_map import UNLABELLED, Least, SegmentationMap
from san_cli.regions.specks import drop_specks
from san_cli.vocabulary.grammar import Vocabulary

_BAND = 1024  # rows looked at in one go: a large picture isn't there twice


@dataclass(frozen=True)
class Asked:
    """A vocabulary with options, worked out for the classes that compete."""

    least: Least
    shown: Sequence[int] | None  # ids to keep, None for all
    classes: int  # that label maps index; with `only` more compete
    min_area: int  # pixels

    def shown_of(self, made: SegmentationMap) -> SegmentationMap:
        """Leave in a map, which changes, what was asked for."""
        competing = len(made.class_scores)
        shown = range(self.classes) if self.shown is None else self.shown
        if len(shown) < competing:
            kept = np.full(competing + 1, UNLABELLED, made.label_map.dtype)  # the last one is UNLABELLED's
            kept[shown] = shown
            for top in range(0, len(made.label_map), _BAND):
                band = made.label_map[top : top + _BAND]
                band[:] = kept[band]
        drop_specks(made.label_map, self.min_area)
        return replace(
            made,
            class_scores=made.class_scores[: self.classes],
            class_confidences=made.class_confidences[: self.classes],
        )


def asked_of(vocabulary: Vocabulary, options: MapOptions, competing: int) -> Asked:
    """Work out `options` where so many classes compete. SanError for names that aren't there."""

    def for_all(limit: Limit) -> np.ndarray | float:
        found = limits(vocabulary, options, limit)
        if isinstance(found, float) or len(found) == competing:
            return found
        return np.concatenate([found, np.zeros(competing - len(found), np.float32)])  # the contrast has none

    return Asked(
        Least(for_all(options.min_score), for_all(options.min_confidence)),
        shown_ids(vocabulary, options),
        len(shown_names(vocabulary, options)),
        options.min_area,
    )


def best_word_logits(word_logits: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Reduce word logits [B, N, words+1] to class logits [B, N, C+1]: a class is as likely as its best synonym."""
    groups = vocabulary.word_indices
    if all(group == (index,) for index, group in enumerate(groups)):
        return word_logits
    best = [word_logits[..., list(group)].amax(dim=-1) for group in groups]
    return torch.stack([*best, word_logits[..., -1]], dim=-1)
