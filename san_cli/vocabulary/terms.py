"""The grammar of `--vocab`: from text to terms; no dataset is loaded and no file is read here.

    expression = term (("+" | ",") term)*
    term       = ["-"] ("@" path | dataset | words)
    words      = word ("|" word)*
    word       = quoted | bare

A quoted word starts and ends with the same ' or ", which is doubled to stand for itself within. A bare word
goes on to the next separator; quotes, "-" and "@" mean nothing special after its first character, so
`t-shirt`, `wall-other` and `lord's table` are names. A line of a names file is `words` too, but there only
"|" separates.
"""

import os
import re
import shlex
import unicodedata
from dataclasses import dataclass
from typing import Literal

from san_cli.errors import SanError
from san_cli.text import printable
from san_cli.vocabulary.class_lists import DATASET_NAMES, dataset_slip, foreign_dataset

MAX_WORD = 200

_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?!")|\'((?:[^\']|\'\')*)\'(?!\')')
_BARE = {
    "word": re.compile(r"[^+,|]*"),
    "path": re.compile(r"[^+,]*"),
    "line": re.compile(r"(?:[^|#]|(?<!\s)#)*"),
}
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class Term:
    """One term: `words` are the synonyms, or the one name of a dataset, or the one path of a file.

    `bare` says that it is a single word without quotes, in which a slip may be suspected.
    """

    text: str
    removes: bool
    kind: Literal["dataset", "file", "words"]
    words: tuple[str, ...]
    bare: bool


def shown(text: str) -> str:
    """Put `text` in quotes for a message: on one line, cut where it is long."""
    cut = printable(text if len(text) <= 60 else f"{text[:57]}...")
    return f'"{cut}"' if "'" in cut else f"'{cut}'"


def as_quoted_word(word: str) -> str:
    """Write `word` as a quoted word of the grammar."""
    mark = "'" if '"' in word and "'" not in word else '"'
    return mark + word.replace(mark, mark * 2) + mark


def as_term(word: str) -> str:
    """Write `word` so that an expression reads it as the class name that it is."""
    try:
        bare = read_terms(word) == (Term(word, False, "words", (word,), True),)
    except SanError:
        bare = False
    other = dataset_slip(word) or foreign_dataset(word) or is_file_name(word)
    return word if bare and not other else as_quoted_word(word)


def as_line(word: str) -> str:
    """Write `word` so that a line of a names file reads it as the class name that it is."""
    try:
        bare = read_line(word) == (word,) and not word.startswith("#")
    except SanError:
        bare = False
    return word if bare else as_quoted_word(word)


def is_file_name(word: str) -> bool:
    """Tell whether `word` is rather a file without its @ than a class: by suffix, or as it is there."""
    usual = r"\.(txt|csv|tsv|jsonl?|ya?ml|names|xml|pbtxt|toml|labels|words)$"
    return bool(re.search(usual, word.casefold())) or os.path.isfile(os.path.expanduser(word))  # noqa: PTH111, PTH113


def word_key(word: str) -> str:
    """Reduce a word to what all its spellings share: case, Unicode form and runs of blanks don't count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", " ".join(word.split())).casefold())


def check_word(word: str) -> None:
    """Raise SanError unless CLIP can read `word`, a terminal can show it, and there is something to see in it."""
    kinds = {unicodedata.category(character) for character in word}
    if len(word) > MAX_WORD:
        raise SanError(
            f"The name {shown(word)} has {len(word)} characters; {MAX_WORD} is the most.",
            hint="Give it a shorter name; several names are separated by + or a comma, or stand in a file, one per "
            "line, that is given as @file.txt.",
        )
    if "Cs" in kinds:
        raise SanError(f"The name {shown(word)} is not valid UTF-8 text.")
    if "Cc" in kinds:
        raise SanError(
            f"The name {shown(word)} contains a control character or a line break.",
            hint="Separate names by + or a comma, or give a file with one name per line as @file.txt.",
        )
    if not any(kind[0] in "LNPS" for kind in kinds):
        raise SanError(f"The name {shown(word)} is empty.", hint="Leave it out, or give it a name.")


def read_terms(text: str) -> tuple[Term, ...]:
    """Read the terms of one `--vocab` value, in order; SanError if a term is empty or a quote unclosed."""
    if not text.strip():
        raise SanError(
            "The vocabulary is empty.", hint="Give a dataset name, class names or @file.txt, e.g. coco+zebra."
        )
    terms, start = [], 0
    while start <= len(text):
        term, start = _read_term(text, start)
        terms.append(term)
    return tuple(terms)


def read_line(line: str) -> tuple[str, ...]:
    """Read the synonyms in one line of a names file; a blank and # start a comment."""
    words, _, _ = _read_words(line, 0, "line")
    return words


