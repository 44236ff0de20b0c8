"""Weights are what we name, found where we say, and a network's faults end in one sentence."""

import hashlib
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from program import San, hub_environment
from safetensors.numpy import save_file
from typer.testing import CliRunner
from weights_server import serve

from san_cli.cli.weights import app
from san_cli.errors import SanError
from san_cli.models.presets import TINY, preset_to_json
from san_cli.weights import find as weights
from san_cli.weights import hub
from san_cli.weights.file_hash import UNSTATED, write_stated_hash
from san_cli.weights.find import find_weights, weights_here
from san_cli.weights.hub import OFFICIAL, OfficialFile

CONTENT = bytes(range(256)) * 1500
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG = hashlib.sha256(CONTENT[:-1] + b"\0").hexdigest()
B16 = OFFICIAL["vit-b-16"]
FAKE = OfficialFile("vit-b-16", B16.repo, B16.revision, B16.filename, len(CONTENT), SHA256)


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights anywhere, caches in a temporary folder, no network: a socket is an error in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "san-home"))
    monkeypatch.delenv("SAN_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "bundled")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(OFFICIAL, "vit-b-16", FAKE)


def _write(path: Path, content: bytes = b"PK\x03\x04 some weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _find(preset_name: str = "vit-b-16", named: str | Path | None = None) -> tuple[Path, list[str]]:
    said: list[str] = []
    return find_weights(preset_name, named, say=said.append), said


def _no_download(*args: object, **kwargs: object) -> Path:
    raise SanError("would download")


# --- the pinned files and the message that tells how to get them


def test_pinned_files_are_whole_hashes_of_the_two_published_models() -> None:
    assert list(OFFICIAL) == ["vit-b-16", "vit-l-14"]
    for official in (B16, OFFICIAL["vit-l-14"]):
        assert official.model in OFFICIAL
        assert official.repo == "Mendel192/san"
        assert bytes.fromhex(official.sha256)
        assert len(official.sha256) == 64
        assert len(official.revision) == 40
        assert official.url.endswith(f"/{official.revision}/{official.filename}")


def test_ways_to_get_hold_every_exact_command() -> None:
    text = hub.ways_to_get(B16)
    for needed in (
        "san weights get vit-b-16",
        f"curl -L -o san_vit_b_16.pth {B16.url}",
        "weights/san_vit_b_16.pth",
        "--weights FILE",
        "SAN_WEIGHTS=FILE",
        "HF_ENDPOINT=",
        "--model tiny",
        "--weights random",
        B16.sha256,
        "698678283 bytes",
    ):
        assert needed in text


# --- the order of looking


def test_lookup_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "download", _no_download)
    with pytest.raises(SanError, match="would download"):
        _find()
    cached = _put_in_hf_cache(tmp_path, CONTENT)
    assert _find()[0] == cached
    bundled = _write(tmp_path / "bundled" / "vit-b-16.safetensors")
    assert _find()[0] == bundled
    local = _write(Path("weights/san_vit_b_16.pth"))
    assert _find()[0] == local
    monkeypatch.setenv("SAN_WEIGHTS", str(_write(tmp_path / "elsewhere" / "vit-b-16.safetensors").parent))
    assert _find()[0] == tmp_path / "elsewhere" / "vit-b-16.safetensors"
    monkeypatch.setenv("SAN_WEIGHTS", str(_write(tmp_path / "any.pth")))
    assert _find()[0] == tmp_path / "any.pth"
    assert _find(named=local)[0] == local
    assert _find(named="weights")[0] == local


@pytest.mark.parametrize("name", ["san_vit_b_16.safetensors", "vit-b-16.safetensors", "san_vit_b_16.pth"])
def test_every_accepted_name_only_for_its_own_preset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "download", _no_download)
    path = _write(Path("weights") / name)
    assert _find("vit-b-16")[0] == path
    with pytest.raises(SanError, match="would download"):
        _find("vit-l-14")
    with pytest.raises(SanError, match="no weights of tiny found"):
        _find("tiny")


def test_bundled_tiny_needs_no_configuration(tmp_path: Path) -> None:
    path = _write(tmp_path / "bundled" / "tiny.safetensors")
    assert _find("tiny") == (path, [])


