"""How far a long job has come, on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from san_cli.cli import console

_LINE_EVERY_S = 10.0


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


class _Bar:
    """A bar of Rich's; what is written to stderr meanwhile appears above it."""

    def __init__(self, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # data: not ours to hold back
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(what, total=total)
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
    elif not _is_terminal():
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


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # closed
        return False
