"""Weights and cache files that are something else, claim what isn't so, or were put there by somebody else."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from presets import GOLDEN_TINY
from program import San
from safetensors.torch import save_file
from typer.testing import CliRunner

from san_cli.cli.weights import app, complete_model
from san_cli.engine.text_embeddings import TextCache
from san_cli.errors import SanError
from san_cli.files import temp_path
from san_cli.models.presets import TINY, preset_to_json
from san_cli.weights import cache_dir as cache_module
from san_cli.weights.adapter import read_model
from san_cli.weights.cache_dir import cache_dir
from san_cli.weights.checkpoint import random_checkpoint, read_checkpoint, write_checkpoint
from san_cli.weights.file_hash import rehash, remembered_sha256, weights_sha256
from san_cli.weights.find import find_weights

SMALL = replace(
    GOLDEN_TINY,
    name="small",
    clip=replace(GOLDEN_TINY.clip, layers=2),
    feature_layers=1,
    recognition_layers=1,
    fusion=((0, 0),),
    side_depth=2,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a cache of its own and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "san-home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SAN_WEIGHTS", raising=False)
    return tmp_path


# What a wrong file is


def _zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


def _numpy(path: Path, save: Callable[..., None]) -> None:
    with path.open("wb") as file:
        save(file, np.ones(3))


def _torchscript(path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


def _state(*names: str) -> Callable[[Path], None]:
    return lambda path: torch.save({name: torch.zeros(2) for name in names}, path)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


MMSEG = (
    "image_encoder.patch_embed.projection.weight",
    "decode_head.side_adapter_network.encode_layers.0.ln1.weight",
    "text_encoder.transformer.0.norms.0.weight",
)
WRONG: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "GGUF": ("a.pth", lambda path: path.write_bytes(b"GGUF\3\0\0\0" + b"\0" * 99), "GGUF"),
    "ONNX": ("a.onnx", lambda path: path.write_bytes(b"\x08\x07\x12\x07pytorch" + b"\0" * 99), "ONNX"),
    "HDF5": ("a.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 99), "HDF5"),
    "TFLite": ("a.pth", lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 99), "TensorFlow Lite"),
    "NumPy": ("a.pth", lambda path: _numpy(path, np.save), "NumPy array"),
    "npz": ("a.pth", lambda path: _numpy(path, np.savez), "NumPy arrays"),
    "zip": ("a.pth", lambda path: _zip(path, "san_vit_b_16.pth"), "a zip archive"),
    "gzip": ("a.pth", lambda path: path.write_bytes(b"\x1f\x8b\x08" + b"\0" * 99), "gzip"),
    "tar": ("a.pth", lambda path: path.write_bytes(b"a.pth".ljust(257, b"\0") + b"ustar\0" * 50), "a tar"),
    "JPEG": ("a.pth", lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + b"\0" * 99), "a JPEG image"),
    "text": ("a.pth", lambda path: path.write_text("cat\ndog\ncafé\n" * 99), "it is text"),
    "preset": ("a.safetensors", lambda path: path.write_text(preset_to_json(TINY)), "it is text"),
    "index": (
        "model.safetensors.index.json",
        lambda path: path.write_text('{"metadata": {}, "weight_map": {}}'),
        "the index of a model in several files",
    ),
    "TorchScript": ("a.pth", _torchscript, "TorchScript"),
    "mmseg, three tensors": ("a.pth", _state(*MMSEG), "it has tensors such as clip_visual_extractor.conv1"),
    "mmseg with code": (
        "a.pth",
        lambda path: torch.save({"meta": _Bomb(), "state_dict": dict.fromkeys(MMSEG, torch.zeros(2))}, path),
        "more than tensors (posix.mkdir)",
    ),
    "LoRA": ("a.pth", _state("visual.blocks.0.lora_A.weight"), "a LoRA"),
    "LoRA in safetensors": (
        "a.safetensors",
        lambda path: save_file({"x.lora_up.weight": torch.zeros(2)}, path),
        "a LoRA",
    ),
    "ResNet": ("a.pth", _state("conv1.weight", "layer1.0.conv1.weight", "fc.weight"), "a ResNet"),
    "CLIP": ("a.pth", _state("visual.conv1.weight", "logit_scale"), "a CLIP without a side adapter"),
    "CLIP of transformers": (
        "a.safetensors",
        lambda path: save_file({"vision_model.embeddings.class_embedding": torch.zeros(2)}, path),
        "transformers",
    ),
    "DataParallel": ("a.pth", _state("module.sem_seg_head.x"), "another segmentation"),
    "Mask2Former": ("a.pth", _state("sem_seg_head.x", "backbone.y"), "another segmentation"),
    "unknown": ("a.pth", _state("encoder.one", "encoder.two"), "encoder.one, encoder.two"),
    "optimiser only": ("a.pth", lambda path: torch.save({"lr": 3.0}, path), "no state dict"),
    "a module": ("a.pth", lambda path: torch.save(torch.nn.Linear(2, 2), path), "more than tensors"),
    "code": ("a.pth", lambda path: path.write_bytes(pickle.dumps({"model": _Bomb()})), "more than tensors"),
    "nothing": ("a.pth", lambda path: path.write_bytes(b""), "empty"),
    "a number": ("a.pth", lambda path: torch.save(3, path), "no state dict"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_named(kind: str, tmp_path: Path) -> None:
    name, write, told = WRONG[kind]
    path = tmp_path / name
    write(path)
    with pytest.raises(SanError) as caught:
        read_model(find_weights("vit-b-16", path, say=lambda _: None))
    assert told in caught.value.message and name in caught.value.message
    assert caught.value.hint and caught.value.code == 2
    assert not Path("exploded").exists()
    for arguments in (["verify", name], ["convert", name, "out.safetensors"]):
        done = CliRunner().invoke(app, arguments)
        assert isinstance(done.exception, SanError) or done.exit_code == 2
        assert not Path("exploded").exists() and not Path("out.safetensors").exists()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["model-00001-of-00003.safetensors", "model.safetensors.index.json"], "in several files"),
        (["saved_model.pb"], "TensorFlow"),
        (["my_san.pth"], "It holds 'my_san.pth'"),
        ([], "Looked for"),
    ],
)
def test_a_folder_without_the_model(names: list[str], told: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"x")
    with pytest.raises(SanError, match="no weights of vit-b-16 in folder") as caught:
        find_weights("vit-b-16", folder, say=print)
    assert told in caught.value.hint


@pytest.mark.parametrize("name", ["gone.pth", "gone.safetensors"])
def test_weights_that_have_vanished_are_not_called_damaged(name: str) -> None:
    for read in (read_checkpoint, read_model):
        with pytest.raises(SanError, match=rf"can't read weights '{name}': No such file") as caught:
            read(Path(name))
        assert caught.value.code == 2


def test_missing_weights_are_2_in_every_command(san: San, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32)).save("a.png")
    lost = ("--weights", "lost.pth")
    for command in (
        ("predict", "a.png", "-o", "out", *lost),
        ("eval", "emoji", *lost),
        ("train", "emoji", "--init-from", "lost.pth", "-o", "out"),
        ("weights", "verify", "lost.pth"),
        ("weights", "convert", "lost.pth", "a.safetensors"),
    ):
        ended = san(*command)
        assert (command, ended.code) == (command, 2), ended.err
        assert "lost.pth" in ended.err
        assert "Traceback" not in ended.err


def test_what_works_offline_is_named_where_weights_are_missing(san: San) -> None:
    ended = san("weights", "get", "vit-b-16")
    assert ended.code == 2
    assert "--model tiny" in ended.err and "--weights random" in ended.err


@pytest.mark.parametrize("value", ["~/b.safetensors", "~/folder"])
def test_a_tilde_that_no_shell_has_expanded(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (tmp_path / "b.safetensors", tmp_path / "folder" / "vit-b-16.safetensors"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x80\x02 anything")
    expected = {"~/b.safetensors": "b.safetensors", "~/folder": "folder/vit-b-16.safetensors"}[value]
    assert find_weights("vit-b-16", value, say=print) == tmp_path / expected
    monkeypatch.setenv("SAN_WEIGHTS", value)
    assert find_weights("vit-b-16", None, say=print) == tmp_path / expected


def test_a_variable_that_names_nothing_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAN_WEIGHTS", "lost.pth")
    with pytest.raises(SanError, match=r"lost\.pth") as caught:
        find_weights("vit-b-16", None, say=print)
    assert "$SAN_WEIGHTS" in caught.value.hint


# Headers that claim what isn't so


def _with_header(path: Path, preset: str, **more: str) -> Path:
    save_file({"logit_scale": torch.zeros(())}, path, {"format": "san-1", "preset": preset, **more})
    return path


def _changed(**changes: object) -> str:
    fields = json.loads(preset_to_json(SMALL))
    for name, value in changes.items():
        (fields["clip"] if name in fields["clip"] else fields)[name] = value
    return json.dumps(fields)


@pytest.mark.parametrize(
    "preset",
    [
        _changed(clip_scale=1e300),
        _changed(clip_scale=-1.0),
        _changed(side_depth=10**6),
        _changed(layers=10**6, feature_layers=10**6),
        _changed(width=10**9, heads=1),
        _changed(side_depth=-3),
        _changed(queries="many"),
        _changed(input_size=10**9),
        _changed(image_size=2**40),
        _changed(vocab_size=10**12),
        _changed(name="x" * 10**6),
        _changed(fusion=[[0, 10**9]]),
        _changed(fusion={"0": 1}),
        "[" * 100_000,
        '{"a":' * 100_000,
        "{}",
        "[]",
        "null",
        "3",
        "",
        '{"name": "x", "clip": 3}',
        '{"name": ' + "9" * 5000 + "}",
        "NaN",
        _changed(clip_scale=float("nan")),
        _changed(clip_scale=float("inf")),
    ],
    ids=lambda text: text[:24],
)
def test_a_header_with_an_absurd_preset(preset: str, tmp_path: Path) -> None:
    """One sentence with the file's name, before anything of that size is built."""
    path = _with_header(tmp_path / "absurd.safetensors", preset)
    for read in (read_checkpoint, read_model):
        with pytest.raises(SanError, match=r"absurd\.safetensors") as caught:
            read(path)
        assert caught.value.code == 2
        assert len(caught.value.message) < 1000
    adapter = _with_header(tmp_path / "absurd-adapter.safetensors", preset, format="san-adapter-1")
    with pytest.raises(SanError, match=r"absurd-adapter\.safetensors"):
        read_model(adapter)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"__metadata__":{"format":3}}',
        b'{"__metadata__":[]}',
        b"{}",
        b"null",
        b"\xff" * 64,
        b"",
    ],
    ids=lambda header: repr(header[:24]),
)
@pytest.mark.parametrize("length", ["right", "huge", "zero"])
def test_a_safetensors_header_that_is_none(header: bytes, length: str, tmp_path: Path) -> None:
    stated = {"right": len(header), "huge": 2**63, "zero": 0}[length]
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", stated) + header + b"\0" * 4)
    with pytest.raises(SanError, match=r"odd\.safetensors"):
        read_model(find_weights("vit-b-16", path, say=print))


def test_a_header_that_takes_a_name_of_ours_is_told_of(tmp_path: Path) -> None:
    write_checkpoint(random_checkpoint(replace(SMALL, name="vit-b-16")), tmp_path / "a.safetensors")
    said: list[str] = []
    read_model(tmp_path / "a.safetensors", say=said.append)
    assert len(said) == 1 and "calls its model vit-b-16" in said[0] and "clip" in said[0]
    write_checkpoint(random_checkpoint(SMALL), tmp_path / "b.safetensors")
    read_model(tmp_path / "b.safetensors", say=pytest.fail)


def test_a_pth_of_unknown_origin_leaves_its_gelu_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from san_cli.models import presets
    from san_cli.weights.official import official_name

    monkeypatch.setitem(presets.PRESETS, "small", SMALL)
    state = random_checkpoint(SMALL).state
    torch.save({official_name(name, SMALL): tensor for name, tensor in state.items()}, "mine.pth")
    said: list[str] = []
    assert read_model(Path("mine.pth"), say=said.append).preset == SMALL
    assert len(said) == 1 and "which GELU" in said[0] and "quick_gelu" in said[0]
    read_model(Path("mine.pth"), SMALL, say=pytest.fail)  # whoever names a preset says it
    done = CliRunner().invoke(app, ["convert", "mine.pth", "mine.safetensors"], catch_exceptions=False)
    assert done.exit_code == 0 and "which GELU" in done.stderr
    read_model(Path("mine.safetensors"), say=lambda text: None if "calls" in text else pytest.fail(text))


# san weights


def test_the_list_says_what_was_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("SAN_WEIGHTS", str(folder))
    write_checkpoint(random_checkpoint(SMALL), folder / "vit-b-16.safetensors")
    torch.save({"a": torch.zeros(2)}, folder / "san_vit_large_14.pth")
    (folder / "tiny.safetensors").write_bytes((folder / "vit-b-16.safetensors").read_bytes()[:-1] + b"!")
    done = CliRunner().invoke(app, ["list"], catch_exceptions=False)
    checks = {line.split()[0]: line.split() for line in done.stdout.splitlines()[1:]}
    assert "sealed" in checks["vit-b-16"]
    assert "unknown" in checks["vit-l-14"]
    assert "damaged" in checks["tiny"]
    assert CliRunner().invoke(app, ["verify", "tiny"]).exit_code == 2


def test_get_says_that_it_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAN_WEIGHTS", str(tmp_path))
    write_checkpoint(random_checkpoint(SMALL), tmp_path / "tiny.safetensors")
    done = CliRunner().invoke(app, ["get", "tiny"], catch_exceptions=False)
    assert done.stdout == f"{tmp_path / 'tiny.safetensors'}\n"
    assert "is here already" in done.stderr


@pytest.mark.parametrize("command", ["get", "path"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("VIT-B-16", "Did you mean vit-b-16?"),
        ("vit-b16", "Did you mean vit-b-16?"),
        ("vit-b-32", "Did you mean vit-b-16?"),
        ("TINY", "Did you mean tiny?"),
        ("resnet50", "Known models: vit-b-16"),
        ("san_vit_b_16.pth", "--weights FILE"),
        ("weights/a.safetensors", "--weights FILE"),
    ],
)
def test_a_name_that_is_none(command: str, name: str, told: str) -> None:
    done = CliRunner().invoke(app, [command, name])
    assert isinstance(done.exception, SanError)
    assert told in done.exception.hint and done.exception.code == 2


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("a.safetensors", "a.safetensors", "exists already"),
        ("a.safetensors", "folder", "is a folder"),
        ("a.safetensors", "folder/", "is a folder"),
        ("a.safetensors", "b.pth", "must end in .safetensors"),
        ("a.safetensors", "b", "must end in .safetensors"),
        ("a.safetensors", "nowhere/b.safetensors", "no folder"),
        ("a.safetensors", "/proc/b.safetensors", "can't be writ"),
        ("folder", "b.safetensors", "it is a folder"),
    ],
)
def test_conversions_that_are_refused(source: str, target: str, told: str) -> None:
    write_checkpoint(random_checkpoint(SMALL), Path("a.safetensors"))
    Path("folder").mkdir()
    before = Path("a.safetensors").read_bytes()
    done = CliRunner().invoke(app, ["convert", source, target])
    assert isinstance(done.exception, SanError)
    assert told in done.exception.message and done.exception.code == 2
    assert Path("a.safetensors").read_bytes() == before
    assert sorted(path.name for path in Path().iterdir() if path.name != "san-home") == [
        "a.safetensors",
        "folder",
    ]


def test_leftovers_of_a_killed_conversion_are_swept() -> None:
    write_checkpoint(random_checkpoint(SMALL), Path("a.safetensors"))
    own = temp_path(Path())
    dead = Path(own.name.replace(f"-{os.getpid()}-", "-999999999-"))
    deep = Path("deep") / dead.name
    deep.parent.mkdir()
    for path in (own, dead, deep):
        path.write_bytes(b"half")
    done = CliRunner().invoke(app, ["convert", "a.safetensors", "b.safetensors"], catch_exceptions=False)
    assert done.exit_code == 0
    assert (own.exists(), dead.exists(), deep.exists()) == (True, False, True)


def test_names_are_completed() -> None:
    assert complete_model("vit") == ["vit-b-16", "vit-l-14"]
    assert complete_model("x") == []


# The caches


class _OtherUser:
    """`os` for an account that isn't the owner of the files here."""

    def __getattr__(self, name: str) -> object:
        return (lambda: 4242) if name == "getuid" else getattr(os, name)


def test_entries_that_were_swapped_are_computed_again(tmp_path: Path) -> None:
    cache = TextCache(tmp_path, "a" * 64, ["{}"], "cpu")
    cat, dog = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    cache.put("cat", cat)
    cache.put("dog", dog)
    assert np.array_equal(cache.get("cat"), cat)
    one, other = cache._path("cat"), cache._path("dog")
    (tmp_path / "x").write_bytes(one.read_bytes())
    one.write_bytes(other.read_bytes())
    other.write_bytes((tmp_path / "x").read_bytes())
    assert cache.get("cat") is None and cache.get("dog") is None
    elsewhere = TextCache(tmp_path, "b" * 64, ["{}"], "cpu")  # another model's entry of the same word
    cache.put("cat", cat)
    elsewhere.folder.mkdir()
    elsewhere._path("cat").write_bytes(cache._path("cat").read_bytes())
    assert elsewhere.get("cat") is None


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "huge", "device", "another user's"])
def test_what_is_no_entry_of_a_cache_is_passed_over(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "a.pth"
    weights.write_bytes(b"one")
    digest = rehash(weights)
    (memo,) = (tmp_path / "san-home/sha256").iterdir()
    cache = TextCache(tmp_path / "san-home", "a" * 64, ["{}"], "cpu")
    cache.put("cat", np.ones(3, np.float32))
    for path in (memo, cache._path("cat")):
        if kind != "another user's":
            path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "huge":
            path.touch()
            os.truncate(path, 1 << 40)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif os.getuid() == 0:
            os.chown(path, 4242, 4242)
        else:
            monkeypatch.setattr(cache_module, "os", _OtherUser())
    assert remembered_sha256(weights) is None and cache.get("cat") is None
    assert weights_sha256(weights) == digest
    cache.put("cat", np.ones(3, np.float32))
    assert (cache.get("cat") is None) == (kind == "folder" or isinstance(cache_module.os, _OtherUser))


def test_leftovers_in_the_text_cache_are_swept(tmp_path: Path) -> None:
    cache = TextCache(tmp_path, "a" * 64, ["{}"], "cpu")
    cache.folder.mkdir(parents=True)
    own = temp_path(cache.folder).name
    (cache.folder / own.replace(f"-{os.getpid()}-", "-999999999-")).write_bytes(b"half")
    cache.put("cat", np.ones(3, np.float32))
    assert len(list(cache.folder.iterdir())) == 1


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of an account without a home."""
    monkeypatch.delenv("SAN_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    shared = tmp_path / "tmp"
    shared.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(shared))

    def no_home() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", no_home)
    return shared


def test_an_account_without_a_home_has_a_folder_of_its_own(homeless: Path) -> None:
    folder = cache_dir()
    assert folder == homeless / f"san-cache-{os.getuid()}" == cache_dir()
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["file", "link", "open to all", "another user's"])
def test_a_planted_cache_folder_is_not_used(
    kind: str, homeless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = homeless / f"san-cache-{os.getuid()}"
    if kind == "file":
        planted.write_bytes(b"")
    elif kind == "link":
        (homeless / "real").mkdir(mode=0o700)
        planted.symlink_to(homeless / "real")
    else:
        planted.mkdir(mode=0o700)
        planted.chmod(0o777 if kind == "open to all" else 0o700)
    if kind == "another user's":
        if os.getuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(planted, 4242, 4242)
    folder = cache_dir()
    assert folder == homeless / f"san-cache-{os.getuid()}-1" == cache_dir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert kind == "file" or list(planted.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "unwritable", "relative", "pipe"])
def test_odd_cache_folders_cost_only_time(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "odd"
    if kind == "file":
        place.write_bytes(b"")
    elif kind == "pipe":
        os.mkfifo(place)
    monkeypatch.setenv("SAN_HOME", {"unwritable": "/proc/san", "relative": "odd"}.get(kind, str(place)))
    weights = tmp_path / "a.pth"
    weights.write_bytes(b"one")
    assert weights_sha256(weights) == weights_sha256(weights)
    assert (remembered_sha256(weights) is not None) == (kind == "relative")
    cache = TextCache(cache_dir(), "a" * 64, ["{}"], "cpu")
    cache.put("cat", np.ones(3, np.float32))
    assert (cache.get("cat") is not None) == (kind == "relative")
