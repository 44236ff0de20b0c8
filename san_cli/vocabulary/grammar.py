"""Vocabularies: which classes compete for each pixel, and the words that CLIP is asked about for each.

Every value of `--vocab` is read by the grammar of `terms`; its terms then act in the order given:

- words, a dataset or a file add classes; one that is there already counts once, in its first place and
  spelling;
- `a|b` says that its words are one class, so classes added before that hold any of them become one, at the
  place and under the name of the first;
- a term with "-" takes away the classes that hold its words (of a dataset or file: those that are there);
- words that a file has learned rows for have these from then on, wherever they are named, until they are taken away.
"""

import re
import reprlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from san_cli.errors import SanError, did_you_mean
from san_cli.text import nearest, printable
from san_cli.vocabulary.class_files import classes_in_text, read_class_file
from san_cli.vocabulary.class_lists import (
    DATASET_NAMES,
    dataset_lookalike,
    dataset_slip,
    foreign_dataset,
    load_dataset_vocabulary,
)
from san_cli.vocabulary.learned_words import LearnedWord, WordsFile, is_words_file, read_words_file
from san_cli.vocabulary.terms import (
    Term,
    as_line,
    as_quoted_word,
    as_term,
    check_word,
    is_file_name,
    read_terms,
    shown,
    word_key,
)


