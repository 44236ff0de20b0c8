"""Notes for those who ask `tiny` for what it hasn't learned, told by their words and by its outlines.

A model trained on from it (`san train --init-from tiny`) keeps its CLIP, and so counts as one.
"""

from threading import Lock
from typing import TYPE_CHECKING

from san_cli.models.presets import TINY, Preset
from san_cli.vocabulary.emoji_concepts import concepts
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.vocabulary.terms import word_key

if TYPE_CHECKING:
    from torch import Tensor

_KNOWS = "tiny has learned nothing but drawn scenes of emoji on textures"
_WAY_OUT = "photographs need --model vit-b-16"
_NAMED = 3
# Undecided mask values among those inside a mask. Of 295 scenes of 200 to 900 pixels one has more (0.46, the others
# at most 0.43); of 60 street photographs 59 have, and all four of examples/photos (the rocket's sky hardly: 0.455).
UNDECIDED = 0.45
counting = Lock()  # a model's pictures may be seen by several threads
STRANGE_SHARE = 0.1  # of the pictures of a run: an odd scene among many is no reason for a note


def is_tiny(preset: Preset) -> bool:
    """Tell whether a model looks through tiny's CLIP, which has the say in what a region is."""
    return preset.clip == TINY.clip


def note_on_words(preset: Preset, vocabulary: Vocabulary) -> str | None:
    """Write a sentence for the user where tiny is given classes that it has no word for; None for another model."""
    if not is_tiny(preset):
        return None
    known = {word_key(word) for concept in concepts() for word in concept.words}
    known |= {word_key(one.word) for one in vocabulary.learned}
    strange = [entry.name for entry in vocabulary.entries if known.isdisjoint(map(word_key, entry.words))]
    if not strange:
        return None
    named = ", ".join(strange[:_NAMED]) + (", …" if len(strange) > _NAMED else "")
    count = f"{len(strange):,} of {len(vocabulary):,} classes are" if len(vocabulary) > 1 else "the class is"
    return f"{_KNOWS}: {count} not among its {len(concepts())} names ({named}); {_WAY_OUT}"


def note_on_pictures(seen: int, strange: int) -> str | None:
    """Write a sentence for the user where many of the pictures that tiny has seen were `strange` to it."""
    if strange <= STRANGE_SHARE * seen:
        return None
    which = f"{strange:,} of {seen:,} pictures don't" if seen > 1 else "this picture doesn't"
    return f"{_KNOWS}, and {which} look like one: expect nonsense; {_WAY_OUT}"


def strange_pictures(mask_logits: "Tensor") -> int:
    """Count the images behind the mask logits [B, N, h, w] that tiny can't outline, whatever the vocabulary.

    Those are told by many mask values that are neither inside (above 0.9) nor outside (below 0.1).
    """
    masks = mask_logits.sigmoid()
    inside = (masks > 0.1).sum(dim=(1, 2, 3))
    undecided = ((masks > 0.1) & (masks < 0.9)).sum(dim=(1, 2, 3))
    return int((undecided > UNDECIDED * inside).sum())