def test_san_weights_folder_without_the_model_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("empty").mkdir()
    monkeypatch.setenv("SAN_WEIGHTS", "empty")
    path = _write(Path("weights/vit-b-16.safetensors"))
    assert _find()[0] == path


def test_weights_that_are_not_here_come_with_the_way_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.json"
    own.write_text(preset_to_json(replace(TINY, name="own")))
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, way in (
        ("vit-b-16", "san weights get vit-b-16"),
        ("tiny", "install it again"),
        (str(own), "Put own.safetensors into"),
    ):
        with pytest.raises(SanError, match="no weights of .* on this machine") as caught:
            weights_here(name)
        assert way in str(caught.value.hint)


@pytest.mark.parametrize("origin", ["option", "environment"])
def test_a_named_file_that_is_missing_is_an_error_not_a_download(
    origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "download", _no_download)
    monkeypatch.setenv("SAN_WEIGHTS", "gone.pth")
    with pytest.raises(SanError, match=r"can't read weights 'gone\.pth': No such file") as caught:
        _find(named="gone.pth" if origin == "option" else None)
    assert caught.value.hint


def test_a_named_folder_without_the_model_lists_the_names_looked_for() -> None:
    Path("folder").mkdir()
    with pytest.raises(SanError, match=r"no weights of vit-b-16 in folder 'folder'") as caught:
        _find(named="folder")
    assert "san_vit_b_16.pth" in caught.value.hint


# --- what is no weights file, and damage


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:d616\nsize 698678283\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>404</html>", "web page"),
        (b"\xef\xbb\xbf\n <HTML><body>", "web page"),
        (b'<?xml version="1.0"?><Error/>', "web page"),
        (b'{"error":"Repository not found"}', "error message"),
    ],
)
def test_files_that_only_look_like_weights(content: bytes, what: str) -> None:
    path = _write(Path("weights/san_vit_b_16.pth"), content)
    for named in (None, path):
        with pytest.raises(SanError, match=rf"holds no weights: it is .*{what}"):
            _find(named=named)


def test_a_fifo_is_refused_without_waiting_for_its_writer() -> None:
    os.mkfifo("pipe.pth")
    with pytest.raises(SanError, match="not a file"):
        _find(named="pipe.pth")


@pytest.mark.parametrize("name", ["loop.pth", "x" * 300, "a\0b"])
def test_unreadable_names_are_one_sentence(name: str) -> None:
    Path("loop.pth").symlink_to("loop.pth")
    with pytest.raises(SanError, match="can't read weights"):
        _find(named=name)


def test_a_damaged_copy_of_the_published_file_is_refused_under_any_name() -> None:
    flipped = bytearray(CONTENT)
    flipped[1000] ^= 4
    path = _write(Path("my-copy.pth"), bytes(flipped))
    with pytest.raises(SanError, match="damaged") as caught:
        _find(named=path)
    assert SHA256 in caught.value.message
    assert hashlib.sha256(flipped).hexdigest() in caught.value.message


def test_another_model_under_the_official_name_is_used_and_said() -> None:
    path = _write(Path("weights/san_vit_b_16.pth"))
    found, said = _find()
    assert found == path
    assert len(said) == 1
    assert "not the published file" in said[0]


# --- the Hugging Face cache


def _put_in_hf_cache(tmp_path: Path, content: bytes, revision: str = B16.revision) -> Path:
    repo = tmp_path / "hf" / "hub" / "models--Mendel192--san"
    blob = _write(repo / "blobs" / SHA256, content)
    link = repo / "snapshots" / revision / B16.filename
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(blob)
    return link


def test_a_copy_that_another_program_cached_under_any_revision_is_used(tmp_path: Path) -> None:
    link = _put_in_hf_cache(tmp_path, CONTENT, revision="0d24a51" + "0" * 33)
    os.mkfifo(tmp_path / "hf/hub/models--Mendel192--san/refs")  # nothing there is read
    assert _find() == (link, [])


