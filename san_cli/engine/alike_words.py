"""Notes on words that CLIP can't tell apart, or can't read to their end."""

from collections.abc import Sequence

from torch import Tensor

from san_cli.models.text import tokenizer_of
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.vocabulary.terms import shown

_ENDS = 2  # tokens before and after a text


def word_notes(
    vocabulary: Vocabulary, embeddings: Tensor, templates: Sequence[str], context_length: int
) -> list[str]:
    """Write a note on words that are cut, and one on words of different classes with the same row in `embeddings`."""
    notes = []
    learned = {one.word for one in vocabulary.learned}  # whose text counts for nothing
    cut = cut_words([word for word in vocabulary.words if word not in learned], templates, context_length)
    if cut:
        notes.append(f"CLIP reads {context_length} tokens and cuts what follows in {_some(cut)}")
    alike = _alike(vocabulary, embeddings)
    if alike:
        pairs = "; ".join(f"{_brief(first)} and {_brief(second)}" for first, second in alike[:3])
        more = f" and {len(alike) - 3:,} more pairs" if len(alike) > 3 else ""
        notes.append(f"CLIP can't tell apart: {pairs}{more}; the first of them takes all pixels of both")
    return notes


def cut_words(words: Sequence[str], templates: Sequence[str], context_length: int) -> list[str]:
    """Find those of `words` that have more tokens in some template than CLIP reads."""
    room = context_length - _ENDS
    longest = max(len(template.encode()) for template in templates)
    long = [
        word for word in words if len(word.encode("utf-8", "replace")) + longest > room
    ]  # a token has a byte
    if not long:
        return []
    tokenizer = tokenizer_of(context_length)
    return [
        word
        for word in long
        if any(len(tokenizer.encode(template.replace("{}", word))) > room for template in templates)
    ]


def _alike(vocabulary: Vocabulary, embeddings: Tensor) -> list[tuple[str, str]]:
    """Find pairs of words with equal embeddings, or learned rows, that stand for different classes."""
    numbers = [row.tobytes() for row in embeddings.float().cpu().numpy()]
    for place, one in zip(vocabulary.learned_places, vocabulary.learned, strict=True):
        numbers[place] = one.row
    owner = {
        index: n for n, indices in reversed(list(enumerate(vocabulary.word_indices))) for index in indices
    }
    first: dict[bytes, int] = {}
    pairs = []
    for index, row in enumerate(numbers):
        other = first.setdefault(row, index)
        if owner[other] != owner[index]:
            pairs.append((vocabulary.words[other], vocabulary.words[index]))
    return pairs


def _some(words: Sequence[str]) -> str:
    named = ", ".join(map(_brief, words[:3]))
    return named if len(words) <= 3 else f"{named} and {len(words) - 3:,} more"


def _brief(word: str) -> str:
    """Put the word in quotes, cut in its middle, as it is the ends that differ."""
    return shown(word if len(word) <= 60 else f"{word[:20]} … {word[-30:]}")
