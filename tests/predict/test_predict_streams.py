"""Several images at once: the same bytes in the same order, whatever happens to one of them."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from mosaics import SIDE, make_mosaics
from program import San, make_photos, subprocess_environment, tree

from san_cli.engine.segmenter import Segmenter

ALL = "overlay,labels,json,scores"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of eleven pictures of three sizes."""
    folder = tmp_path / "photos"
    make_photos(folder, 11)
    return folder


@pytest.fixture
def by_threads(predict: San) -> Iterator[San]:
    """`san predict` in this process, with as many threads of PyTorch's as its first argument says."""
    before = torch.get_num_threads()

    def run(threads: int, *arguments: object) -> object:
        torch.set_num_threads(threads)
        return predict(*arguments)

    yield run
    torch.set_num_threads(before)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Of each forward pass: whether a stream made it, and with how many threads."""
    forward, made = Segmenter._forward, list[tuple[bool, int]]()

    def noting(segmenter: Segmenter, *arguments: object) -> object:
        made.append((threading.current_thread() is not threading.main_thread(), torch.get_num_threads()))
        return forward(segmenter, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "_forward", noting)
    return made


@pytest.mark.parametrize("batch", [1, 2])
def test_streams_change_no_byte(
    by_threads: San, photos: Path, tmp_path: Path, forwards: list[tuple[bool, int]], batch: int
) -> None:
    options = ("--save", ALL, "--batch", batch, "--workers", 2)
    assert by_threads(1, photos, "-o", tmp_path / "one", *options).code == 0
    assert not any(in_stream for in_stream, _ in forwards)
    for threads in (2, 4):
        forwards.clear()
        assert by_threads(threads, photos, "-o", tmp_path / f"{threads}", *options).code == 0
        assert {threads_of for in_stream, threads_of in forwards if in_stream} == {1}
        assert {threads_of for in_stream, threads_of in forwards if not in_stream} == {threads}
        results = [
            {name: data for name, data in tree(tmp_path / out).items() if not name.startswith(".san")}
            for out in ("one", f"{threads}")
        ]
        assert results[0] == results[1]
    assert torch.get_num_threads() == 4


def test_pictures_that_are_fewer_than_streams_have_all_threads(
    by_threads: San, photos: Path, tmp_path: Path, forwards: list[tuple[bool, int]]
) -> None:
    by_threads(4, *sorted(photos.glob("*.jpg"))[:3], "-o", tmp_path / "three")
    assert forwards == [(False, 4)] * 3
    forwards.clear()
    by_threads(2, *sorted(photos.glob("*.jpg"))[:5], "-o", tmp_path / "five")
    assert (forwards[:4], forwards[4:]) == ([(True, 1)] * 4, [(False, 2)])


def test_lines_are_in_the_lists_order(by_threads: San, photos: Path, tmp_path: Path) -> None:
    ended = by_threads(4, photos, "-o", tmp_path / "out", "--jsonl")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    names = [line["path"] for line in lines]
    assert (names, len(names)) == (sorted(names), 11)
    assert all(line["ms"]["model"] > 0 and line["ms"]["post"] > 0 for line in lines)


def test_tiled_and_large_pictures_are_alone(
    by_threads: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forwards: list[tuple[bool, int]]
) -> None:
    """Among others that are in streams: whoever waits for them to be saved doesn't wait forever."""
    make_mosaics(tmp_path / "mosaics")  # three of twelve windows
    make_photos(tmp_path / "mosaics", 9)
    options = ("--save", "labels,json", "--workers", 3, "--tile", SIDE)
    by_threads(1, tmp_path / "mosaics", "-o", tmp_path / "one", *options)
    monkeypatch.setattr("san_cli.predict.pipeline._ALONE", 30_000)
    monkeypatch.setattr("san_cli.predict.pipeline._SMALL_FILE", 0)
    forwards.clear()
    assert by_threads(2, tmp_path / "mosaics", "-o", tmp_path / "out", *options).code == 0
    assert forwards.count((False, 2)) >= 3 * 12
    assert (True, 1) in forwards and len(set(forwards)) == 2
    assert (tmp_path / "one" / "predictions.json").read_bytes() == (
        tmp_path / "out" / "predictions.json"
    ).read_bytes()


def test_too_little_memory_for_two_at_once_is_enough_for_one(
    by_threads: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_threads(1, photos, "-o", tmp_path / "one")
    factors, alone = Segmenter._asked_factors, 0

    def small(segmenter: Segmenter, resized: Sequence[np.ndarray], *arguments: object) -> object:
        nonlocal alone
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError
        alone += 1
        return factors(segmenter, resized, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "_asked_factors", small)
    ended = by_threads(2, photos, "-o", tmp_path / "out")
    assert (ended.code, "11 done" in ended.err, alone) == (0, True, 11)
    assert tree(tmp_path / "one" / "overlays") == tree(tmp_path / "out" / "overlays")


def test_a_picture_that_overflows_in_a_stream_fails_alone(
    by_threads: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls, lock = Segmenter._forward, 0, threading.Lock()

    def overflow(*arguments: object) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        masks, classes, regions = forward(*arguments)  # type: ignore[arg-type]
        with lock:
            calls += 1
            if calls == 4:
                masks[-1, 0, 0, 0] = float("inf")
        return masks, classes, regions

    monkeypatch.setattr(Segmenter, "_forward", overflow)
    ended = by_threads(2, photos, "-o", tmp_path / "out")
    assert (ended.code, "10 done, 1 failed" in ended.err) == (3, True)


def test_a_fault_of_a_stream_ends_the_run(
    by_threads: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*arguments: object) -> None:
        raise ZeroDivisionError

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "_forward", fault)
        with pytest.raises(ZeroDivisionError):
            by_threads(2, photos, "-o", tmp_path / "out")
    assert (threading.active_count(), torch.get_num_threads()) == (before, 2)
    assert "11 done" in by_threads(2, photos, "-o", tmp_path / "out").err


@pytest.mark.skipif(sys.platform == "win32", reason="other signals")
@pytest.mark.parametrize("interrupts", [1, 2])
def test_an_interrupt_lets_streams_finish_and_ends(
    tmp_path: Path, tiny_weights: Path, san_home: Path, interrupts: int
) -> None:
    """A second one, too: Python must not end while a thread is in the midst of PyTorch's code, which aborts it."""
    make_photos(tmp_path / "photos", 60)
    program = (
        "import time, torch; torch.set_num_threads(2); from san_cli import Segmenter; forward = Segmenter._forward\n"
        "def slow(*given):\n"
        "    until = time.monotonic() + 1.5\n"
        "    while time.monotonic() < until: torch.ones(1_000_000).exp_()\n"
        "    return forward(*given)\n"
        "Segmenter._forward = slow\n"
        "from san_cli.cli.main import main; main()"
    )
    out = tmp_path / "out"
    asked = [
        tmp_path / "photos",
        "-o",
        out,
        "--weights",
        tiny_weights,
        "--vocab",
        "cat,dog",
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", program, "predict", *map(str, asked)],
        env=subprocess_environment(san_home),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out / ".san" / "journal").exists() or not (out / ".san" / "journal").stat().st_size:
        assert process.poll() is None
        time.sleep(0.01)
    for _ in range(interrupts):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, "interrupted" in told, "terminate" in told) == (130, True, False)
