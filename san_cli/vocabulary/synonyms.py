"""Other words for the classes of a dataset, from a file: several words a class, of which the likeliest counts.

Two formats are read:

- text: `id:word,word,…` a line, as FC-CLIP's `*_with_prompt_eng.txt`; ids in any order, `invalid_class_id` is no
  class, lines that start with # are comments;
- JSON: `{"classes": [{"id": 0, "synonyms": ["word", …]}, …]}`; a single word needs no list.

The classes are those of the dataset in ascending order of their ids, wherever the ids start.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from san_cli.errors import SanError
from san_cli.text import printable, quoted
from san_cli.vocabulary.grammar import Vocabulary, VocabularyEntry
from san_cli.vocabulary.lines import lines_of, read_text
from san_cli.vocabulary.terms import clean_word, shown, word_key

_NO_CLASS = "invalid_class_id"
_SHAPE = 'It should be {"classes": [{"id": 0, "synonyms": ["word", …]}, …]}.'

Row = tuple[str, int, list[str]]  # where it stands, the id, the words


def read_synonyms(path: str) -> Vocabulary:
    """Read the vocabulary that the file holds, a class being called by its first word; its `notes` are for the user.

    Raises SanError, with the line or class, for a file that is neither format, for an id that comes twice and
    for a class without words. A word of two classes is noted: published lists have some.
    """
    path = path.removeprefix("@")
    classes: dict[int, tuple[str, ...]] = {}
    owner: dict[str, int] = {}
    shared: list[str] = []
    text = read_text(path, "synonyms")
    as_json = Path(path).suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "[")
    for where, number, found in _json_rows(text, path) if as_json else _text_rows(text, path):
        words = _distinct(found, f"{where} of {quoted(path)}")
        if words == (_NO_CLASS,):
            continue
        if number in classes:
            raise SanError(f"{where} of {quoted(path)}: the id {number} comes a second time")
        if not words:
            raise SanError(f"{where} of {quoted(path)}: class {number} has no words")
        for word in words:
            other = owner.setdefault(word_key(word), number)
            if other != number:
                shared.append(f"{shown(word)} ({min(other, number)} and {max(other, number)})")
        classes[number] = words
    if not classes:
        raise SanError(f"{quoted(path)} holds no classes", hint="Write a line `0:word,word` for each class.")
    notes: tuple[str, ...] = ()
    if shared:
        more = f" and {len(shared) - 3:,} more" if len(shared) > 3 else ""
        notes = (f"words of two classes, whose pixels the first one takes: {', '.join(shared[:3])}{more}",)
    return Vocabulary(tuple(VocabularyEntry(classes[i][0], classes[i]) for i in sorted(classes)), notes)


def _distinct(found: list[str], where: str) -> tuple[str, ...]:
    """List the words that aren't empty, each once, in whatever case."""
    words: dict[str, str] = {}
    for raw in found:
        try:
            word = clean_word(raw) if raw.strip() else ""
        except SanError as error:
            raise SanError(f"{where}: {error.message}", hint=error.hint) from None
        if word:
            words.setdefault(word_key(word), word)
    return tuple(words.values())


def _text_rows(text: str, path: str) -> Iterable[Row]:
    for line_number, line in lines_of(text, path, "synonyms"):
        number, colon, words = line.partition(":")
        number = number.strip()
        if not colon or not (number.isascii() and number.isdigit() and len(number) < 10):
            raise SanError(
                f"Line {line_number} of {quoted(path)} is not `id:word,word`: {printable(line[:60])}",
                hint="Write the class id, a colon, and its words with commas between.",
            )
        yield f"Line {line_number}", int(number), words.split(",")


def _json_rows(text: str, path: str) -> Iterable[Row]:
    rows = _json_classes(text, path)
    for place, row in enumerate(rows, start=1):
        where = f"Entry {place}"
        number = row.get("id") if isinstance(row, dict) else None
        words = row.get("synonyms") if isinstance(row, dict) else None
        if isinstance(number, bool) or not isinstance(number, int):
            raise _no_synonyms(path, f"entry {place} has no whole number as its id")
        if isinstance(words, str):
            words = [words]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise _no_synonyms(path, f"the synonyms of entry {place} are no list of words")
        yield where, number, words


def _json_classes(text: str, path: str) -> list[Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise _no_synonyms(path, "it is nested too deeply") from None
    except ValueError as error:
        raise _no_synonyms(path, str(error)[:100]) from None
    rows = value.get("classes") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise _no_synonyms(path, "it has no list of classes")
    return rows


def _no_synonyms(path: str, why: str) -> SanError:
    return SanError(f"{quoted(path)} holds no synonyms in JSON: {printable(why)}", hint=_SHAPE)
