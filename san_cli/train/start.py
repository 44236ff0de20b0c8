"""The first weights of a training: a frozen CLIP with a fresh side adapter, or a model to be fine-tuned."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from san_cli.errors import SanError, did_you_mean
from san_cli.models.clip import resized_positions
from san_cli.models.presets import PRESETS, Preset, get_preset
from san_cli.text import nearest, printable, quoted
from san_cli.train.plan import Model
from san_cli.weights.adapter import brings_its_clip, read_model, read_preset
from san_cli.weights.checkpoint import Checkpoint, check_finite, expected_shapes, random_checkpoint
from san_cli.weights.clip_weights import check_activation, read_clip
from san_cli.weights.file_hash import check_stated_hash
from san_cli.weights.find import check_is_weights, named_file, weights_here
from san_cli.weights.hub_name import hub_name, looks_like_repository


def with_files(model: Model, *, say: Callable[[str], None]) -> Model:
    """Put files for the names after --init-from and --clip-weights, as `named_file` does for those on the hub.

    A model's name after --init-from (`tiny`) stands for its weights on this machine; nothing is fetched for it.
    """
    if model.clip_file is not None:
        clip = str(named_file(str(model.clip_weights), say=say, clip=True))
        model = replace(model, clip_weights=clip)
    asked = model.init_from
    if asked is None:
        return model
    if asked.exists() or hub_name(str(asked)) is not None:
        return replace(model, init_from=named_file(asked, say=say))
    if asked.suffix:
        return model
    if str(asked) not in PRESETS:
        near = nearest(str(asked), PRESETS)
        on_hub = f"If it is a repository on the hub: --init-from hf:{asked}"
        raise SanError(
            f"--init-from: there is no file and no model {quoted(asked)}",
            hint=on_hub
            if looks_like_repository(str(asked))
            else did_you_mean(near) or f"Known models: {', '.join(PRESETS)}.",
        )
    return replace(model, init_from=weights_here(str(asked)))


def refuse_odd_weights(model: Model, *, adapter_only: bool) -> None:
    """Raise SanError for files that are no weights, and for a CLIP that contradicts what else was asked for."""
    random = model.clip_weights == "random"
    if random and adapter_only:
        raise SanError(
            "--adapter-only leaves the CLIP out, and a random one is in no other file",
            hint="Leave --adapter-only out.",
        )
    for path in (model.init_from, model.clip_file):
        if path is not None:
            check_is_weights(path)
    if model.init_from is None or model.clip_weights is None:
        return
    named = get_preset(model.preset) if model.preset else None
    if random or brings_its_clip(model.init_from, named):
        raise SanError(
            f"--init-from and --clip-weights {printable(model.clip_weights)} contradict each other",
            hint="--clip-weights names the CLIP's file for an adapter; a whole model brings its own.",
        )


def asked_preset(model: Model, checkpoint: Path | None) -> Preset:
    """Return the preset that was named, or that of the model to be fine-tuned or gone on with."""
    if model.init_from is not None and model.preset is None:
        return read_preset(checkpoint / "weights.safetensors" if checkpoint else model.init_from)
    return get_preset(model.preset or "vit-b-16")


def first_weights(
    model: Model, preset: Preset, seed: int, checkpoint: Path | None, *, say: Callable[[str], None]
) -> Checkpoint:
    """Read the weights of the checkpoint to go on from, of the model to be fine-tuned, or a fresh one's.

    SanError for files that are damaged or of another model.
    """
    if checkpoint is not None:  # an adapter alone goes back on the CLIP it came from
        clip = model.clip_file
        if clip is None and model.init_from is not None and brings_its_clip(model.init_from, preset):
            clip = model.init_from
        return model_to_tune(checkpoint / "weights.safetensors", preset, clip, say=say)
    if model.init_from is not None:
        named = model.preset is not None
        return model_to_tune(model.init_from, preset, model.clip_file, say=say, named=named)
    return fresh_model(preset, model.clip_weights, seed, say=say)


def fresh_model(
    preset: Preset, clip_weights: str | None, seed: int, *, say: Callable[[str], None]
) -> Checkpoint:
    """Initialise a side adapter from `seed`, on a pretrained CLIP.

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
    """Read the model in `path` (the official code's, ours, or an adapter), checked to be undamaged and of `preset`.

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
    """Return the model as it is at the preset's input size: `SideAdapter` resizes its positions in the same way."""
    name, side = "side_adapter.positions", preset.side_grid
    positions = state.get(name)
    if positions is None or positions.shape[1] == side**2:
        return state
    return {**state, name: resized_positions(positions.float(), (side, side))}
