"""Voice of a job towards its user: whoever starts it hands it these functions, so that no job knows of a console."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol


class Step(Protocol):
    """Told how many steps are done, and how many there are where that wasn't known."""

    def __call__(self, done: int, total: int | None = None) -> None: ...


def _unseen(done: int, total: int | None = None) -> None:
    """Show nothing."""


def _unsaid(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Voice:
    """Functions by which a job speaks meanwhile; by default it is silent."""

    say: Callable[[str], None] = _unsaid  # always
    tell: Callable[[str], None] = _unsaid  # unless --quiet
    note: Callable[[str], None] = _unsaid  # the same, as a note
    warn: Callable[[str], None] = _unsaid
    data: Callable[[str], None] = _unsaid  # a line on stdout
    progress: Callable[[str, int], AbstractContextManager[Step]] = lambda *_: nullcontext(_unseen)
