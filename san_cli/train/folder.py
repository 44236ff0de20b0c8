"""The folder of a training, `-o`: what is there already, and that no other training writes to it meanwhile."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from san_cli.errors import SanError
from san_cli.runs.lock import locked, refuse_unusable_folder
from san_cli.runs.processes import ProcessGroup
from san_cli.runs.settings import Settings
from san_cli.text import quoted
from san_cli.train import checkpoints
from san_cli.train.settings import write_settings

_RESULTS = ("model.safetensors", "best.safetensors", "metrics.jsonl")
_STATE = ".san-train"  # holds the lock
_LOCK_WAIT_S = 5.0  # for a training that has just been killed, whose memory takes a while to be freed


def newest_checkpoint(output: Path) -> Path | None:
    """Find where to go on from; None to begin. SanError where only a trained model is left."""
    found = checkpoints.last(output / "checkpoints")
    if found is None and "model.safetensors" in _results(output):
        raise SanError(
            f"{quoted(output)} holds a trained model, but no checkpoint to go on from",
            hint="Choose another -o.",
        )
    return found


def refuse_folder(output: Path, *, goes_on: bool) -> None:
    """Raise SanError where nothing can be written to `output`, or where a training is that isn't gone on with."""
    refuse_unusable_folder(output)
    found = _results(output)
    if (output / "checkpoints").is_dir():
        found += sorted(path.name for path in (output / "checkpoints").glob("step-*"))
    if found and not goes_on:
        raise SanError(
            f"{quoted(output)} holds a training already ({found[0]})",
            hint="Add --resume to go on with it, or choose another -o.",
        )


@contextmanager
def held_folder(
    output: Path, settings: Settings, checkpoint: Path | None, processes: ProcessGroup, *, goes_on: bool
) -> Iterator[None]:
    """Keep the folder for this training alone, and its settings there; the leading process does it for all.

    What a killed process left half written is removed. SanError where the folder can't be used, or where another
    training is at work in it.
    """
    if not processes.leads:
        processes.wait()
        yield
        return
    with ExitStack() as held:
        try:
            (output / _STATE).mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(output / _STATE, output, "san train", wait_s=_LOCK_WAIT_S))
            # What was found before may be another training's by now, which has ended meanwhile.
            refuse_folder(output, goes_on=goes_on)
            if goes_on and newest_checkpoint(output) != checkpoint:
                raise SanError(
                    f"another san train has just written to {quoted(output)}",
                    hint="Run the same command again.",
                )
            checkpoints.sweep(output)
            if checkpoint is None:
                write_settings(output, settings)
        except OSError as error:
            raise SanError(
                f"can't use {quoted(output)} as a folder: {error.strerror}", hint="Choose another -o."
            ) from error
        processes.wait()
        yield


def _results(output: Path) -> list[str]:
    return [name for name in _RESULTS if (output / name).exists()]
