"""A run into a folder that already holds results: nothing twice, nothing mixed, the same bytes in the end."""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from program import San, make_photos, subprocess_environment, tree

from san_cli.predict.results import write_results
from san_cli.predict.segmenting import Segmenting
from san_cli.runs.journal import Journal


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
    labels = (out / "p00.labels.png").read_bytes()
    (out / "p00.labels.png").write_bytes(labels[:-1] + b"!")  # as long as before
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


def test_image_that_is_gone_leaves_nothing_behind(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--save", "overlay,labels,json,html")
    (out / "sub" / "notes.txt").write_text("mine")
    (photos / "p00.jpg").unlink()
    shutil.rmtree(photos / "sub")
    ended = predict(photos, "-o", out, "--save", "overlay,labels,json,html")
    assert ended.code == 0
    assert re.search(
        r"removed: \d+ results of inputs that are gone .* p00\.|removed: \d+ results .* sub/", ended.err
    )
    assert (out / "sub" / "notes.txt").exists()
    assert not (out / "html" / "sub").exists()
    (out / "sub" / "notes.txt").unlink()
    predict(photos, "-o", tmp_path / "fresh", "--save", "overlay,labels,json,html")
    assert tree(out) == tree(tmp_path / "fresh")


def test_image_that_turned_unreadable_leaves_nothing_behind(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    predict(photos, "-o", tmp_path / "out")
    (photos / "p02.jpg").write_bytes(b"damaged")
    (photos / "sub" / "p01.jpg").unlink()
    (photos / "sub" / "p01.jpg").symlink_to("nowhere")
    assert predict(photos, "-o", tmp_path / "out").code == 3
    predict(photos, "-o", tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_nothing_but_our_own_files_is_removed(predict: San, photos: Path, tmp_path: Path) -> None:
    """Not what has changed since, not what a link leads to, not what inputs that are there still own."""
    out = tmp_path / "out"
    predict(photos, "-o", out)
    before = tree(out)
    (out / "p00.overlay.jpg").write_bytes(b"mine now")
    (out / "p00.labels.png").rename(tmp_path / "labels.png")
    (out / "p00.labels.png").symlink_to(tmp_path / "labels.png")
    (out / "sub").rename(tmp_path / "elsewhere")
    (out / "sub").symlink_to(tmp_path / "elsewhere")
    (photos / "p00.jpg").unlink()
    shutil.rmtree(photos / "sub")
    assert predict(photos, "-o", out, "--limit", 1).code == 0
    assert (out / "p00.overlay.jpg").read_bytes() == b"mine now"
    assert (out / "p00.labels.png").is_symlink()
    assert (tmp_path / "labels.png").exists()
    assert {p.name for p in (tmp_path / "elsewhere").iterdir()} >= {"p01.labels.png", "p01.overlay.jpg"}
    assert (out / "p04.labels.png").read_bytes() == before["p04.labels.png"]  # beyond the limit, but there
    assert "nothing new, 2 done before" in predict(photos, "-o", out).err


def test_overwriting_takes_away_what_the_old_run_made(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out)
    (out / "notes.txt").write_text("mine")
    other = ["--vocab", "voc+graffiti", "--save", "labels", "--limit", 3]
    assert predict(photos, "-o", out, "--overwrite", *other).code == 0
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    predict(photos, "-o", tmp_path / "fresh", *other)
    assert tree(out) == tree(tmp_path / "fresh")


def test_overwriting_keeps_results_of_inputs_that_are_not_given_now(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    predict(photos, "-o", tmp_path / "out")
    predict(photos, "-o", tmp_path / "out", "--overwrite", "--limit", 2)
    assert "nothing new, 6 done before" in predict(photos, "-o", tmp_path / "out").err


def test_a_result_that_was_cut_short_is_made_again(predict: San, photos: Path, tmp_path: Path) -> None:
    out, save = tmp_path / "out", ("--save", "overlay,labels,json,html")
    predict(photos, "-o", out, *save)
    whole = tree(out)
    for name in (
        "p00.labels.png",
        "predictions.json",
        "classes.json",
        "html/data.js",
        "html/sub/p01.photo.jpg",
    ):
        (out / name).write_bytes(whole[name][: len(whole[name]) // 2])
        assert predict(photos, "-o", out, *save).code == 0
        assert tree(out) == whole, name


def test_a_result_that_was_edited_is_left_alone_with_a_word(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    """A label map corrected by hand is hours of somebody's work."""
    out, save = tmp_path / "out", ("--save", "overlay,labels")
    predict(photos, "-o", out, *save)
    for name in ("p00.labels.png", "p00.overlay.jpg"):
        with Image.open(out / name) as image:
            image.crop((0, 0, 9, 9)).save(out / name)
    edited = tree(out)
    result = predict(photos, "-o", out, *save)
    assert result.code == 0 and "left alone: 2 results" in result.err
    assert tree(out) == edited
    (out / "p00.labels.png").unlink()
    predict(photos, "-o", out, *save)
    assert tree(out)["p00.labels.png"] != edited["p00.labels.png"]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_folder_ends_as_that_of_a_fresh_run(
    predict: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Inputs come, go, break and are mended; runs are whole, interrupted, or parts of one."""
    dice = random.Random(seed)
    photos, good = tmp_path / "photos", tmp_path / "good"
    make_photos(photos, 5)
    make_photos(good, 8)
    names = sorted(tree(good))
    for step in range(4):
        for _ in range(2):
            path = photos / dice.choice(names)
            path.parent.mkdir(parents=True, exist_ok=True)
            happens = dice.choice(["add", "remove", "damage", "swap"])
            path.unlink(missing_ok=True)
            if happens == "damage":
                path.write_bytes((good / path.relative_to(photos)).read_bytes()[:300])
            elif happens != "remove":
                source = path.relative_to(photos) if happens == "add" else dice.choice(names)
                shutil.copyfile(good / source, path)
        shutil.copyfile(good / "p00.jpg", photos / "always.jpg")
        ends = dice.choice(["whole", "interrupted", "shards"])
        if ends == "interrupted":
            with monkeypatch.context() as patch:
                patch.setattr(Journal, "append", _method(_Interrupt(dice.randrange(4), Journal.append)))
                predict(photos, "-o", tmp_path / "out")
        for shard in dice.sample(["1/2", "2/2"], 2) if ends == "shards" else ():
            predict(photos, "-o", tmp_path / "out", "--shard", shard)
        if ends != "shards":
            predict(photos, "-o", tmp_path / "out")
        predict(photos, "-o", tmp_path / f"fresh-{step}")
        assert tree(tmp_path / "out") == tree(tmp_path / f"fresh-{step}"), (step, ends)


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
        patch.setattr("san_cli.predict.pipeline.write_results", _Interrupt(3, write_results))
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
    real = Segmenting._whole
    monkeypatch.setattr(
        Segmenting,
        "_whole",
        lambda self, images, at_once: sizes.append(len(images)) or real(self, images, at_once),
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
