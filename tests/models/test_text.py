"""CLIP's text tower: several words together, each as if it were alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from presets import GOLDEN_TINY
from program import subprocess_environment

from san_cli.models.text import TextEncoder, encode_prompts
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


@given(
    st.lists(
        st.sampled_from([*WORDS, "", "a" * 60, "x y z " * 30, "hot-dog", " Cat "]), min_size=1, unique=True
    )
)
@settings(max_examples=15, deadline=None)
def test_no_company_changes_a_word(encoder: TextEncoder, words: list[str]) -> None:
    templates = ("a photo of a {}.", "{}", "{} in the scene")
    alone = encoder.embed(words[-1], templates)
    assert torch.equal(dict(encoder.embed_each(words, templates))[words[-1]], alone)


@pytest.mark.parametrize(
    "templates",
    [
        VILD,
        ("a photo of a {}.",),
        ("{}",),
        ("many {}s",),
        ("a{}", "a photo of a{}", "a {}"),
        ("&am{}",),
        ("x" * 300 + " {}",),
    ],
)
@pytest.mark.parametrize("word", ["cat", "golden retriever", "", "photo of a cat", "p;", "word " * 80])
def test_prompts_are_read_on_as_if_from_the_start(
    encoder: TextEncoder, word: str, templates: tuple[str, ...]
) -> None:
    """Whatever the tokenizer makes of a word and the letters beside it."""
    tokens = encoder.tokenizer([template.replace("{}", word) for template in templates])
    with torch.inference_mode():
        prompts = F.normalize(encode_prompts(encoder.tower, tokens), dim=-1)
    wanted = F.normalize(prompts.mean(dim=0), dim=-1)
    torch.testing.assert_close(encoder.embed(word, templates), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("strict", [True, False])
def test_it_is_so_at_full_width_with_any_threads_and_without_the_programs_settings(
    strict: bool, tmp_path: Path
) -> None:
    """Of ViT-B/16, whose products MKL makes otherwise for other numbers of rows where it isn't strict."""
    code = """
import torch
from dataclasses import replace
from san_cli.models.presets import VIT_B_16
from san_cli.models.text import TextEncoder, build_text_tower
from san_cli.vocabulary.templates import VILD
shape = replace(VIT_B_16.clip, text_layers=2)
torch.manual_seed(0)
encoder = TextEncoder(shape, build_text_tower(shape).state_dict(), torch.device("cpu"))
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
