"""What `san train` says on stderr while it runs: a bar on a terminal, a line for each line of the log elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from san_cli.cli import console
from san_cli.cli.progress import duration

if TYPE_CHECKING:
    from san_cli.training.run import Report


@contextmanager
def training_progress(total: int, first: int, *, quiet: bool) -> "Iterator[Callable[[Report], None]]":
    """Yields what shows a report of a training of `total` iterations that begins after `first`."""
    if quiet:
        yield lambda _: None
    elif not _is_terminal():
        yield lambda report: console.say(
            f"iteration {report.iteration:,} of {total:,}  {summary(report, total)}"
        )
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
        )
        with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bar:
            task = bar.add_task("", total=total, completed=first)
            yield lambda report: bar.update(
                task, completed=report.iteration, description=summary(report, total)
            )


def summary(report: "Report", total: int) -> str:
    """One line: losses, learning rate, speed, data wait, memory, time left."""
    names = ("total", "ce", "mask", "dice")
    losses = "  ".join(f"{name} {report.losses[name]:.3f}" for name in names if name in report.losses)
    parts = [
        f"loss {losses}" if losses else "loss not finite",
        f"lr {report.learning_rate:.2e}",
        f"{report.images_per_s:.3g} img/s",
        f"data wait {report.data_wait:.0%}",
        f"{report.memory_mb:,.0f} MB",
        f"{duration((total - report.iteration) * report.seconds_per_iteration)} left",
    ]
    if report.skipped:
        parts.append(f"{report.skipped} skipped")
    return "  ".join(parts)


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # closed
        return False
