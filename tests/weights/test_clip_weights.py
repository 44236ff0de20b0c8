"""CLIP's weights for a training: open_clip's state dicts, SAN checkpoints, and what is neither."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import recipe
import torch
from presets import GOLDEN_TINY
from program import San, subprocess_environment
from safetensors.torch import save_file
from torch import Tensor, nn
from train_data import assert_same_training, make_labelled, micro_preset, train, weights

from san_cli.errors import SanError
from san_cli.models.text import TextEncoder
from san_cli.weights.adapter import trainable_names, write_adapter
from san_cli.weights.checkpoint import random_checkpoint, read_checkpoint, write_checkpoint
from san_cli.weights.clip_weights import check_activation, clip_part, read_clip

PRESET = micro_preset()
SEED = 4


@pytest.fixture(scope="module")
def clip() -> dict[str, Tensor]:
    """A CLIP of the small model, under our names."""
    return clip_part(random_checkpoint(PRESET, SEED).state)


def plain(clip: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As open_clip names the tensors of its plain CLIP, with what is no weight beside them."""
    named = {name.removeprefix("text."): tensor for name, tensor in clip.items()}
    return {**named, "attn_mask": torch.zeros(77, 77)}


def read(path: Path) -> dict[str, Tensor]:
    return read_clip(PRESET, path, say=lambda _: None)


def assert_is(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name]), name


# What is taken


WRITERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "clip.safetensors": lambda state, path: save_file(state, path),
    "clip.pt": lambda state, path: torch.save(state, path),
    "clip.bin": lambda state, path: torch.save(state, path),
    "training.pt": lambda state, path: torch.save({"epoch": 3, "name": "run", "state_dict": state}, path),
    "distributed.pt": lambda state, path: torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path
    ),
    "old.pt": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "openai.pt": lambda state, path: torch.save(
        state | {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")},
        path,
    ),
    "keys.pt": lambda state, path: torch.save({**state, 0: torch.ones(1)}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_state_dicts_of_open_clip(clip: dict[str, Tensor], tmp_path: Path, name: str) -> None:
    """Both ways to name the text tower."""
    for number, state in enumerate((plain(clip), dict(clip))):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        WRITERS[name](state, path)
        assert_is(read(path), clip)


def test_open_clips_own_models(tmp_path: Path) -> None:
    """Its class names the tensors, not we."""
    import open_clip

    shape = PRESET.clip
    model = open_clip.CLIP(
        embed_dim=shape.embed_dim,
        vision_cfg={"layers": shape.layers, "width": shape.width, "head_width": shape.width // shape.heads,
                    "patch_size": shape.patch_size, "image_size": shape.image_size},
        text_cfg={"layers": shape.text_layers, "width": shape.text_width, "heads": shape.text_heads},
        quick_gelu=True,
    )  # fmt: skip
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    found = read(tmp_path / "clip.pt")
    assert torch.equal(found["visual.proj"], model.visual.proj)
    assert torch.equal(found["text.token_embedding.weight"], model.token_embedding.weight)


def test_half_precision_is_widened(clip: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in plain(clip).items()}, tmp_path / "half.safetensors")
    assert_is(read(tmp_path / "half.safetensors"), {name: t.half().float() for name, t in clip.items()})


def test_a_san_holds_its_clip(clip: dict[str, Tensor], tmp_path: Path) -> None:
    write_checkpoint(random_checkpoint(PRESET, SEED), tmp_path / "san.safetensors")
    assert_is(read(tmp_path / "san.safetensors"), clip)


def test_an_official_san_holds_its_clip(tmp_path: Path) -> None:
    recipe.save_official(str(tmp_path / "san.pth"), recipe.official_state(GOLDEN_TINY))
    found = read_clip(GOLDEN_TINY, tmp_path / "san.pth", say=lambda _: None)
    expected = recipe.tensor("clip_rec_head.proj", tuple(found["visual.proj"].shape))
    assert torch.equal(found["visual.proj"], expected)


def test_the_clip_of_a_san_of_another_shape(clip: dict[str, Tensor], tmp_path: Path) -> None:
    """As the ablations have it: only CLIP has to be the same."""
    write_checkpoint(
        random_checkpoint(micro_preset(fusion=[], queries=3), SEED), tmp_path / "san.safetensors"
    )
    assert read(tmp_path / "san.safetensors").keys() == clip.keys()


def test_a_training_on_such_a_clip(san: San, clip: dict[str, Tensor], tmp_path: Path) -> None:
    folder = make_labelled(tmp_path / "data")
    save_file(plain(clip), tmp_path / "clip.safetensors")
    write_checkpoint(random_checkpoint(PRESET, SEED), tmp_path / "san.safetensors")
    for name in ("clip", "san"):
        ended = train(
            san, folder, "-o", tmp_path / name, "--clip-weights", tmp_path / f"{name}.safetensors",
            "--iterations", 2,
        )  # fmt: skip
        assert ended.code == 0
    assert_same_training(tmp_path / "clip", tmp_path / "san")
    found = weights(tmp_path / "clip")
    frozen = clip.keys() - trainable_names(PRESET)
    assert all(torch.equal(found[name], clip[name]) for name in frozen)


# What is not


def _without_one(clip: dict[str, Tensor], path: Path) -> None:
    torch.save({name: t for name, t in plain(clip).items() if name != "text_projection"}, path)


def _another_width(clip: dict[str, Tensor], path: Path) -> None:
    torch.save(plain(clip) | {"visual.proj": torch.ones(48, 32)}, path)


def _another_model(clip: dict[str, Tensor], path: Path) -> None:
    torch.save({"fc.weight": torch.ones(3, 3)}, path)


def _no_tensors(clip: dict[str, Tensor], path: Path) -> None:
    torch.save({"name": "clip"}, path)


def _a_list(clip: dict[str, Tensor], path: Path) -> None:
    torch.save([torch.ones(3)], path)


def _whole_module(clip: dict[str, Tensor], path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)  # unpickling it would run code


def _cut_off(clip: dict[str, Tensor], path: Path) -> None:
    torch.save(plain(clip), path)
    path.write_bytes(path.read_bytes()[:-5000])


def _text(clip: dict[str, Tensor], path: Path) -> None:
    path.write_text("<!doctype html><title>Not found</title>")


def _empty(clip: dict[str, Tensor], path: Path) -> None:
    path.write_bytes(b"")


def _missing(clip: dict[str, Tensor], path: Path) -> None:
    """Nothing is written."""


def _folder(clip: dict[str, Tensor], path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_without_one, "is not a CLIP of micro: it lacks tensor text_projection"),
        (_another_width, "tensor visual.proj has shape [48, 32], not [32, 32]"),
        (_another_model, "it lacks tensor"),
        (_no_tensors, "it lacks tensor"),
        (_a_list, "it lacks tensor"),
        (_whole_module, "holds no CLIP weights that can be read safely"),
        (_cut_off, "holds no CLIP weights that can be read safely"),
        (_text, "holds no CLIP weights that can be read safely"),
        (_empty, "holds no CLIP weights that can be read safely"),
        (_missing, "No such file or directory"),
        (_folder, "can't read CLIP weights"),
    ],
)
def test_what_is_no_clip(
    clip: dict[str, Tensor], tmp_path: Path, write: Callable[[dict[str, Tensor], Path], None], message: str
) -> None:
    path = tmp_path / "clip.pt"
    write(clip, path)
    with pytest.raises(SanError) as caught:
        read(path)
    assert message in caught.value.message
    assert "clip.pt" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"\x10" * 40, b"\xff" * 40])
