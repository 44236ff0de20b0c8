"""A run into a folder that already holds results: nothing twice, nothing mixed, the same bytes in the end."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import San, make_photos, subprocess_environment, tree

from san_cli.engine.journal import Journal
from san_cli.engine.results import write_results
from san_cli.engine.stages import Stages


def times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_second_run_does_nothing(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out)
    bytes_before, times_before = tree(out), times(out)
    ended = predict(photos, "-o", out)
    assert ended.code == 0
    assert "nothing new, 6 done before" in ended.err
    assert tree(out) == bytes_before
    assert times(out) == times_before


def test_only_the_missing_and_the_changed_are_done(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out)
    undisturbed, times_before = tree(out), times(out)
    (out / "p00.overlay.jpg").unlink()
    ended = predict(photos, "-o", out)
    assert "1 done, 5 done before" in ended.err
    assert tree(out) == undisturbed
    same = {name for name, moment in times(out).items() if moment == times_before[name]}
    assert {name for name in undisturbed if name.endswith((".jpg", ".png"))} - same == {
        "p00.overlay.jpg",
        "p00.labels.png",
    }

    shutil.copyfile(photos / "p02.jpg", photos / "p04.jpg")
    ended = predict(photos, "-o", out)
    assert "1 done, 5 done before" in ended.err
    after = tree(out)
    assert after["p04.overlay.jpg"] == after["p02.overlay.jpg"]


def test_overwrite_does_all_again(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out)
    undisturbed = tree(out)
    (out / "p00.labels.png").write_bytes(b"tampered with")
    assert "6 done before" in predict(photos, "-o", out).err
    ended = predict(photos, "-o", out, "--overwrite")
    assert "6 done in" in ended.err
    assert tree(out) == undisturbed


@pytest.mark.parametrize(
    "other",
    [
        ["--vocab", "voc+cow shed"],
        ["--templates", "photo"],
        ["--min-score", "0.5"],
        ["--background", "nothing"],
        ["--show", "cat"],
        ["--save", "labels"],
        ["--batch", "2"],
        ["--precision", "bf16"],
        ["--weights", "random"],
    ],
    ids=lambda other: other[0],
)
def test_other_settings_are_refused(predict: San, photos: Path, tmp_path: Path, other: list[str]) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--limit", 1)
    before = tree(out)
    ended = predict(photos, "-o", out, "--limit", 1, *other)
    assert ended.code == 2
    assert "holds a run with other settings" in ended.err
    assert "--overwrite" in ended.err
    assert tree(out) == before


def test_options_that_change_no_bytes_are_not_settings(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--workers", 1)
    ended = predict(photos, "-o", out, "--workers", 3, "--max-pixels", 10**6, "--jsonl", "-q")
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 6


def test_failed_images_are_tried_again(predict: San, photos: Path, tmp_path: Path) -> None:
    good = (photos / "p02.jpg").read_bytes()
    (photos / "p02.jpg").write_bytes(good[:500])
    first = predict(photos, "-o", tmp_path / "out")
    assert first.code == 3
    again = predict(photos, "-o", tmp_path / "out")
    assert again.code == 3
    assert "nothing new, 5 done before, 1 failed" in again.err
    (photos / "p02.jpg").write_bytes(good)
    mended = predict(photos, "-o", tmp_path / "out")
    assert (mended.code, "1 done, 5 done before" in mended.err) == (0, True)
    predict(photos, "-o", tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_image_that_is_gone_leaves_the_predictions(predict: San, photos: Path, tmp_path: Path) -> None:
    predict(photos, "-o", tmp_path / "out")
    (photos / "p00.jpg").unlink()
    assert predict(photos, "-o", tmp_path / "out").code == 0
    document = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["id"] for row in document["images"]] == [1, 2, 3, 4, 5]
    assert "p00.jpg" not in {row["file_name"] for row in document["images"]}
    assert (tmp_path / "out" / "p00.overlay.jpg").exists()


def test_another_file_of_the_same_name_is_refused(predict: San, photos: Path, tmp_path: Path) -> None:
    predict(photos, "-o", tmp_path / "out")
    before = tree(tmp_path / "out")
    make_photos(tmp_path / "others" / "x", 8)
    shutil.move(tmp_path / "others" / "x" / "p06.jpg", tmp_path / "others" / "p00.jpg")
    ended = predict(tmp_path / "others" / "p00.jpg", "-o", tmp_path / "out")
    assert ended.code == 2
    assert "another file called p00.jpg" in ended.err
    assert tree(tmp_path / "out") == before


def test_files_of_others_are_not_overwritten(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert predict(photos / "p00.jpg", "-o", out).code == 0

    other = tmp_path / "other"
    other.mkdir()
    (other / "p00.labels.png").write_text("mine")
    ended = predict(photos / "p00.jpg", "-o", other)
    assert ended.code == 2
    assert "p00.labels.png' is there already" in ended.err
    assert tree(other) == {"p00.labels.png": b"mine"}
    assert predict(photos / "p00.jpg", "-o", other, "--overwrite").code == 0


class _Interrupt:
    """Raises KeyboardInterrupt at the n-th call of what it stands in for."""

    def __init__(self, after: int, real: object) -> None:
        self.left, self.real = after, real

    def __call__(self, *arguments: object, **options: object) -> object:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.real(*arguments, **options)  # type: ignore[operator]


@pytest.mark.parametrize("batch", [1, 2])
def test_interrupted_run_ends_in_the_same_bytes(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    make_photos(photos, 9)
    (photos / "p04.jpg").write_bytes(b"broken")
    predict(photos, "-o", tmp_path / "whole", "--batch", batch)
    for after in range(9):
        out = tmp_path / f"out-{after}"
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "append", _method(_Interrupt(after, Journal.append)))
            assert predict(photos, "-o", out, "--batch", batch, "--workers", 1 + after % 3).code == 130
        assert not list(out.rglob(".san-tmp-*"))
        ended = predict(photos, "-o", out, "--batch", batch, "--workers", 1 + after % 2)
        assert ended.code == 3
        assert f"{8 - after + (after > 2)} done" in ended.err
        assert tree(out) == tree(tmp_path / "whole")


def _method(interrupt: _Interrupt) -> object:
    return lambda *arguments: interrupt(*arguments)


def test_interrupted_while_writing(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker thread that fails ends the run; what it did not journal is done again."""
    predict(photos, "-o", tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("san_cli.engine.stages.write_results", _Interrupt(3, write_results))
        assert predict(photos, "-o", tmp_path / "out").code == 130
    assert predict(photos, "-o", tmp_path / "out").code == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_torn_journal_is_mended(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out)
    whole = tree(out)
    journal = out / ".san" / "journal"
    for length in (0, 1, 200, len(whole[".san/journal"]) - 90, len(whole[".san/journal"]) - 1):
        journal.write_bytes(whole[".san/journal"][:length])
        assert predict(photos, "-o", out).code == 0
        assert tree(out) == whole
    journal.write_bytes(whole[".san/journal"].replace(b"p02.jpg", b"p0\0.jpg"))
    assert "1 done, 5 done before" in predict(photos, "-o", out).err
    assert tree(out) == whole


def test_batches_are_those_of_the_whole_list(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one image missing, its whole batch is computed again, and only its files are written."""
    make_photos(photos, 12)
    sizes: list[int] = []
    real = Stages._segment_together
    monkeypatch.setattr(
        Stages, "_segment_together", lambda self, images: sizes.append(len(images)) or real(self, images)
    )
    predict(photos, "-o", tmp_path / "out", "--batch", 3)
    assert sizes == [3, 3, 3, 1, 1, 1]
    whole, times_before = tree(tmp_path / "out"), times(tmp_path / "out")
    sizes.clear()
    (tmp_path / "out" / "p04.labels.png").unlink()
    predict(photos, "-o", tmp_path / "out", "--batch", 3)
    assert sizes == [3]
    assert tree(tmp_path / "out") == whole
    rewritten = {name for name, moment in times(tmp_path / "out").items() if moment != times_before[name]}
    assert {name for name in rewritten if name.startswith(("p", "sub"))} == {
        "p04.labels.png", "p04.overlay.jpg", "predictions.json",
    }  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_run_ends_in_the_same_bytes(
    predict: San, tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    make_photos(photos, 24)
    predict(photos, "-o", tmp_path / "whole")
    options = ["--weights", str(tiny_weights), "--vocab", "voc", "--device", "cpu", "-q"]
    process = subprocess.Popen(
        [sys.executable, "-m", "san_cli", "predict", str(photos), "-o", str(out), *options],
        env={**subprocess_environment(san_home), "PYTHONHASHSEED": "7"},
    )
    journal = out / ".san" / "journal"
    while not journal.exists() or journal.stat().st_size < 2000:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "predictions.json").exists()
    assert predict(photos, "-o", out, "--workers", 4).code == 0
    assert tree(out) == tree(tmp_path / "whole")
