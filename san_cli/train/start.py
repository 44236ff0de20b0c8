"""What a training starts from: a frozen CLIP with a fresh side adapter, or a model to be fine-tuned."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from san_cli.errors import SanError
from san_cli.models.clip import resized_positions
from san_cli.models.presets import Preset
from san_cli.text import quoted
from san_cli.weights.adapter import read_model
from san_cli.weights.checkpoint import Checkpoint, check_finite, expected_shapes, random_checkpoint
from san_cli.weights.clip_weights import check_activation, read_clip
from san_cli.weights.file_hash import check_stated_hash
from san_cli.weights.find import check_is_weights


def fresh_model(
    preset: Preset, clip_weights: str | None, seed: int, *, say: Callable[[str], None]
) -> Checkpoint:
    """A side adapter initialised from `seed` on a pretrained CLIP.

    `clip_weights` is a file, None for open_clip's `openai` weights, or "random" for an untrained CLIP.
    """
    if clip_weights == "random":
        say("random CLIP weights: the model can only learn what it is shown, no other words")
        return random_checkpoint(preset, seed)
    path = None if clip_weights is None else Path(clip_weights)
    clip = read_clip(preset, path, say=say)
    check_activation(preset, path, say=say)
    check_finite(clip, path or Path("the CLIP weights"))
    return Checkpoint(preset, {**random_checkpoint(preset, seed).state, **clip}, {})


def model_to_tune(
    path: Path, preset: Preset, clip_file: Path | None, *, say: Callable[[str], None], named: bool = False
) -> Checkpoint:
    """The model in `path` (the official code's, ours, or an adapter), checked to be undamaged and of `preset`.

    Where the preset has another input size, the side adapter's positions are resized to it. `named`: the user named
    the preset, rather than changes to the file's own; for the message. Raises SanError.
    """
    check_is_weights(path)
    if path.suffix == ".safetensors":
        check_stated_hash(path)
    checkpoint = read_model(path, preset, clip_file, any_input_size=True, say=say)
    state = _for_input_size(checkpoint.state, preset)
    for name, shape in expected_shapes(preset).items():
        if name not in state or state[name].shape != shape:
            raise SanError(
                f"{quoted(path)} holds a {checkpoint.preset.name} model, which does not fit {preset.name}: "
                f"tensor {name} differs",
                hint="Leave --model out: the file says which model it is."
                if named
                else "Of a trained model's sizes --set can change input_size alone.",
            )
    check_finite(state, path)
    before, now = checkpoint.preset.side_grid, preset.side_grid
    if before != now:
        say(f"the side adapter's positions are resized from {before} × {before} to {now} × {now}")
    return Checkpoint(preset, state, checkpoint.metadata)


def _for_input_size(state: Mapping[str, Tensor], preset: Preset) -> Mapping[str, Tensor]:
    """The model as it is at the preset's input size: `SideAdapter` resizes its positions in the same way."""
    name, side = "side_adapter.positions", preset.side_grid
    positions = state.get(name)
    if positions is None or positions.shape[1] == side**2:
        return state
    return {**state, name: resized_positions(positions.float(), (side, side))}
