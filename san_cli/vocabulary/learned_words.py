"""Files of learned words: classes, some of them with a row of their own in the place of their text embedding.

A row is a vector [D] of the space that CLIP's images and texts share, of any length. It means something to one
model alone, the one that it was learned with, whose weights the file names by their sha256.

The file is safetensors with one tensor `rows` [learned classes, D], float32, and one key of metadata, `san-words`:
sorted JSON with `format`, `model`, `weights_sha256`, `classes` (each with its synonyms), `learned` (the class of each
row), `told` (for readers) and a `sha256` of all that and the rows, as safetensors doesn't notice a flipped bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from san_cli.errors import SanError
from san_cli.files import atomic_write, open_regular, read_regular
from san_cli.text import counted, printable, quoted
from san_cli.vocabulary.terms import check_word

if TYPE_CHECKING:  # the command line reads the grammar without NumPy until there is such a file
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
_KEY = "san-words"
_START = re.compile(rb'.{8}\{\s*"__metadata__"\s*:\s*\{\s*"' + _KEY.encode() + rb'"', re.DOTALL)
_HEAD = 128  # bytes that hold _START
_MOST_BYTES = 2**28  # 65,535 classes with rows [768] are 200 MB


@dataclass(frozen=True)
class LearnedWord:
    """A word with a row of its own in the place of its text embedding."""

    word: str
    row: bytes = field(repr=False)  # [D] float32, little-endian: hashable, picklable
    weights_sha256: str  # of the model that it was learned with; of no other model does it mean anything
    model: str  # its preset's name, for messages

    @property
    def source(self) -> str:
        """The model that it is of, for messages."""
        return model_told(self.model, self.weights_sha256)

    @property
    def numbers(self) -> NDArray[np.float32]:
        """The row [D], read-only."""
        import numpy as np

        return np.frombuffer(self.row, "<f4").astype(np.float32, copy=False)


def model_told(model: str, weights_sha256: str) -> str:
    """Name a model for a message, so that two of one name differ."""
    return f"{printable(model)} (weights {printable(weights_sha256.removeprefix('random:')[:12])}…)"


@dataclass(frozen=True, eq=False)
class WordsFile:
    """Classes, some of them learned, as `san vocab learn` writes them."""

    model: str  # the preset's name
    weights_sha256: str
    groups: tuple[tuple[str, ...], ...]  # all classes, each with its synonyms
    rows: Mapping[int, NDArray[np.float32]]  # by class index: [D]; a class without stays a plain word
    told: Mapping[str, object]  # JSON for readers: what it was learned from

    def learned(self, index: int, word: str) -> LearnedWord:
        """Return `word` with the row of class `index`, which must have one."""
        import numpy as np

        row = np.ascontiguousarray(self.rows[index], "<f4").tobytes()
        return LearnedWord(word, row, self.weights_sha256, self.model)

    def note(self, path: str) -> str:
        """Say in one line what the file at `path` holds."""
        plain = [printable(words[0]) for index, words in enumerate(self.groups) if index not in self.rows]
        some = ", ".join(plain[:5]) + (f" and {len(plain) - 5} more" if len(plain) > 5 else "")
        name, classes = printable(Path(path).name), counted(len(self.groups), "class")
        how_many = f"{len(self.rows):,} learned" if plain else "learned"
        return f"{name}: {classes}, {how_many} with {printable(self.model)}" + (
            f"; plain: {some}" if plain else ""
        )


def fingerprints(learned: Iterable[LearnedWord]) -> dict[str, str] | None:
    """Return by word what tells its row from another one, 16 hexadecimal digits; None where no word is learned."""
    found = {
        one.word: hashlib.sha256(one.row + one.weights_sha256.encode()).hexdigest()[:16] for one in learned
    }
    return found or None


def is_words_file(path: str | Path) -> bool:
    """Tell by its first bytes whether a file holds learned words, be it damaged; False for what can't be read.

    Nothing is read from what isn't a file: a pipe could be read only once.
    """
    try:
        with os.fdopen(open_regular(Path(path).expanduser(), os.O_RDONLY), "rb") as file:
            return holds_words(file.read(_HEAD))
    except (OSError, ValueError, RuntimeError):  # NUL in the path; no home
        return False


def holds_words(data: bytes) -> bool:
    """Tell whether a file that begins like this has learned words, be it damaged."""
    return _START.match(data[:_HEAD]) is not None


def read_words_file(path: str | Path) -> WordsFile:
    """Read a file of learned words.

    SanError where it can't be read, is none, is damaged, or was written by a later version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = read_regular(Path(path).expanduser(), _MOST_BYTES)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SanError(f"The learned words in {quoted(path)} can't be read: {reason}.") from None
    if not holds_words(data):
        raise SanError(
            f"{quoted(path)} is no file of learned words.",
            hint="`san vocab learn` writes one from labelled pictures.",
        )
    try:
        rows = load(data)["rows"]
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
        if isinstance(about["format"], int) and about["format"] > FORMAT:
            raise SanError(
                f"{quoted(path)} was written by a later version of san: format {about['format']} of learned words.",
                hint="Update san, or learn the words again with this one.",
            )
        return _checked(about, rows)
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise SanError(
            f"The file of learned words {quoted(path)} is damaged: its content isn't what was written.",
            hint="Copy it again, or learn the words again with `san vocab learn`.",
        ) from None


