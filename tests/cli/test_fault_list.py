"""Faults of docs/faults.md with the program itself: images, names, vocabularies, weights, network."""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import pytest
from odd_files import (
    FORMATS,
    ODD_NAMES,
    SUFFIXES,
    damages,
    encode,
    json_lines,
    make_odd_names,
    odd_images,
    state,
)
from PIL import Image
from program import San, hub_environment
from recipe import image

from san_cli.datasets.images import BadImage, load_image_bytes, silence_decoders

# Images: bytes


def test_damaged_bytes_of_nine_formats(predict: San, tmp_path: Path) -> None:
    chance = random.Random(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for kind in FORMATS:
        data = encode(image(0, 40, 56), kind)
        for damage, damaged in damages(data, chance).items():
            suffix = SUFFIXES.get(kind, f".{kind.lower()}")
            if damage == "suffix":
                suffix = ".png" if kind != "PNG" else ".jpg"
            (folder / f"{kind}-{damage}{suffix}").write_bytes(damaged)
    before = state(folder)
    ended = predict(folder, "-o", tmp_path / "out", "--jsonl", "--save", "json")
    lines = json_lines(ended.out)
    assert ended.code == 3
    assert len(lines) == len(before) == 9 * 12
    failed = {path for path, line in lines.items() if "error" in line}
    certain = ("empty", "one-byte", "header", "cut-10", "cut-50", "cut-90", "cut-99", "text")
    assert {path for path in lines if path.rpartition(".")[0].endswith(certain)} <= failed
    assert not {path for path in failed if "-suffix" in path}
    assert sum(line.startswith("failed: ") for line in ended.err.splitlines()) == len(failed)
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_bytes())["failures"]) == len(failed)
    assert state(folder) == before


