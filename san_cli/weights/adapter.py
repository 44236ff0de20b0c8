"""A side adapter saved alone: the trained tensors of a SAN, to be loaded on top of the CLIP they belong to.

One safetensors file like a whole model's (see `checkpoint`), with `format` "san-adapter-1" and `clip_sha256`,
the hash of the frozen tensors. For ViT-B/16 that is 34 MB instead of 632.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from san_cli.errors import SanError
from san_cli.models.presets import PRESETS, Preset
from san_cli.models.san import SAN
from san_cli.models.unfilled import unfilled
from san_cli.text import printable, quoted
from san_cli.weights.checkpoint import (
    Checkpoint,
    expected_shapes,
    preset_in_header,
    read_checkpoint,
    write_tensors,
)
from san_cli.weights.clip_weights import read_clip
from san_cli.weights.file_hash import states_hash
from san_cli.weights.find import check_is_weights
from san_cli.weights.hub import OFFICIAL, is_published

FORMAT = "san-adapter-1"


def trainable_names(preset: Preset) -> frozenset[str]:
    """Name the tensors that training changes (8.37 M numbers for ViT-B/16)."""
    with unfilled():
        model = SAN(preset)
    return frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)


def frozen_sha256(state: Mapping[str, Tensor], preset: Preset) -> str:
    """Hash the tensors that training leaves alone, in the order of their names."""
    trained, digest = trainable_names(preset), hashlib.sha256()
    for name in sorted(state.keys() - trained):
        digest.update(name.encode())
        digest.update(state[name].float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def write_adapter(checkpoint: Checkpoint, path: Path) -> None:
    """Write the trained tensors alone, atomically."""
    trained = trainable_names(checkpoint.preset)
    state = {name: tensor for name, tensor in checkpoint.state.items() if name in trained}
    metadata = {
        **checkpoint.metadata,
        "clip_sha256": frozen_sha256(checkpoint.state, checkpoint.preset),
    }
    write_tensors(Checkpoint(checkpoint.preset, state, metadata), path, FORMAT)


def is_adapter(path: Path) -> bool:
    """Tell whether the file says of itself that it is one; False for anything else, readable or not."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def brings_its_clip(path: Path, preset: Preset | None = None) -> bool:
    """Tell whether a model needs no other file: an adapter does, and a checkpoint without its text tower."""
    if is_adapter(path):
        return False
    lent: list[Preset] = []

    def lend(preset: Preset, _: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        lent.append(preset)
        return _without_values(preset)

    with suppress(SanError):  # which is told when it is read
        read_checkpoint(path, preset, any_input_size=True, lend=lend)
    return not lent


def _without_values(preset: Preset) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in expected_shapes(preset).items()}


def read_preset(path: Path) -> Preset:
    """Read the preset of a whole model or an adapter. Raises SanError."""
    check_is_weights(path)
    if not is_adapter(path):
        return read_checkpoint(path, lend=lambda preset, _: _without_values(preset)).preset
    with safe_open(path, framework="pt") as file:
        return preset_in_header(file.metadata().get("preset", ""), path)


