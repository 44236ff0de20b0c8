"""Faults of docs/faults.md that no other file tests, for real: the program itself, real files, pipes and signals."""

import errno
import fcntl
import io
import json
import os
import random
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import San, make_photos, subprocess_environment, tree
from PIL import Image, ImageCms
from recipe import image

from san_cli.datasets.images import LoadedImage
from san_cli.engine import stages
from san_cli.engine.inputs import discover
from san_cli.engine.journal import Journal
from san_cli.errors import SanError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")
SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and bytes of everything below a folder: what a run must leave alone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = status.st_mode, status.st_mtime_ns, data
    return found


def encode(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def json_lines(out: str) -> dict[str, dict[str, object]]:
    """The lines of --jsonl by path; no path twice."""
    lines = [json.loads(line) for line in out.splitlines()]
    assert len({line["path"] for line in lines}) == len(lines)
    return {line["path"]: line for line in lines}


# Images: bytes


def damages(data: bytes, chance: random.Random) -> dict[str, bytes]:
    """The twelve damages of the list; the last two are none, but for the name."""
    bit = bytearray(data)
    bit[chance.randrange(16)] ^= 1 << chance.randrange(8)
    bits, block = bytearray(data), bytearray(data)
    for _ in range(4):
        bits[chance.randrange(64, len(data))] ^= 1 << chance.randrange(8)
    start = chance.randrange(len(data) // 2)
    block[start : start + 512] = bytes(len(data[start : start + 512]))
    cuts = {f"cut-{percent}": data[: len(data) * percent // 100] for percent in (10, 50, 90, 99)}
    return {
        "empty": b"", "one-byte": data[:1], "header": data[:24], **cuts,
        "bit": bytes(bit), "bits": bytes(bits), "block": bytes(block), "text": b"not a picture\n", "suffix": data,
    }  # fmt: skip


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


# Images: content


def odd_images() -> dict[str, bytes]:
    """Every kind of content in the list that isn't huge, by a name that says what comes of it."""
    photo = Image.fromarray(image(0, 40, 56))
    grey, other = photo.convert("L"), photo.rotate(180)
    deep = np.asarray(grey).astype(np.uint16) * 200
    floats = np.asarray(grey).astype(np.float32) / 255
    holes = floats.copy()
    holes[3, 4:9] = np.nan, np.inf, -np.inf, 1e38, -1e38
    see_through = photo.convert("RGBA")
    see_through.putalpha(grey)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    images = {
        "1x1.png": encode(photo.resize((1, 1))),
        "1x32.png": encode(photo.resize((32, 1))),
        "32x1.png": encode(photo.resize((1, 32))),
        "grey-16.png": encode(deep),
        "grey-16.tif": encode(deep, "TIFF"),
        "grey-32.tif": encode(deep.astype(np.int32) * 1000, "TIFF"),
        "float-nan.tif": encode(holes, "TIFF"),
        "one-bit.png": encode(photo.convert("1")),
        "palette-transparent.png": encode(photo.quantize(8), transparency=3),
        "rgba.png": encode(see_through),
        "la.png": encode(see_through.convert("LA")),
        "cmyk.jpg": encode(photo.convert("CMYK"), "JPEG"),
        "cmyk.tif": encode(photo.convert("CMYK"), "TIFF"),
        "lab.tif": encode(ImageCms.profileToProfile(photo, ImageCms.createProfile("sRGB"),
                          ImageCms.createProfile("LAB"), outputMode="LAB"), "TIFF"),
        "broken-exif.jpg": encode(photo, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "icc.jpg": encode(photo, "JPEG", icc_profile=profile),
        "broken-icc.png": encode(photo, icc_profile=b"no profile"),
        "animated.gif": encode(photo, "GIF", save_all=True, append_images=[other]),
        "animated.webp": encode(photo, "WEBP", save_all=True, append_images=[other]),
        "animated.png": encode(photo, save_all=True, append_images=[other]),
        "pages.tif": encode(photo, "TIFF", save_all=True, append_images=[other]),
        "several.jpg": encode(photo, "MPO", save_all=True, append_images=[other]),
    }  # fmt: skip
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        images[f"turn-{turn}.jpg"] = encode(photo, "JPEG", exif=exif)
    return images


def test_odd_content_is_segmented(predict: San, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    images = odd_images()
    for name, data in images.items():
        (folder / name.replace(".", "-", name.count(".") - 1)).write_bytes(data)
    refused = {"100-to-1.png": encode(image(0, 4, 400)), "bomb.ppm": b"P6\n40000 25000\n255\n" + bytes(9)}
    for name, data in refused.items():
        (folder / name).write_bytes(data)
    # Same stems with different suffixes would collide, so each file gets a folder of its own.
    for path in list(folder.iterdir()):
        (folder / path.name.replace(".", "_")).mkdir()
        path.rename(folder / path.name.replace(".", "_") / path.name)
    before = state(folder)
    ended = predict(folder, "-o", tmp_path / "out", "--jsonl", "--save", "overlay,labels,json,html")
    assert ended.code == 3
    lines = {Path(path).name: line for path, line in json_lines(ended.out).items()}
    assert set(lines) == set(images) | set(refused)
    assert {name for name, line in lines.items() if "error" in line} == set(refused)
    assert "narrow" in str(lines["100-to-1.png"]["error"])
    assert "40000 × 25000 pixels are more than the limit" in str(lines["bomb.ppm"]["error"])
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


ODD_NAMES = [
    *("two\nlines.jpg", " space .jpg", "-dash.jpg", "quote'\".jpg", "100%s.jpg", "🦊.jpg", "café.jpg", "..jpg.jpg"),
    *(os.fsdecode(b"\xff\xfe.jpg"), "x" * 251 + ".jpg", "[ab]*.jpg", "[red]x[bold].jpg", "\x1b[31mred.jpg"),
    *("<script>alert(1)<b>.jpg", "a&b;c$HOME`id`.jpg", "tab\t.jpg", "\u202etxt.jpg", "\x85.jpg", "con.jpg"),
]  # fmt: skip


def test_odd_names_get_results(predict: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = encode(image(0, 40, 56), "JPEG")
    for folder in ("in", "in/d\n\x1b[32m", "in/..f"):
        Path(folder).mkdir()
    for name in (*ODD_NAMES, "d\n\x1b[32m/x.jpg"):
        Path("in", name).write_bytes(data)
    for hidden in (".hidden.jpg", "..f/y.jpg"):
        Path("in", hidden).write_bytes(data)
    before = state(Path("in"))
    options = ["--save", "overlay,labels,json,html", "--jsonl"]
    ended = predict("in", "-o", "out", *options)
    assert ended.code == 0
    assert len(json_lines(ended.out)) == len(ODD_NAMES) + 1
    assert len(list(Path("out").rglob("*.labels.png"))) == len(ODD_NAMES) + 1
    assert "\x1b" not in ended.out + ended.err
    json.loads(Path("out/predictions.json").read_bytes().decode("ascii"))
    assert "nothing new" in predict("in", "-o", "out", *options).err
    assert state(Path("in")) == before
    for name in ODD_NAMES:  # named one by one, after "--" as any command wants it
        assert predict("--limit", "1", "-o", "one", "--save", "none", "--overwrite", "--", f"in/{name}").code == 0
    monkeypatch.chdir("in")
    ended = predict("-", "-0", "-o", "../listed", *options, stdin=b"\0".join(map(os.fsencode, ODD_NAMES)))
    assert (ended.code, len(ended.out.splitlines())) == (0, len(ODD_NAMES))


