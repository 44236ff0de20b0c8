"""Embed the names of tiny's own vocabulary and keep them beside its weights, so that nobody has to.

    python scripts/embed_tiny_words.py

writes weights/tiny-words.npz: `words` [380], `embeddings` [380, 128] float32, `templates` [14], and `tower`, the hash
of the text tower that they belong to. tests/engine/test_tiny.py compares them with fresh ones.
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the program does

import numpy as np
import torch

from san_cli.engine.loading import load_weights
from san_cli.engine.text_embeddings import SHIPPED_WORDS
from san_cli.files import atomic_write
from san_cli.models.text import TextEncoder
from san_cli.vocabulary.emoji_concepts import concepts
from san_cli.vocabulary.templates import VILD


def main() -> None:
    """Embed and write."""
    tower = load_weights("tiny", None, say=print).text_tower
    encoder = TextEncoder(tower.shape, tower.read(), torch.device("cpu"))
    words = [concept.name for concept in concepts()]
    rows = dict(encoder.embed_each(words, VILD))
    embeddings = np.stack([rows[word].numpy() for word in words])
    with atomic_write(SHIPPED_WORDS) as file:
        np.savez(file, words=words, embeddings=embeddings, templates=VILD, tower=tower.key)
    print(f"{SHIPPED_WORDS}: {len(words)} words, {SHIPPED_WORDS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
