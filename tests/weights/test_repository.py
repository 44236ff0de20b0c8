"""Weights in anybody's repository on the hub: which file, at which commit, to the byte."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub

from san_cli.errors import SanError
from san_cli.weights import fetch, repository
from san_cli.weights.checkpoint import read_checkpoint
from san_cli.weights.clip_weights import check_activation
from san_cli.weights.file_hash import weights_sha256
from san_cli.weights.find import find_weights, named_file
from san_cli.weights.hub import OFFICIAL
from san_cli.weights.hub_name import HubName, hub_name


def got(name: str, *, clip: bool = False) -> tuple[Path, list[str]]:
    """A file as a new process gets it, and what was said."""
    repository._resolved.clear()
    said: list[str] = []
    return named_file(name, say=said.append, clip=clip), said


# Names


@pytest.mark.parametrize(
    ("text", "repo", "revision", "file"),
    [
        ("hf:me/san", "me/san", "main", ""),
        ("HF:me/san/", "me/san", "main", ""),
        ("hf://me/san", "me/san", "main", ""),
        ("hf:/me/san", "me/san", "main", ""),  # as a path has it
        ("hf:me/san@v1.0", "me/san", "v1.0", ""),
        ("hf:me/san@v1/a b/x.safetensors", "me/san", "v1", "a b/x.safetensors"),
        ("hf:me/san@refs/pr/3/x.safetensors", "me/san", "refs/pr/3", "x.safetensors"),
        ("hf:me/san@a%2Fb", "me/san", "a/b", ""),
        ("https://huggingface.co/me/san", "me/san", "main", ""),
        ("https:/huggingface.co/me/san/tree/dev", "me/san", "dev", ""),
        ("huggingface.co/me/san/blob/main/x.safetensors", "me/san", "main", "x.safetensors"),
        (
            "https://huggingface.co/me/san/resolve/main/d/x%20y.safetensors?download=true",
            "me/san",
            "main",
            "d/x y.safetensors",
        ),
    ],
)
def test_names_of_files_on_the_hub(text: str, repo: str, revision: str, file: str) -> None:
    assert hub_name(text) == HubName(repo, revision, file)
    assert hub_name(str(hub_name(text))) == HubName(repo, revision, file) or "/" in revision


@pytest.mark.parametrize("text", ["a.pth", "me/san", "/a/b.safetensors", "C:/x.pth", "~/x", "x\0y", "random"])
def test_paths_are_no_names_on_the_hub(text: str) -> None:
    assert hub_name(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "hf:",
            "hf:me",
            "hf:me/san@",
            "hf:me/san/../x",
            "hf:me/../x.safetensors",
            "hf:../x/y",
            "hf:me/san/a\nb",
        ),
        *("https://huggingface.co/datasets/me/san", "https://example.com/x.safetensors", "s3://bucket/x.pth"),
    ],
)
def test_misspelt_names(text: str) -> None:
    with pytest.raises(SanError) as caught:
        hub_name(text)
    assert "hf:OWNER/REPO" in caught.value.hint


def test_a_file_of_that_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hf:me").mkdir()
    Path("hf:me/san").touch()
    assert hub_name("hf:me/san") is None


def test_a_repository_without_its_mark_is_pointed_out(hub: Hub) -> None:
    with pytest.raises(SanError, match="No such file") as caught:
        find_weights("vit-b-16", "me/san", say=print)
    assert "hf:me/san" in caught.value.hint
    assert hub.asked == []


# Files


def test_a_branch_is_pinned_and_kept(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = model.read_bytes()
    there = hub.add("me/san", {"README.md": b"# x", "model.safetensors": content})
    path, said = got("hf:me/san")
    assert path.read_bytes() == content
    assert said[0] == f"hf:me/san is at commit {there.head}"
    assert path.parent.name == there.head and "sha256 is right" in said[-1]
    # Asked once in a process, for the commit alone in the next one, and not at all by its name.
    asked = len(hub.asked)
    assert named_file("hf:me/san", say=print) == path
    assert len(hub.asked) == asked
    assert got("hf:me/san") == (path, [f"hf:me/san is at commit {there.head}"])
    assert len(hub.asked) == asked + 1
    assert got(f"hf:me/san@{there.head}") == (path, [])
    assert len(hub.asked) == asked + 1
    # Without the hub it is what it was.
    hub.refusal = 503
    again, said = got("hf:me/san")
    assert again == path and f"taken at commit {there.head}, as last time" in said[0]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.asked)
    again, said = got("hf:me/san")
    assert again == path and "HF_HUB_OFFLINE" in said[0] and len(hub.asked) == asked
    monkeypatch.delenv("HF_HUB_OFFLINE")
    # A new commit is another file; the old one stays.
    hub.refusal = 0
    there.commit({"model.safetensors": content[:-1] + b"\1"})
    newer, said = got("hf:me/san")
    assert newer != path and there.head in said[0] and path.read_bytes() == content


def test_a_copy_that_huggingface_hub_has_is_used(
    hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a machine without a network, where nothing else tells of it."""
    there = hub.add("me/san", {"model.safetensors": model.read_bytes()})
    folder = tmp_path / "hf/hub/models--me--san"
    blob, copy = (
        folder / f"blobs/{weights_sha256(model)}",
        folder / f"snapshots/{there.head}/model.safetensors",
    )
    for path in (blob, copy, folder / "refs/main"):
        path.parent.mkdir(parents=True)
    blob.write_bytes(model.read_bytes())
    copy.symlink_to(blob)
    (folder / "refs/main").write_text(there.head)
    assert got("hf:me/san")[0] == copy
    shutil.rmtree(tmp_path / "san")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("hf:me/san", f"hf:me/san@{there.head}"):
        assert got(name)[0] == copy
    blob.write_bytes(b"x" * model.stat().st_size)
    with pytest.raises(SanError, match="HF_HUB_OFFLINE is set"):
        got("hf:me/san")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert got("hf:me/san")[0] != copy


