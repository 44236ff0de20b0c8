"""Text embeddings kept on disk: a vocabulary is embedded once per weights and template set.

One small file a word: `CACHE/text/<weights>-<templates>/<word's hash>` holds a hash of what it is the embedding of
(weights, templates, word) and of its numbers, and then the numbers, float32. Files appear by rename, so concurrent
runs only ever repeat each other's work; a file whose hash doesn't fit (damaged, or another word's) is treated as
missing and rewritten.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from san_cli.files import sweep_stale, temp_path
from san_cli.weights.cache_dir import read_small

_DIGEST = 32  # bytes
_LONGEST = 1 << 20  # bytes of a file


class TextCache:
    """The cached embeddings of one model, template set and kind of device."""

    def __init__(self, root: Path, weights_sha256: str, templates: Sequence[str], device_type: str) -> None:
        self._key = hashlib.sha256("\n".join([weights_sha256, device_type, *templates]).encode()).hexdigest()
        self.folder = root / "text" / self._key[:32]
        self._swept = False

    def get(self, word: str) -> np.ndarray | None:
        """The embedding [D] float32 of `word`, or None where there is no valid one."""
        try:
            data = read_small(self._path(word), _LONGEST)
        except OSError:
            return None
        digest, embedding = data[:_DIGEST], data[_DIGEST:]
        if len(embedding) % 4 or self._digest(word, embedding) != digest:
            return None
        return np.frombuffer(embedding, dtype="<f4").astype(np.float32)

    def put(self, word: str, embedding: np.ndarray) -> None:
        """Keep `embedding` [D]; a cache that can't be written is no error."""
        data = np.ascontiguousarray(embedding, dtype="<f4").tobytes()
        path = self._path(word)
        temporary = temp_path(path.parent)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._swept:  # what a killed run left
                self._swept = True
                sweep_stale(self.folder)
            temporary.write_bytes(self._digest(word, data) + data)
            temporary.replace(path)
        except OSError:
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                pass

    def _path(self, word: str) -> Path:
        return self.folder / hashlib.sha256(_bytes(word)).hexdigest()[:40]

    def _digest(self, word: str, embedding: bytes) -> bytes:
        """Hash of an entry. The word's own hash has a fixed length: no other word and numbers give these bytes."""
        named = f"{self._key} {hashlib.sha256(_bytes(word)).hexdigest()} ".encode()
        return hashlib.sha256(named + embedding).digest()


def _bytes(word: str) -> bytes:
    return word.encode("utf-8", "surrogateescape")