@pytest.mark.parametrize(
    "name", ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HOME"]
)
def test_the_cache_is_where_huggingface_hub_has_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = {"HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub", "HOME": ".cache/huggingface/hub"}
    for other in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, "~/here" if name.startswith("H") and name != "HOME" else str(tmp_path / "here"))
    hub_cache = tmp_path / "here" / inside.get(name, "")
    copy = _write(hub_cache / "models--Mendel192--san/snapshots" / B16.revision / B16.filename, CONTENT)
    assert _find() == (copy, [])


@pytest.mark.parametrize("damage", ["flipped", "truncated", "appended"])
def test_a_damaged_cached_copy_is_not_used(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"flipped": b"\1" + CONTENT[1:], "truncated": CONTENT[:-1], "appended": CONTENT + b"\0"}[damage]
    _put_in_hf_cache(tmp_path, bad)
    monkeypatch.setattr(weights, "download", lambda official, say: Path("fresh"))
    found, said = _find()
    assert found == Path("fresh")
    assert len(said) == 1
    assert "is not used" in said[0]
    assert SHA256 in said[0]
    assert hashlib.sha256(bad).hexdigest() in said[0]


# --- the network: a hub on this machine, asked by a process of its own

_RUN = """
import sys
from san_cli.weights import hub
from san_cli.weights import find as weights
from pathlib import Path
size, sha256 = int(sys.argv[1]), sys.argv[2]
hub.OFFICIAL["vit-b-16"] = hub.OfficialFile(
    "vit-b-16", "Mendel192/san", hub.OFFICIAL["vit-b-16"].revision, "san_vit_b_16.pth", size, sha256)
weights.SHIPPED = Path("bundled")
sys.argv[1:] = sys.argv[3:]
from san_cli.cli.main import main
main()
"""


