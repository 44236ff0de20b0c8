"""A vocabulary as rows of numbers, in a NumPy archive: the second input of an ONNX file.

rows       [words + 1, D] float32, of length 1 (a learned word's: of any): a row for each word, class by class; the
           last one is no object's
names      [classes] text
first      [classes] int64: the first row of each class; the likeliest of its words is as likely as it is
words      [words] text
templates  [templates] text, with {} for the word
weights    text: sha256 of the weights that hold the text tower
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from san_cli.files import atomic_write
from san_cli.vocabulary.grammar import Vocabulary

SUFFIX = ".npz"
_ARRAYS = frozenset(("rows", "names", "first", "words", "templates", "weights"))


@dataclass(frozen=True)
class TextRows:
    """The words of a vocabulary as a model's text tower sees them."""

    vocabulary: Vocabulary
    rows: NDArray[np.float32]  # [vocabulary.words + 1, D], the last one "no object"
    templates: Sequence[str]
    weights_sha256: str


def write_text_rows(text: TextRows, path: Path) -> None:
    """Write the archive, atomically: the same bytes for the same words. OSError where that fails."""
    groups = text.vocabulary.word_indices
    order = [place for group in groups for place in group]
    sizes = [len(group) for group in groups]
    with atomic_write(path) as file:
        np.savez(
            file,
            rows=text.rows[[*order, len(text.rows) - 1]],
            names=np.array(text.vocabulary.names),
            first=np.cumsum([0, *sizes[:-1]], dtype=np.int64),
            words=np.array([text.vocabulary.words[place] for place in order]),
            templates=np.array(list(text.templates)),
            weights=np.array(text.weights_sha256),
        )


def is_text_file(path: Path) -> bool:
    """Tell whether a file is an archive of ours."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in _ARRAYS} <= set(archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False
