"""Text embeddings kept on disk: a vocabulary is embedded once per weights and template set.

One small file a word: `CACHE/text/<weights>-<templates>/<word's hash>` holds sha256(embedding) + embedding,
float32. Files appear by rename, so concurrent runs only ever repeat each other's work; a file whose
hash doesn't fit is treated as missing and rewritten.
"""

import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class TextCache:
    """The cached embeddings of one model, template set and kind of device."""

    def __init__(self, root: Path, weights_sha256: str, templates: Sequence[str], device_type: str) -> None:
        key = hashlib.sha256("\n".join([weights_sha256, device_type, *templates]).encode()).hexdigest()
        self.folder = root / "text" / key[:32]

    def get(self, word: str) -> np.ndarray | None:
        """The embedding [D] float32 of `word`, or None where there is no valid one."""
        try:
            data = self._path(word).read_bytes()
        except OSError:
            return None
        digest, embedding = data[:32], data[32:]
        if len(embedding) % 4 or hashlib.sha256(embedding).digest() != digest:
            return None
        return np.frombuffer(embedding, dtype="<f4").astype(np.float32)

    def put(self, word: str, embedding: np.ndarray) -> None:
        """Keep `embedding` [D]; a cache that can't be written is no error."""
        data = np.ascontiguousarray(embedding, dtype="<f4").tobytes()
        path = self._path(word)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(data).digest() + data)
            temporary.replace(path)
        except OSError:
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                pass

    def _path(self, word: str) -> Path:
        return self.folder / hashlib.sha256(word.encode("utf-8", "surrogateescape")).hexdigest()[:40]