def _san(endpoint: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    home = str(Path.cwd())
    repo = str(Path(weights.__file__).parents[2])
    settled = {"HF_ENDPOINT": endpoint, "HF_HOME": f"{home}/hf", "HOME": home, "PYTHONPATH": repo}
    settled["SAN_HOME"] = f"{home}/san-home"
    return subprocess.run(
        [sys.executable, "-c", _RUN, str(FAKE.size), FAKE.sha256, *arguments],
        env=hub_environment() | settled | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _assert_one_message(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    """Exit 2, nothing on stdout, one error with the ways out and no traceback on stderr."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("san: ") == 1
    for text in (
        *expected,
        "san weights get vit-b-16",
        "curl -L -o san_vit_b_16.pth https://huggingface.co/",
    ):
        assert text in done.stderr


def _downloads() -> list[str]:
    """What lies in the folder of downloads; nothing else may have been written."""
    assert not Path("hf").exists()
    return sorted(path.name for path in Path("san-home/downloads").iterdir())


def test_download_then_from_the_cache_with_the_hub_gone() -> None:
    with serve(CONTENT) as fake:
        done = _san(fake.endpoint, "weights", "get", "vit-b-16")
        assert done.returncode == 0, done.stderr
    path = Path(done.stdout.removesuffix("\n"))
    assert path.read_bytes() == CONTENT
    assert f"downloading san_vit_b_16.pth ({len(CONTENT)} bytes) from {fake.endpoint}" in done.stderr
    assert "sha256 is right" in done.stderr
    assert fake.asked.count("GET /cdn") == 1
    assert fake.asked[0] == f"GET /{B16.path}"
    assert _downloads() == ["san_vit_b_16.pth"]
    for offline in ({}, {"HF_HUB_OFFLINE": "1"}):
        again = _san(fake.endpoint, "weights", "get", "vit-b-16", **offline)
        assert (again.returncode, again.stdout) == (0, done.stdout)
        assert again.stderr.splitlines() == ["vit-b-16 is here already; nothing was downloaded"]


@pytest.mark.parametrize("fault", ["reset once", "reset once, no parts"])
def test_a_connection_cut_half_way_is_taken_up_again(fault: str) -> None:
    with serve(CONTENT, fault) as fake:
        done = _san(fake.endpoint, "weights", "get", "vit-b-16")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    assert fake.asked.count("GET /cdn") == 2
    assert fake.received[-1]["range"] == f"bytes={len(CONTENT) // 2}-"
    assert _downloads() == ["san_vit_b_16.pth"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("401", "it answered 401 (not authorised)"),
        ("403", "it answered 403 (access refused)"),
        ("404", "it answered 404 (no such file)"),
        ("429", "it answered 429 (too many requests)"),
        ("500", "it answered 500 (server error)"),
        ("login page", "the answer is a web page"),
        ("another file", f"it offers another file ({len(CONTENT) + 1} bytes, expected {len(CONTENT)})"),
        ("truncated", f"it offers another file ({len(CONTENT) // 2} bytes, expected {len(CONTENT)})"),
        ("page for the bytes", "the answer is a web page"),
        ("500 for the bytes", "it answered 500 (server error)"),
        ("wrong bytes", f"what came is not the published file (sha256 {WRONG}, expected {SHA256})"),
    ],
)
def test_a_hub_that_refuses_is_asked_once(fault: str, expected: str) -> None:
    with serve(CONTENT, fault) as fake:
        _assert_one_message(_san(fake.endpoint, "weights", "get", "vit-b-16"), expected, fake.endpoint)
    assert len(fake.asked) == len(set(fake.asked))
    assert [name for name in _downloads() if Path("san-home/downloads", name).stat().st_size] == []


def test_connection_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        _assert_one_message(_san(endpoint, "weights", "get", "vit-b-16"), "Connection refused", endpoint)


def test_unknown_host() -> None:
    _assert_one_message(
        _san("http://no-such-host.invalid", "weights", "get", "vit-b-16"), "no-such-host.invalid"
    )


def test_a_hub_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = _san(endpoint, "weights", "get", "vit-b-16", HF_HUB_DOWNLOAD_TIMEOUT="1")
    _assert_one_message(done, "timed out")


def test_offline_switch_asks_nobody() -> None:
    with serve(CONTENT) as fake:
        done = _san(fake.endpoint, "weights", "get", "vit-b-16", HF_HUB_OFFLINE="1")
    _assert_one_message(done, "HF_HUB_OFFLINE is set")
    assert fake.asked == []


def test_a_damaged_cached_copy_is_made_up_for(tmp_path: Path) -> None:
    cached = _put_in_hf_cache(tmp_path, CONTENT[:-1])
    with serve(CONTENT) as fake:
        done = _san(fake.endpoint, "weights", "get", "vit-b-16")
    assert done.returncode == 0, done.stderr
    assert "is not used" in done.stderr
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    assert cached.read_bytes() == CONTENT[:-1]  # not ours


# --- san weights


def test_list_shows_what_is_here_and_what_is_not() -> None:
    _write(Path("weights/san_vit_b_16.pth"), CONTENT)
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["MODEL", "FILE", "SIZE", "SHA256", "CHECK", "WHERE"]
    assert [
        "vit-b-16",
        "san_vit_b_16.pth",
        f"{len(CONTENT)}",
        "bytes",
        SHA256[:12],
        "published",
        "weights/san_vit_b_16.pth",
    ] in [line.split() for line in lines]
    large = next(line for line in lines if line.startswith("vit-l-14"))
    assert large.split()[1:] == ["san_vit_large_14.pth", "1822", "MB", "dd605f75f8ec", "-", "not", "here"]


def test_list_marks_a_damaged_file() -> None:
    Path("weights").mkdir()
    path = Path("weights/vit-b-16.safetensors")
    save_file({"a": np.zeros(3)}, path, {"sha256": UNSTATED})
    write_stated_hash(path)
    path.write_bytes(path.read_bytes() + b"!")
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split()[-2:] == ["damaged", str(path)]


def test_path_prints_the_path_alone_or_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["path", "vit-b-16"])
    assert isinstance(done.exception, SanError)
    assert done.exception.hint == "Download them: san weights get vit-b-16"
    assert done.stdout == ""
    local = _write(Path("weights/vit-b-16.safetensors"))
    assert CliRunner().invoke(app, ["path", "vit-b-16"]).stdout == f"{local.absolute()}\n"
    monkeypatch.setenv("SAN_WEIGHTS", "/nowhere/at/all.pth")
    gone = CliRunner().invoke(app, ["path", "vit-b-16"])
    assert isinstance(gone.exception, SanError)
    assert gone.stdout == ""
    unknown = CliRunner().invoke(app, ["path", "vit-b-61"])
    assert isinstance(unknown.exception, SanError)
    assert "unknown model 'vit-b-61'" in unknown.exception.message


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_verify_and_convert_run_no_code_from_a_pickle() -> None:
    Path("bomb.pth").write_bytes(pickle.dumps({"model": _Bomb()}))
    for arguments in (["verify", "bomb.pth"], ["convert", "bomb.pth", "out.safetensors"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code != 0
        assert not Path("exploded").exists()
        assert not Path("out.safetensors").exists()


def test_verify_goes_on_after_a_bad_file() -> None:
    """Exit 3 where some are good, is tested below; 2 where the weights, all of them, are bad."""
    _write(Path("a.pth"), b"<html>")
    _write(Path("b.pth"), b"")
    done = CliRunner().invoke(app, ["verify", "a.pth", "b.pth"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "web page" in done.stderr
    assert "empty" in done.stderr


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a.pth", "a.pt", "must end in .safetensors"),
        ("a.pth", "there.safetensors", "exists already"),
        ("a.pth", "nowhere/a.safetensors", "no folder 'nowhere'"),
        ("gone.pth", "a.safetensors", "can't read weights 'gone.pth'"),
        ("a.pth", "a.safetensors", "holds no weights: it is empty"),
    ],
)
def test_convert_refuses(source: str, target: str, message: str) -> None:
    _write(Path("a.pth"), b"")
    _write(Path("there.safetensors"), b"precious")
    done = CliRunner().invoke(app, ["convert", source, target])
    assert isinstance(done.exception, SanError)
    assert message in done.exception.message
    assert Path("there.safetensors").read_bytes() == b"precious"


def test_convert_and_verify_a_small_official_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from san_cli.models import presets
    from san_cli.weights.checkpoint import random_checkpoint, read_checkpoint
    from san_cli.weights.official import official_name

    clip = presets.ClipShape(
        width=32, layers=2, heads=2, patch_size=16, image_size=64, embed_dim=16,
        text_width=16, text_layers=1, text_heads=2,
    )  # fmt: skip
    small = presets.Preset(
        name="small", clip=clip, input_size=64, feature_layers=1, recognition_layers=1,
        fusion=((0, 0), (1, 1)), side_width=24, side_depth=2, side_heads=2, queries=4, decoder_width=16,
    )  # fmt: skip
    monkeypatch.setitem(presets.PRESETS, "small", small)
    state = random_checkpoint(small).state
    torch.save({"model": {official_name(name, small): tensor for name, tensor in state.items()}}, "small.pth")
    done = CliRunner().invoke(app, ["convert", "small.pth", "small.safetensors"], catch_exceptions=False)
    assert done.stdout == f"{Path('small.safetensors').absolute()}\n"
    converted = read_checkpoint(Path("small.safetensors"))
    assert converted.preset == small
    assert all(torch.equal(converted.state[name], tensor) for name, tensor in state.items())
    done = CliRunner().invoke(
        app, ["convert", "small.safetensors", "half.safetensors", "--half"], catch_exceptions=False
    )
    assert done.stdout == f"{Path('half.safetensors').absolute()}\n"
    halved = read_checkpoint(Path("half.safetensors")).state
    assert all(torch.equal(halved[name], tensor.half()) for name, tensor in state.items())
    done = CliRunner().invoke(app, ["verify", "small.pth", "small.safetensors"], catch_exceptions=False)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok", "ok"]
    assert "nothing to compare it with yet" in done.stdout
    Path("bad.pth").write_bytes(b"")
    assert CliRunner().invoke(app, ["verify", "small.pth", "bad.pth"]).exit_code == 3


def test_where_no_model_is_asked_for_the_way_out_names_none(san: San, tmp_path: Path) -> None:
    for command in (
        ("convert", tmp_path / "no.pth", tmp_path / "b.safetensors"),
        ("verify", tmp_path / "no.pth"),
    ):
        ended = san("weights", *command)
        assert (ended.code, "no.pth" in ended.err, "san weights list" in ended.err) == (2, True, True)
        assert "--model" not in ended.err and "--weights" not in ended.err
