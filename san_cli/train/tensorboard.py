"""`san train --tensorboard`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.errors import SanError
from san_cli.train.watch import Report

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def summary_writer() -> "type[SummaryWriter]":
    """Return TensorBoard's writer. SanError where it isn't installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SanError(
            "--tensorboard needs the package tensorboard", hint="pip install tensorboard"
        ) from error
    return SummaryWriter


@contextmanager
def noted(
    folder: Path, first: int, writer: "type[SummaryWriter] | None"
) -> Iterator[Callable[[Report], None]]:
    """Yield what writes a report for TensorBoard; what a resumed training writes again is purged."""
    if writer is None:
        yield lambda _: None
        return
    with writer(str(folder), purge_step=first + 1) as board:

        def note(report: Report) -> None:
            values = {f"loss/{name}": value for name, value in report.losses.items()}
            values["gradient_norm"] = values.pop("loss/gradient_norm", float("nan"))
            for name in ("learning_rate", "images_per_s", "data_wait", "memory_mb", "skipped"):
                values[name] = getattr(report, name)
            for name, value in values.items():
                board.add_scalar(name, value, report.iteration)

        yield note