def test_damaged_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.safetensors").write_bytes(content)
    with pytest.raises(SanError, match="holds no CLIP weights that can be read safely"):
        read(tmp_path / "clip.safetensors")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    """OpenAI's own files are of this kind; opening one runs what is in it."""
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "clip.pt"))
    with pytest.raises(SanError, match="holds no CLIP weights") as caught:
        read(tmp_path / "clip.pt")
    assert "TorchScript archives are not opened" in caught.value.hint


def test_a_side_adapter_alone_is_no_clip(tmp_path: Path) -> None:
    write_adapter(random_checkpoint(PRESET), tmp_path / "adapter.safetensors")
    with pytest.raises(SanError, match="holds no CLIP: it is a side adapter alone"):
        read(tmp_path / "adapter.safetensors")


def test_a_san_with_another_clip_is_said_to_be(tmp_path: Path) -> None:
    other = micro_preset(clip={**vars(PRESET.clip), "embed_dim": 16})
    write_checkpoint(random_checkpoint(other), tmp_path / "san.safetensors")
    with pytest.raises(SanError, match="is not a CLIP of micro: tensor .* has shape"):
        read(tmp_path / "san.safetensors")


def test_values_that_are_not_finite(san: San, clip: dict[str, Tensor], tmp_path: Path) -> None:
    state = plain(clip)
    state["visual.proj"] = state["visual.proj"] * float("inf")
    save_file(state, tmp_path / "clip.safetensors")
    folder = make_labelled(tmp_path / "data", 2)
    ended = train(san, folder, "-o", tmp_path / "out", "--clip-weights", tmp_path / "clip.safetensors")
    assert (ended.code, "tensor visual.proj has values that are not finite" in ended.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_no_clip_is_published_for_a_preset_of_one_s_own(san: San, tmp_path: Path) -> None:
    folder = make_labelled(tmp_path / "data", 2)
    ended = san("train", "--images", folder / "images", "--labels", folder / "labels",
                "--classes", folder / "classes.txt", "--model", folder / "micro.json",
                "-o", tmp_path / "out", "--device", "cpu")  # fmt: skip
    assert (ended.code, "this model has no pretrained CLIP" in ended.err) == (2, True)
    assert "`--clip-weights random`" in ended.err


def test_offline_without_clip_weights(tmp_path: Path, san_home: Path) -> None:
    """One message with the ways out. In a process of its own, as the hub's library reads its switches once."""
    folder = make_labelled(tmp_path / "data", 2)
    words = ["train", "--images", folder / "images", "--labels", folder / "labels", "--classes"]
    words += [folder / "classes.txt", "-o", tmp_path / "out", "--device", "cpu"]
    switches = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hub"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    ended = subprocess.run(
        [sys.executable, "-m", "san_cli", *map(str, words)],
        env={**cleared, **subprocess_environment(san_home), **switches}, capture_output=True, text=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, "Traceback" in ended.stderr) == (2, "", False)
    assert ended.stderr.count("san: can't get the weights of OpenAI's CLIP ViT-B/16") == 1
    for way in (
        "curl -L -o clip_vit_b_16.safetensors https://",
        "--clip-weights clip_vit_b_16.safetensors",
        "--init-from tiny",
        "san_vit_b_16.pth",
        "HF_ENDPOINT",
    ):
        assert way in ended.stderr
    assert not (tmp_path / "out").exists()


# QuickGELU or plain GELU


def activation(path: Path | None, *, quick: bool) -> str:
    """What is said of a training on that CLIP with a model set to QuickGELU or not."""
    said: list[str] = []
    preset = micro_preset(clip={**vars(PRESET.clip), "quick_gelu": quick})
    check_activation(preset, path, say=said.append)
    return "\n".join(said)