def test_of_a_part_of_a_repository_nothing_is_chosen(
    hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What huggingface_hub happened to fetch needn't be the repository's model."""
    folder, commit = tmp_path / "hf/hub/models--me--san", "a" * 40
    blob, copy = folder / f"blobs/{weights_sha256(model)}", folder / f"snapshots/{commit}/ema.safetensors"
    for path in (blob, copy):
        path.parent.mkdir(parents=True)
    blob.write_bytes(model.read_bytes())
    copy.symlink_to(blob)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SanError, match="only ema.safetensors are here"):
        got(f"hf:me/san@{commit}")
    assert got(f"hf:me/san@{commit}/ema.safetensors")[0] == copy


def test_a_damaged_copy_is_fetched_anew_and_other_bytes_are_refused(hub: Hub, model: Path) -> None:
    hub.add("me/san", {"model.safetensors": model.read_bytes()})
    path, _ = got("hf:me/san")
    path.write_bytes(b"x" * model.stat().st_size)
    assert got("hf:me/san")[0].read_bytes() == model.read_bytes()
    path.unlink()
    hub.damaged = True
    with pytest.raises(SanError, match="what came is not the published file"):
        got("hf:me/san")
    assert not path.exists()


def test_a_file_in_git_itself_has_its_sha1(hub: Hub, model: Path) -> None:
    hub.add("me/san", {"a/x y.safetensors": model.read_bytes()}, in_git=True)
    path, said = got("hf:me/san/a/x y.safetensors")
    assert path.read_bytes() == model.read_bytes() and "git sha1 is right" in said[-1]
    asked = len(hub.asked)
    assert got("hf:me/san")[0] == path  # the only one
    assert len(hub.asked) == asked + 1
    path.unlink()
    hub.damaged = True
    with pytest.raises(SanError, match="git sha1"):
        got("hf:me/san")


def test_which_file_it_is(hub: Hub, model: Path) -> None:
    content = model.read_bytes()
    hub.add("me/several", {"a.safetensors": content, "b/b.safetensors": content, "b/c.json": b"{}"})
    with pytest.raises(SanError, match=r"holds a\.safetensors, b/b\.safetensors") as caught:
        got("hf:me/several")
    assert caught.value.hint == "Name one of them: hf:me/several/a.safetensors"
    assert got("hf:me/several/b")[0].read_bytes() == content
    with pytest.raises(SanError, match="no such file") as caught:
        got("hf:me/several/a.safetensor")
    assert "Did you mean a.safetensors?" in caught.value.hint
    hub.add("me/none", {"README.md": b"x"})
    with pytest.raises(SanError, match=r"holds no weights that san reads, but README\.md"):
        got("hf:me/none")


def test_no_pickle_is_fetched_but_the_authors_own(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("me/pickle", {"san.pth": b"PK\3\4 anything"})
    for name in ("hf:me/pickle", "hf:me/pickle/san.pth"):
        with pytest.raises(SanError, match=r"'san\.pth' is a pickle, which can hold a program") as caught:
            got(name)
        assert "san weights convert" in caught.value.hint
    assert not any("resolve" in line for line in hub.asked)
    content = b"PK\3\4 theirs"
    hub.add("Mendel192/san", {"san.pth": content})
    known = replace(OFFICIAL["vit-b-16"], sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(OFFICIAL, "vit-b-16", known)
    assert got("hf:Mendel192/san/san.pth")[0].read_bytes() == content


def test_a_clip_comes_with_what_tells_its_activation(hub: Hub, model: Path) -> None:
    config = json.dumps({"model_cfg": {"embed_dim": 512}}).encode()
    hub.add("lab/clip", {
        "open_clip_config.json": config, "open_clip_model.safetensors": b"of open_clip",
        "model.safetensors": b"of transformers",
    })  # fmt: skip
    path, _ = got("hf:lab/clip", clip=True)
    assert path.name == "open_clip_model.safetensors"
    assert (path.parent / "open_clip_config.json").read_bytes() == config
    with pytest.raises(SanError, match="was trained with plain GELU; small is set to QuickGELU") as caught:
        check_activation(read_checkpoint(model).preset, path, say=print)
    assert "--set clip.quick_gelu=false" in caught.value.hint


def test_each_folder_of_clips_has_what_tells_its_own_activation(hub: Hub) -> None:
    files = {f"{folder}/open_clip_model.safetensors": folder.encode() for folder in "ab"}
    hub.add("lab/clips", files | {"a/open_clip_config.json": b"{}"})
    one, other = (got(f"hf:lab/clips/{folder}", clip=True)[0] for folder in "ab")
    assert (one.parent / "open_clip_config.json").is_file()
    assert not (other.parent / "open_clip_config.json").exists()


def test_the_variable_may_name_a_repository(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("me/san", {"model.safetensors": model.read_bytes()})
    monkeypatch.setenv("SAN_WEIGHTS", "hf:me/san")
    assert find_weights("vit-b-16", None, say=lambda _: None).read_bytes() == model.read_bytes()


# Who may


def test_a_token_goes_to_the_hub_alone(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("me/secret", {"model.safetensors": model.read_bytes()}, private=True)
    with pytest.raises(SanError, match=r"401 \(no such repository, or a private one\)") as caught:
        got("hf:me/secret")
    assert "HF_TOKEN" in caught.value.hint and "No token is set" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.tokens.clear()
    assert got("hf:me/secret")[0].read_bytes() == model.read_bytes()
    assert hub.tokens == [("127.0.0.1", f"Bearer {TOKEN}")] * 2 + [("localhost", "")]


def test_the_token_of_a_login_is_used(hub: Hub, model: Path, tmp_path: Path) -> None:
    hub.add("me/secret", {"model.safetensors": model.read_bytes()}, private=True)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/token").write_text(f"{TOKEN}\n")
    assert got("hf:me/secret")[0].read_bytes() == model.read_bytes()


@pytest.mark.parametrize(
    ("url", "target", "private"),
    [
        ("https://hub.example/x", "/x", True),
        ("http://hub.example/x", "/x", False),
        ("http://localhost:8/x", "/x", True),
        ("http://localhost:8/x", "http://localhost:8/x", False),  # through a proxy
    ],
)
def test_a_token_is_sent_where_nobody_can_read_it(url: str, target: str, private: bool) -> None:
    assert fetch.is_private(url, target) is private


def test_refusals_are_said_in_words(hub: Hub, model: Path) -> None:
    hub.add("me/gated", {"model.safetensors": model.read_bytes()}, gated=True)
    with pytest.raises(SanError, match="gated: its page asks for consent first"):
        got("hf:me/gated")
    with pytest.raises(SanError, match="no such repository"):
        got("hf:me/gone")
    with pytest.raises(SanError, match="no such branch, tag or commit"):
        got("hf:me/gated@v9")
    for status, words in ((429, "too many requests"), (403, "access refused"), (500, "server error")):
        hub.refusal = status
        with pytest.raises(SanError, match=words) as caught:
            got("hf:me/other")
        assert caught.value.hint and caught.value.code == 2


@pytest.mark.parametrize(
    "answer",
    [
        "<html>",
        "[]",
        '{"siblings": 3, "sha": ""}',
        '{"siblings": [], "sha": "../../x"}',
        '{"siblings": [3]}',
        "[" * 9999,
    ],
)
def test_answers_that_are_no_list(answer: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "fetch_small", lambda *_: answer.encode())
    with pytest.raises(SanError, match="not a list of the repository's files"):
        got("hf:me/san")
