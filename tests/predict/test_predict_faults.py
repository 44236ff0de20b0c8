"""Faults of inputs, disk, memory and the other end of a pipe: each has its message and its exit code."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from program import San, make_photos, subprocess_environment, tree

from san_cli.engine.segmenter import Segmenter
from san_cli.predict.pipeline import Stages
from san_cli.runs.journal import Journal, Line


def test_bad_files_among_good_ones(predict: San, photos: Path, tmp_path: Path) -> None:
    predict(photos, "-o", tmp_path / "good")
    good = {name: data for name, data in tree(tmp_path / "good").items() if name.endswith((".jpg", ".png"))}
    whole = (photos / "p00.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(b"")
    (photos / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "p01.png").write_bytes(b"text")
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(photos / "pipe.jpg")
    ended = predict(photos, "-o", tmp_path / "out")
    assert ended.code == 3
    assert sorted(line.split(":")[1].strip() for line in ended.err.splitlines() if line.startswith("failed")) == [
        "a.jpg", "b.jpg", "gone.jpg", "p01.png", "pipe.jpg",
    ]  # fmt: skip
    found = tree(tmp_path / "out")
    assert {name: data for name, data in found.items() if name.endswith((".jpg", ".png"))} == good
    document = json.loads(found["predictions.json"])
    assert [row["file_name"] for row in document["failures"]] == [
        "a.jpg", "b.jpg", "gone.jpg", "p01.png", "pipe.jpg",
    ]  # fmt: skip
    assert len(document["images"]) == 6


def test_bad_files_in_batches(predict: San, photos: Path, tmp_path: Path) -> None:
    make_photos(photos, 12)
    for name in ("p00.jpg", "p06.jpg", "sub/p05.jpg"):  # headers that promise a size that isn't there
        (photos / name).write_bytes((photos / name).read_bytes()[:-400])
    ended = predict(photos, "-o", tmp_path / "out", "--batch", 4, "--workers", 3, "--jsonl")
    assert ended.code == 3
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["path"] for line in lines] == sorted(line["path"] for line in lines)
    assert [line["path"] for line in lines if "error" in line] == ["p00.jpg", "p06.jpg", "sub/p05.jpg"]


def test_fail_fast_stops(predict: San, photos: Path, tmp_path: Path) -> None:
    (photos / "p02.jpg").write_bytes(b"broken")
    ended = predict(photos, "-o", tmp_path / "out", "--fail-fast")
    assert ended.code == 3
    assert "stopped at the first failure" in ended.err
    assert not (tmp_path / "out" / "predictions.json").exists()
    missing = predict(
        photos, tmp_path / "no.jpg", "-o", tmp_path / "none", "--fail-fast", "--weights", "no.pth"
    )
    assert missing.code == 3
    assert not (tmp_path / "none").exists()


def test_nothing_usable(predict: San, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert predict(tmp_path / "in", "-o", tmp_path / "out").code == 4
    (tmp_path / "in" / "x.jpg").write_bytes(b"broken")
    assert predict(tmp_path / "in", "-o", tmp_path / "out").code == 4


def test_collisions_are_found_before_the_model_is_looked_for(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    (photos / "P00.png").write_bytes((photos / "p00.jpg").read_bytes())
    ended = predict(photos, "-o", tmp_path / "out", "--weights", "not-there.pth")
    assert ended.code == 2
    assert "would write the same output" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--save", "mask"], "--save knows no 'mask'"),
        (["--vocab", "ade15"], "ade150"),
        (["--vocab", "voc", "--show", "zebra"], "zebra"),
        (["--templates", "vildd"], "vild"),
        (["--shard", "3/2"], "--shard"),
        (["--shard", "1/2", "--overwrite"], "--shard"),
        (["--batch", "0"], "batch"),
        (["--min-score", "inf"], "--min-score"),
        (["--min-score", "nan"], "--min-score"),
        (["--min-score", "-1"], "--min-score"),
        (["-o", "-"], "-o names a folder"),
        (["--weights", "not-there.pth"], "not-there.pth"),
        (["--model", "vit-b"], "vit-b-16"),
        (["--device", "tpu"], "tpu"),
        (["--precision", "fp8"], "fp8"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = predict(photos, *options)
    assert ended.code == 2
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert sorted(os.listdir(tmp_path)) == ["photos"]  # noqa: PTH208


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["gone.jpg"], 4, "gone.jpg"),
        (["photos", "--weights", "not-there.pth"], 2, "not-there.pth"),
        (["photos", "--weights", "photos/p00.jpg"], 2, "photos/p00.jpg"),
        (["photos", "--device", "tpu"], 2, "tpu"),
        (["photos", "--device", "cuda:99"], 2, "cuda:99"),
        (["photos", "--precision", "fp8"], 2, "fp8"),
        (["photos", "--precision", "fp16"], 2, "fp16"),
        (["photos", "--model", "vit-b"], 2, "vit-b"),
    ],
)
def test_a_folder_of_another_run_hides_no_other_mistake(
    predict: San, photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(photos.parent)
    out = photos.parent / "out"
    predict("photos", "-o", out, "--limit", 1, "--save", "labels")
    before = tree(out)
    ended = predict(*arguments, "-o", out, "--vocab", "cat,dog")
    assert ended.code == code
    assert told in ended.err
    assert "other settings" not in ended.err
    assert tree(out) == before
    assert "other settings" in predict("photos", "-o", out, "--vocab", "cat,dog").err


@pytest.mark.parametrize("name", ["out.png", "masks.JPG", "predictions.json", "report.html"])
def test_output_by_the_name_of_a_file(predict: San, photos: Path, tmp_path: Path, name: str) -> None:
    ended = predict(photos / "p00.jpg", "-o", tmp_path / name)
    assert ended.code == 2
    assert name in ended.err
    assert not (tmp_path / name).exists()
    (tmp_path / name).mkdir()
    assert predict(photos / "p00.jpg", "-o", tmp_path / name).code == 0


def test_output_that_can_not_be_a_folder(predict: San, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        ended = predict(photos, "-o", output, "--weights", "not-there.pth")
        assert ended.code == 2
        assert "is not a folder" in ended.err
    ended = predict(photos, "-o", photos, "--weights", "not-there.pth")
    assert ended.code == 2
    assert "among the images" in ended.err
    inside = predict(photos, "-o", photos / "results")
    again = predict(photos, "-o", photos / "results")
    assert (inside.code, again.code) == (0, 0)
    assert "nothing new, 6 done before" in again.err


def test_results_never_leave_the_folder_through_a_link(predict: San, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    ended = predict(photos, "-o", tmp_path / "out")
    assert ended.code == 3
    assert "leads out of the folder" in ended.err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_two_runs_in_one_folder(predict: San, photos: Path, tmp_path: Path) -> None:
    predict(photos, "-o", tmp_path / "out")
    with (tmp_path / "out" / ".san" / "lock").open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        ended = predict(photos, "-o", tmp_path / "out")
    assert ended.code == 2
    assert "another san predict is writing to" in ended.err
    assert predict(photos, "-o", tmp_path / "out").code == 0


@pytest.mark.parametrize("name", ["run.json", "lock", "journal", "journal-1-of-2"])
def test_a_pipe_or_a_folder_in_the_place_of_a_file_of_ours(
    predict: San, photos: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--limit", 1)
    path = out / ".san" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    ended = predict(photos, "-o", out, "--limit", 1)
    assert (ended.code, name in ended.err) == (2, True)
    path.unlink()
    path.mkdir()
    ended = predict(photos, "-o", out, "--limit", 1)
    assert (ended.code, name in ended.err) == (2, True)


def test_settings_nested_too_deeply(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--limit", 1)
    (out / ".san" / "run.json").write_bytes(b"[" * 200_000)
    ended = predict(photos, "-o", out, "--limit", 1)
    assert (ended.code, "run.json" in ended.err) == (2, True)
    assert predict(photos, "-o", out, "--limit", 1, "--overwrite").code == 0


def test_folder_that_is_removed_under_a_run(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = Journal.append, tmp_path / "out"

    def append(journal: Journal, line: bytes) -> Line:
        found = real(journal, line)
        shutil.rmtree(out, ignore_errors=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        ended = predict(photos, "-o", out)
    assert (ended.code, "was removed or moved" in ended.err) == (3, True)
    shutil.rmtree(out, ignore_errors=True)  # what a thread wrote meanwhile
    assert predict(photos, "-o", out).code == 0


class _FullDisk:
    """Lets so many writes pass, then says that the disk is full, wherever it stands in."""

    def __init__(self, room: int, real: object, code: int = errno.ENOSPC) -> None:
        self.room, self.real, self.code = room, real, code

    def __call__(self, *arguments: object) -> object:
        self.room -= 1
        if self.room < 0:
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*arguments)  # type: ignore[operator]


@pytest.mark.parametrize("call", ["fsync", "write", "replace"])
def test_full_disk_stops_the_run_and_a_rerun_goes_on(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    predict(photos, "-o", tmp_path / "whole")
    for room in (0, 2, 5, 14):
        out = tmp_path / f"out-{room}"
        with monkeypatch.context() as patch:
            if call == "replace":
                full = _FullDisk(room, Path.replace)
                patch.setattr(Path, "replace", lambda *arguments, full=full: full(*arguments))
            else:
                patch.setattr(
                    os, call, _FullDisk(min(room, 5) if call == "write" else room, getattr(os, call))
                )
            ended = predict(photos, "-o", out)
        assert ended.code == 3
        assert "no space left for the results" in ended.err
        assert "run the same command again" in ended.err
        assert not list(out.rglob(".san-tmp-*"))
        assert predict(photos, "-o", out).code == 0
        assert tree(out) == tree(tmp_path / "whole")


def test_trouble_with_one_name_fails_one_image(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from san_cli.predict import pipeline

    real = pipeline.write_results

    def write(output: Path, name: str, *arguments: object) -> object:
        if name == "p02.jpg":
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return real(output, name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "write_results", write)
    ended = predict(photos, "-o", tmp_path / "out")
    assert ended.code == 3
    assert "failed: p02.jpg: its results can't be written: file name too long" in ended.err
    assert "5 done" in ended.err


def test_too_many_open_files_is_not_the_images_fault(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_file(path: object, **options: object) -> None:
        from san_cli.datasets.images import BadImage

        raise BadImage("too many open files") from OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("san_cli.predict.pipeline.load_image", no_file)
    ended = predict(photos, "-o", tmp_path / "out")
    assert ended.code == 3
    assert "too many open files" in ended.err
    assert "failed:" not in ended.err


def test_a_bug_in_a_thread_is_no_bad_image(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Stages, name: str, image: object, save: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Stages, "_write", broken)
    with pytest.raises(ZeroDivisionError):
        predict(photos, "-o", tmp_path / "out")


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory")],
)
def test_out_of_memory_halves_the_batch(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    make_photos(photos, 24)
    real = Segmenter.segment_resized
    tried: list[int] = []

    def small(self: Segmenter, resized: Sequence[np.ndarray], *arguments: object) -> object:
        tried.append(len(resized))
        if len(resized) > 2:
            raise error
        return real(self, resized, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "segment_resized", small)
    ended = predict(photos, "-o", tmp_path / "out", "--batch", 8)
    assert ended.code == 0
    assert "24 done" in ended.err
    assert ended.err.count("out of memory: going on with smaller batches") == 1
    assert tried[:6] == [8, 4, 2, 2, 2, 2]
    assert set(tried[2:]) == {2}


def test_image_that_does_not_fit_into_memory_fails_alone(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Segmenter.segment_resized

    def small(self: Segmenter, resized: Sequence[np.ndarray], *arguments: object) -> object:
        if resized[0].shape[0] > 64:
            raise torch.OutOfMemoryError
        return real(self, resized, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "segment_resized", small)
    ended = predict(photos, "-o", tmp_path / "out", "--batch", 2)
    assert ended.code == 3
    assert "failed: sub/p01.jpg: not enough memory for an image of this size" in ended.err
    assert "4 done, 2 failed" in ended.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_other_ends_of_stdout(tmp_path: Path, tiny_weights: Path, san_home: Path) -> None:
    make_photos(tmp_path / "photos", 12)
    command = f"{sys.executable} -m san_cli predict {tmp_path}/photos --weights {tiny_weights} --vocab voc -q --jsonl"
    for number, (pipe, code, told) in enumerate(
        [
            ("| head -n 1 > first", 0, ""),
            ("> /dev/full", 3, "san: can't write to standard output: no space left on device"),
        ]
    ):
        ended = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{command} -o out{number} {pipe}"],
            cwd=tmp_path, env=subprocess_environment(san_home), capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == code
        assert ended.stderr.startswith(told)
        assert "Traceback" not in ended.stderr
        assert ended.stdout == ""
    assert json.loads((tmp_path / "first").read_text())["path"] == "p00.jpg"