def test_decoders_print_nothing_themselves(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff and Pillow's log would, without the name of the file."""
    silence_decoders()
    for data in (encode(image(0, 40, 56), "TIFF", compression=kind) for kind in ("tiff_lzw", "jpeg")):
        for place in range(8, len(data), 7):
            damaged = bytearray(data)
            damaged[place : place + 4] = b"\xff\x00\xff\x08"
            with contextlib.suppress(BadImage):
                load_image_bytes(bytes(damaged), max_pixels=10**6)
    assert capfd.readouterr() == ("", "")


# Images: content


def test_odd_content_is_segmented(predict: San, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    images = odd_images()
    refused = {"100-to-1.png": encode(image(0, 4, 400)), "bomb.ppm": b"P6\n40000 25000\n255\n" + bytes(9)}
    for name, data in (images | refused).items():  # each in a folder of its own, as some share a stem
        (folder / name.replace(".", "_")).mkdir()
        (folder / name.replace(".", "_") / name).write_bytes(data)
    before = state(folder)
    ended = predict(folder, "-o", tmp_path / "out", "--jsonl", "--save", "overlay,labels,json,html")
    assert ended.code == 3
    lines = {Path(path).name: line for path, line in json_lines(ended.out).items()}
    assert set(lines) == set(images) | set(refused)
    assert {name for name, line in lines.items() if "error" in line} == set(refused)
    assert "narrow" in str(lines["100-to-1.png"]["error"])
    assert "the limit of 178,956,970" in str(lines["bomb.ppm"]["error"])
    for name in images:
        size = lines[name]["width"], lines[name]["height"]
        turned = name.startswith("turn") and name[5] in "5678"
        asked = {"1x1.png": (1, 1), "1x32.png": (32, 1), "32x1.png": (1, 32)}
        assert size == asked.get(name, (40, 56) if turned else (56, 40))
        outputs = lines[name]["outputs"]
        assert isinstance(outputs, dict)
        with Image.open(outputs["labels"]) as labels:
            assert labels.size == size
    assert state(folder) == before


# Names


def test_odd_names_get_results(predict: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_odd_names(Path("in"))
    before = state(Path("in"))
    options = ["--save", "overlay,labels,json,html", "--jsonl"]
    ended = predict("in", "-o", "out", *options)
    assert ended.code == 0
    assert len(json_lines(ended.out)) == len(ODD_NAMES) + 1
    assert len(list(Path("out").rglob("*.labels.png"))) == len(ODD_NAMES) + 1
    assert "\x1b" not in ended.out + ended.err
    json.loads(Path("out/predictions.json").read_bytes().decode("ascii"))
    assert "nothing new" in predict("in", "-o", "out", *options).err
    named = [f"in/{name}" for name in (*ODD_NAMES, ".hidden.jpg", "..jpg.jpg")]
    ended = predict(*named, "-o", "named", *options)
    assert (ended.code, len(ended.out.splitlines())) == (0, len(named))
    listed = b"\0".join(map(os.fsencode, named))
    ended = predict("-", "-0", "-o", "listed", *options, stdin=listed)
    assert (ended.code, len(ended.out.splitlines())) == (0, len(named))
    assert state(Path("in")) == before


def test_a_name_with_a_dash_stands_after_two(
    san: San, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-q.jpg").write_bytes(encode(image(0, 40, 56), "JPEG"))
    assert san("predict", "--weights", tiny_weights, "--vocab", "voc", "--", "-q.jpg").code == 0
    assert Path("san-out/-q.labels.png").is_file()


@pytest.mark.parametrize(
    "pair",
    [
        *(("a.jpg", "A.jpg"), ("a.jpg", "a.png"), ("sub/a.jpg", "SUB/a.jpg"), ("d /a.jpg", "d/a.jpg")),
        (unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")),
    ],
    ids=ascii,
)
def test_names_that_some_disk_takes_for_one(predict: San, tmp_path: Path, pair: tuple[str, str]) -> None:
    for name in pair:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    ended = predict(tmp_path / "in", "-o", tmp_path / "out", "--weights", "not-there.pth")
    assert ended.code == 2
    assert "inputs would write the same output" in ended.err
    assert not (tmp_path / "out").exists()


def test_paths_over_the_systems_limit(predict: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input's path is just below 4,096 bytes, that of its results above."""
    monkeypatch.chdir(tmp_path)
    data = encode(image(0, 40, 56), "JPEG")
    Path("in").mkdir()
    Path("in/a.jpg").write_bytes(data)
    at = os.open("in", os.O_RDONLY)
    for _ in range(19):
        os.mkdir("d" * 200, dir_fd=at)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    with os.fdopen(os.open("x.jpg", os.O_WRONLY | os.O_CREAT, dir_fd=at), "wb") as file:
        file.write(data)
    os.close(at)
    ended = predict("in", "-o", f"{'o' * 200}/{'p' * 200}")
    assert ended.code == 3
    assert "its results can't be written: file name too long" in ended.err
    assert "1 done, 1 failed" in ended.err


# Weights, device, vocabulary, network: what no other file tries with the program itself


def test_weights_that_are_no_model_of_ours(
    predict: San, photos: Path, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    import torch

    from san_cli.weights.checkpoint import read_checkpoint, write_checkpoint

    monkeypatch.chdir(tmp_path)
    ours = read_checkpoint(tiny_weights)
    torch.save({f"module.{name}": tensor for name, tensor in ours.state.items()}, "parallel.pth")
    torch.save({"visual.conv1.weight": torch.zeros(8, 3, 16, 16), "logit_scale": torch.zeros(())}, "clip.pth")
    infinite = {**ours.state, "logit_scale": torch.tensor(float("inf"))}
    write_checkpoint(dataclasses.replace(ours, state=infinite), Path("infinite.safetensors"))
    Path("appended.safetensors").write_bytes(tiny_weights.read_bytes() + b"x")
    for name, told in {
        "parallel.pth": "not a checkpoint of a known SAN",
        "clip.pth": "not a checkpoint of a known SAN",
        "infinite.safetensors": "logit_scale has values that are not finite",
        "appended.safetensors": "is damaged: its sha256 is",
    }.items():
        ended = predict(photos, "-o", tmp_path / "out", "--weights", name)
        assert (ended.code, told in ended.err) == (2, True), ended.err
        assert not Path("out").exists()
    ended = predict(photos, "-o", tmp_path / "out", "--model", "vit-l-14")
    assert (ended.code, "holds a small model, not vit-l-14" in ended.err) == (2, True)
    half = {name: tensor.half() for name, tensor in ours.state.items()}
    write_checkpoint(dataclasses.replace(ours, state=half), Path("half.safetensors"))
    assert predict(photos, "-o", tmp_path / "out", "--weights", "half.safetensors").code == 0


def test_no_cuda(predict: San, photos: Path, tmp_path: Path) -> None:
    import torch

    device = f"cuda:{torch.cuda.device_count()}"
    ended = predict(photos, "-o", tmp_path / "out", "--device", device)
    assert ended.code == 2
    assert f"device '{device}' was asked for" in ended.err
    assert "--device cpu" in ended.err


@pytest.mark.parametrize(
    ("vocabulary", "names"),
    [
        ("🦊+斑马+حصان", ["🦊", "斑马", "حصان"]),
        ("caf\u00e9+cafe\u0301+cat", ["caf\u00e9", "cat"]),
        ("a|a+cat", ["a", "cat"]),
        ("x " * 99 + "+cat", [("x " * 99).strip(), "cat"]),  # over CLIP's 77 tokens
        ("[red]x[/red]+<b>&", ["[red]x[/red]", "<b>&"]),
        ("background+cat", ["background", "cat"]),
    ],
    ids=["scripts", "NFC and NFD", "twice itself", "too long", "markup", "background"],
)
def test_odd_vocabularies(
    predict: San, photos: Path, tmp_path: Path, vocabulary: str, names: list[str]
) -> None:
    ended = predict(
        photos / "p00.jpg",
        "-o",
        tmp_path / "out",
        "--vocab",
        vocabulary,
        "--save",
        "overlay,labels,json,html",
    )
    assert ended.code == 0
    assert [row["name"] for row in json.loads((tmp_path / "out" / "classes.json").read_bytes())] == names


@pytest.mark.parametrize("fault", ["redirect loop", "dead proxy"])
def test_network(tmp_path: Path, fault: str) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Loop(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Loop)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    own = hub_environment()
    own |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}", "HF_HOME": str(tmp_path / "hf")}
    own |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    if fault == "dead proxy":
        own["http_proxy"] = "http://127.0.0.1:9"
    ended = subprocess.run(
        [sys.executable, "-m", "san_cli", "weights", "get", "vit-b-16"], cwd=tmp_path,
        env=own, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    server.shutdown()
    server.server_close()
    assert ended.returncode == 2
    assert "can't get the weights of vit-b-16" in ended.stderr
    assert ("redirects" if fault == "redirect loop" else "Connection refused") in ended.stderr
    assert "Traceback" not in ended.stderr


# The list itself


def test_the_list_names_tests_that_exist() -> None:
    root = Path(__file__).resolve().parents[2]
    named = set(re.findall(r"`(test_\w+)`", (root / "docs" / "faults.md").read_text("utf-8")))
    sources = "\n".join(path.read_text("utf-8") for path in sorted((root / "tests").rglob("test_*.py")))
    assert len(named) > 80
    assert {name for name in named if f"def {name}(" not in sources} == set()
