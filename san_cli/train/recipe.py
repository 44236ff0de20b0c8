"""The recipe of a training: the paper's numbers, and those of the official configuration where they differ."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from san_cli.errors import SanError, did_you_mean
from san_cli.text import nearest, quoted
from san_cli.train.augment import OFFICIAL, PAPER
from san_cli.train.losses import POINTS, WEIGHTS

# The most of some numbers: a slip is told at once. A checkpoint's name has eight digits for its iteration; the others
# are far beyond what any memory holds.
_MOST = {"iterations": 99_999_999, "batch": 2**20, "points": 2**24, "queries_per_mask": 10_000}
_POSITIVE = {"iterations", "batch", "points", "learning_rate", "clip_norm", "queries_per_mask"}
_LONGEST_SIDE = 2**14  # pixels, at an input of 640
_PAPER_SIDES = (PAPER.short_sides[0], PAPER.short_sides[-1])


@dataclass(frozen=True)
class Recipe:
    """Optimisation, losses and augmentation of a training (Sec. 4.2)."""

    name: str
    # Pixels at an input of 640, in proportion at others; one is chosen at random for each image.
    short_side_choices: tuple[int, ...] = tuple(OFFICIAL.short_sides)
    short_side_range: tuple[int, int] | None = None  # or any length between these two
    decay_everything: bool = False  # weight decay on norms and embeddings, too
    iterations: int = 60_000
    batch: int = 32  # images of a step, over all processes
    learning_rate: float = 1e-4
    # Above 0: Muon at this rate for the matrices of blocks, fusions and heads. Small models learn faster with it.
    muon_learning_rate: float = 0.0
    warm_up: int = 0  # iterations in which the learning rates rise; softens the start on trained weights
    weight_decay: float = 1e-4
    poly_power: float = 0.9  # learning rate x (1 - step / iterations) ** power
    clip_norm: float = 0.01  # of the gradient of all parameters together
    points: int = POINTS  # sampled for the mask losses, and for matching
    ce_weight: float = WEIGHTS.ce  # Eq. 5
    mask_weight: float = WEIGHTS.mask
    dice_weight: float = WEIGHTS.dice
    no_object_weight: float = WEIGHTS.no_object  # of "no object" in the cross-entropy
    queries_per_mask: int = (
        WEIGHTS.queries_per_mask
    )  # that answer for each mask; more: trained on more at once
    colour_jitter: bool = True
    flip: float = 0.5  # chance

    def __post_init__(self) -> None:
        """Refuse what can't be trained with."""
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            lowest = "above 0" if field.name in _POSITIVE else "from 0"
            if kind in (int, float) and not (
                (value > 0 or (value == 0 and lowest == "from 0")) and (kind is int or math.isfinite(value))
            ):
                raise SanError(f"{field.name} is {value}, and must be a finite number {lowest}")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise SanError(f"{name} is {getattr(self, name):,}, and can be {most:,} at most")
        if self.flip > 1:
            raise SanError(f"flip is {self.flip}, and is a chance: 1 at most")
        if not (self.ce_weight or self.mask_weight or self.dice_weight):
            raise SanError("ce_weight, mask_weight and dice_weight are 0: nothing would be learned")
        if self.warm_up >= self.iterations:
            raise SanError(f"warm_up is {self.warm_up}, and must be less than iterations ({self.iterations})")
        sides = self.short_side_choices if self.short_side_range is None else self.short_side_range
        if not sides or not all(type(side) is int and 0 < side <= _LONGEST_SIDE for side in sides):
            shown = f"{list(sides)}" if len(sides) < 20 else f"{list(sides[:20])}…"
            raise SanError(f"short sides of {shown}: expected lengths in pixels, {_LONGEST_SIDE:,} at most")
        if self.short_side_range is not None and (len(sides) != 2 or sides[0] > sides[1]):
            raise SanError(f"short_side_range is {list(sides)}: expected the shortest and the longest")


RECIPES = {
    "official": Recipe("official"),
    "paper": Recipe("paper", short_side_range=_PAPER_SIDES, decay_everything=True),
}


def get_recipe(
    name: str, iterations: int | None = None, batch: int | None = None, learning_rate: float | None = None
) -> Recipe:
    """Return the recipe of that name, with what is given in place of its own numbers.

    SanError for an unknown name, with the known ones, and for numbers that can't be trained with.
    """
    if name not in RECIPES:
        hint = did_you_mean(nearest(name, RECIPES), f"Known recipes: {', '.join(RECIPES)}.")
        raise SanError(f"unknown recipe {quoted(name)}", hint=hint)
    given: dict[str, Any] = {"iterations": iterations, "batch": batch, "learning_rate": learning_rate}
    return dataclasses.replace(
        RECIPES[name], **{field: value for field, value in given.items() if value is not None}
    )


def differences(recipe: Recipe) -> list[str]:
    """List what the recipe does otherwise than the official configuration, `field = value`."""
    official = RECIPES["official"]
    return [
        f"{field.name} = {getattr(recipe, field.name)}"
        for field in dataclasses.fields(Recipe)
        if field.name != "name" and getattr(recipe, field.name) != getattr(official, field.name)
    ]