def read_model(
    path: Path,
    preset: Preset | None = None,
    clip_weights: Path | None = None,
    *,
    any_input_size: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Read a whole model from any file that `read_checkpoint` reads; an adapter is completed with its CLIP.

    `preset` and `any_input_size` are as there, and `clip_weights` is read for an adapter, and for a checkpoint
    without its text tower, as `read_clip` says. Raises SanError for a CLIP other than the one they were trained on.
    """
    if not is_adapter(path):

        def lend(of: Preset, image_side: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
            return _lent_clip(of, image_side, path, clip_weights, say)

        checkpoint = read_checkpoint(path, preset, any_input_size=any_input_size, lend=lend)
        if preset is None:
            _say_what_is_assumed(checkpoint.preset, path, say)
        return checkpoint
    adapter = read_adapter(path)
    preset, metadata = adapter.preset, dict(adapter.metadata)
    # The frozen rest, from the CLIP it was trained on: its hash is in the header, too.
    whole = {**_clip_of(f"adapter {quoted(path)}", path, preset, clip_weights, say), **adapter.state}
    if frozen_sha256(whole, preset) != metadata.pop("clip_sha256", ""):
        where = "open_clip's weights" if clip_weights is None else f"{quoted(clip_weights)}"
        raise SanError(
            f"adapter {quoted(path)} was trained on another CLIP than {where}",
            hint="Name the CLIP it was trained on with --clip-weights FILE.",
        )
    return Checkpoint(preset, whole, metadata)


def read_adapter(path: Path) -> Checkpoint:
    """Read an adapter without its CLIP: what training changed. SanError where it isn't what its preset trains."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    preset = preset_in_header(metadata.pop("preset", ""), path)
    for key in ("format", "sha256"):
        metadata.pop(key, None)
    trained = trainable_names(preset)
    if state.keys() != trained:
        odd = sorted(state.keys() ^ trained)[0]
        raise SanError(f"adapter {quoted(path)} does not hold what its preset trains: see tensor {odd}")
    shapes = expected_shapes(preset)
    for name, tensor in state.items():
        if tensor.shape != shapes[name]:
            raise SanError(
                f"adapter {quoted(path)}: tensor {name} has shape {list(tensor.shape)}, "
                f"{printable(preset.name)} needs {list(shapes[name])}"
            )
    return Checkpoint(preset, state, metadata)


def _clip_of(
    model: str, path: Path, preset: Preset, clip_weights: Path | None, say: Callable[[str], None]
) -> dict[str, Tensor]:
    """Read the CLIP that a model lacks; SanError that says so where there is none."""
    try:
        return read_clip(preset, clip_weights, say=say)
    except SanError as error:
        if clip_weights is not None:
            raise
        put_back = f"san weights convert {path.name} model.safetensors --clip-weights CLIP"
        raise SanError(
            f"{model} needs its CLIP: {error.message}",
            hint=f"`{printable(put_back)}` makes a whole model of it.\n{error.hint}",
        ) from error


def _lent_clip(
    preset: Preset,
    image_side: Mapping[str, Tensor],
    path: Path,
    clip_weights: Path | None,
    say: Callable[[str], None],
) -> Mapping[str, Tensor]:
    """Read the CLIP whose text tower a checkpoint lacks; SanError where its image tower is another.

    They are compared loosely, as a checkpoint's may have been through 16 bits.
    """
    clip = _clip_of(f"{quoted(path)} lacks CLIP's text tower, and", path, preset, clip_weights, say)
    trained = trainable_names(preset)
    for name, tensor in image_side.items():
        other = clip.get(name)
        if other is None or name in trained:
            continue
        if tensor.shape != other.shape or not torch.allclose(tensor.float(), other, rtol=0.02, atol=0.002):
            where = "open_clip's weights" if clip_weights is None else quoted(clip_weights)
            raise SanError(
                f"{quoted(path)} was trained on another CLIP than {where}: tensor {name} differs",
                hint="Name the CLIP it was trained on with --clip-weights FILE.",
            )
    return clip


def _say_what_is_assumed(preset: Preset, path: Path, say: Callable[[str], None]) -> None:
    """Tell `say` what a file leaves open, or says otherwise than its model's name does."""
    if states_hash(path):  # a file of ours
        known = PRESETS.get(preset.name)
        if known not in (None, preset):
            differing = [name for name, value in vars(preset).items() if value != getattr(known, name)]
            say(
                f"'{path}' calls its model {preset.name}, and differs from san's own in {', '.join(differing)}"
            )
    elif not any(is_published(path, official) for official in OFFICIAL.values()):
        say(
            f"'{path}' doesn't say which GELU its CLIP was trained with: it is run with "
            f"{'QuickGELU, as OpenAI' if preset.clip.quick_gelu else 'plain GELU, as LAION'}'s "
            f'(a preset of your own, --model FILE.json, sets "quick_gelu")'
        )
