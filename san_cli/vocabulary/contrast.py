"""Words that compete with those that are asked for alone (`--only`), so that these win where they are and no more.

Of photographs: COCO's 171 classes and stuff that they lack. Of tiny's world: its own names.
"""

from san_cli.vocabulary.grammar import Vocabulary, VocabularyEntry, parse_vocabulary
from san_cli.vocabulary.terms import word_key

_MORE_STUFF = (
    "asphalt", "soil", "ice", "smoke", "steam", "foam", "pole", "rope", "cable", "pipe", "machine", "tool", "toy",
    "box", "statue", "text", "poster", "screen", "shadow", "reflection",
)  # fmt: skip


def contrast_to(asked: Vocabulary, *, of_tiny: bool) -> tuple[VocabularyEntry, ...]:
    """List the contrast's classes, but for those that have a word of the asked ones.

    COCO's `building-other`, `floor-wood` and the like are kinds of what is before the dash.
    """
    if of_tiny:
        entries, general = parse_vocabulary(["emoji"]).entries, word_key
    else:
        more = tuple(VocabularyEntry(word, (word,)) for word in _MORE_STUFF)
        entries, general = (*parse_vocabulary(["coco"]).entries, *more), _before_dash
    taken = set(map(word_key, asked.words))
    return tuple(
        entry
        for entry in entries
        if taken.isdisjoint(key for word in entry.words for key in (word_key(word), general(word)))
    )


def _before_dash(word: str) -> str:
    return word_key(word.partition("-")[0])
