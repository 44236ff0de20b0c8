"""`san train --tensorboard`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.errors import SanError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from san_cli.train.run import Report


def summary_writer() -> "type[SummaryWriter]":
    """TensorBoard's writer. SanError where it isn't installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SanError(
            "--tensorboard needs the package tensorboard", hint="pip install tensorboard"
        ) from error
    return SummaryWriter


@contextmanager
def noted(folder: Path, first: int, board: "type[SummaryWriter] | None") -> Iterator[Callable[..., None]]:
    """Yields what writes a report for TensorBoard; what a resumed training writes again is purged."""
    if board is None:
        yield lambda _: None
        return
    with board(str(folder), purge_step=first + 1) as writer:

        def note(report: "Report") -> None:
            values = {f"loss/{name}": value for name, value in report.losses.items()}
            values["gradient_norm"] = values.pop("loss/gradient_norm", float("nan"))
            for name in ("learning_rate", "images_per_s", "data_wait", "memory_mb", "skipped"):
                values[name] = getattr(report, name)
            for name, value in values.items():
                writer.add_scalar(name, value, report.iteration)

        yield note
