"""Progress of a long job, on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from san_cli.cli import console
from san_cli.runs.voice import Step, Voice
from san_cli.text import duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

_LINE_EVERY_S = 10.0  # a bar of tqdm's would draw itself anew in a log without end
_LONGEST = 25  # characters of what a bar is about, so that 60 columns hold the rest


def bar_of(below: Callable[[], str] = lambda: "", *, transient: bool) -> "Progress":
    """Return a bar of Rich's with count and time left, whatever the terminal's width, over lines that `below` gives.

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


@contextmanager
def progress(what: str, total: int, *, quiet: bool = False) -> Iterator[Step]:
    """Show the progress of `total` steps called `what`; yields what is told `(done)`, or `(done, total)`."""
    if quiet or total < 1:
        yield lambda done, total=None: None
    elif not is_terminal():
        yield _lines(what, total)
    else:
        with bar_of(transient=True) as bar:
            task = bar.add_task(what if len(what) <= _LONGEST else f"{what[: _LONGEST - 1]}…", total=total)
            yield lambda done, total=None: bar.update(task, completed=done, total=total)


def _lines(what: str, steps: int) -> Step:
    """Return what says in plain lines, for logs, how far we are, unless that was just said."""
    start = last = time.monotonic()

    def step(done: int, total: int | None = None) -> None:
        nonlocal last, steps
        steps = total or steps
        now = time.monotonic()
        if now - last < _LINE_EVERY_S or not done:
            return
        last = now
        rate = done / (now - start)
        left = duration((steps - done) / rate)
        console.say(f"{what}: {done:,} of {steps:,}, {rate:.3g} a second, {left} left")

    return step


def is_terminal() -> bool:
    """Tell whether somebody looks at stderr."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # closed
        return False


def voice_of(quiet: bool, *, bars: bool) -> Voice:
    """Return what a job speaks with; `quiet` leaves out notes and what is only good to know."""
    unsaid = Voice.tell
    return Voice(
        say=console.say,
        tell=unsaid if quiet else console.say,
        note=unsaid if quiet else console.note,
        warn=console.warn,
        data=console.write_line,
        progress=partial(progress, quiet=not bars),
    )