def _checked(about: dict[str, Any], rows: NDArray[Any]) -> WordsFile:
    """Make the content of what the file says; ValueError, TypeError or KeyError for what is never written."""
    import numpy as np

    stated = about.pop("sha256")
    classes = tuple(tuple(words) for words in about["classes"])
    learned, model, weights = about["learned"], about["model"], about["weights_sha256"]
    if about["format"] != FORMAT or stated != _sha256(about, rows) or not classes:
        raise ValueError
    if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != len(learned) or not np.isfinite(rows).all():
        raise ValueError
    if learned != sorted(set(learned) & set(range(len(classes)))) or not isinstance(about["told"], dict):
        raise ValueError
    if not (isinstance(model, str) and isinstance(weights, str) and all(classes)):
        raise ValueError
    for word in (word for words in classes for word in words):
        if not isinstance(word, str):
            raise TypeError
        check_word(word)
    return WordsFile(model, weights, classes, dict(zip(learned, rows, strict=True)), about["told"])


def write_words_file(file: WordsFile, path: Path) -> None:
    """Write a file of learned words, whole or not at all: the same bytes for the same content.

    OSError where it can't be written; ValueError for rows that are not finite or of several lengths.
    """
    import numpy as np
    from safetensors.numpy import save

    learned = sorted(file.rows)
    given = [np.asarray(file.rows[index], np.float32) for index in learned]
    shapes = {row.shape for row in given}
    if len(shapes) > 1 or any(row.ndim != 1 or not np.isfinite(row).all() for row in given):
        raise ValueError("rows are finite vectors of one length")
    if not set(learned) <= set(range(len(file.groups))):
        raise ValueError("a row is of one of the classes")
    rows = np.stack(given) if given else np.zeros((0, 0), np.float32)
    about: dict[str, object] = {
        "format": FORMAT,
        "model": file.model,
        "weights_sha256": file.weights_sha256,
        "classes": [list(words) for words in file.groups],
        "learned": learned,
        "told": dict(file.told),
    }
    about["sha256"] = _sha256(about, rows)
    # One key alone: safetensors writes several in an order that changes from call to call.
    data = save({"rows": rows}, {_KEY: _sorted_json(about)})
    with atomic_write(path) as stream:
        stream.write(data)


def _sha256(about: Mapping[str, object], rows: NDArray[np.float32]) -> str:
    return hashlib.sha256(_sorted_json(about).encode() + rows.astype("<f4").tobytes()).hexdigest()


def _sorted_json(about: Mapping[str, object]) -> str:
    """Write JSON that is the same for the same content, read back or not."""
    return json.dumps(about, sort_keys=True, separators=(",", ":"), allow_nan=False)
