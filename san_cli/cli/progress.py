"""How far a long job has come, on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from san_cli.cli import console

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

_LINE_EVERY_S = 10.0
_LONGEST = 25  # characters of what a bar is about, so that 60 columns hold the rest


class _Quiet:
    def step(self, done: int, total: int | None = None) -> None:
        """Show nothing."""


class _Lines:
    """Plain lines, for logs."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._start = self._last = time.monotonic()

    def step(self, done: int, total: int | None = None) -> None:
        """Say how far we are, unless that was just said."""
        self._total = total or self._total
        now = time.monotonic()
        if now - self._last < _LINE_EVERY_S or not done:
            return
        self._last = now
        rate = done / (now - self._start)
        left = duration((self._total - done) / rate)
        console.say(f"{self._what}: {done:,} of {self._total:,}, {rate:.3g} a second, {left} left")


def bar_of(below: Callable[[], str] = lambda: "", *, transient: bool) -> "Progress":
    """A bar of Rich's with count and time left, whatever the terminal's width, over lines that `below` gives.

    What is written to stderr meanwhile appears above it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Bar(Progress):
        def get_renderables(self) -> "Iterator[RenderableType]":
            yield from super().get_renderables()
            if text := below():
                yield Text(text)

    # Count and time are never cut: the bar gives way.
    return Bar(
        TextColumn(
            "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
        ),
        BarColumn(bar_width=None, table_column=Column(max_width=40)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        console=Console(stderr=True),
        transient=transient,
        redirect_stdout=False,  # data: not ours to hold back
        refresh_per_second=4,
        speed_estimate_period=600,  # seconds: some steps take minutes, and one alone says nothing of the speed
    )


class _Bar:
    """A bar on a terminal."""

    def __init__(self, what: str, total: int) -> None:
        self._progress = bar_of(transient=True)
        short = what if len(what) <= _LONGEST else f"{what[: _LONGEST - 1]}…"
        self._task = self._progress.add_task(short, total=total)
        self._progress.start()

    def step(self, done: int, total: int | None = None) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, total=total)

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()


@contextmanager
def progress(what: str, total: int, *, quiet: bool = False) -> Iterator[_Quiet | _Lines | _Bar]:
    """Progress of `total` steps called `what`; tell it with `step(done)`, or `step(done, total)`."""
    if quiet or total < 1:
        yield _Quiet()
    elif not is_terminal():
        yield _Lines(what, total)
    else:
        bar = _Bar(what, total)
        try:
            yield bar
        finally:
            bar.stop()


def duration(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def is_terminal() -> bool:
    """Whether somebody looks at stderr."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # closed
        return False
