"""Large pictures take turns, and a run that ends ends: whatever happens, nobody waits, and progress adds up."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from mosaics import SIDE, make_mosaics, mosaic
from PIL import Image
from program import San, subprocess_environment, tree

from san_cli.datasets.bad_image import BadImage
from san_cli.engine.segmenter import Segmenter
from san_cli.predict.pipeline import Stages
from san_cli.predict.run import WindowCount
from san_cli.predict.states import Failed, Loaded, Planned, Saved, Segmented
from san_cli.runs.voice import Step


@pytest.fixture
def mosaics(tmp_path: Path) -> Path:
    """A folder of three large pictures and three small ones."""
    folder = tmp_path / "mosaics"
    make_mosaics(folder)
    return folder


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pictures of 30,000 pixels be large ones, of which memory holds one at a time."""
    monkeypatch.setattr("san_cli.predict.pipeline._ALONE", 30_000)
    monkeypatch.setattr("san_cli.predict.pipeline._SMALL_FILE", 0)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("batch", [1, 3])
def test_large_pictures_take_turns(
    predict: San, mosaics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, batch: int
) -> None:
    """Of three in a row only one is in memory, and small ones of the same batches before and behind them."""
    monkeypatch.setattr("san_cli.predict.pipeline._ALONE", 30_000)
    monkeypatch.setattr("san_cli.predict.pipeline._SMALL_FILE", 0)
    held, most = set[int](), 0
    decode, saved = Stages.decode, Stages.save

    def decoding(stages: Stages, planned: Planned) -> Loaded | Failed:
        nonlocal most
        found = decode(stages, planned)
        if isinstance(found, Loaded) and found.image.pixels[:, :, 0].size > 30_000:
            held.add(planned.position)
            most = max(most, len(held))
        return found

    def saving(stages: Stages, one: Segmented | Failed) -> Saved:
        held.discard(one.planned.position)
        return saved(stages, one)

    monkeypatch.setattr(Stages, "decode", decoding)
    monkeypatch.setattr(Stages, "save", saving)
    Image.fromarray(mosaic(9, 2, 3)[:, :-1]).save(mosaics / "sub" / "m9.png")
    options = ("--tile", SIDE, "--save", "labels", "--batch", batch, "--workers", workers)
    ended = predict(mosaics, "-o", tmp_path / "out", *options)
    assert (ended.code, "7 done" in ended.err, most) == (0, True, 1)


