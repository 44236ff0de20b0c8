"""Files of other programs: mmsegmentation's SAN, whatever is wrapped around a state dict, and what can't be read."""

import pickle
import re
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
from presets import GOLDEN_TINY
from safetensors.torch import save_file
from torch import Tensor

from san_cli.errors import SanError
from san_cli.weights import checkpoint as module
from san_cli.weights import pickled
from san_cli.weights.adapter import brings_its_clip, read_model, read_preset, trainable_names
from san_cli.weights.checkpoint import read_checkpoint
from san_cli.weights.clip_weights import clip_part
from san_cli.weights.mmseg import official_tensors
from san_cli.weights.pickled import LeftOut, load_pickle

State = dict[str, Tensor]

# From the official names to mmsegmentation's, apart from what the program does the other way round.
_BLOCK = {
    "ln_1.": "norms.0.", "ln_2.": "norms.1.", "attn.": "attentions.0.attn.",
    "mlp.c_fc.": "ffns.0.layers.0.0.", "mlp.c_proj.": "ffns.0.layers.1.",
}  # fmt: skip
_OF_IMAGE = {
    "ln_1.": "ln1.", "ln_2.": "ln2.", "attn.": "attn.attn.", "mlp.c_fc.": "ffn.layers.0.0.",
    "mlp.c_proj.": "ffn.layers.1.",
}  # fmt: skip
_OF_SIDE = {
    "norm1.": "ln1.", "norm2.": "ln2.", "attn.qkv.": "attn.attn.in_proj_", "attn.proj.": "attn.attn.out_proj.",
    "mlp.fc1.": "ffn.layers.0.0.", "mlp.fc2.": "ffn.layers.1.",
}  # fmt: skip
_TREES = [
    (r"clip_visual_extractor\.resblocks\.(\d+)\.(.*)", "image_encoder.layers", _OF_IMAGE),
    (r"clip_rec_head\.resblocks\.(\d+)\.(.*)", "decode_head.rec_with_attnbias.layers", _BLOCK),
    (r"ov_classifier\.transformer\.resblocks\.(\d+)\.(.*)", "text_encoder.transformer", _BLOCK),
    (
        r"side_adapter_network\.vit_model\.blocks\.(\d+)\.(.*)",
        "decode_head.side_adapter_network.encode_layers",
        _OF_SIDE,
    ),
]
_NAMES = {
    "clip_visual_extractor.class_embedding": "image_encoder.cls_token",
    "clip_visual_extractor.positional_embedding": "image_encoder.pos_embed",
    "clip_visual_extractor.conv1.": "image_encoder.patch_embed.projection.",
    "clip_visual_extractor.": "image_encoder.",
    "clip_rec_head.proj": "decode_head.rec_with_attnbias.proj.weight",
    "clip_rec_head.": "decode_head.rec_with_attnbias.",
    "ov_classifier.": "text_encoder.",
    "side_adapter_network.vit_model.patch_embed.proj.": "decode_head.side_adapter_network.patch_embed.projection.",
    "side_adapter_network.vit_model.": "decode_head.side_adapter_network.",
    "side_adapter_network.": "decode_head.side_adapter_network.",
}


def mmseg_name(official: str) -> str:
    for pattern, tree, parts in _TREES:
        if found := re.fullmatch(pattern, official):
            start = next(part for part in parts if found[2].startswith(part))
            return f"{tree}.{found[1]}.{parts[start]}{found[2].removeprefix(start)}"
    if found := re.fullmatch(
        r"side_adapter_network\.fusion_layers\.layer_(\d)\.input_proj\.([01])\.(.*)", official
    ):
        number, part, rest = found.groups()
        inner = "1.conv" if part == "1" else "0"
        return f"decode_head.side_adapter_network.conv_clips.{number}.{inner}.{rest}"
    start = next((start for start in _NAMES if official.startswith(start)), "")
    return _NAMES.get(start, "") + official.removeprefix(start)


