"""CLIP's text tower: several words together, each as if it were alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from presets import GOLDEN_TINY
from program import subprocess_environment

from san_cli.models.text import TextEncoder
from san_cli.vocabulary.templates import VILD
from san_cli.weights.checkpoint import random_checkpoint

WORDS = ["cat", "dog", "golden retriever", "sky", "sea", "traffic light", "grass", "tree", "zebra", "x"]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(GOLDEN_TINY.clip, random_checkpoint(GOLDEN_TINY).part("text"), torch.device("cpu"))


def test_words_together_are_embedded_as_each_alone_to_the_bit(encoder: TextEncoder) -> None:
    alone = {word: encoder.embed(word, VILD) for word in WORDS}
    for words in (WORDS, WORDS[::-1], WORDS[3:]):
        together = dict(encoder.embed_each(words, VILD))
        assert sorted(together) == sorted(words)
        assert all(torch.equal(together[word], alone[word]) for word in words)


@pytest.mark.parametrize("strict", [True, False])
def test_it_is_so_for_tiny_with_any_threads_and_without_the_programs_settings(
    strict: bool, tmp_path: Path
) -> None:
    code = """
import torch
from san_cli.engine.loading import load_weights
from san_cli.models.text import TextEncoder
from san_cli.vocabulary.templates import VILD
tower = load_weights("tiny", None, say=print).text_tower
encoder = TextEncoder(tower.shape, tower.read(), torch.device("cpu"))
words = ["cat", "dog", "pig", "cow", "golden retriever", "sky", "sea", "tree"]
for threads in (1, 2):
    torch.set_num_threads(threads)
    together = dict(encoder.embed_each(words, VILD))
    print(all(torch.equal(together[word], encoder.embed(word, VILD)) for word in words))
"""
    environment = subprocess_environment(tmp_path) | {"MKL_CBWR": "AUTO,STRICT"}
    if not strict:
        del environment["MKL_CBWR"]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr
