"""Uploads of one's own weights to a hub, a training's best model, and the commands that take names on the hub."""

import json
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, Hub
from program import San
from safetensors.torch import save_file

from san_cli.errors import SanError
from san_cli.train.plan import Model
from san_cli.train.start import with_files
from san_cli.weights import repository
from san_cli.weights.adapter import write_adapter
from san_cli.weights.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from san_cli.weights.file_hash import weights_sha256
from san_cli.weights.find import find_weights, named_file


@pytest.fixture
def writer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who may write, and no Xet, which only the real hub speaks."""
    import huggingface_hub.constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def pushed(hub: Hub, san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> San:
    """`san weights …` with the caches of this test."""

    def run(*arguments: object) -> object:
        monkeypatch.setenv("SAN_HOME", str(tmp_path / "san"))
        repository._resolved.clear()
        return san("weights", *arguments)

    return run  # type: ignore[return-value]


@pytest.mark.usefixtures("writer")
@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # huggingface_hub's own
def test_what_is_pushed_is_what_is_loaded(hub: Hub, pushed: San, model: Path) -> None:
    ended = pushed("push", model, "hf:me/new", "--private", "--license", "mit")
    assert ended.code == 0, ended.err
    there = hub.repositories["me/new"]
    assert there.private and ended.out.strip() == f"hf:me/new@{there.head}"
    assert there.commits[there.head].keys() == {"model.safetensors", "README.md"}
    card = there.commits[there.head]["README.md"].decode()
    assert card.startswith('---\nlicense: "mit"\n') and "--weights hf:me/new " in card
    path = named_file(ended.out.strip(), say=print)
    assert weights_sha256(path) == weights_sha256(model)
    found, expected = read_checkpoint(path), read_checkpoint(model)
    assert all(torch.equal(found.state[name], tensor) for name, tensor in expected.state.items())
    # Again: the card is its owner's by now.
    there.commit({"README.md": b"mine"})
    ended = pushed("push", model, "hf:me/new")
    assert ended.code == 0 and "card that hf:me/new has stays" in ended.err
    assert there.commits[there.head]["README.md"] == b"mine"
    ended = pushed("push", model, "hf:me/other", "--license", "mine")
    assert (ended.code, "must be one of" in ended.err) == (2, True)
    there.private = False
    ended = pushed("push", model, "hf:me/new", "--private")
    assert (ended.code, "is public, and --private was asked for" in ended.err) == (2, True)


@pytest.mark.usefixtures("writer")
def test_pickles_are_converted_before(hub: Hub, pushed: San, model: Path, tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in read_checkpoint(model).state.items()}
    save_file(state, tmp_path / "theirs.safetensors")
    ended = pushed("push", tmp_path / "theirs.safetensors", "hf:me/theirs")
    assert (ended.code, "is not a checkpoint of a known SAN" in ended.err) == (2, True)
    assert hub.repositories == {}


@pytest.fixture
def training(tmp_path: Path, model: Path) -> Path:
    """A training's folder: two checkpoints, adapters alone, and a best model with its scores."""
    folder, checkpoint = tmp_path / "run", read_checkpoint(model)
    for step in (1, 2):
        (folder / f"checkpoints/step-0000000{step}").mkdir(parents=True)
        write_adapter(checkpoint, folder / f"checkpoints/step-0000000{step}/weights.safetensors")
    row = {"mIoU": 61.5, "pACC": 80.25, "mACC": 70.0, "images": 12, "iteration": 2}
    metadata = {"trained_on": "own", "iterations": "2", "evaluation": json.dumps(row)}
    write_checkpoint(Checkpoint(checkpoint.preset, checkpoint.state, metadata), folder / "best.safetensors")
    (folder / "settings.json").write_text(json.dumps({"data": {"classes": 7, "images": 40}}))
    return folder


def test_a_training_is_its_best_model(hub: Hub, pushed: San, training: Path) -> None:
    ended = pushed("push", training, "hf:me/run", "--dry-run")
    assert ended.code == 0 and hub.asked == []
    assert "taking best.safetensors, the best model" in ended.err and "licence unknown" in ended.err
    for words in (
        "| classes in training | 7 classes |",
        "| 61.50 | 70.00 | 80.25 |",
        "labels of its owner's",
    ):
        assert words in ended.out
    said: list[str] = []
    assert find_weights("vit-b-16", training, say=said.append) == training / "best.safetensors"
    assert said == [f"'{training}': taking best.safetensors, the best model so far of that training"]
    (training / "best.safetensors").unlink()
    last = training / "checkpoints/step-00000002"
    for folder in (training, last):
        (last / "state.safetensors").touch()
        assert find_weights("vit-b-16", folder, say=said.append) == last / "weights.safetensors"
    assert "that training's last checkpoint" in said[1] and "that checkpoint's weights" in said[2]
    ended = pushed("push", training, "hf:me/run", "--dry-run")
    assert ended.code == 0 and "side adapter alone" in ended.out
    (training / "model.safetensors").write_bytes((last / "weights.safetensors").read_bytes())
    assert find_weights("vit-b-16", training, say=said.append) == training / "model.safetensors"


def test_pushes_that_can_not_be(
    hub: Hub, pushed: San, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "no token is set" in pushed("push", model, "hf:me/new").err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "a.pth").write_bytes(b"<html>")
    (tmp_path / "b.safetensors").write_bytes(model.read_bytes()[:-1])
    for words, told in (
        ((model, "hf:me/new/x.safetensors"), "is more than a repository"),
        ((model, "hf:me/new@dev"), "is more than a repository"),
        ((model, "me"), "names no file on the hub"),
        ((tmp_path / "a.pth", "hf:me/new"), "web page"),
        ((tmp_path / "gone", "hf:me/new"), "No such file"),
        ((tmp_path / "b.safetensors", "hf:me/new"), "is not a readable safetensors file"),
    ):
        ended = pushed("push", *words)
        assert (ended.code, told in ended.err, "Traceback" in ended.err) == (2, True, False), ended.err
    hub.refusal = 403
    ended = pushed("push", model, "hf:me/new")
    assert (ended.code, "the token may not write there" in ended.err) == (2, True), ended.err
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    assert "a token is sent over https alone" in pushed("push", model, "hf:me/new").err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in pushed("push", model, "hf:me/new").err
    assert hub.repositories == {}


def test_commands_take_names_on_the_hub(hub: Hub, pushed: San, model: Path, tmp_path: Path) -> None:
    hub.add("me/san", {"model.safetensors": model.read_bytes()})
    ended = pushed("path", "hf:me/san")
    assert (ended.code, "san weights get hf:me/san" in ended.err) == (2, True)
    ended = pushed("get", "hf:me/san")
    path = Path(ended.out.strip())
    assert (ended.code, path.read_bytes()) == (0, model.read_bytes())
    asked = len(hub.asked)
    assert pushed("path", "hf:me/san").out == ended.out
    assert len(hub.asked) == asked
    assert pushed("verify", "hf:me/san").out.startswith(f"ok  {weights_sha256(model)}")
    ended = pushed("convert", "hf:me/san", tmp_path / "half.safetensors", "--half")
    assert (ended.code, (tmp_path / "half.safetensors").is_file()) == (0, True)


def test_a_training_starts_from_the_hub_or_another_training(hub: Hub, model: Path, training: Path) -> None:
    hub.add("me/san", {"model.safetensors": model.read_bytes()})
    hub.add(
        "lab/clip",
        {"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"x", "a.safetensors": b""},
    )
    said: list[str] = []
    for asked, found in (
        (training, training / "best.safetensors"),
        (Path("hf:me/san"), named_file("hf:me/san", say=print)),
        (Path("https://huggingface.co/me/san"), named_file("hf:me/san", say=print)),
        (Path("gone.pth"), Path("gone.pth")),
    ):
        assert with_files(Model(init_from=asked), say=said.append).init_from == found
    assert "taking best.safetensors" in said[0]
    clip = with_files(Model(clip_weights="hf:lab/clip"), say=said.append).clip_file
    assert clip is not None and clip.name == "open_clip_model.safetensors"
    assert with_files(Model(clip_weights="random"), say=said.append).clip_weights == "random"
    with pytest.raises(SanError, match="no file and no model 'me/san'") as caught:
        with_files(Model(init_from=Path("me/san")), say=said.append)
    assert "--init-from hf:me/san" in caught.value.hint


def test_pictures_are_segmented_with_a_model_on_the_hub(
    hub: Hub, predict: San, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run records the file's hash; the next one needs no hub."""
    hub.add("me/san", {"model.safetensors": model.read_bytes()})
    words = (
        "predict",
        photos,
        "--weights",
        "hf:me/san",
        "--vocab",
        "cat",
        "--limit",
        1,
        "-o",
        tmp_path / "out",
    )
    first = predict(*words[1:])
    assert first.code == 0, first.err
    assert first.err.count(f"hf:me/san is at commit {hub.repositories['me/san'].head}") == 1
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(weights_sha256(model).encode() in content for content in written)
    repository._resolved.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = predict(*words[1:])
    assert again.code == 0 and "as last time" in again.err
