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
    *("two\nlines.jpg", " space .jpg", "-dash.jpg", "quote'\".jpg", "100%s.jpg", "🦊.jpg", "café.jpg", "con.jpg"),
    *(os.fsdecode(b"\xff\xfe.jpg"), "x" * 251 + ".jpg", "[ab]*.jpg", "[red]x[bold].jpg", "\x1b[31mred.jpg"),
    *("<script>alert(1)<b>.jpg", "a&b;c$HOME`id`.jpg", "tab\t.jpg", "\u202etxt.jpg", "\x85.jpg"),
]  # fmt: skip


def make_odd_names(folder: Path) -> None:
    """A picture by each of the odd names, one in an odd folder, and three that are hidden."""
    for name in (*ODD_NAMES, "d\n\x1b[32m/x.jpg", ".hidden.jpg", "..jpg.jpg", "..f/y.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image(0, 40, 56), "JPEG"))


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


# The file system


def in_process(
    home: Path, weights: Path, *arguments: object, before: tuple[str, ...] = (), shell: str = ""
) -> subprocess.CompletedProcess[str]:
    """`san predict` in a process of its own; `before` is a command that runs it, `shell` follows it."""
    command = [*before, sys.executable, "-m", "san_cli", "predict", *map(str, arguments)]
    command += ["--weights", str(weights), "--vocab", "voc", "--device", "cpu"]
    return subprocess.run(
        ["bash", "-c", f"{shlex.join(command)} {shell}"],
        env=subprocess_environment(home), capture_output=True, text=True, timeout=100,
    )  # fmt: skip


IS_ROOT = os.geteuid() == 0
# Root may read everything, unless it gives that up.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if IS_ROOT else ()
needs_unprivileged = pytest.mark.skipif(
    IS_ROOT and shutil.which("setpriv") is None, reason="root may read everything"
)


@needs_unprivileged
def test_permissions(photos: Path, tmp_path: Path, tiny_weights: Path, san_home: Path) -> None:
    (photos / "closed").mkdir()
    (photos / "closed.jpg").touch(mode=0)
    for path in (photos / "closed", *photos.rglob("*.jpg")):
        path.chmod(path.stat().st_mode & 0o444 if path.name != "closed" else 0)
    photos.chmod(0o555)
    before = state(photos)
    try:
        ended = in_process(san_home, tiny_weights, photos, "-o", tmp_path / "out", before=UNPRIVILEGED)
        among = in_process(san_home, tiny_weights, photos, "-o", photos / "out", before=UNPRIVILEGED)
    finally:
        (photos / "closed").chmod(0o700)
        photos.chmod(0o700)
    assert ended.returncode == 3
    assert "failed: closed.jpg: permission denied" in ended.stderr
    assert "closed: unreadable folder: permission denied" in ended.stderr
    assert "6 done, 2 failed" in ended.stderr
    assert (among.returncode, "can't be written to" in among.stderr) == (2, True)
    (photos / "closed").chmod(0)
    photos.chmod(0o555)
    assert state(photos) == before
    photos.chmod(0o700)


@needs_unprivileged
def test_folder_of_results_that_is_closed_half_way(
    predict: San, photos: Path, tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    predict(photos, "-o", tmp_path / "whole")
    closed = tmp_path / "out" / "sub"
    closed.mkdir(parents=True, mode=0o555)
    ended = in_process(san_home, tiny_weights, photos, "-o", tmp_path / "out", before=UNPRIVILEGED)
    closed.chmod(0o755)
    assert ended.returncode == 3
    assert "san: can't write to" in ended.stderr
    assert "permission denied" in ended.stderr
    assert predict(photos, "-o", tmp_path / "out").code == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def _can_mount(folder: Path) -> bool:
    command = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


UNSHARE = ("unshare", "--mount") if IS_ROOT else ("unshare", "--mount", "--map-root-user")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no mounts of our own")
def test_a_disk_that_is_really_full(
    predict: San, photos: Path, tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    """A small file system of its own below the folder of the results, made larger for the rerun."""
    make_photos(photos, 16)
    predict(photos, "-o", tmp_path / "whole")
    small = tmp_path / "out" / "sub"
    small.mkdir(parents=True)
    if not _can_mount(small):
        pytest.skip("mounts are not allowed here")
    where = shlex.quote(str(small))
    command = shlex.join([
        sys.executable, "-m", "san_cli", "predict", str(photos), "-o", str(tmp_path / "out"),
        "--weights", str(tiny_weights), "--vocab", "voc", "--device", "cpu", "-q",
    ])  # fmt: skip
    script = (
        f"mount -t tmpfs -o size=24k tmpfs {where}; {command}; echo $?; find {where} -name '.san-tmp*'; "
        f"mount -o remount,size=9M {where}; {command}; echo $?; cp -r {where} {where}-kept"
    )
    ended = subprocess.run(
        [*UNSHARE, "bash", "-c", script],
        env=subprocess_environment(san_home), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.split() == ["3", "0"]
    assert "no space left for the results" in ended.stderr
    small.rmdir()
    (tmp_path / "out" / "sub-kept").rename(small)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_quota_is_a_full_disk(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ended = predict(photos, "-o", tmp_path / "out")
    assert ended.code == 3
    assert "no space left for the results" in ended.err
    assert predict(photos, "-o", tmp_path / "out").code == 0


def test_few_file_descriptors(predict: San, photos: Path, tmp_path: Path) -> None:
    """With too few, the run stops and says so; no image is blamed, and a rerun goes on."""
    predict(photos, "-o", tmp_path / "whole")  # what is imported late is imported now
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    stopped = 0
    for room in range(1, 9):
        used = max(map(int, os.listdir("/dev/fd"))) + 1  # noqa: PTH208
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, hard))
        try:
            ended = predict(photos, "-o", tmp_path / f"out{room}", "--workers", 3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "failed:" not in ended.err
        assert ended.code == 0 or "too many open files" in ended.err
        stopped += ended.code != 0
        assert predict(photos, "-o", tmp_path / f"out{room}").code == 0
        assert tree(tmp_path / f"out{room}") == tree(tmp_path / "whole")
    assert stopped


def test_a_file_system_without_locks(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    assert predict(photos, "-o", tmp_path / "out").code == 0


def disturbed(
    monkeypatch: pytest.MonkeyPatch, name: str, before: object = None, after: object = None
) -> None:
    """Have a function called with the path of one image just before or just after it is read."""
    real = stages.load_image

    def load(path: Path, **options: int) -> LoadedImage:
        if path.name == name and callable(before):
            before(path)
        loaded = real(path, **options)
        if path.name == name and callable(after):
            after(path)
        return loaded

    monkeypatch.setattr(stages, "load_image", load)


def _turn_into_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (Path.unlink, "no such file"),
        (_turn_into_a_pipe, "a named pipe, not a file"),
        (lambda path: path.write_bytes(path.read_bytes()[:700]), "truncated or damaged"),
    ],
    ids=["vanishes", "becomes a pipe", "shrinks"],
)
def test_a_file_that_changes_after_it_was_listed(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    change: object, cause: str, batch: int,
) -> None:  # fmt: skip
    disturbed(monkeypatch, "p02.jpg", before=change)
    ended = predict(photos, "-o", tmp_path / "out", "--batch", batch)
    assert ended.code == 3
    assert f"failed: p02.jpg: {cause}" in ended.err
    assert "5 done, 1 failed" in ended.err


def test_a_file_that_changes_while_it_is_read_is_done_again(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        disturbed(patch, "p02.jpg", after=lambda path: path.write_bytes((photos / "p04.jpg").read_bytes()))
        assert predict(photos, "-o", tmp_path / "out").code == 0
    assert "1 done, 5 done before" in predict(photos, "-o", tmp_path / "out").err
    predict(photos, "-o", tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_clock_that_is_wrong(predict: San, photos: Path, tmp_path: Path) -> None:
    """Times are compared for equality alone."""
    for year, seconds in {1960: -315_619_200, 2100: 4_102_444_800}.items():
        os.utime(photos / "p00.jpg", ns=(seconds * 10**9 + 1, seconds * 10**9 + 1))
        ended = predict(photos, "-o", tmp_path / "out")
        assert ended.code == 0
        assert ("6 done" if year == 1960 else "1 done, 5 done before") in ended.err
        assert "nothing new" in predict(photos, "-o", tmp_path / "out").err


# stdin, stdout, stderr


def test_a_list_from_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").touch()
    leader, follower = os.openpty()
    os.write(leader, b"a.jpg\n\x04")
    said: list[str] = []
    with os.fdopen(follower, "rb") as terminal:
        found = discover(["-"], stdin=terminal, say=said.append)
    os.close(leader)
    assert [image.name for image in found.images] == ["a.jpg"]
    assert said == ["reading the list of images from the terminal; Ctrl-D ends it"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_waiting_for_a_list_can_be_ended(tmp_path: Path, san_home: Path, number: int) -> None:
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "san_cli", "predict", "-", "-o", str(tmp_path / "out")],
        env=subprocess_environment(san_home), stdin=follower, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "reading the list" in process.stderr.readline()
    time.sleep(0.1)  # until it reads
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    os.close(leader)
    os.close(follower)
    assert process.returncode == 130
    assert err.startswith("san: interrupted\n")
    assert not (tmp_path / "out").exists()


def test_a_list_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("san_cli.engine.inputs.LONGEST_LIST", 1000)

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            buffer[:] = (b"y\n" * len(buffer))[: len(buffer)]
            return len(buffer)

    with pytest.raises(SanError, match="the list on stdin is above"):
        discover(["-"], stdin=io.BufferedReader(Endless()), say=print)


@pytest.mark.parametrize(
    ("shell", "code", "lines", "told"),
    [
        (">&-", 3, 0, "san: can't write to standard output: it is closed\n"),
        ("2>&-", 0, 6, ""),
        ("| true", 0, 0, ""),
    ],
)
def test_closed_streams(
    photos: Path, tmp_path: Path, tiny_weights: Path, san_home: Path,
    shell: str, code: int, lines: int, told: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    shell = f"-o {shlex.quote(str(out))} --jsonl -q {shell}; exit ${{PIPESTATUS[0]}}"
    arguments = shlex.join([str(photos), "--weights", str(tiny_weights), "--vocab", "voc", "--device", "cpu"])
    ended = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m san_cli predict {arguments} {shell}"],
        env=subprocess_environment(san_home), capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == code
    assert len(ended.stdout.splitlines()) == lines
    assert ended.stderr.startswith(told)
    assert "Traceback" not in ended.stderr


def test_a_locale_that_knows_ascii_only(tmp_path: Path, tiny_weights: Path, san_home: Path) -> None:
    make_odd_names(tmp_path / "in")
    (tmp_path / "in" / "ß\x1b.jpg").write_bytes(b"broken")
    command = [sys.executable, "-m", "san_cli", "predict", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    command += ["--weights", str(tiny_weights), "--vocab", "voc+斑马+café", "--device", "cpu", "--jsonl"]
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(command, env=subprocess_environment(san_home) | plain, capture_output=True)
    assert ended.returncode == 3
    assert ended.stdout.isascii()
    assert ended.stderr.isascii()
    assert len(json_lines(ended.stdout.decode("ascii"))) == len(ODD_NAMES) + 2
    assert b"failed: \\udcc3\\udc9f\\x1b.jpg: " in ended.stderr
    assert b"Traceback" not in ended.stderr


# The process


@pytest.fixture
def own_signals() -> Iterator[None]:
    """What the program sets is set back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raise_after(monkeypatch: pytest.MonkeyPatch, images: int, number: int) -> None:
    """Have the process get a signal once so many images are journalled."""
    real = Journal.append
    left = [images]

    def append(self: Journal, line: bytes) -> None:
        real(self, line)
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(number)

    monkeypatch.setattr(Journal, "append", append)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, twice: bool
) -> None:
    predict(photos, "-o", tmp_path / "whole")
    number = signal.Signals[name]
    with monkeypatch.context() as patch:
        raise_after(patch, 2, number)
        if twice:  # the second one comes while the threads are waited for
            from concurrent.futures import ThreadPoolExecutor

            real = ThreadPoolExecutor.shutdown

            def shutdown(self: ThreadPoolExecutor, **options: bool) -> None:
                patch.setattr(ThreadPoolExecutor, "shutdown", real)
                real(self, wait=False, cancel_futures=True)
                signal.raise_signal(number)

            patch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
        ended = predict(photos, "-o", tmp_path / "out")
    for thread in threading.enumerate():  # as Python does when it exits
        if thread.name.startswith("san"):
            thread.join()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out" / "predictions.json").exists()
    assert "4 done, 2 done before" in predict(photos, "-o", tmp_path / "out").err
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.usefixtures("own_signals")
def test_nohup(predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise_after(monkeypatch, 2, signal.SIGHUP)
    assert predict(photos, "-o", tmp_path / "out").code == 0


# Weights, device, vocabulary, network: what no other file tries with the program itself


def test_weights_that_are_no_model_of_ours(
    predict: San, photos: Path, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    import torch

    from san_cli.models.checkpoint import read_checkpoint, write_checkpoint

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
        ended = predict(photos, "-o", "out", "--weights", name)
        assert (ended.code, told in ended.err) == (2, True), ended.err
        assert not Path("out").exists()
    ended = predict(photos, "-o", "out", "--model", "vit-l-14")
    assert (ended.code, "holds a tiny model, not vit-l-14" in ended.err) == (2, True)
    half = {name: tensor.half() for name, tensor in ours.state.items()}
    write_checkpoint(dataclasses.replace(ours, state=half), Path("half.safetensors"))
    assert predict(photos, "-o", "out", "--weights", "half.safetensors").code == 0


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
        def do_HEAD(self) -> None:
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Loop)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    own = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    own |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}", "HF_HOME": str(tmp_path / "hf")}
    own |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    if fault == "dead proxy":
        own["http_proxy"] = "http://127.0.0.1:9"
    ended = subprocess.run(
        [sys.executable, "-m", "san_cli", "predict", ".", "--vocab", "voc"], cwd=_one_photo(tmp_path / "in"),
        env=own, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    server.shutdown()
    server.server_close()
    assert ended.returncode == 2
    assert "can't get the weights of vit-b-16" in ended.stderr
    assert ("redirects" if fault == "redirect loop" else "Connection refused") in ended.stderr
    assert "Traceback" not in ended.stderr


def _one_photo(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.jpg").write_bytes(encode(image(0, 40, 56), "JPEG"))
    return folder
