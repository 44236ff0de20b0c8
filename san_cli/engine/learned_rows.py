"""Learned words at work: their rows take the place of their text embeddings, for the model that they are of."""

import numpy as np
import torch
from torch import Tensor

from san_cli.engine.text_embeddings import TextTower
from san_cli.errors import SanError
from san_cli.text import counted
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.vocabulary.learned_words import model_told
from san_cli.vocabulary.terms import shown

_NAMED = 3


def model_hashes(weights_sha256: str, text_tower: TextTower | None) -> tuple[str, ...]:
    """List the hashes by which a loaded model is known: first, of an ONNX file, the weights that it was made from."""
    source = None if text_tower is None else text_tower.weights_sha256
    return tuple(dict.fromkeys(one for one in (source, weights_sha256) if one is not None))


def refuse_words_of_others(vocabulary: Vocabulary, model: str, hashes: tuple[str, ...]) -> None:
    """Raise SanError for a vocabulary with words that were learned with another model than that of `hashes`."""
    strange = [one for one in vocabulary.learned if one.weights_sha256 not in hashes]
    if not strange:
        return
    named = ", ".join(shown(one.word) for one in strange[:_NAMED])
    more = f" and {counted(len(strange) - _NAMED, 'other')}" if len(strange) > _NAMED else ""
    raise SanError(
        f"learned words mean something to the model that they were learned with alone: {named}{more} to "
        f"{strange[0].source}, not to {model_told(model, hashes[0])}",
        hint="Name that model with --model or --weights, or learn the words again with this one: san vocab learn",
    )


def with_learned(rows: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Put a vocabulary's learned rows, as long as they are, into its rows [words+1, D]; no other row changes.

    SanError for learned rows that are not [D].
    """
    if not vocabulary.learned:
        return rows
    learned = [one.numbers for one in vocabulary.learned]
    other = next((len(row) for row in learned if len(row) != rows.shape[1]), None)
    if other is not None:
        raise SanError(
            f"a learned row has {other} numbers, and those of this model have {rows.shape[1]}",
            hint="Learn the words again with `san vocab learn`, which writes them as they should be.",
        )
    changed = rows.clone()
    changed[list(vocabulary.learned_places)] = torch.from_numpy(np.stack(learned)).to(rows)
    return changed
