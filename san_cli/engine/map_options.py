"""Options of a label map beyond the plain argmax, and the class names that its values stand for."""

import math
from dataclasses import dataclass
from numbers import Real

from san_cli.errors import SanError, WrongType
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.vocabulary.terms import check_word, shown, word_key


@dataclass(frozen=True)
class MapOptions:
    """Options of a label map; by default the plain argmax over the vocabulary."""

    min_score: float = 0.0  # below it a pixel stays unlabelled
    background: str | None = None  # the name under which the learned "no object" competes as a further class
    show: tuple[str, ...] | None = None  # keep only these classes; the rest still compete (Fig. 1)
    keep_scores: bool = False  # give the winning score of every pixel, too

    def __post_init__(self) -> None:
        if isinstance(self.show, str):
            raise WrongType(
                "`show` is a tuple of names, not one string", hint=f"Write show=({self.show!r},)."
            )
        if self.background is not None:
            if not isinstance(self.background, str):
                raise WrongType("`background` is a name for what is no object, such as 'nothing'")
            check_word(self.background)
        if isinstance(self.min_score, str) or not isinstance(self.min_score, Real):
            raise WrongType(f"`min_score` is a number, not {type(self.min_score).__name__}")
        if not 0 <= self.min_score < math.inf:
            raise SanError(f"`min_score` is a finite number from 0, not {self.min_score}")


PLAIN_ARGMAX = MapOptions()


def check_background(vocabulary: Vocabulary, options: MapOptions) -> None:
    """Raise SanError where the name for "no object" is a class's, too."""
    if options.background is not None and word_key(options.background) in map(word_key, vocabulary.words):
        raise SanError(
            f"the background {shown(options.background)} is in the vocabulary, too",
            hint="Give it a name of its own.",
        )


def shown_names(vocabulary: Vocabulary, options: MapOptions) -> tuple[str, ...]:
    """List the class names that label maps index: the vocabulary's, then the background's where it competes."""
    return vocabulary.names if options.background is None else (*vocabulary.names, options.background)


def shown_ids(vocabulary: Vocabulary, options: MapOptions) -> list[int] | None:
    """Find the class ids that `options.show` keeps, None for all: a class goes by any of its words.

    Raises SanError for a name that isn't there.
    """
    if options.show is None:
        return None
    named: dict[str, list[int]] = {}
    for index, entry in enumerate(vocabulary.entries):
        for word in dict.fromkeys(word_key(word) for word in (entry.name, *entry.words)):
            named.setdefault(word, []).append(index)
    if options.background is not None:
        named.setdefault(word_key(options.background), []).append(len(vocabulary))
    missing = [name for name in options.show if word_key(name) not in named]
    if missing:
        raise SanError(
            f"{shown(missing[0])} can't be shown: it is not in the vocabulary",
            hint="Add it to the vocabulary; only classes that compete can be shown.",
        )
    return sorted({index for name in options.show for index in named[word_key(name)]})