def mmseg_state(official: Mapping[str, Tensor]) -> State:
    """The same network as mmsegmentation's converter leaves it."""
    found = {mmseg_name(name): tensor for name, tensor in official.items()}
    found["image_encoder.cls_token"] = found["image_encoder.cls_token"][None, None]
    found["image_encoder.pos_embed"] = found["image_encoder.pos_embed"][None]
    head = "decode_head.rec_with_attnbias.proj.weight"
    return {**found, head: found[head].T.contiguous()}


@pytest.fixture(scope="module")
def official() -> State:
    return recipe.official_state(GOLDEN_TINY)


@pytest.fixture(scope="module")
def ours(official: State, tmp_path_factory: pytest.TempPathFactory) -> State:
    """The tensors as they are read from the official file."""
    path = tmp_path_factory.mktemp("official") / "san.pth"
    recipe.save_official(str(path), official)
    return dict(read_checkpoint(path, GOLDEN_TINY).state)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRESETS", {"golden-tiny": GOLDEN_TINY})


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


# mmsegmentation


class HistoryBuffer:
    """Stands for a class of mmengine's, which isn't installed where the file is read."""

    def __init__(self) -> None:
        self.values = np.ones(3)


@pytest.fixture
def of_mmengine(monkeypatch: pytest.MonkeyPatch) -> HistoryBuffer:
    """An object of a class that can be pickled here."""
    name = "mmengine_of_another_machine"
    there = types.ModuleType(name)
    there.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, there)
    monkeypatch.setattr(HistoryBuffer, "__module__", name)
    return HistoryBuffer()


def test_every_name_of_mmsegmentation_is_translated(official: State) -> None:
    """Into the official names and shapes, and back by the test's own table."""
    renamed = mmseg_state(official)
    assert not renamed.keys() & official.keys() - {"criterion.empty_weight"}
    found = official_tensors(renamed)
    assert found.keys() == official.keys() - {"criterion.empty_weight"}
    assert all(torch.equal(found[name], official[name]) for name in found)


@pytest.mark.parametrize("form", ["bare", "mmengine", "a training's", "safetensors"])
def test_a_san_of_mmsegmentation_is_the_official_one(
    form: str, official: State, ours: State, tmp_path: Path, of_mmengine: HistoryBuffer
) -> None:
    state, path = mmseg_state(official), tmp_path / "san.pth"
    if form == "safetensors":
        path = tmp_path / "san.safetensors"
        save_file(state, path)
    elif form == "bare":
        torch.save(state, path)
    else:
        meta = {"epoch": 1, "dataset_meta": {"classes": ("cat", "dog")}, "loss": np.float64(0.5)}
        rest = (
            {} if form == "mmengine" else {"message_hub": {"loss": of_mmengine}, "optimizer": [of_mmengine]}
        )
        for name in ("criterion.empty_weight", "text_encoder.attn_mask"):  # as if trained there
            state.pop(name)
        torch.save({"meta": meta, "state_dict": state, **rest}, path)
    found = read_checkpoint(path)
    assert found.preset == GOLDEN_TINY
    assert_same(found.state, ours)


