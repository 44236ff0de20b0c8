"""Label-set similarity (Table 1): how near the words of one vocabulary are to those of another.

The paper measures it with the Hausdorff distance and the cosine similarity of text embeddings, and gives no
formula. Ours: a class is as similar to a vocabulary as to its nearest class there, and a vocabulary as similar as
its least similar class:

    h(A → B) = min over a in A of max over b in B of cos(a, b)        H(A, B) = min(h(A → B), h(B → A))

h(benchmark → training set) tells how far the benchmark's strangest class is from anything that was trained on.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Similarity:
    """Two vocabularies compared; values are cosines."""

    forward: float  # h(A → B): of A's least similar class
    backward: float  # h(B → A)
    strangest: int  # index of A's least similar class
    nearest: int  # index in B of what it is nearest to
    mean: float  # over A's classes, of the cosine with the nearest class of B

    @property
    def symmetric(self) -> float:
        """H(A, B): the Hausdorff distance's counterpart among cosines."""
        return min(self.forward, self.backward)


def similarity(ours: Tensor, theirs: Tensor) -> Similarity:
    """Compare the normalised text embeddings [A, D] and [B, D] of two vocabularies."""
    cosine = ours @ theirs.T  # [A, B]
    best, where = cosine.max(dim=1)
    strangest = int(best.argmin())
    return Similarity(
        forward=float(best[strangest]),
        backward=float(cosine.amax(dim=0).min()),
        strangest=strangest,
        nearest=int(where[strangest]),
        mean=float(best.mean()),
    )


def first_word_rows(word_indices: tuple[tuple[int, ...], ...]) -> Tensor:
    """The row of each class's first word: its name stands for a class with synonyms."""
    return torch.tensor([indices[0] for indices in word_indices])
