"""The parts of scripts/train_tiny_clip.py: captions, the loss, and weights that open_clip and SAN can hold."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import open_clip
import pytest
import torch
from conftest import subprocess_environment
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


def test_a_crop_holds_what_one_would_say_is_in_it(script: ModuleType) -> None:
    dog, grass, sand = (name_to_id(name) for name in ("dog", "grass", "sand"))
    labels = np.full((96, 96), grass)
    labels[:, 80:] = sand
    labels[32:64, 32:64] = dog

    def seen(rows: slice, columns: slice) -> tuple[set[int], set[int]]:
        box = torch.zeros(6, 6, dtype=torch.bool)
        box[rows, columns] = True
        held, lacking = script.seen_in(labels, box)
        return set(held.nonzero().flatten().tolist()), set((lacking == 0).nonzero().flatten().tolist())

    everything = slice(None)
    assert seen(everything, everything) == ({dog, grass}, {dog, grass})  # a sixth is sand: not worth a word
    assert seen(slice(2, 4), slice(2, 4)) == ({dog}, {dog})
    assert seen(slice(0, 2), slice(0, 2)) == ({grass}, {grass})
    assert seen(slice(0, 2), slice(4, 6)) == (set(), {grass, sand})  # half and half: neither certainly
    assert seen(slice(1, 5), slice(1, 5)) == ({dog, grass}, {dog, grass})


def name_to_id(name: str) -> int:
    return next(i for i, concept in enumerate(concepts()) if concept.name == name)


def test_crops_are_rectangles_of_whole_patches(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    labels = np.full((160, 160), name_to_id("grass"))
    labels[64:96, 64:96] = name_to_id("dog")
    drawn = [box for _ in range(40) for box in script.crops(rng, labels)]
    assert len(drawn) == 40 * (script.CROPS + 1)
    assert all(drawn[i].all() for i in range(0, len(drawn), script.CROPS + 1))
    for box in drawn:
        rows, columns = box.any(1), box.any(0)
        assert torch.equal(box, rows[:, None] & columns)
        assert rows.sum() >= 2 and columns.sum() >= 2
        part = script.inside(labels, box)
        assert part.shape == (16 * rows.sum(), 16 * columns.sum())
    with_dog = [box for box in drawn if (script.inside(labels, box) == name_to_id("dog")).any()]
    assert len(with_dog) > len(drawn) / 2


def test_no_caption_is_false_of_its_own_picture(script: ModuleType) -> None:
    """Neither of a small thing, nor of two textures that share the picture."""
    rng = np.random.default_rng(1)
    labels = np.full((160, 160), name_to_id("grass"))
    labels[72:] = name_to_id("sand")
    labels[100:112, 100:112] = name_to_id("dog")
    for _ in range(20):
        found = [script.seen_in(labels, box) for box in script.crops(rng, labels)]
        held, lacking = (torch.stack(parts) for parts in zip(*found, strict=True))
        assert not (held * lacking).any()
        assert held[0].sum() == lacking[0, [name_to_id(n) for n in ("grass", "sand", "dog")]].sum() == 0
        for _, mentioned in script.captions(rng, held):
            assert any(row[list(mentioned)].all() for row in held)


def test_a_batch_without_a_true_caption_costs_nothing(script: ModuleType) -> None:
    nothing = torch.zeros(2, 3)
    loss = script.contrastive_loss(torch.zeros(2, 1), nothing, nothing, torch.tensor([[1.0, 0, 0]]))
    assert loss == 0


def test_true_captions_compete_with_false_ones_alone(script: ModuleType) -> None:
    dog, dog_on_grass, cat = [1.0, 0, 0], [1.0, 0, 1], [0, 1.0, 0]
    mentions = torch.tensor([dog, cat, dog_on_grass])
    holds = torch.tensor([dog, cat])
    lacks = torch.tensor([[0, 1.0, 0], [1.0, 0, 1]])  # the dog's picture may have grass
    good = torch.tensor([[9.0, -9, 0], [-9, 9, -9]])
    assert script.contrastive_loss(good, holds, lacks, mentions) < 1e-3
    assert script.contrastive_loss(good.flip(0), holds, lacks, mentions) > 4
    maybe = good.clone()
    maybe[0, 2] = 50  # neither true nor false: no matter what the network says
    same = [script.contrastive_loss(logits, holds, lacks, mentions) for logits in (good, maybe)]
    assert same[0] == same[1]


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
        {"image_size": 224, "layers": 6, "width": 128, "head_width": 32, "patch_size": 16},
        {"width": 128, "heads": 4, "layers": 3, "context_length": 77, "vocab_size": 49408},
    )
    theirs.load_state_dict(state, strict=True)
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    with torch.no_grad():
        same = theirs.eval().encode_image(script.normalise_unpadded(pixels), normalize=True)
        whole = torch.ones(2, 1, 14, 14, dtype=torch.bool)
        torch.testing.assert_close(clip.eval().crops(pixels, whole)[:, 0], same, atol=1e-5, rtol=1e-4)
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


def test_processes_train_on_the_mean_of_their_gradients(tmp_path: Path, san_home: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch, train_tiny_clip as script\n"
        "script.dist.init_process_group('gloo')\n"
        "layer = torch.nn.Linear(2, 1)\n"
        "(layer(torch.tensor([1.0, 2.0]) * (script.RANK + 1)).sum()).backward()\n"
        "script.average_gradients(layer)\n"
        "found = f'{layer.weight.grad.tolist()} {layer.bias.grad.tolist()}'\n"
        "open(f'{sys.argv[2]}/{script.RANK}', 'w').write(found)\n"
        "script.dist.destroy_process_group()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    ended = subprocess.run(
        [*command, str(program), str(SCRIPT.parent), str(tmp_path)],
        env=subprocess_environment(san_home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["[[1.5, 3.0]] [1.0]"] * 2
