"""Other words for the classes of a dataset, from a file: several words a class, of which the likeliest counts.

Two formats are read:

- text: `id:word,word,…` a line, as FC-CLIP's `*_with_prompt_eng.txt`; ids in any order, `invalid_class_id` is no
  class, lines that start with # are comments;
- JSON: `{"classes": [{"id": 0, "synonyms": ["word", …]}, …]}`.

The classes are those of the dataset in ascending order of their ids, wherever the ids start.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from san_cli.errors import SanError
from san_cli.inert import inert
from san_cli.textlist import read_lines
from san_cli.vocabulary import Vocabulary, VocabularyEntry
from san_cli.vocabulary_terms import check_word

_NO_CLASS = "invalid_class_id"


def read_synonyms(path: str) -> Vocabulary:
    """The vocabulary that the file holds; a class is called by its first word.

    Raises SanError, with the line or class, for a file that is neither format, for an id that comes twice and
    for a class without words.
    """
    classes: dict[int, tuple[str, ...]] = {}
    rows = _json_rows(path) if Path(path).suffix.lower() == ".json" else _text_rows(path)
    for where, number, found in rows:
        words = tuple(dict.fromkeys(word for word in map(str.strip, found) if word))
        if words == (_NO_CLASS,):
            continue
        if number in classes:
            raise SanError(f"{where} of '{inert(path)}': the id {number} comes a second time")
        if not words:
            raise SanError(f"{where} of '{inert(path)}': class {number} has no words")
        for word in words:
            check_word(word)
        classes[number] = words
    if not classes:
        raise SanError(f"'{inert(path)}' holds no classes", hint="Write a line `0:word,word` for each class.")
    return Vocabulary(tuple(VocabularyEntry(classes[i][0], classes[i]) for i in sorted(classes)))


def _text_rows(path: str) -> Iterable[tuple[str, int, list[str]]]:
    for line_number, line in read_lines(path, "synonyms"):
        number, colon, words = line.partition(":")
        if not colon or not number.strip().isdecimal():
            raise SanError(
                f"Line {line_number} of '{inert(path)}' is not `id:word,word`: {inert(line[:60])}",
                hint="Write the class id, a colon, and its words with commas between.",
            )
        yield f"Line {line_number}", int(number), words.split(",")


def _json_rows(path: str) -> Iterable[tuple[str, int, list[str]]]:
    try:
        rows: Any = json.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))["classes"]
        for place, row in enumerate(rows, start=1):
            number, words = row["id"], row["synonyms"]
            if not isinstance(number, int) or not all(isinstance(word, str) for word in words):
                raise TypeError(f"entry {place} has other types")
            yield f"Entry {place}", number, words
    except FileNotFoundError:
        raise SanError(f"There is no file '{inert(path)}' to read synonyms from.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SanError(
            f"'{inert(path)}' holds no synonyms in JSON: {inert(str(error))}",
            hint='It should be {"classes": [{"id": 0, "synonyms": ["word", …]}, …]}.',
        ) from error