def _read_term(text: str, start: int) -> tuple[Term, int]:
    """Read the term at `start`; it and the place after the separator behind it."""
    at = _skip_blanks(text, start)
    removes = text.startswith("-", at)
    at = _skip_blanks(text, at + removes)
    kind: Literal["dataset", "file", "words"] = "words"
    if text.startswith("@", at):
        kind = "file"
        path, _, end = _read_word(text, _skip_blanks(text, at + 1), "path")
        if not path:
            raise SanError("There is no path after the @.", hint="Write @names.txt.")
        words: tuple[str, ...] = (path,)
        bare = False
    else:
        words, any_quoted, end = _read_words(text, at, "word")
        bare = len(words) == 1 and not any_quoted
        if bare and word_key(words[0]) in DATASET_NAMES:
            kind, words = "dataset", (word_key(words[0]),)
    return Term(text[start:end].strip(), removes, kind, words, bare), end + 1


def _read_words(text: str, start: int, where: str) -> tuple[tuple[str, ...], bool, int]:
    """Read the synonyms at `start`; they, whether any is quoted, and the place of what ends them."""
    words: list[str] = []
    datasets: list[str] = []
    any_quoted = False
    while True:
        raw, in_quotes, end = _read_word(text, start, where)
        words.append(_clean(raw, in_quotes, text))
        any_quoted |= in_quotes
        if where == "word" and not in_quotes and word_key(words[-1]) in DATASET_NAMES:
            datasets.append(words[-1])
        if not text.startswith("|", end):
            break
        start = end + 1
    if len(words) > 1 and datasets:
        raise SanError(
            f"The dataset {datasets[0]} can't be a synonym in {shown(text.strip())}.",
            hint="Put quotes around a class name that is also the name of a dataset.",
        )
    return tuple(words), any_quoted, end


def _read_word(text: str, start: int, where: str) -> tuple[str, bool, int]:
    """Read the raw word at `start`; it, whether it is quoted, and the place of the separator (or end) after it."""
    start = _skip_blanks(text, start)
    if text[start : start + 1] not in ("'", '"'):
        bare = _BARE[where].match(text, start)
        assert bare is not None  # it matches the empty string
        return bare[0].strip(), False, bare.end()
    mark, found = text[start], _QUOTED.match(text, start)
    if found is None:
        raise SanError(
            f"The quote {mark} in {shown(text.strip())} is not closed.",
            hint=f"Close it; a name that starts with {mark} goes inside the other kind of quotes.",
        )
    end = _skip_blanks(text, found.end())
    if end < len(text) and text[end] not in {"word": "+,|", "path": "+,", "line": "|#"}[where]:
        raise SanError(
            f"There is more after the closing quote in {shown(text.strip())}.",
            hint="Separate terms by + or a comma; a name with one kind of quote goes inside the other kind.",
        )
    return found[0][1:-1].replace(mark * 2, mark).strip(), True, end


def _skip_blanks(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def clean_word(raw: str) -> str:
    """Read `raw` as a quoted word would be: single blanks, composed characters; SanError if it is no word."""
    return _clean(raw.strip(), True, raw)


def _clean(raw: str, in_quotes: bool, text: str) -> str:
    """Make the word with single blanks and composed characters; SanError if it is none."""
    word = unicodedata.normalize("NFC", " ".join(re.split(r"[^\S\x0a-\x1f\x85]+", raw)))
    if not word:
        outer = text.strip()
        raise SanError(
            f"There is an empty name in {shown(outer)}.",
            hint="Put a name between the separators; a shell ends the text at a blank, so write cat,dog without "
            "blanks or all of it in quotes."
            if outer[-1:] in ("+", ",")
            else "Put a name between the separators, and quotes around a separator that belongs to a name.",
        )
    check_word(word)
    if not in_quotes and not any(unicodedata.category(character)[0] in "LNS" for character in word):
        raise SanError(
            f"The name {shown(word)} is nothing but punctuation.",
            hint=f"If you mean it, write {shlex.quote(as_quoted_word(word))} with all its quotes.",
        )
    return word
