"""A large picture whose run was killed: the next run goes on with it, and what it makes are the same bytes."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import Ended, San, subprocess_environment, tree
from recipe import image

from san_cli.engine.segmentation_map import Unfinished
from san_cli.engine.segmenter import Segmenter
from san_cli.predict import partial
from san_cli.predict.journal import Source

WINDOWS = 16  # of the picture below: 4 × 4, each row of them half over the next
SOURCE = Source(1, 2, "here")
SAVE = "labels,json,table"


@pytest.fixture(autouse=True)
def rows_are_kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "SAVE_EVERY_S", 0.0)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of 160 × 160 pixels."""
    scenes = [np.concatenate([image(2 * y + x, 80, 80) for x in range(2)], axis=1) for y in range(2)]
    path = tmp_path / "in" / "large.png"
    path.parent.mkdir()
    Image.fromarray(np.concatenate(scenes)).save(path)
    return path


class Passes:
    """Counts forward passes, each of one window, and ends the run at the n-th."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done, self.most = 0, WINDOWS
        real = Segmenter._forward

        def forward(segmenter, *arguments):
            if self.done == self.most:
                raise KeyboardInterrupt
            self.done += 1
            return real(segmenter, *arguments)

        monkeypatch.setattr(Segmenter, "_forward", forward)

    def allow(self, most: int) -> None:
        self.done, self.most = 0, most


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    return Passes(monkeypatch)


@pytest.fixture
def tiled(predict: San, picture: Path, passes: Passes):
    """Run with windows of 64 pixels, which are allowed so many forward passes."""

    def run(out: Path, *options: object, most: int = WINDOWS) -> Ended:
        passes.allow(most)
        return predict(picture, "-o", out, "--tile", 64, "--save", SAVE, *options)

    return run


def kept(out: Path) -> list[Path]:
    return sorted((out / ".san").glob("partial-*"))


def test_wherever_it_ends_the_next_run_goes_on(tiled, passes: Passes, tmp_path: Path) -> None:
    assert tiled(tmp_path / "whole").code == 0
    assert passes.done == WINDOWS
    out = tmp_path / "out"
    for after in (3, 4, 9, 15):
        shutil.rmtree(out, ignore_errors=True)
        assert tiled(out, most=after).code == 130
        assert len(kept(out)) == (0 if after < 4 else 2)  # the second row of windows ends the first stretch
        ended = tiled(out)
        assert ended.code == 0
        assert ("large.png: going on at row" in ended.err) == (after >= 4)
        assert passes.done == WINDOWS - 4 * max(0, after // 4 - 1)
        assert tree(out) == tree(tmp_path / "whole")


def test_it_ends_again_and_again(tiled, passes: Passes, tmp_path: Path) -> None:
    tiled(tmp_path / "whole")
    codes = []
    for _ in range(3):
        codes.append(tiled(tmp_path / "out", most=8).code)
    assert codes == [130, 130, 0]
    assert passes.done == 8
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_limits_and_what_competes_beside_the_classes_come_back_too(tiled, tmp_path: Path) -> None:
    options = ("--only", "cat,dog,car", "--min-score", "0.01", "--batch", 2)
    tiled(tmp_path / "whole", *options)
    tiled(tmp_path / "out", *options, most=4)  # of two windows each
    assert "going on" in tiled(tmp_path / "out", *options).err
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def begun(
    out: Path, source: Source = SOURCE, size: tuple[int, int] = (30, 20), classes: int = 5
) -> Unfinished:
    """Begin a map, or go on with it, as the engine does."""
    (out / ".san").mkdir(exist_ok=True)
    (out / ".san" / "run.json").touch()
    return partial.KeptRows(out, "ä\udcff.png", source, pytest.fail).begin(size, classes)


def grow(so_far: Unfinished, rows: int) -> Unfinished:
    """Do the rows up to `rows`, and tell."""
    dice = np.random.default_rng(rows)
    fresh = so_far.label_map[so_far.rows : rows]
    fresh[:] = dice.integers(-1, 5, fresh.shape)
    so_far.pixels += dice.integers(0, 2**40, 5)
    so_far.sums += dice.random((2, 5)) / 3
    so_far.highest[:] = [(float(dice.random()), 3), (0.1 + 0.2, 4)]
    so_far.uncertain, so_far.looked_at, so_far.rows = so_far.uncertain + 7, so_far.looked_at + 11, rows
    so_far.on_rows(so_far)
    return so_far


def content(so_far: Unfinished) -> list[object]:
    return [
        value.tobytes() if isinstance(value, np.ndarray) else value
        for name, value in vars(so_far).items()
        if name != "on_rows"
    ]


def test_what_is_kept_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    for rows in (1, 7, 8, 30):
        grown = grow(begun(tmp_path), rows)
        assert content(begun(tmp_path)) == content(grown)


@pytest.mark.parametrize(
    "other", [{"source": Source(1, 2, "there")}, {"size": (20, 30)}, {"classes": 6}, {"classes": 40_000}]
)
def test_what_is_kept_of_another_picture_is_not_there(tmp_path: Path, other) -> None:
    grow(begun(tmp_path), 12)
    assert not begun(tmp_path, **other).rows
    (tmp_path / ".san" / "run.json").write_text("other settings")
    assert not begun(tmp_path).rows


def damage(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "happens",
    [
        lambda rows, counts: damage(rows, 0),
        lambda rows, counts: damage(rows, 1),
        lambda rows, counts: rows.write_bytes(rows.read_bytes()[:-1]),
        lambda rows, counts: rows.unlink(),
        lambda rows, counts: damage(counts, 0),
        lambda rows, counts: damage(counts, 0.3),
        lambda rows, counts: damage(counts, 0.7),
        lambda rows, counts: counts.write_bytes(b""),
        lambda rows, counts: counts.write_bytes(b"\xff\0 {"),
        lambda rows, counts: counts.write_bytes(counts.read_bytes()[:-9]),
        lambda rows, counts: counts.unlink(),
        lambda rows, counts: (counts.unlink(), counts.mkdir()),
    ],
)
def test_what_is_damaged_is_not_there(tmp_path: Path, happens) -> None:
    grow(grow(begun(tmp_path), 9), 12)
    rows, counts = kept(tmp_path)
    happens(rows, counts)
    again = begun(tmp_path)
    assert content(again) == content(Unfinished.new((30, 20), 5))
    if counts.is_dir():
        counts.rmdir()
    grow(again, 5)
    assert content(begun(tmp_path)) == content(again)


def test_rows_that_somebody_takes_away_meanwhile_are_not_made_up(tmp_path: Path) -> None:
    so_far = grow(begun(tmp_path), 9)
    partial.remove_rows(tmp_path)
    grow(so_far, 12)
    assert not begun(tmp_path).rows


def test_a_damaged_file_is_no_trouble_to_a_run(tiled, passes: Passes, tmp_path: Path) -> None:
    tiled(tmp_path / "whole")
    tiled(tmp_path / "out", most=9)
    damage(kept(tmp_path / "out")[0], 0.5)
    ended = tiled(tmp_path / "out")
    assert ended.code == 0 and "going on" not in ended.err
    assert passes.done == WINDOWS
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_rows_beyond_the_counts_are_of_a_save_that_was_cut_short(
    tiled, passes: Passes, tmp_path: Path
) -> None:
    tiled(tmp_path / "whole")
    tiled(tmp_path / "out", most=9)
    rows = kept(tmp_path / "out")[0]
    rows.write_bytes(rows.read_bytes() + b"more")
    assert tiled(tmp_path / "out", most=10).code == 130  # further rows are appended in the right place
    assert "going on" in tiled(tmp_path / "out").err
    assert passes.done == 4 * 2
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_another_picture_and_other_settings_begin_anew(
    tiled, passes: Passes, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tiled(out, most=9)
    files = {path: path.read_bytes() for path in kept(out)}
    ended = tiled(out, "--overwrite", "--background", "nothing")
    assert "going on" not in ended.err and passes.done == WINDOWS and not kept(out)
    tiled(tmp_path / "other", "--background", "nothing")
    assert tree(out) == tree(tmp_path / "other")

    # Not even where they are still there.
    shutil.rmtree(out)
    tiled(out, "--background", "nothing", most=0)
    for path, content in files.items():
        path.write_bytes(content)
    tiled(out, "--background", "nothing")
    assert passes.done == WINDOWS
    assert tree(out) == tree(tmp_path / "other")

    shutil.rmtree(out)
    tiled(out, most=9)
    with Image.open(picture) as shown:
        shown.transpose(Image.Transpose.ROTATE_180).save(picture)
    ended = tiled(out)
    assert "going on" not in ended.err and passes.done == WINDOWS
    tiled(tmp_path / "turned")
    assert tree(out) == tree(tmp_path / "turned")


def test_what_was_begun_and_is_not_given_any_more_is_swept(
    predict: San, tiled, passes: Passes, picture: Path, tmp_path: Path
) -> None:
    tiled(tmp_path / "out", most=9)
    passes.allow(1)
    assert kept(tmp_path / "out")
    Image.fromarray(image(0, 60, 60)).save(picture.with_name("small.png"))
    small = picture.with_name("small.png")
    assert predict(small, "-o", tmp_path / "out", "--tile", 64, "--save", SAVE).code == 0
    assert not kept(tmp_path / "out")


def test_a_picture_that_fails_leaves_nothing(tiled, picture: Path, tmp_path: Path) -> None:
    tiled(tmp_path / "out", most=9)
    picture.write_bytes(picture.read_bytes()[:300])
    assert tiled(tmp_path / "out").code == 4  # no image is left
    assert not kept(tmp_path / "out")


def test_with_scores_there_is_no_going_on(tiled, passes: Passes, tmp_path: Path) -> None:
    options = ("--save", "labels,scores")
    tiled(tmp_path / "out", *options, most=9)
    assert not kept(tmp_path / "out")
    tiled(tmp_path / "out", *options)
    assert passes.done == WINDOWS


def test_an_ordinary_picture_never_touches_the_disk(
    tiled, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(partial, "SAVE_EVERY_S", 60.0)
    tiled(tmp_path / "out", most=WINDOWS - 1)
    assert not kept(tmp_path / "out")


def test_without_room_the_run_goes_on_with_a_word(
    tiled, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tiled(tmp_path / "whole")
    saves, real = list[Path](), partial.atomic_write

    def full(path: Path):
        saves.append(path)
        if len(saves) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(partial, "atomic_write", full)
        ended = tiled(tmp_path / "out", most=WINDOWS - 1)
    assert ended.code == 130 and len(saves) == 2
    assert ended.err.count("large.png: can't keep the rows that are done") == 1
    assert not kept(tmp_path / "out")
    assert tiled(tmp_path / "out").code == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_is_gone_on_with(
    tiled, passes: Passes, picture: Path, tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    code = (
        "import os, signal\n"
        "from san_cli.cli.main import main\n"
        "from san_cli.engine.segmenter import Segmenter\n"
        "from san_cli.predict import partial\n"
        "partial.SAVE_EVERY_S, real, left = 0.0, Segmenter._forward, [*range(10)]\n"
        "def forward(*arguments):\n"
        "    if not left.pop():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*arguments)\n"
        "Segmenter._forward = forward\n"
        "main()"
    )
    out = tmp_path / "out"
    options = ["--weights", str(tiny_weights), "--vocab", "voc", "--device", "cpu", "--save", SAVE]
    command = [sys.executable, "-c", code, "predict", str(picture), "--tile", "64", "-o", str(out), *options]
    killed = subprocess.run(command, env=subprocess_environment(san_home))
    assert killed.returncode == -signal.SIGKILL
    assert len(kept(out)) == 2 and not (out / "large.labels.png").exists()
    assert "large.png: going on at row 64 of 160" in tiled(out).err
    assert passes.done == WINDOWS - 4
    tiled(tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")
