"""Official and own checkpoints: what loads, and what each kind of damage says."""

import os
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
from presets import GOLDEN_TINY

from san_cli import Segmenter
from san_cli.errors import SanError
from san_cli.models.presets import VIT_B_16, VIT_L_14
from san_cli.weights.checkpoint import (
    in_half_precision,
    random_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from san_cli.weights.official import official_name


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return recipe.official_state(GOLDEN_TINY)


def test_bare_and_detectron2_files_are_the_same(state, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "bare.pth")
    recipe.save_official(str(tmp_path / "d2.pth"), state)
    bare = read_checkpoint(tmp_path / "bare.pth", GOLDEN_TINY)
    wrapped = read_checkpoint(tmp_path / "d2.pth", GOLDEN_TINY)
    assert bare.state.keys() == wrapped.state.keys()
    assert all(torch.equal(bare.state[name], wrapped.state[name]) for name in bare.state)


def test_every_official_tensor_is_consumed_once(state) -> None:
    names = [official_name(name, GOLDEN_TINY) for name in random_checkpoint(GOLDEN_TINY).state]
    assert len(names) == len(set(names)) == 320
    assert set(state) - set(names) == {"criterion.empty_weight", "ov_classifier.attn_mask"}


def test_own_format_round_trip(state, tmp_path: Path) -> None:
    made = random_checkpoint(GOLDEN_TINY)
    write_checkpoint(made, tmp_path / "model.safetensors")
    read = read_checkpoint(tmp_path / "model.safetensors")
    assert read.preset == GOLDEN_TINY
    assert all(torch.equal(made.state[name], read.state[name]) for name in made.state)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    write_checkpoint(made, tmp_path / "again.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda s: s.pop("clip_rec_head.proj"), "lacks tensor: clip_rec_head.proj"),
        (lambda s: s.update(stray=torch.zeros(1)), "unknown tensor: stray"),
        (lambda s: s.update({"clip_rec_head.proj": torch.zeros(3, 3)}), r"visual.proj .* has shape \[3, 3\]"),
    ],
    ids=["missing", "extra", "shape"],
)
def test_wrong_tensors_are_named(damage, words: str, state, tmp_path: Path) -> None:
    broken = {name: tensor.clone() for name, tensor in state.items()}
    damage(broken)
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(SanError, match=words):
        read_checkpoint(tmp_path / "broken.pth", GOLDEN_TINY)


@pytest.mark.parametrize("name", ["visual.proj", "text.positional_embedding"])
def test_values_that_are_not_finite_are_refused(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SAN_HOME", str(tmp_path))
    broken = random_checkpoint(GOLDEN_TINY)
    broken.state[name].view(-1)[0] = float("nan")
    write_checkpoint(broken, tmp_path / "nan.safetensors")
    with pytest.raises(SanError, match=f"{name} has values that are not finite"):
        Segmenter.load(weights=tmp_path / "nan.safetensors", device="cpu").segment(
            np.zeros((32, 32, 3), np.uint8), ["cat"]
        )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_refused(suffix: str, state, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(state, whole)
    else:
        write_checkpoint(random_checkpoint(GOLDEN_TINY), whole)
    data = whole.read_bytes()
    for kept in (0, 1, 100, len(data) // 2, len(data) - 1):
        (tmp_path / f"cut{suffix}").write_bytes(data[:kept])
        with pytest.raises(SanError, match="readable"):
            read_checkpoint(tmp_path / f"cut{suffix}", GOLDEN_TINY)


def test_no_code_runs_from_a_pickle(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"model": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(SanError, match="not a readable PyTorch checkpoint"):
        read_checkpoint(tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()


def test_unknown_model_is_refused_with_the_known_ones(state, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "tiny.pth")
    with pytest.raises(SanError, match="vit-b-16, vit-l-14"):
        read_checkpoint(tmp_path / "tiny.pth")


def test_foreign_safetensors_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(SanError, match="not one of ours"):
        read_checkpoint(tmp_path / "foreign.safetensors")


def test_conversion_keeps_every_value(tmp_path: Path, state, monkeypatch) -> None:
    import san_cli.weights.checkpoint as module

    monkeypatch.setattr(module, "PRESETS", {"golden-tiny": GOLDEN_TINY})
    recipe.save_official(str(tmp_path / "official.pth"), state)
    write_checkpoint(read_checkpoint(tmp_path / "official.pth"), tmp_path / "ours.safetensors")
    ours = read_checkpoint(tmp_path / "ours.safetensors")
    for name, tensor in ours.state.items():
        assert torch.equal(tensor.flatten(), state[official_name(name, GOLDEN_TINY)].flatten())


def test_half_precision_is_half_the_bytes_and_loads_like_any_model(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    model = random_checkpoint(GOLDEN_TINY)
    write_checkpoint(model, whole)
    write_checkpoint(in_half_precision(model, whole), half)
    assert half.stat().st_size < 0.51 * whole.stat().st_size
    stored = read_checkpoint(half).state
    assert all(torch.equal(stored[name], tensor.half()) for name, tensor in model.state.items())
    photo = recipe.image(0, 96, 128)
    raw = [
        Segmenter.load(weights=file, device="cpu", templates="name").raw(photo, ["a dog", "grass"])
        for file in (whole, half)
    ]
    assert raw[1].mask_logits.dtype == np.float32
    np.testing.assert_allclose(raw[0].region_embeddings, raw[1].region_embeddings, atol=5e-3)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_files_are_as_open_as_any_other_of_the_user(tmp_path: Path) -> None:
    write_checkpoint(random_checkpoint(GOLDEN_TINY), tmp_path / "model.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_values_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    model = random_checkpoint(GOLDEN_TINY)
    model.state["visual.proj"][0, 0] = 1e5
    with pytest.raises(SanError, match="tensor visual.proj has values that float16 can't hold"):
        in_half_precision(model, tmp_path / "large.safetensors")


@pytest.mark.parametrize(("preset", "tensors"), [(VIT_B_16, 440), (VIT_L_14, 584)])
def test_official_key_counts(preset, tensors: int) -> None:
    from san_cli.weights.checkpoint import expected_shapes

    assert len({official_name(name, preset) for name in expected_shapes(preset)}) == tensors
