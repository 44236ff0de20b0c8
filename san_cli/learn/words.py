"""Which words are learned: each is tried on the pictures that it wasn't learned from, beside the plain word."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from san_cli.learn.picture import Picture
from san_cli.learn.row import OFF, Discriminant, Example, example_of

KNOWN = 0.1  # IoU of a plain word from which on the model is taken to know it
BETTER = 0.1  # IoU by which a learned word has to beat a plain one that is known


@dataclass(frozen=True)
class Taught:
    """What became of one word. IoU is over all pictures together, in 0…1."""

    name: str
    pictures: int  # that show it
    cells: int  # of its shapes, in all pictures
    examples: int  # shapes that the model has a mask for
    others: int  # regions that are something else
    plain: float  # IoU of the plain word
    learned: float | None  # IoU of the learned word, each picture left out in turn; None: not tried
    row: Tensor | None  # [D] float32; None: the plain word stays


def teach(pictures: Sequence[Picture], index: int, name: str, start: Tensor, temperature: float) -> Taught:
    """Learn the class `index` of the vocabulary, unless the plain word is as good or no mask fits.

    `start` [D] is the row of a word that knows nothing. A word whose name fails has nothing to lose, and is learned
    however few pictures there are.
    """
    cells = [int((picture.labels == index).sum()) for picture in pictures]
    showing = [number for number, count in enumerate(cells) if count]
    if not showing:
        return Taught(name, 0, 0, 0, 0, 0.0, None, None)

    # What of each picture is the class's, and what is something else.
    examples: list[Example] = []
    others = []
    for number, picture in enumerate(pictures):
        overlaps, against = picture.overlaps(index), picture.others(index)
        found = (example_of(number, picture.regions, against, overlap) for overlap in overlaps)
        examples += [one for one in found if one is not None]
        others.append(picture.regions[(overlaps < OFF).all(dim=0)])
    rest = torch.cat(others)
    plain = _iou(picture.counted(index) for picture in pictures)
    if not examples or len(rest) < 2:
        return Taught(name, len(showing), sum(cells), len(examples), len(rest), plain, None, None)

    # Each picture is left out once.
    discriminant = Discriminant(rest, start, temperature)
    counts = []
    for number, picture in enumerate(pictures):
        known = [one for one in examples if one.picture != number]
        row = discriminant.row(known) if known else None
        counts.append(picture.counted(index, _logits(picture, row, temperature)))
    learned = _iou(counts)
    row = discriminant.row(examples).float() if plain < KNOWN or learned > plain + BETTER else None
    tried = learned if len(showing) > 1 else None
    return Taught(name, len(showing), sum(cells), len(examples), len(rest), plain, tried, row)


def _logits(picture: Picture, row: Tensor | None, temperature: float) -> Tensor:
    """Logits [N] of a row; those of a word that nothing is where there is no row."""
    if row is None:
        return torch.full((len(picture.regions),), -torch.inf)
    return (temperature * (picture.regions.double() @ row)).float()


def _iou(counts: Iterable[tuple[int, int]]) -> float:
    """Return the IoU of intersections and unions of several pictures, 0 where nothing is."""
    pairs = list(counts)
    union = sum(pair[1] for pair in pairs)
    return sum(pair[0] for pair in pairs) / union if union else 0.0
