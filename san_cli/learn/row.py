"""The row of a learned word, in closed form: what takes the place of its text embedding.

The network stays as it is. A word's row p decides by cosine times temperature, `S = M · softmax(τ R · Pᵀ)` (Eq. 4):
of the regions R that the model proposes in a few pictures, those that lie on the word's shapes should find it likely,
all others not. Fitting the row by gradients to eight pictures learns the pictures by heart (docs/learning-words.md);
what holds for new pictures is the direction in which a linear discriminant tells both groups apart,

    d = Σ⁻¹ (μ_word - μ_others),      row = t + k·d

with the means of the regions' embeddings and the covariance Σ of those that aren't the word's, pulled towards the
identity, as there are fewer regions than a covariance has numbers. It starts at t, the mean of the vocabulary's rows:
a word that knows nothing. k says how likely the word is to be on its own regions: a quarter as likely as all other
words together, which is still likelier than any of them where none of them is meant.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

PULL = 15.0  # towards the identity, in mean variances of a dimension; measured, as the next four are
ODDS = 0.25  # against all other words together, on its own regions
ON = 0.3  # IoU with a shape from which on a region is an example of it
SHARPNESS = 4  # power of the IoU that a region counts with among a shape's
OFF = 0.1  # IoU with all shapes below which a region is another thing


@dataclass(frozen=True)
class Example:
    """What the model sees of one shape: the mean of the regions on it, by how well they fit."""

    picture: int
    region: Tensor  # [D] float64
    others: float  # logarithm of what all other words come to together there: ln Σ exp(logit)


def example_of(picture: int, regions: Tensor, others: Tensor, overlap: Tensor) -> Example | None:
    """Summarise the `regions` [N, D] by their `overlap` [N] (IoU) with one shape; None where no region is on it.

    `others` [N] are the logarithms of what the other words come to.
    """
    weights = torch.where(overlap >= ON, overlap, 0.0).double() ** SHARPNESS
    if not weights.any():
        return None
    weights = weights / weights.sum()
    return Example(picture, weights @ regions.double(), float(weights @ others.double()))


class Discriminant:
    """The direction from other things to a word, for any choice of its examples."""

    def __init__(self, others: Tensor, start: Tensor, temperature: float) -> None:
        """Know the regions `others` [n, D] that aren't the word's, the row [D] to start from, the temperature."""
        centred = others.double()
        self.mean = centred.mean(dim=0)
        centred = centred - self.mean
        spread = centred.T @ centred / len(centred)  # [D, D]
        pull = PULL * spread.diagonal().mean().clamp_min(1e-12)
        self.factor = torch.linalg.cholesky(spread + pull * torch.eye(len(spread), dtype=torch.float64))
        self.start, self.temperature = start.double(), temperature

    def row(self, examples: list[Example]) -> Tensor:
        """Return the row [D], float64, that some examples teach; each weighs the same."""
        region = torch.stack([one.region for one in examples]).mean(dim=0)
        even = sum(one.others for one in examples) / len(examples)  # logit at which the odds are even
        wanted = even + math.log(ODDS)
        direction = torch.cholesky_solve((region - self.mean)[:, None], self.factor)[:, 0]
        missing, reach = wanted / self.temperature - region @ self.start, region @ direction
        return self.start + direction * (missing / reach if missing > 0 and reach > 0 else 0.0)
