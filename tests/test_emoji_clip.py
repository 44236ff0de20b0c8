"""The parts of scripts/train_tiny_clip.py: captions, the loss, and weights that open_clip and SAN can hold."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from san_cli.datasets.emoji.concepts import concepts
from san_cli.models.clip import build_image_tower, build_text_tower
from san_cli.models.presets import TINY
from san_cli.models.san import SAN

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "train_tiny_clip.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_tiny_clip", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_tiny_clip"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_captions_say_what_is_there(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        things = rng.choice(364, rng.integers(0, 5), replace=False).tolist()
        ground = int(rng.integers(364, len(concepts())))
        text, mentioned = script.caption(rng, things, [ground])
        assert set(things) <= set(mentioned) <= {*things, ground}
        assert mentioned == tuple(sorted(mentioned)) and "{}" not in text
        for i in mentioned:
            assert any(word in text for word in concepts()[i].words)


def test_right_captions_are_those_with_the_same_concepts(script: ModuleType) -> None:
    dog, on_grass, cat = [1.0, 0, 0], [1.0, 0, 1], [0, 1.0, 0]
    images, texts = torch.tensor([dog, dog, cat]), torch.tensor([dog, on_grass, cat, dog])
    perfect = torch.tensor([[9.0, -9, -9, 9], [9, -9, -9, 9], [-9, -9, 9, -9]])
    maybe = torch.tensor([[9.0, 50, -9, 9], [9, 50, -9, 9], [-9, -9, 9, -9]])  # a dog may well be on grass
    texts_of_cat = torch.tensor([[-9.0, -9, 9, -9], [9, -9, -9, 9], [-9, -9, 9, -9]])
    with torch.no_grad():
        right = script.contrastive_loss(perfect[:, [0, 2, 3]], images, texts[[0, 2, 3]])
        assert right == pytest.approx(2 / 3 * math.log(2), abs=1e-3)  # each dog has two right answers
        wrong = script.contrastive_loss(texts_of_cat[:, [0, 2, 3]], images, texts[[0, 2, 3]])
        assert wrong > right + 1
        images = torch.tensor([dog, dog, cat, on_grass])
        extra = torch.tensor([[-9.0, 9, -9, -9]])
        same = [script.contrastive_loss(torch.cat([rows, extra]), images, texts) for rows in (perfect, maybe)]
        assert same[0] == pytest.approx(same[1].item(), abs=1e-4)


def test_learning_rate_rises_and_falls_and_can_be_prolonged(script: ModuleType) -> None:
    rates = [script.learning_rate(done, 100_000, 1e-3) for done in range(0, 120_001, 1_000)]
    peak = rates.index(max(rates))
    assert rates[0] < 1e-4 and 20 <= peak <= 35
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert rates[100] == pytest.approx(2e-5) == rates[120]
    assert script.learning_rate(100_000, 200_000, 1e-3) > 4e-4


def test_export_is_open_clips_and_fits_into_san(script: ModuleType, tmp_path: Path) -> None:
    clip = script.TinyClip()
    script.export(clip, tmp_path / "clip.safetensors")
    state = load_file(tmp_path / "clip.safetensors")
    shape = TINY.clip
    theirs = open_clip.CLIP(
        shape.embed_dim,
        {"image_size": 160, "layers": 6, "width": 128, "head_width": 32, "patch_size": 16},
        {"width": 128, "heads": 4, "layers": 3, "context_length": 77, "vocab_size": 49408},
    )
    theirs.load_state_dict(state, strict=True)
    pixels = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    with torch.no_grad():
        same = theirs.eval().encode_image(script.normalise_unpadded(pixels), normalize=True)
        torch.testing.assert_close(clip.eval().images(pixels), same, atol=1e-5, rtol=1e-4)
        words = ["a photo of a dog.", "Pizza"]
        tokens = open_clip.get_tokenizer("ViT-B-16")(words)
        torch.testing.assert_close(
            clip.texts(words), theirs.encode_text(tokens, normalize=True), atol=1e-5, rtol=1e-4
        )
    visual = {name.removeprefix("visual."): t for name, t in state.items() if name.startswith("visual.")}
    build_image_tower(shape).load_state_dict(visual, strict=True)
    text = {name: t for name, t in state.items() if not name.startswith("visual.") and name != "logit_scale"}
    build_text_tower(shape).load_state_dict(text, strict=True)


def test_the_preset_is_small() -> None:
    with torch.device("meta"):
        parts = [SAN(TINY), build_text_tower(TINY.clip)]
    values = sum(tensor.numel() for part in parts for tensor in part.state_dict().values())
    assert 2 * values <= 24e6  # bytes in half precision
