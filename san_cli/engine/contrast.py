"""The contrast of `--only`: what competes with the asked words, and what is too near to them to compete.

CLIP's text embeddings all lie in a narrow cone, so that a cosine says little by itself. From the contrast's mean,
cosines of unlike things are about 0; a word above `NEAR` is taken for another name of what is asked for and left
out, or it would take its pixels. Of learned words, too, the texts are compared, not the rows. The learned "no
object" competes, too, with a part of its probability: with all of it, it wins most of what it should leave
(docs/confidence.md has the figures for both numbers).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.text import printable
from san_cli.vocabulary.grammar import Vocabulary, VocabularyEntry

NEAR = 0.7
NO_OBJECT = 0.2  # of its probability


@dataclass(frozen=True)
class Contrast:
    """The vocabulary that competes for an asked one: its classes first, then the contrast's."""

    asked: Vocabulary
    competing: Vocabulary
    left_out: tuple[tuple[str, str], ...]  # names too near to an asked one, with that one


def contrast_of(
    asked: Vocabulary, candidates: tuple[VocabularyEntry, ...], embeddings: Tensor
) -> tuple[Contrast, Tensor]:
    """Choose among `candidates` by `embeddings` [words, D] of asked and candidate classes together.

    Returns the contrast, and the rows of `embeddings` that belong to its words.
    """
    if not candidates:
        return Contrast(asked, asked, ()), embeddings
    everything = asked.with_more(candidates)
    own, others = everything.word_indices[: len(asked)], everything.word_indices[len(asked) :]
    rows = embeddings.float().cpu()
    of_candidates = sorted({index for indices in others for index in indices})
    centred = F.normalize(rows - rows[of_candidates].mean(dim=0), dim=1)
    # A class is as near to another as the two nearest of their words.
    by_word = torch.stack([_nearest(centred, centred[list(indices)]) for indices in own])  # [asked, words]
    by_class = torch.stack(
        [by_word[:, list(indices)].amax(dim=1) for indices in others]
    )  # [candidates, asked]
    nearness, which = by_class.max(dim=1)
    kept, left_out = [], []
    for entry, near, index in zip(candidates, nearness.tolist(), which.tolist(), strict=True):
        if near > NEAR:
            left_out.append((entry.name, asked.names[index]))
        else:
            kept.append(entry)
    competing = asked.with_more(kept)
    place = {word: index for index, word in enumerate(everything.words)}
    return Contrast(asked, competing, tuple(left_out)), embeddings[[place[word] for word in competing.words]]


def _nearest(rows: Tensor, words: Tensor) -> Tensor:
    """Cosine [R] of each of the normalised `rows` [R, D] with the nearest of `words` [W, D]."""
    return (rows @ words.T).amax(dim=1)


def told(contrast: Contrast) -> list[str]:
    """Say what competes with the asked words, and what is left out because it may be the same."""
    others = contrast.competing.names[len(contrast.asked) :]
    lines = [f"competing, unseen: {', '.join([*map(printable, others), 'no object'])}"]
    if contrast.left_out:
        near = (f"{printable(name)} (near {printable(asked)})" for name, asked in contrast.left_out)
        lines.append(f"left out: {', '.join(near)}")
    return lines
