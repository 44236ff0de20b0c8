"""The progress of `san train` on stderr: a bar on a terminal, a line for each line of the log elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from san_cli.cli import console
from san_cli.cli.progress import bar_of, is_terminal
from san_cli.text import duration
from san_cli.train.watch import UNWATCHED, Report, Watch

_LINE_EVERY_S = 30.0  # where the log's lines are further apart


@contextmanager
def training_progress(total: int, first: int, *, quiet: bool) -> Iterator[Watch]:
    """Yield what shows a training of `total` iterations that begins after `first`."""
    if quiet:
        yield UNWATCHED
    elif not is_terminal():
        yield _lines(total, first)
    else:
        with _bar(total, first) as watch:
            yield watch


def _lines(total: int, first: int) -> Watch:
    """Say the log's lines, and in between how far it is if those are slow to come."""
    start = last = time.monotonic()

    def on_iteration(iteration: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE_EVERY_S:
            last = now
            each = (now - start) / (iteration - first)
            left = duration((total - iteration) * each)
            console.say(f"iteration {iteration:,} of {total:,}, {duration(each)} each, {left} left")

    def on_report(report: Report) -> None:
        nonlocal last
        last = time.monotonic()
        console.say(f"iteration {report.iteration:,} of {total:,}  {summary(report, total)}")

    return Watch(on_iteration, on_report, lambda done, images: None)


@contextmanager
def _bar(total: int, first: int) -> Iterator[Watch]:
    """Show a bar that moves with every iteration, and the log's last line below it."""
    below = ""
    with bar_of(lambda: below, transient=False) as bar:
        task = bar.add_task("training", total=total, completed=first)

        def on_report(report: Report) -> None:
            nonlocal below
            below = summary(report, total)

        def on_evaluated(done: int, images: int) -> None:
            what = f"evaluating {done}/{images}" if done < images else "training"
            bar.update(task, description=what)

        yield Watch(lambda iteration: bar.update(task, completed=iteration), on_report, on_evaluated)


def summary(report: Report, total: int) -> str:
    """Sum a line of the log up: losses, learning rate, speed, data wait, memory, time left."""
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
