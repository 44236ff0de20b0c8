"""Streams: in order, bounded, PyTorch's threads shared out and given back, and alone where that is better."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from san_cli import Segmenter
from san_cli.engine import forked
from san_cli.engine import streams as streams_module
from san_cli.engine.streams import streamed, streams_for


@pytest.fixture
def four_threads() -> Iterator[None]:
    """Let PyTorch have four threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def segmenter(tiny_weights: Path) -> Segmenter:
    """The small model."""
    return Segmenter.load(weights=tiny_weights, device="cpu")


def nothing_alone(item: object) -> bool:
    return False


def test_order_is_kept_and_items_are_worked_on_at_once(four_threads: None) -> None:
    together = threading.Barrier(2, timeout=10)

    def work(number: int, at_once: int) -> tuple[int, int]:
        together.wait()  # for another one
        time.sleep(0.002 * (number % 3))
        return number, at_once

    found = list(streamed(work, range(20), streams=2, is_alone=nothing_alone))
    assert found == [(number, 2) for number in range(20)]


@pytest.mark.parametrize(("streams", "parts"), [(2, {2}), (3, {1, 2}), (4, {1})])
def test_threads_are_shared_out_and_given_back(four_threads: None, streams: int, parts: set[int]) -> None:
    gate = threading.Barrier(streams, timeout=10)
    seen: set[tuple[int, int]] = set()

    def work(number: int, at_once: int) -> None:
        seen.add((threading.get_ident(), torch.get_num_threads()))
        gate.wait()

    list(streamed(work, range(streams), streams=streams, is_alone=nothing_alone))
    assert ({threads for _, threads in seen}, sum(threads for _, threads in seen)) == (parts, 4)
    of_new_thread: list[int] = []
    new = threading.Thread(target=lambda: of_new_thread.append(torch.get_num_threads()))
    new.start()
    new.join()
    assert [torch.get_num_threads(), *of_new_thread] == [4, 4]


def test_what_is_alone_has_all_threads_and_nothing_beside_it(four_threads: None) -> None:
    at_work, lock = 0, threading.Lock()

    def work(number: int, at_once: int) -> tuple[int, int, bool]:
        nonlocal at_work
        with lock:
            at_work += 1
        time.sleep(0.005)
        with lock:
            most = at_work
        found = (at_once, torch.get_num_threads(), threading.current_thread() is threading.main_thread())
        with lock:
            at_work -= 1
        assert at_once > 1 or most == 1
        return found

    found = list(streamed(work, range(9), streams=2, is_alone=lambda number: number % 4 == 3))
    assert found == [(1, 4, True) if number % 4 == 3 else (2, 2, False) for number in range(9)]


def test_one_stream_is_the_callers_thread(four_threads: None) -> None:
    def work(number: int, at_once: int) -> tuple[int, int, bool]:
        return at_once, torch.get_num_threads(), threading.current_thread() is threading.main_thread()

    assert list(streamed(work, range(3), streams=1, is_alone=nothing_alone)) == [(1, 4, True)] * 3


def test_nothing_runs_far_ahead(four_threads: None) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = streamed(lambda number, at_once: number, items(), streams=3, is_alone=nothing_alone)
    for number in range(10):
        assert next(results) == number
        assert len(taken) <= number + 5
    before = threading.active_count()
    results.close()
    assert (threading.active_count(), len(taken) <= 14) == (before - 3, True)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 1 byte")])
def test_too_little_memory_is_one_at_a_time(four_threads: None, error: Exception) -> None:
    begun: list[tuple[int, int]] = []

    def work(number: int, at_once: int) -> int:
        begun.append((number, at_once))
        if at_once > 1 and number == 3:
            raise error
        return number

    assert list(streamed(work, range(12), streams=2, is_alone=nothing_alone)) == list(range(12))
    assert (3, 1) in begun
    assert all((number, 1) in begun for number in range(6, 12))


def test_exception_is_raised_in_its_place(four_threads: None) -> None:
    def work(number: int, at_once: int) -> int:
        if number == 3:
            raise ZeroDivisionError
        return number

    results = streamed(work, range(9), streams=2, is_alone=nothing_alone)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert (list(results), torch.get_num_threads()) == ([], 4)


@pytest.mark.parametrize(
    ("threads", "free", "batch", "streams"),
    [
        (1, 64_000, 1, 1),
        (2, 64_000, 1, 2),
        (3, 64_000, 1, 3),
        (4, 64_000, 1, 4),
        (64, 64_000, 1, 4),
        (4, float("inf"), 8, 4),
        (4, 2_500, 1, 2),
        (4, 64_000, 32, 2),
        (4, 300, 1, 1),
    ],
)
def test_streams_are_as_threads_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, segmenter: Segmenter, threads: int, free: float, batch: int, streams: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(streams_module, "free_memory", lambda: free)
    assert streams_for(segmenter, batch) == streams
    monkeypatch.setattr(segmenter, "network", lambda image: segmenter.model(image))  # of another runtime
    assert streams_for(segmenter, batch) == 1


def test_threads_that_were_lost_in_a_fork_are_not_shared_out(
    monkeypatch: pytest.MonkeyPatch, four_threads: None, segmenter: Segmenter
) -> None:
    monkeypatch.setattr(forked, "_lost", True)  # as in a child
    monkeypatch.setattr(forked, "_has_libgomp", lambda: True)
    monkeypatch.setattr(streams_module, "free_memory", lambda: 64_000.0)
    with pytest.warns(RuntimeWarning, match="forked"):
        assert streams_for(segmenter, 1) == 1
