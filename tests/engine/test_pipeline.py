"""Threads that work ahead: bounded, in order, and gone when nobody asks any more."""

import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from san_cli.engine.pipeline import threaded


def test_order_is_kept() -> None:
    def late(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(threaded(late, range(40), threads=4, ahead=6)) == [n * n for n in range(40)]


def test_nothing_runs_far_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = threaded(lambda number: number, items(), threads=2, ahead=3)
    for number in range(10):
        assert next(results) == number
        assert len(taken) <= number + 4
    results.close()
    assert len(taken) <= 14


def test_item_before_the_next_is_begun_ahead() -> None:
    begun = [threading.Event() for _ in range(4)]
    results = threaded(lambda number: begun[number].set() or number, range(4), threads=1, ahead=1)
    assert next(results) == 0
    assert begun[1].wait(5)
    results.close()


def test_exception_is_raised_in_its_place() -> None:
    def odd(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError
        return number

    results = threaded(odd, range(9), threads=3, ahead=3)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_threads_end_with_the_iterator() -> None:
    before = threading.active_count()
    results = threaded(str, range(100), threads=4, ahead=4)
    next(results)
    results.close()
    assert threading.active_count() == before
    assert list(threaded(str, [], threads=4, ahead=4)) == []


def test_what_is_there_is_handed_out_before_an_item_that_takes_long() -> None:
    taken: list[int] = []

    def slow() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            time.sleep(0.2)
            yield number

    results = threaded(lambda number: number, slow(), threads=1, ahead=3, at_once=True)
    assert next(results) == 0
    assert taken in ([0], [0, 1])  # without it all three are taken first
    assert list(results) == [1, 2]


def test_an_item_is_let_go_of_while_the_next_is_awaited() -> None:
    class Large:
        pass

    last: list[weakref.ref[Large]] = []

    def items() -> Iterator[Large]:
        for _ in range(3):
            until = time.monotonic() + 5  # the thread lets go of it a moment after its result is there
            while last and last[-1]() is not None and time.monotonic() < until:
                time.sleep(0.01)
            assert not last or last[-1]() is None
            large = Large()
            last.append(weakref.ref(large))
            yield large
            del large

    assert list(threaded(lambda large: 1, items(), threads=1, ahead=0)) == [1, 1, 1]
