"""Options of a label map beyond the plain argmax, and the class names that its values stand for."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from san_cli.errors import SanError, WrongType, did_you_mean
from san_cli.text import nearest
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.vocabulary.terms import check_word, shown, word_key

# One for all classes, or one each by name ("*": the others, else 0); kept as pairs.
Limit = float | Mapping[str, float] | tuple[tuple[str, float], ...]
OTHERS = "*"


@dataclass(frozen=True)
class MapOptions:
    """Options of a label map; by default the plain argmax over the vocabulary."""

    min_score: Limit = 0.0  # below it a pixel stays unlabelled
    background: str | None = None  # the name under which the learned "no object" competes as a further class
    show: tuple[str, ...] | None = None  # keep only these classes; the rest still compete (Fig. 1)
    keep_scores: bool = False  # give the winning score and the confidence of every pixel, too
    min_confidence: Limit = 0.0  # the winner's share of all evidence; below it a pixel stays unlabelled
    only: bool = False  # a built-in contrast competes, unseen, see `engine/contrast.py`
    min_area: int = 0  # pixels: smaller regions go to what surrounds them, see `regions/specks.py`

    def __post_init__(self) -> None:
        if isinstance(self.show, str):
            raise WrongType(
                "`show` is a tuple of names, not one string", hint=f"Write show=({self.show!r},)."
            )
        if self.background is not None:
            if not isinstance(self.background, str):
                raise WrongType("`background` is a name for what is no object, such as 'nothing'")
            check_word(self.background)
            if self.only:
                raise SanError(
                    '`only` lets "no object" compete already, unseen like the rest of its contrast',
                    hint="Leave out `background`.",
                )
        if not isinstance(self.only, bool):
            raise WrongType(
                f"`only` is True or False, not {type(self.only).__name__}",
                hint="The words are the vocabulary.",
            )
        if isinstance(self.min_area, bool) or not isinstance(self.min_area, Integral):
            raise WrongType(f"`min_area` is a number of pixels, not {type(self.min_area).__name__}")
        if self.min_area < 0:
            raise SanError(f"`min_area` is a number of pixels from 0 on, not {self.min_area}")
        if self.only and self.show is not None:
            raise SanError("`only` shows nothing but the vocabulary already", hint="Leave out `show`.")
        for name, most in (("min_score", math.inf), ("min_confidence", 1.0)):
            kept = _checked_limit(name, getattr(self, name), most)
            object.__setattr__(self, name, kept)  # a dict of the caller's might change


def _checked_limit(name: str, limit: object, most: float) -> Limit:
    """Return a limit as it is kept. Raises WrongType or SanError where it is none."""
    pairs: list[tuple[Any, Any]] = [("", limit)]
    if isinstance(limit, Mapping | tuple):
        pairs = list(dict(limit).items())
    for key, value in pairs:
        if not isinstance(key, str) or isinstance(value, str | bool) or not isinstance(value, Real):
            wrong = value if isinstance(key, str) else key
            raise WrongType(
                f"`{name}` is a number, or a dict of them by class name, not {type(wrong).__name__}"
            )
        _check_range(f"`{name}`", float(value), most)
    kept = tuple((key, float(value)) for key, value in pairs)
    return kept if isinstance(limit, Mapping | tuple) else kept[0][1]


def _check_range(name: str, value: float, most: float) -> None:
    """Raise SanError for a limit that nothing can be compared with."""
    if not 0 <= value <= most or math.isinf(value):
        span, hint = f"a number from 0 to {most:g}", "It is the winner's share of all classes' scores."
        if math.isinf(most):
            span, hint = "a finite number from 0 on", "Few pixels have a score above 7."
        raise SanError(f"{name} is {span}, not {value:g}", hint=hint)


PLAIN_ARGMAX = MapOptions()


def parse_limit(option: str, text: str, most: float = math.inf) -> Limit:
    """Parse what `--min-score` takes: a number, or `dog=0.4,*=0.2`; a name with a comma stands in double quotes.

    SanError for anything else.
    """
    number = _number(text)
    if number is not None:
        _check_range(option, number, most)
        return number
    found: dict[str, float] = {}
    for part in next(csv.reader([" ".join(text.split())], skipinitialspace=True), []):
        name, equals, value = part.rpartition("=")
        name, number = name.strip().strip("'\""), _number(value)
        if not (name and equals) or number is None:
            raise SanError(
                f"{option} {shown(text)} is no number, nor one for each class",
                hint=f"Write {option} 0.4, or {option} 'dog=0.4,*=0.2': * is all other classes.",
            )
        if name in found:
            raise SanError(f"{option} gives {shown(name)} twice", hint="Give each class one number.")
        _check_range(option, number, most)
        found[name] = number
    if not found:
        raise SanError(f"{option} is empty", hint=f"Write {option} 0.4, or {option} 'dog=0.4,*=0.2'.")
    return found


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)  # Python would read 1_0 as 10
    except ValueError:
        return None


def limits(vocabulary: Vocabulary, options: MapOptions, limit: Limit) -> np.ndarray | float:
    """Give the limit of each class [C] that label maps index, float32, or the one number for all.

    Raises SanError for a name that isn't there, and for a second one of the same class.
    """
    if isinstance(limit, float | int):
        return float(limit)
    by_name = dict(limit)
    named = _named(vocabulary, options)
    found = np.full(len(shown_names(vocabulary, options)), by_name.pop(OTHERS, 0.0), np.float32)
    given: dict[int, str] = {}
    for name, value in by_name.items():
        if word_key(name) not in named:
            raise SanError(
                f"there is no class {shown(name)} to set a limit for",
                hint=did_you_mean(
                    nearest(name, vocabulary.names), "Only classes of the vocabulary have one."
                ),
            )
        for index in named[word_key(name)]:
            if given.setdefault(index, name) != name:
                raise SanError(
                    f"{shown(given[index])} and {shown(name)} set a limit for one class", hint="Give it one."
                )
            found[index] = value
    return found


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
    named = _named(vocabulary, options)
    missing = [name for name in options.show if word_key(name) not in named]
    if missing:
        raise SanError(
            f"{shown(missing[0])} can't be shown: it is not in the vocabulary",
            hint="Add it to the vocabulary; only classes that compete can be shown.",
        )
    return sorted({index for name in options.show for index in named[word_key(name)]})


def _named(vocabulary: Vocabulary, options: MapOptions) -> dict[str, list[int]]:
    """List the ids of the classes that go by a word, for each word."""
    named: dict[str, list[int]] = {}
    for index, entry in enumerate(vocabulary.entries):
        for word in dict.fromkeys(word_key(word) for word in (entry.name, *entry.words)):
            named.setdefault(word, []).append(index)
    if options.background is not None:
        named.setdefault(word_key(options.background), []).append(len(vocabulary))
    return named
