"""Text embeddings of words, each computed once: kept on disk, and those of tiny's own names shipped with it.

An embedding depends on the text tower, the templates, the kind of device and the word, and on nothing else: not on
the file that holds the tower, nor on the words around it. So a model that was trained on from another, or converted,
finds all its words.
"""

import hashlib
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from san_cli.errors import SanError
from san_cli.files import sweep_stale, temp_path
from san_cli.models.presets import ClipShape
from san_cli.models.text import TextEncoder
from san_cli.weights.cache_dir import cache_dir, read_small
from san_cli.weights.find import SHIPPED

Progress = Callable[[int, int], None]  # (words embedded, words to embed)

SHIPPED_WORDS = SHIPPED / "tiny-words.npz"  # made by scripts/embed_tiny_words.py
_DIGEST = 32  # bytes
_LONGEST = 1 << 20  # bytes of a file of the cache


class TextTower:
    """A frozen text tower, known by its numbers; they are read only where a word is new."""

    def __init__(
        self, shape: ClipShape, read: Callable[[], Mapping[str, Tensor]], weights_sha256: str | None = None
    ) -> None:
        """Know a tower by its numbers: `read` gives them by its own names, unless the hash of their file is known."""
        self.shape = shape
        self.read = read
        self.weights_sha256 = weights_sha256

    @cached_property
    def key(self) -> str:
        """Hash of the tensors' numbers, in whichever precision they are stored, and of what they don't show."""
        shape = self.shape
        how = f"{shape.text_heads} heads, {shape.context_length} tokens, {'Quick' * shape.quick_gelu}GELU"
        return hashlib.sha256(f"{self._numbers()} {how}".encode()).hexdigest()

    def _numbers(self) -> str:
        """Hash of the tensors, remembered by the hash of the file that they are in."""
        memo = None
        if self.weights_sha256 is not None:
            memo = cache_dir() / "towers" / hashlib.sha256(self.weights_sha256.encode()).hexdigest()[:40]
            with suppress(OSError, UnicodeDecodeError):
                known = read_small(memo, _LONGEST).decode("ascii")
                if re.fullmatch("[0-9a-f]{64}", known):  # a wrong one would only find no words
                    return known
        digest = hashlib.sha256()
        for name, tensor in sorted(self.read().items()):
            digest.update(f"{name} {list(tensor.shape)}".encode())
            digest.update(tensor.float().cpu().contiguous().numpy().data)
        if memo is not None:
            _write(memo, digest.hexdigest().encode())
        return digest.hexdigest()


def embed_words(
    tower: TextTower,
    words: Sequence[str],
    templates: Sequence[str],
    device: torch.device,
    progress: Progress | None = None,
) -> Tensor:
    """Embed words, or look them up: [words, D], float32, normalised, on `device`.

    The text tower is loaded only for words that are new, and dropped again. Raises SanError where its output is not
    finite.
    """
    cache = TextCache(cache_dir(), tower.key, templates, device.type)
    rows = _known(tower, words, templates, cache)
    # The others go through the tower, each kept at once: a run that is stopped has done part of the next one's work.
    new = [word for word in dict.fromkeys(words) if word not in rows]
    if new:
        encoder = TextEncoder(tower.shape, tower.read(), device)
        for done, (word, embedding) in enumerate(encoder.embed_each(new, templates), start=1):
            if not embedding.isfinite().all():  # before it is kept for every later run
                raise SanError(
                    "the text tower's output is not finite: its weights are damaged",
                    hint="Take other weights; `san weights verify` checks a file against its sha256.",
                )
            rows[word] = embedding.numpy()
            cache.put(word, rows[word])
            if progress:
                progress(done, len(new))
    return torch.from_numpy(np.stack([rows[word] for word in words])).to(device)


def new_words(
    tower: TextTower, words: Sequence[str], templates: Sequence[str], device: torch.device
) -> list[str]:
    """List the words that `embed_words` would send through the tower."""
    cache = TextCache(cache_dir(), tower.key, templates, device.type)
    known = _known(tower, words, templates, cache)
    return [word for word in dict.fromkeys(words) if word not in known]


def _known(
    tower: TextTower, words: Sequence[str], templates: Sequence[str], cache: "TextCache"
) -> dict[str, np.ndarray]:
    """Look up words: first the shipped ones, so that theirs are the same numbers on every machine."""
    shipped = _shipped(tower.key, templates)
    rows: dict[str, np.ndarray] = {}
    for word in words:
        row = shipped.get(word) if word in shipped else cache.get(word)
        if row is not None and len(row) == tower.shape.embed_dim:
            rows[word] = row
    return rows


def _shipped(tower_key: str, templates: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of tiny's own names, for its text tower and the templates that they were made with; else none."""
    try:
        with SHIPPED_WORDS.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if str(file["tower"]) != tower_key or tuple(file["templates"]) != tuple(templates):
                return {}
            return dict(zip(map(str, file["words"]), file["embeddings"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # missing or damaged: made again
        return {}


class TextCache:
    """The embeddings kept on disk for one text tower, template set and kind of device, a small file each.

    `CACHE/text/<tower, device, templates>/<word's hash>` holds a hash of what it is the embedding of and of its
    numbers, and then the numbers, float32. Files appear by rename, so concurrent runs only ever repeat each other's
    work; a file whose hash doesn't fit (damaged, or another word's) is treated as missing and rewritten.
    """

    def __init__(self, root: Path, tower_key: str, templates: Sequence[str], device_type: str) -> None:
        self._key = hashlib.sha256("\n".join([tower_key, device_type, *templates]).encode()).hexdigest()
        self.folder = root / "text" / self._key[:32]
        self._swept = False

    def get(self, word: str) -> np.ndarray | None:
        """Look up the embedding [D] float32 of `word`; None where there is no valid one."""
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
        _write(self._path(word), self._digest(word, data) + data)
        if not self._swept:  # what a killed run left
            self._swept = True
            sweep_stale(self.folder)

    def _path(self, word: str) -> Path:
        return self.folder / hashlib.sha256(_bytes(word)).hexdigest()[:40]

    def _digest(self, word: str, embedding: bytes) -> bytes:
        """Hash an entry. The word's own hash has a fixed length: no other word and numbers give these bytes."""
        named = f"{self._key} {hashlib.sha256(_bytes(word)).hexdigest()} ".encode()
        return hashlib.sha256(named + embedding).digest()


def _bytes(word: str) -> bytes:
    return word.encode("utf-8", "surrogateescape")


def _write(path: Path, content: bytes) -> None:
    """Write a file of the cache if that can be done, without waiting for the disk as `atomic_write` does."""
    temporary = temp_path(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
