"""Processes that work in step, which are threads here: what they tell one another, and how one ends the others."""

import threading
import time
from collections.abc import Callable
from typing import Any

from torch.distributed import HashStore

from san_cli.errors import SanError
from san_cli.runs.processes import ALONE, Processes
from san_cli.runs.shares import Share


def run(world: int, work: Callable[[Processes], Any]) -> list[Any]:
    """What each process comes to, or how it ends."""
    store, found = HashStore(), [None] * world

    def process(rank: int) -> None:
        try:
            found[rank] = work(Processes(Share(rank, world), store))
        except SanError as error:
            found[rank] = error

    threads = [threading.Thread(target=process, args=(rank,), daemon=True) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return found


def test_everyone_has_everyones_result() -> None:
    large = "x" * (9 << 20)  # beyond what the store takes at a time
    results = run(3, lambda us: (us.together(lambda: us.rank), us.together(lambda: large[: us.rank])))
    assert results == [([0, 1, 2], ["", "x", "xx"])] * 3
    assert run(2, lambda us: len(us.together(lambda: large)[1])) == [len(large)] * 2
    assert ALONE.together(lambda: "alone") == ["alone"]


def test_a_fault_ends_all_with_one_sentence() -> None:
    def fail(us: Processes) -> None:
        def work() -> None:
            if us.rank == 1:
                raise SanError("the disk is full", hint="Make room.")

        us.together(work)

    own, *others = [found for _, found in sorted(enumerate(run(3, fail)), key=lambda one: one[0] != 1)]
    assert (own.message, own.hint) == ("the disk is full", "Make room.")
    assert [one.message for one in others] == ["process 1 stopped: the disk is full"] * 2
    assert [one.hint for one in others] == ["Make room."] * 2


def test_the_leading_process_leaves_last() -> None:
    """It may be the one that keeps the store, at which a slow one still has to ask."""
    asked: list[int] = []

    def leave(us: Processes) -> list[int]:
        if us.rank == 2:
            time.sleep(0.5)
        asked.append(us.rank)
        us.leave()
        return list(asked)

    assert sorted(run(3, leave)[0]) == [0, 1, 2]
    ALONE.leave()


def test_other_values_are_named() -> None:
    found = run(2, lambda us: us.agree("settings", "abc"[us.rank]))
    assert all(isinstance(one, SanError) and "a, b" in one.message for one in found)