def test_a_text_tower_that_is_missing_comes_from_the_same_clip(
    official: State, ours: State, tmp_path: Path
) -> None:
    path, clip, other = tmp_path / "san.pth", tmp_path / "clip.pt", tmp_path / "other.pt"
    state = mmseg_state(official)
    kept = {n: t for n, t in state.items() if not n.startswith("text_encoder.")}
    kept["text_encoder.bg_embed"] = state["text_encoder.bg_embed"]
    torch.save({"state_dict": kept}, path)
    of_clip = {name: tensor.clone() for name, tensor in clip_part(ours).items()}
    torch.save(of_clip, clip)
    of_clip["visual.conv1.weight"] += 1
    torch.save(of_clip, other)
    with pytest.raises(SanError, match="lacks CLIP's text tower") as caught:
        read_checkpoint(path)
    assert "--clip-weights CLIP" in caught.value.hint
    with pytest.raises(SanError, match="needs its CLIP: this model has no pretrained CLIP"):
        read_model(path)
    with pytest.raises(SanError, match=r"trained on another CLIP than .*other\.pt': tensor visual\.conv1"):
        read_model(path, None, other)
    assert (brings_its_clip(path), read_preset(path)) == (False, GOLDEN_TINY)
    # CLIP's image positions are trained: the file's own are kept.
    of_clip["visual.conv1.weight"] -= 1
    assert "visual.positional_embedding" in trainable_names(GOLDEN_TINY)
    torch.save({**of_clip, "visual.positional_embedding": of_clip["visual.positional_embedding"] + 1}, clip)
    found = read_model(path, None, clip).state
    assert found.keys() == ours.keys()
    for name, tensor in ours.items():
        same = torch.allclose if name == "visual.conv1.weight" else torch.equal
        assert same(found[name], tensor), name
    # The background's embedding is trained, too, and in no CLIP.
    torch.save({n: t for n, t in kept.items() if "bg_embed" not in n}, path)
    with pytest.raises(SanError, match=r"lacks tensor: ov_classifier\.bg_embed"):
        read_model(path, None, clip)


# What is around a state dict

WRAPPED: dict[str, Callable[[State], object]] = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model_state": lambda state: {"model_state": state, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda state: {"step": torch.tensor(3), "model_state_dict": state},
    "two of them": lambda state: {"checkpoint": {"module": state}},
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "Lightning": lambda state: {"state_dict": {f"model.{name}": t for name, t in state.items()}, "x": [1]},
    "compiled": lambda state: {"model": {f"_orig_mod.module.{name}": t for name, t in state.items()}},
    "a compiled part": lambda state: {
        name.replace("clip_rec_head.", "clip_rec_head._orig_mod."): tensor for name, tensor in state.items()
    },
    "with an optimiser": lambda state: {"model": state, "optimizer": torch.optim.SGD(_parameters(), 0.1)},
    "arrays beside it": lambda state: {"model": state, "history": np.ones(3), "best": np.float32(3)},
}


def _parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(2))]


@pytest.mark.parametrize("form", WRAPPED)
def test_a_state_dict_in_whatever_is_around_it(
    form: str, official: State, ours: State, tmp_path: Path
) -> None:
    torch.save(WRAPPED[form](official), tmp_path / "san.pth")
    assert_same(read_checkpoint(tmp_path / "san.pth").state, ours)