def test_a_large_picture_that_fails_lets_the_next_have_its_turn(
    predict: San, mosaics: Path, tmp_path: Path, crowded: None
) -> None:
    data = (mosaics / "m1.png").read_bytes()
    (mosaics / "m1.png").write_bytes(data[: len(data) // 2])
    options = ("--tile", SIDE, "--save", "labels")
    ended = predict(mosaics, "-o", tmp_path / "out", *options, "--workers", 3)
    assert (ended.code, "5 done, 1 failed" in ended.err) == (3, True)
    ended = predict(mosaics, "-o", tmp_path / "fast", *options, "--workers", 3, "--fail-fast")
    assert (ended.code, "stopped at the first failure" in ended.err) == (3, True)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fault", ["disk", "interrupt", "bug"])
def test_nobody_waits_for_a_turn_when_a_run_ends(
    predict: San, mosaics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crowded: None,
    fault: str, workers: int, batch: int,
) -> None:  # fmt: skip
    """While the first is segmented or written, the others wait; then nothing comes that would let them go on."""

    def full_disk(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def ended_in_the_network(*arguments: object) -> None:
        time.sleep(0.1)  # until the next is waiting
        raise KeyboardInterrupt if fault == "interrupt" else ZeroDivisionError

    options = ("--tile", SIDE, "--save", "labels", "--workers", workers, "--batch", batch)
    with monkeypatch.context() as patch:
        if fault == "disk":
            patch.setattr("san_cli.predict.pipeline.write_results", full_disk)
        else:
            patch.setattr(Segmenter, "segment_tiled", ended_in_the_network)
        if fault == "bug":
            with pytest.raises(ZeroDivisionError):
                predict(mosaics, "-o", tmp_path / "out", *options)
        else:
            assert predict(mosaics, "-o", tmp_path / "out", *options).code == (3 if fault == "disk" else 130)
    assert predict(mosaics, "-o", tmp_path / "out", *options).code == 0
    assert not list((tmp_path / "out").rglob(".san-tmp-*"))


def test_nobody_waits_where_a_picture_can_not_even_be_opened(
    predict: San, mosaics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crowded: None
) -> None:
    """The others wait in threads of the very pool that is closed then."""

    def no_handles(*arguments: object, **options: object) -> None:
        time.sleep(0.3)  # until the next are waiting
        raise BadImage("too many open files") from OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    options = ("--tile", SIDE, "--save", "labels", "--workers", 4)
    with monkeypatch.context() as patch:
        patch.setattr("san_cli.predict.pipeline.load_image", no_handles)
        assert predict(mosaics, "-o", tmp_path / "out", *options).code == 3
    assert predict(mosaics, "-o", tmp_path / "out", *options).code == 0


class _Bar:
    """What a bar was told last."""

    def __init__(self) -> None:
        self.done = self.total = 0

    def __call__(self, done: int, total: int | None = None) -> None:
        self.done, self.total = done, total or self.total


def test_progress_counts_windows() -> None:
    bar = _Bar()
    count = WindowCount(bar, 3)
    count.image(1)
    for _ in range(3):
        count.seen(4, 12)
    assert (bar.done, bar.total) == (13, 14)
    count.image(12)
    count.image(1)
    assert (bar.done, bar.total) == (14, 14)


def test_windows_that_are_seen_again_are_counted_once() -> None:
    bar = _Bar()
    count = WindowCount(bar, 2)
    count.seen(0, 12)  # no memory for the first
    count.seen(4, 12)
    count.seen(4, 12)
    count.seen(-8, 12)
    assert (bar.done, bar.total) == (0, 2)
    count.seen(12, 12)
    count.image(12)
    count.image(1)
    assert (bar.done, bar.total) == (13, 13)


def bar_of(monkeypatch: pytest.MonkeyPatch) -> _Bar:
    """What the bar of a run shows."""
    bar = _Bar()

    def showing(step: Step, images: int) -> WindowCount:
        bar.total = images
        return WindowCount(bar, images)

    monkeypatch.setattr("san_cli.predict.run.WindowCount", showing)
    return bar


def test_a_window_that_overflows_fails_its_picture_alone(
    predict: San, mosaics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--tile", SIDE, "--save", "labels")
    predict(mosaics, "-o", tmp_path / "whole", *options)
    forward, calls = Segmenter._forward, 0

    def overflow(*arguments: object) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        calls += 1
        masks, classes, regions = forward(*arguments)  # type: ignore[arg-type]
        if calls == 12 + 5:  # of the second picture
            masks[-1, 0, 0, 0] = float("inf")
        return masks, classes, regions

    monkeypatch.setattr(Segmenter, "_forward", overflow)
    bar = bar_of(monkeypatch)
    ended = predict(mosaics, "-o", tmp_path / "out", *options)
    assert (ended.code, "5 done, 1 failed" in ended.err) == (3, True)
    assert "failed: m1.png: the network's output is not finite" in ended.err
    assert (bar.done, bar.total) == (3 * 12 + 3, 3 * 12 + 3)
    monkeypatch.setattr(Segmenter, "_forward", forward)
    assert "1 done, 5 done before" in predict(mosaics, "-o", tmp_path / "out", *options).err
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_too_little_memory_for_a_batch_of_windows_takes_fewer(
    predict: San, mosaics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors, most = Segmenter._asked_factors, 2
    calls = 0

    def small(segmenter: Segmenter, resized: Sequence[np.ndarray], *arguments: object) -> object:
        nonlocal calls
        calls += 1
        if len(resized) > most and calls > 1:  # in the middle of a picture
            raise torch.OutOfMemoryError
        return factors(segmenter, resized, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "_asked_factors", small)
    bar = bar_of(monkeypatch)
    options = ("--tile", SIDE, "--save", "labels", "--batch", 4)
    ended = predict(mosaics, "-o", tmp_path / "out", *options)
    assert (ended.code, ended.err.count("out of memory: going on with smaller batches")) == (0, 1)
    assert (bar.done, bar.total) == (3 * 12 + 3, 3 * 12 + 3)
    most = 0
    bar = bar_of(monkeypatch)
    ended = predict(mosaics / "m0.png", mosaics / "p00.jpg", "-o", tmp_path / "none", *options)
    assert (ended.code, "m0.png: not enough memory for an image of this size" in ended.err) == (4, True)
    assert (bar.done, bar.total) == (2, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="other signals")
def test_an_interrupt_ends_a_run_in_which_a_large_picture_waits(
    tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    folder = tmp_path / "mosaics"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(mosaic(number, 12, 12)).save(folder / f"m{number}.png")
    program = (
        "from san_cli.predict import pipeline; pipeline._ALONE = 30_000; pipeline._SMALL_FILE = 0; "
        "from san_cli.cli.main import main; main()"
    )
    options = [
        "--weights",
        str(tiny_weights),
        "--vocab",
        "cat,dog,sky,tree",
        "--device",
        "cpu",
        "--tile",
        "64",
    ]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "predict", str(folder), "-o", str(out), *options],
        env=subprocess_environment(san_home),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out / ".san" / "journal").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(1)  # of some 10 that the first takes
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, "interrupted" in told) == (130, True)
    assert time.monotonic() - started < 5
    assert (out / ".san" / "journal").read_bytes() == b""