@dataclass(frozen=True)
class VocabularyEntry:
    """One output class: the name the user reads, and the words whose largest logit is the class's."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """The output classes in order; a label map holds indices into `entries`.

    `notes` say what may surprise the user of how they were read; vocabularies that differ in them alone are equal.
    `learned` are those of `words`, in their order, that have a row of their own in the place of their text embedding.
    """

    entries: tuple[VocabularyEntry, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)
    learned: tuple[LearnedWord, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The class names, as long as `entries`."""
        return tuple(entry.name for entry in self.entries)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All distinct words in order of first use: what the text tower embeds."""
        return tuple(dict.fromkeys(word for entry in self.entries for word in entry.words))

    @cached_property
    def word_indices(self) -> tuple[tuple[int, ...], ...]:
        """For each entry the places of its words in `words`."""
        place = {word: index for index, word in enumerate(self.words)}
        return tuple(tuple(place[word] for word in entry.words) for entry in self.entries)

    @cached_property
    def learned_places(self) -> tuple[int, ...]:
        """The places of the learned words in `words`."""
        place = {word: index for index, word in enumerate(self.words)}
        return tuple(place[one.word] for one in self.learned)

    @cached_property
    def learned_names(self) -> tuple[str, ...]:
        """The names of the classes that have a learned word."""
        words = {one.word for one in self.learned}
        return tuple(entry.name for entry in self.entries if not words.isdisjoint(entry.words))

    def with_more(self, entries: Iterable[VocabularyEntry]) -> "Vocabulary":
        """Return these classes and others behind them, of plain words."""
        return Vocabulary((*self.entries, *entries), learned=self.learned)

    def as_plain(self) -> "Vocabulary":
        """Return the same words, none of them learned."""
        return Vocabulary(self.entries) if self.learned else self


@dataclass
class _Draft:
    """A vocabulary in the making: words by class number, in order, and the class number of every word."""

    classes: dict[int, list[str]] = field(default_factory=dict)
    owner: dict[str, int] = field(default_factory=dict)
    made: int = 0
    repeated: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    learned: dict[str, tuple[WordsFile, int]] = field(default_factory=dict)  # by word: a class of a file

    def add(self, words: tuple[str, ...]) -> None:
        """Add one class of `words`, or its words to the first class that holds one of them."""
        fresh: dict[str, str] = {}
        repeats: list[str] = []
        for word in words:
            if word_key(word) in self.owner or word_key(word) in fresh:
                repeats.append(word)
            else:
                fresh[word_key(word)] = word
        homes = sorted({self.owner[word_key(word)] for word in repeats if word_key(word) in self.owner})
        home = homes[0] if homes else self.made
        newcomers = [word for other in homes[1:] for word in self.classes.pop(other)] + list(fresh.values())
        if not homes:
            self.classes[home] = []
            self.made += 1
        if homes and newcomers:
            self.joined.append(f"{' and '.join(newcomers)} with {self.classes[home][0]}")
        else:
            self.repeated += repeats
        self.classes[home] += newcomers
        self.owner.update((word_key(word), home) for word in newcomers)

    def add_learned(self, file: WordsFile) -> None:
        """Add the classes of a file; all words of those that it has rows for are learned from now on."""
        for index, words in enumerate(file.groups):
            self.add(words)
            if index in file.rows:
                self.learned.update((word_key(word), (file, index)) for word in words)

    def remove(self, numbers: Iterable[int]) -> None:
        """Drop these classes with all their words."""
        for number in numbers:
            for word in self.classes.pop(number):
                del self.owner[word_key(word)]
                self.learned.pop(word_key(word), None)

    def vocabulary(self, notes: Iterable[str]) -> Vocabulary:
        """Make the vocabulary of what there is now; SanError where words were learned with different models."""
        entries = tuple(VocabularyEntry(words[0], tuple(words)) for words in self.classes.values())
        words = [(word, self.learned.get(word_key(word))) for entry in entries for word in entry.words]
        learned = tuple(of[0].learned(of[1], word) for word, of in words if of is not None)
        other = next((one for one in learned if one.weights_sha256 != learned[0].weights_sha256), None)
        if other is not None:
            raise SanError(
                f"There are learned words of two models: {shown(learned[0].word)} of {learned[0].source}, "
                f"{shown(other.word)} of {other.source}.",
                hint="A row means something to one model alone: learn all of them with the same one.",
            )
        return Vocabulary(entries, (*notes, *self.notes()), learned)

    def notes(self) -> list[str]:
        """Say what was merged, in a line or two however much it was."""
        notes = []
        plain = [word for word in self.repeated if word_key(word) not in self.learned]
        learned = [word for word in self.repeated if word_key(word) in self.learned]
        if plain:
            notes.append(f"named more than once, counted once: {_summary(plain)}")
        if learned:
            notes.append(f"named more than once, counted once, as last learned: {_summary(learned)}")
        if self.joined:
            notes.append(f"sharing one class: {_summary(self.joined)}")
        return notes


def _summary(items: list[str], most: int = 5) -> str:
    distinct = list(dict.fromkeys(items))
    more = f" and {len(distinct) - most} more" if len(distinct) > most else ""
    return ", ".join(distinct[:most]) + more


def parse_vocabulary(terms: Sequence[str]) -> Vocabulary:
    """Read the vocabulary that the values of `--vocab` describe together; its `notes` are for the user.

    Raises SanError where it can't be read: no class left, a malformed term, an unusable file, a removal of
    something that isn't there, a word that can only be a slip for a dataset.
    """
    if isinstance(terms, str):
        terms = [terms]
    draft = _Draft()
    notes: list[str] = []
    for term in [term for text in terms for term in read_terms(text)]:
        # Terms act in the order given, so that what is removed can be added again, at the end.
        if term.removes:
            names = [words[0] for words in draft.classes.values()]
            draft.remove(_classes_of(term, draft.owner, names))
            continue
        # A bare word may be a slip for a dataset or a file; in quotes it is literally a name.
        if term.bare and term.kind == "words":
            notes += _suspect(term.words[0])
        if term.kind == "file" and is_words_file(term.words[0]):
            taught = read_words_file(term.words[0])
            notes.append(taught.note(term.words[0]))
            draft.add_learned(taught)
            continue
        if term.kind == "file":
            file = read_class_file(term.words[0])
            notes.append(file.note)
            groups: Iterable[tuple[str, ...]] = file.groups
        else:
            groups = _groups(term)
        for words in groups:
            draft.add(words)
    names = [words[0] for words in draft.classes.values()]
    if not names:
        raise SanError(
            "The vocabulary has no class" + (": all were removed again." if terms else "."),
            hint="Give a dataset name, class names or @file.txt, e.g. coco+zebra.",
        )
    if len(names) == 1 and ", " in names[0]:
        notes.append(f"{shown(names[0])} is one class; names with commas between and no quotes are several")
    return draft.vocabulary(notes)


def _groups(term: Term) -> Iterable[tuple[str, ...]]:
    """List the classes that `term` names, each as its synonyms."""
    if term.kind == "dataset":
        return [(known.name,) for known in load_dataset_vocabulary(term.words[0]).classes]
    if term.kind == "words":
        return [term.words]
    if is_words_file(term.words[0]):
        return read_words_file(term.words[0]).groups
    return read_class_file(term.words[0]).groups


def _classes_of(term: Term, owner: Mapping[str, int], names: Sequence[str]) -> list[int]:
    """Find the classes, by their number in `owner`, that hold a word of `term`, ascending.

    Each word of a words term must be there; of a dataset or file at least one. Raises SanError otherwise.
    """
    found = set()
    for word in [word for words in _groups(term) for word in words]:
        number = owner.get(word_key(word))
        if number is not None:
            found.add(number)
        elif term.kind == "words":
            near = _nearest_name(word, names)
            likely = " or ".join(dataset_slip(word)) or (as_term(near) if near else "")
            hint = did_you_mean(likely) or "`san vocab show EXPRESSION` lists its classes."
            if is_file_name(word):
                hint = f"To read names from a file, write @{word}"
            raise SanError(f"There is no class {shown(word)} in the vocabulary.", hint=hint)
    if not found:
        raise SanError(f"None of the classes of {shown(term.words[0])} is in the vocabulary.")
    return sorted(found)


def _nearest_name(word: str, names: Sequence[str]) -> str | None:
    """Find the name that has `word` for a part ("sea" in "water, sea", "sky" in "sky-other") or is like it."""
    for separator in (",", r"[,\s-]"):
        for name in names:
            if word_key(word) in [word_key(part) for part in re.split(separator, name)]:
                return name
    return nearest(word, names, 0.7)


def _suspect(word: str) -> list[str]:
    """Write a note if `word` is nearly the name of a dataset; SanError if it can hardly be a class."""
    as_word = f"{shlex.quote(as_quoted_word(word))}, with all the quotes, for a class of that name"
    if is_file_name(word):
        raise SanError(
            f"{shown(word)} looks like a file.", hint=f"To read names from it, write @{word}; or {as_word}."
        )
    if foreign_dataset(word):
        raise SanError(
            f"{shown(word)} is a dataset whose classes san doesn't have.",
            hint=f"There are {', '.join(DATASET_NAMES)}; put its names into a file and write @FILE; or {as_word}.",
        )
    likely = dataset_slip(word)
    if likely:
        name, _, rest = word.partition("-")
        ways = [f"{' or '.join(likely)} for the dataset"]
        if rest and word_key(name) in DATASET_NAMES:
            ways.append(f"{name}+-{rest} to remove a class from it")
        ways.append(as_word)
        raise SanError(f"There is no dataset {shown(word)}.", hint=f"Write {'; or '.join(ways)}.")
    alike = dataset_lookalike(word)
    return [f"{shown(word)} is taken as a class name (there is a dataset {alike})"] if alike else []


def select_entries(vocabulary: Vocabulary, terms: Sequence[str]) -> tuple[int, ...]:
    """Find the indices into `vocabulary` of the classes that hold the words of `terms` (same grammar), ascending.

    Raises SanError if a word is in no class, or if a term removes something: there is nothing to remove from.
    """
    owner = {word_key(word): index for index, entry in enumerate(vocabulary.entries) for word in entry.words}
    found: set[int] = set()
    for term in [term for text in terms for term in read_terms(text)]:
        if term.removes:
            raise SanError(f"{shown(term.text)} can't be removed here.", hint="Name the classes you want.")
        found.update(_classes_of(term, owner, vocabulary.names))
    return tuple(sorted(found))


def vocabulary_of_names(names: Sequence[str | Sequence[str]]) -> Vocabulary:
    """Make one class per name, literally as given, without a grammar; a nested sequence is one class of synonyms.

    Raises SanError if there is none, or if one isn't text, is empty or over 200 characters, or has control
    characters.
    """
    if isinstance(names, str):
        raise SanError("A vocabulary is a list of names, not one string.", hint=f"Write [{names[:60]!r}].")
    if isinstance(names, set | frozenset):
        raise SanError("A set of names has no order, and class ids need one.", hint="Use sorted(names).")
    entries = []
    for given in names:
        if isinstance(given, Vocabulary):
            raise SanError(
                "A vocabulary in a list is no class name.",
                hint="Give it alone, without the list.",
            )
        words = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
        if not words or not all(isinstance(word, str) for word in words):
            raise SanError(
                f"A class is a name or a sequence of synonyms, not {printable(reprlib.repr(given))[:100]}."
            )
        for word in words:
            check_word(word)
        entries.append(VocabularyEntry(words[0], words))
    if not entries:
        raise SanError("The vocabulary has no class.", hint="Give at least one name.")
    return Vocabulary(tuple(entries))


def format_vocabulary(vocabulary: Vocabulary) -> str:
    """Write one text that `parse_vocabulary` reads as an equal vocabulary, if no word occurs twice in it.

    Learned words are plain in it: their rows are in their file alone.
    """
    return "+".join("|".join(map(as_term, entry.words)) for entry in vocabulary.entries)


def format_lines(vocabulary: Vocabulary) -> list[str]:
    """Write the lines of a names file that reads as an equal vocabulary; quoted where it would be taken otherwise.

    Learned words are plain in it: their rows are in their file alone.
    """
    lines = ["|".join(map(as_line, entry.words)) for entry in vocabulary.entries]
    try:
        same = classes_in_text("\n".join(lines), "").groups == tuple(e.words for e in vocabulary.entries)
    except SanError:
        same = False
    return lines if same else ["|".join(map(as_quoted_word, entry.words)) for entry in vocabulary.entries]


def complete_vocabulary(incomplete: str) -> list[str]:
    """Complete the last term of `incomplete` to the names of datasets, for the shell."""
    start = max(incomplete.rfind("+"), incomplete.rfind(",")) + 1
    start += incomplete.startswith("-", start)
    head, last = incomplete[:start], incomplete[start:].casefold()
    return [head + name for name in DATASET_NAMES if name.startswith(last)]
