"""What the CLIP of `tiny` reads: sentences with the names of concepts, and their tokens."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from san_cli.models.presets import TINY
from san_cli.vocabulary.emoji_concepts import concepts
from san_cli.vocabulary.templates import VILD

OPENINGS = ("", "a photo of ", "There is ", "a picture of ")
RELATIONS = (" on ", " in front of ", " and ")

Caption = tuple[str, tuple[int, ...]]  # and the sorted ids of the concepts that it mentions


def single_captions(rng: np.random.Generator) -> list[Caption]:
    """A sentence about each concept, in the order of their ids."""
    return [(_sentence(rng, _word(rng, i)), (i,)) for i in range(len(concepts()))]


def caption(rng: np.random.Generator, things: list[int], grounds: list[int]) -> Caption:
    """A sentence for a picture of these, and the sorted ids that it mentions."""
    if not things:
        return _sentence(rng, _word(rng, grounds[0])), (grounds[0],)
    things = [things[i] for i in rng.permutation(len(things))]
    words = [_word(rng, i) for i in things]
    mentioned = set(things)
    if len(words) == 1 and rng.random() < 0.75:
        return _sentence(rng, words[0]), tuple(mentioned)
    article = "a " if rng.random() < 0.7 else ""
    text = f"{article}{words[0]}"
    for place, word in enumerate(words[1:], start=2):
        text += f"{' and' if place == len(words) else ','} {article}{word}"
    if grounds and (len(words) == 1 or rng.random() < 0.3):
        text += rng.choice(RELATIONS) + _word(rng, grounds[0])
        mentioned.add(grounds[0])
    return rng.choice(OPENINGS) + text, tuple(sorted(mentioned))


def _word(rng: np.random.Generator, concept: int) -> str:
    words = concepts()[concept].words
    return words[0] if rng.random() < 0.6 else words[rng.integers(len(words))]


def _sentence(rng: np.random.Generator, word: str) -> str:
    return word if rng.random() < 0.2 else VILD[rng.integers(len(VILD))].replace("{}", word)


def mentions(captions: Sequence[Caption]) -> Tensor:
    """Float 0/1 [captions, concepts]."""
    rows = torch.zeros(len(captions), len(concepts()))
    for row, (_, mentioned) in zip(rows, captions, strict=True):
        row[list(mentioned)] = 1
    return rows


@cache
def token_ids() -> Tensor:
    """The ids [V], ascending, of CLIP's 49,408 tokens that captions can hold; only their embeddings are trained."""
    words = [word for concept in concepts() for word in concept.words]
    phrases = [*words, *VILD, *OPENINGS, *RELATIONS, "a and,"]
    tokens = _tokenizer()([phrase.replace("{}", "") for phrase in phrases])
    return torch.unique(torch.cat([torch.zeros(1, dtype=torch.long), tokens.flatten()]))


@cache
def token_places(text: str) -> Tensor:
    """Places [77] in `token_ids()` of the text's tokens."""
    tokens = _tokenizer()(text)[0]
    places = torch.searchsorted(token_ids(), tokens)
    assert torch.equal(token_ids()[places], tokens), text
    return places


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer(context_length=TINY.clip.context_length)