@pytest.mark.parametrize("before", ["", "module._orig_mod."])
def test_official_names_and_ours_in_any_format(
    before: str, official: State, ours: State, tmp_path: Path
) -> None:
    named = {f"{before}{name}": tensor for name, tensor in official.items()}
    save_file(named, tmp_path / "san.safetensors", {"format": "pt"})
    torch.save({f"{before}{name}": tensor for name, tensor in ours.items()}, tmp_path / "ours.pth")
    torch.save(official, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("san.safetensors", "ours.pth", "old.pth"):
        assert_same(read_checkpoint(tmp_path / name).state, ours)


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_in_a_pickle_of_detectron2s(
    protocol: int, official: State, ours: State, tmp_path: Path
) -> None:
    arrays = {name: tensor.numpy() for name, tensor in official.items()}
    path = tmp_path / "san.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "me"}, protocol))
    assert_same(read_checkpoint(path).state, ours)


def test_a_pickle_of_arrays_may_be_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers stand in the pickle itself."""
    monkeypatch.setattr(pickled, "_LONGEST", 1000)
    arrays = {"a": np.arange(5000.0), "b": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, 2))
    for name, read in load_pickle(tmp_path / "a.pkl").items():
        assert np.array_equal(read, arrays[name])


def test_arrays_of_objects_are_left_out(tmp_path: Path) -> None:
    """Nor does NumPy come to see what a pickle says of memory."""
    arrays = {
        "a": np.array([1, "x"], dtype=object),
        "b": np.zeros(2, "f4,i4"),
        "c": np.float64(2),
        "d": np.ones(2),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, 4))
    read = load_pickle(tmp_path / "a.pkl")
    assert isinstance(read["a"], LeftOut) and isinstance(read["b"], LeftOut)
    assert read["c"] == 2 and read["d"].tolist() == [1, 1]


# What can't be read


def _saved(*names: str, of: Tensor | None = None) -> Callable[[Path], None]:
    value = torch.zeros(2) if of is None else of
    return lambda path: torch.save({name: value.clone() for name in names}, path)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "SigLIP of open_clip": (
        _saved("visual.trunk.blocks.0.norm1.weight", "logit_bias", "text.x"),
        "a SigLIP",
    ),
    "SigLIP of transformers": (_saved("vision_model.head.probe", "text_model.x", "logit_bias"), "a SigLIP"),
    "CLIP of transformers": (_saved("vision_model.x", "text_model.y", "logit_scale"), "transformers"),
    "LoRA on a SAN": (_saved("ov_classifier.x", "clip_rec_head.a.lora_A.weight"), "a LoRA"),
    "GPTQ": (_saved("side_adapter_network.a.qweight", "side_adapter_network.a.scales"), "quantised"),
    "a DataParallel ResNet": (_saved("module.conv1.weight", "module.layer1.0.conv1.weight"), "a ResNet"),
    "arrays": (lambda path: torch.save({"a": np.ones(3)}, path), "NumPy arrays instead of tensors"),
    "a scheduler": (lambda path: torch.save({"x": types.SimpleNamespace()}, path), "types.SimpleNamespace"),
    "detectron2's ResNet": (
        lambda path: path.write_bytes(
            pickle.dumps({"model": {"stem.conv1.weight": np.ones(3)}, "__author__": "them"})
        ),
        "it has tensors such as stem.conv1.weight",
    ),
    "cut short": (
        lambda path: (_saved("a", of=torch.zeros(9000))(path), path.write_bytes(path.read_bytes()[:-900]))[0],
        "damaged",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_cant_be_read_is_named(kind: str, tmp_path: Path) -> None:
    write, told = KINDS[kind]
    write(tmp_path / "a.pth")
    with pytest.raises(SanError) as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert told in caught.value.message
    assert caught.value.hint
    assert ("damaged" in caught.value.message) == (kind == "cut short")


def test_numbers_of_eight_bits_are_refused(official: State, tmp_path: Path) -> None:
    for dtype in (torch.int8, torch.float8_e4m3fn):
        torch.save(
            {**official, "clip_rec_head.proj": official["clip_rec_head.proj"].to(dtype)}, tmp_path / "a"
        )
        with pytest.raises(SanError, match=f"visual.proj holds {dtype}, not floating-point numbers of 16"):
            read_checkpoint(tmp_path / "a")


def test_a_trainings_optimiser_is_no_model(tmp_path: Path) -> None:
    save_file({"side_adapter.x/exp_avg": torch.zeros(2)}, tmp_path / "state.safetensors")
    with pytest.raises(SanError, match="the state of a training's optimiser"):
        read_checkpoint(tmp_path / "state.safetensors")


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return getattr, (self.target, "touch")


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_that_is_left_out_is_run(protocol: int, official: State, tmp_path: Path) -> None:
    """Not even what looks harmless: the attribute of a path."""
    torch.save({"model": official, "hook": _Bomb(tmp_path / "x")}, tmp_path / "a.pth", pickle_protocol=2)
    assert read_checkpoint(tmp_path / "a.pth").preset == GOLDEN_TINY
    arrays = {"model": {"a": np.ones(2)}, "hook": _Bomb(tmp_path / "x")}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, protocol))
    with pytest.raises(SanError, match="tensors such as a"):
        read_checkpoint(tmp_path / "a.pkl")
    assert not any(
        getattr(one, "__base__", None) is LeftOut for one in torch.serialization.get_safe_globals()
    )