@pytest.mark.parametrize(
    ("beside", "content", "quick"),
    [
        ("open_clip_config.json", '{"model_cfg": {"embed_dim": 512, "quick_gelu": true}}', True),
        ("open_clip_config.json", '{"model_cfg": {"embed_dim": 512}}', False),
        ("config.json", '{"hidden_act": "quick_gelu"}', True),
        ("config.json", '{"vision_config": {"hidden_act": "gelu"}}', False),
    ],
)
def test_a_config_beside_a_clip_tells_its_activation(
    beside: str, content: str, quick: bool, tmp_path: Path
) -> None:
    (tmp_path / "clip.pt").write_bytes(b"")
    (tmp_path / beside).write_text(content)
    assert activation(tmp_path / "clip.pt", quick=quick) == ""
    with pytest.raises(SanError, match="GELU") as caught:
        activation(tmp_path / "clip.pt", quick=not quick)
    assert f"--set clip.quick_gelu={str(quick).lower()}" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "quick"),
    [
        ("vit_b_16-laion400m_e32-55e67d44.pt", False),
        ("models--laion--CLIP-ViT-B-16-laion2B-s34B-b88K/snapshots/x/open_clip_pytorch_model.bin", False),
        ("models--laion--CLIP-ViT-B-16-DataComp.XL-s13B-b90K/snapshots/x/open_clip_pytorch_model.bin", False),
        ("models--timm--vit_base_patch16_clip_224.openai/snapshots/x/open_clip_pytorch_model.bin", True),
    ],
)
def test_a_published_clip_is_known_by_its_name(path: str, quick: bool, tmp_path: Path) -> None:
    assert activation(tmp_path / path, quick=quick) == ""
    with pytest.raises(SanError, match="plain GELU" if not quick else "QuickGELU"):
        activation(tmp_path / path, quick=not quick)


def test_openais_own_is_quick() -> None:
    assert activation(None, quick=True) == ""
    with pytest.raises(SanError, match="OpenAI's CLIP was trained with QuickGELU"):
        activation(None, quick=False)


def test_a_model_of_ours_knows_its_activation(tmp_path: Path) -> None:
    write_checkpoint(random_checkpoint(PRESET), tmp_path / "san.safetensors")
    assert PRESET.clip.quick_gelu
    assert activation(tmp_path / "san.safetensors", quick=True) == ""
    with pytest.raises(SanError, match="QuickGELU"):
        activation(tmp_path / "san.safetensors", quick=False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_cfg": 3}', "[" * 100_000, "pipe"])
def test_a_clip_of_unknown_activation_is_pointed_out(content: str, tmp_path: Path) -> None:
    (tmp_path / "clip.pt").write_bytes(b"")
    if content == "pipe":
        os.mkfifo(tmp_path / "open_clip_config.json")
    else:
        (tmp_path / "open_clip_config.json").write_text(content)
    for quick, other in ((True, "false"), (False, "true")):
        said = activation(tmp_path / "clip.pt", quick=quick)
        assert "clip.pt' doesn't say" in said
        assert f"--set clip.quick_gelu={other}" in said


def test_the_wrong_activation_makes_another_model(san: San, clip: dict[str, Tensor], tmp_path: Path) -> None:
    """What the note is about: the same tensors, other words; and the setting reaches the trained model."""
    folder = make_labelled(tmp_path / "data", 2)
    save_file(plain(clip), tmp_path / "clip.safetensors")
    texts = []
    for value in ("true", "false"):
        ended = train(
            san, folder, "-o", tmp_path / value, "--clip-weights", tmp_path / "clip.safetensors",
            "--iterations", 1, "--set", f"clip.quick_gelu={value}",
        )  # fmt: skip
        assert (ended.code, "doesn't say whether its CLIP was trained with" in ended.err) == (0, True)
        made = read_checkpoint(tmp_path / value / "model.safetensors")
        assert made.preset.clip.quick_gelu is (value == "true")
        encoder = TextEncoder(made.preset.clip, made.part("text"), torch.device("cpu"))
        texts.append(encoder.embed("cat", ("{}",)))
    assert not torch.allclose(texts[0], texts[1], atol=1e-4)
