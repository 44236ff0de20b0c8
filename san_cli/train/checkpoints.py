"""The checkpoints of a training: what is needed to predict, and what is needed to go on.

    DIR/checkpoints/step-00005000/weights.safetensors   a model like any other (or the adapter alone)
                                  state.safetensors     the optimiser's moments; step, best mIoU and so on
    DIR/best.safetensors, DIR/best.json                 the model of the best evaluation (see `best`)
    DIR/model.safetensors                               the trained model, at the end

A checkpoint is a folder that appears under its name when it is complete. Whatever is random in a training is a
function of seed and step, so there is no other state: no generators, no position in the data.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from san_cli.errors import SanError
from san_cli.files import sweep_stale
from san_cli.text import printable, quoted
from san_cli.train.state_files import Writer, unwritable
from san_cli.weights.adapter import write_adapter
from san_cli.weights.checkpoint import Checkpoint, write_checkpoint
from san_cli.weights.file_hash import UNSTATED, check_stated_hash, write_stated_hash

_NAME = re.compile(r"step-(\d{8})")
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class Position:
    """The progress of a training, apart from its weights."""

    step: int  # optimisation steps done
    skipped: int = 0  # of these, without an update because loss or gradient were not finite
    loss_scale: float = 0.0  # fp16's; 0: not in use
    loss_scale_steps: int = 0  # good ones since it last changed
    pending: dict[str, float] = field(default_factory=dict)  # losses since the last line of the log, summed
    pending_steps: int = 0
    logged: int = 0  # lines of the log until then


def writer(*, adapter_only: bool) -> Writer:
    """Return what writes weights: whole models, or adapters alone."""
    return write_adapter if adapter_only else write_checkpoint


def save(
    folder: Path,
    checkpoint: Checkpoint,
    moments: Mapping[str, Tensor],
    position: Position,
    *,
    adapter_only: bool,
    keep: int,
) -> Path:
    """Write the checkpoint of `position.step` and drop all but the last `keep`; its weights file is returned.

    Raises SanError if it can't be written; earlier checkpoints stay.
    """
    target = folder / f"step-{position.step:08d}"
    temporary = folder / f"{_UNFINISHED}{target.name}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        folder.mkdir(exist_ok=True)  # but not the training's folder: it was there, and may be gone
        temporary.mkdir()
        state = temporary / "state.safetensors"
        header = {"position": json.dumps(asdict(position)), "sha256": UNSTATED}
        save_file({name: t.cpu().contiguous() for name, t in sorted(moments.items())}, state, header)
        write_stated_hash(state)
        writer(adapter_only=adapter_only)(checkpoint, temporary / "weights.safetensors")
        with state.open("rb") as written:
            os.fsync(written.fileno())
        shutil.rmtree(target, ignore_errors=True)  # of a run that was resumed from an earlier step
        temporary.replace(target)
    except (OSError, SafetensorError, SanError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise unwritable(f"the checkpoint of step {position.step}", folder.parent, error) from error
    for old in _complete(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target / "weights.safetensors"


def last(folder: Path) -> Path | None:
    """Find the newest complete checkpoint, None if there is none."""
    found = _complete(folder)
    return found[-1] if found else None


def read_state(checkpoint: Path) -> tuple[dict[str, Tensor], Position]:
    """Read the optimiser's moments by name, and how far the training had come. Raises SanError."""
    path = checkpoint / "state.safetensors"
    try:
        if not path.is_file():
            raise ValueError("it is no file" if path.exists() else "it is missing")
        check_stated_hash(path)
        with safe_open(path, framework="pt") as file:
            position = Position(**json.loads(file.metadata()["position"]))
            moments = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise SanError(f"{quoted(path)} can't be read ({error})", hint=_earlier(checkpoint)) from error
    except SanError as error:
        raise SanError(error.message, hint=_earlier(checkpoint)) from error
    if checkpoint.name != f"step-{position.step:08d}":
        raise SanError(
            f"{quoted(path)} is of step {position.step}, not of the one that its folder is called after",
            hint=_earlier(checkpoint),
        )
    return moments, position


def check_weights(checkpoint: Path, weights: Checkpoint, position: Position) -> None:
    """Raise SanError where a checkpoint's weights are not those of the step of its optimiser state."""
    found = weights.metadata.get("iterations")
    if found != str(position.step):
        raise SanError(
            f"{quoted(checkpoint / 'weights.safetensors')} is of iteration {printable(str(found))}, its "
            f"state.safetensors of {position.step}",
            hint=_earlier(checkpoint),
        )


def _earlier(checkpoint: Path) -> str:
    return f"Delete the folder {quoted(checkpoint)} to go on from the checkpoint before it."


def publish(weights: Path, target: Path) -> None:
    """Give a checkpoint's weights a second name, which outlives the checkpoint."""
    temporary = target.with_name(f".{target.name}.new")
    with suppress(FileNotFoundError):
        temporary.unlink()
    try:
        os.link(weights, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(weights, temporary)
    temporary.replace(target)


def sweep(output: Path) -> None:
    """Remove what a killed process left half written in a training's folder."""
    for pattern in (".san-*.safetensors", ".model.safetensors.new"):
        for path in output.glob(pattern):
            path.unlink(missing_ok=True)
    for path in (output / "checkpoints").glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)
    sweep_stale(output)


def _complete(folder: Path) -> list[Path]:
    """List the complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))


def moments_of(
    optimizers: Sequence[torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Return the optimisers' state as named tensors: `<parameter>/exp_avg` and so on."""
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for optimizer in optimizers
        if parameter in optimizer.state
        for key, value in optimizer.state[parameter].items()
    }


def restore_moments(
    optimizers: Sequence[torch.optim.Optimizer],
    parameters: Mapping[str, nn.Parameter],
    moments: Mapping[str, Tensor],
) -> None:
    """Put back what `moments_of` gave. `step` stays on the CPU, as AdamW has it."""
    owners = {id(p): o for o in optimizers for group in o.param_groups for p in group["params"]}
    for name, value in moments.items():
        parameter, _, key = name.rpartition("/")
        if parameter not in parameters:
            raise SanError(
                f"the checkpoint's optimiser state is of another model: it has {printable(parameter)}"
            )
        own = parameters[parameter]
        if key != "step" and value.shape != own.shape:
            raise SanError(
                f"the checkpoint's optimiser state is of another model: see {printable(parameter)}"
            )
        owners[id(own)].state[own][key] = value.clone() if key == "step" else value.to(own.device)
