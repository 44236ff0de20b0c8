"""Reading and writing whole models: official `.pth` files, those of other programs, and our own safetensors.

Our format is one safetensors file. Its header holds `format` ("san-1"), `preset` (JSON), `sha256` (see
`file_hash.py`) and free metadata; its tensors have our modules' names: `visual.*` and `text.*` (CLIP's towers as
open_clip names them), `side_adapter.*`, `mask_decoder.*`, `background_embedding`, `logit_scale`.
"""

import errno
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from san_cli.errors import ExitCode, SanError
from san_cli.files import temp_path
from san_cli.models.clip import build_text_tower
from san_cli.models.presets import PRESETS, Preset, preset_from_json, preset_to_json
from san_cli.models.san import SAN
from san_cli.models.unfilled import unfilled
from san_cli.text import printable
from san_cli.weights.file_hash import UNSTATED, write_stated_hash
from san_cli.weights.find import cant_read
from san_cli.weights.header import FORMAT
from san_cli.weights.kind import is_san, kind_of_tensors
from san_cli.weights.mmseg import is_mmseg, official_tensors
from san_cli.weights.official import IGNORED, official_name
from san_cli.weights.wrapped import plain_names, read_tensors

_POSITIONS = "visual.positional_embedding"
# Gives the text tower that a file lacks, for its preset and the tensors that it has; SanError where it can't.
Lender = Callable[[Preset, Mapping[str, Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """A whole model: its preset and its tensors under our names."""

    preset: Preset
    state: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Select the tensors whose name starts with `prefix.`, without it."""
        return {
            name.removeprefix(f"{prefix}."): t
            for name, t in self.state.items()
            if name.startswith(f"{prefix}.")
        }

    def without_image_side(self) -> "Checkpoint":
        """Keep the text tower alone, so that the memory of the rest can be given back."""
        text = {name: tensor for name, tensor in self.state.items() if name.startswith("text.")}
        return Checkpoint(self.preset, text, self.metadata)


def read_checkpoint(
    path: Path, preset: Preset | None = None, *, any_input_size: bool = False, lend: Lender | None = None
) -> Checkpoint:
    """Read and check a model file; tensors are memory-mapped where the format allows.

    `preset` is what another program's file is read as (default: found from its tensors' shapes), with
    `any_input_size` but for its input size, which the file's positions tell; a safetensors file of ours carries its
    own. Raises SanError for a file that is damaged or has missing, unknown or mis-shaped tensors, each named; the
    text tower alone may be missing, if `lend` gives it. The values are not looked at: see `check_finite`.
    """
    if path.suffix != ".safetensors":
        return _of_others(read_tensors(path), path, preset, any_input_size, lend)
    metadata, state = _read_safetensors(path)
    if metadata.pop("format", None) == FORMAT:
        return _of_ours(metadata, state, path)
    state = plain_names(state)
    if not is_san(state):
        what, way = kind_of_tensors(state)
        raise SanError(
            f"'{path}' is a safetensors file, but not one of ours{what and ': it is '}{what}",
            hint=way
            or "`san weights convert SOURCE.pth TARGET.safetensors` makes one from an official checkpoint.",
        )
    return _of_others(state, path, preset, any_input_size, lend)


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write our format atomically: the name `path` holds a complete file or what it held before."""
    write_tensors(checkpoint, path, FORMAT)


def write_tensors(checkpoint: Checkpoint, path: Path, file_format: str) -> None:
    """Write a safetensors file that states its preset and its hash, atomically. Raises SanError."""
    header = {
        **checkpoint.metadata,
        "format": file_format,
        "preset": preset_to_json(checkpoint.preset),
        "sha256": UNSTATED,
    }
    temporary = temp_path(path.parent)
    try:
        tensors = {name: tensor.contiguous() for name, tensor in sorted(checkpoint.state.items())}
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # as the user's umask wants it; safetensors makes files private
        save_file(tensors, temporary, header)
        temporary.chmod(mode)
        write_stated_hash(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except (SafetensorError, OSError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        raise SanError(
            f"'{path}' can't be written ({error})", code=ExitCode.SOME_FAILED if full else ExitCode.USAGE
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def in_half_precision(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """Convert the model to float16 tensors, half the size; `path` is for the message.

    Loading makes float32 of them again. SanError for values that aren't finite or are beyond float16's 65,504.
    """
    check_finite(checkpoint.state, path)
    halves = {name: tensor.half() for name, tensor in checkpoint.state.items()}
    for name, half in halves.items():
        if not torch.isfinite(half).all():
            raise SanError(
                f"'{path}' can't be halved: tensor {name} has values that float16 can't hold",
                hint="Leave --half out.",
            )
    return Checkpoint(checkpoint.preset, halves, checkpoint.metadata)


def load_into(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give `module` (built on the meta device or not) these tensors without copying them."""
    module.load_state_dict(dict(state), strict=True, assign=True)


def expected_shapes(preset: Preset) -> dict[str, torch.Size]:
    """List name and shape of every tensor in a checkpoint of that preset."""
    with unfilled():
        model, text = SAN(preset), build_text_tower(preset.clip)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    return shapes | {f"text.{name}": tensor.shape for name, tensor in text.state_dict().items()}


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise cant_read(path, error) from error
    except (SafetensorError, OSError) as error:
        raise SanError(f"'{path}' is not a readable safetensors file ({error})") from error


def _of_ours(metadata: dict[str, str], state: Mapping[str, Tensor], path: Path) -> Checkpoint:
    metadata.pop("sha256", None)  # compared where weights are found
    preset = preset_in_header(metadata.pop("preset", ""), path)
    shapes = expected_shapes(preset)
    _compare_names(set(state), set(shapes), path)
    return _checked(Checkpoint(preset, state, metadata), shapes, path)


def _of_others(
    state: Mapping[str, Tensor],
    path: Path,
    preset: Preset | None,
    any_input_size: bool,
    lend: Lender | None,
) -> Checkpoint:
    """Make a checkpoint of tensors under the official names, mmsegmentation's or ours, which state no preset."""
    state = official_tensors(state) if is_mmseg(state) else state
    state = {name: tensor for name, tensor in state.items() if name not in IGNORED}
    preset = preset or _guess_preset(state, path)
    if any_input_size:
        preset = _at_its_input_size(state, preset)
    shapes = expected_shapes(preset)
    names = {name: name if name in state else official_name(name, preset) for name in shapes}
    state = _with_text(state, names, preset, path, lend)
    _compare_names(set(state), set(names.values()), path)
    ours = {name: _squeeze_1x1(state[names[name]], shape) for name, shape in shapes.items()}
    return _checked(Checkpoint(preset, ours, {"source": path.name}), shapes, path)


def _with_text(
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    preset: Preset,
    path: Path,
    lend: Lender | None,
) -> Mapping[str, Tensor]:
    """Complete a file that has no text tower at all; `names` are ours and the file's."""
    lendable = {name for name in names if name.startswith(("text.", "logit_scale"))}
    if any(names[name] in state for name in lendable - {"logit_scale"}):
        return state
    kept = {ours: theirs for ours, theirs in names.items() if ours not in lendable}
    # What a program keeps of the classes in its place, such as their embeddings, is of no use for other words.
    found = {name for name in state if name in kept.values() or not name.startswith("ov_classifier.")}
    _compare_names(found, set(kept.values()), path)
    if lend is None:
        raise SanError(
            f"'{path}' lacks CLIP's text tower, without which it knows no words",
            hint=f"`{printable(f'san weights convert {path.name} model.safetensors --clip-weights CLIP')}` puts it "
            "back, CLIP being the file of the same CLIP (without it OpenAI's is downloaded).",
        )
    lent = lend(preset, {ours: state[theirs] for ours, theirs in kept.items()})
    return {theirs: state[theirs] for theirs in kept.values()} | {names[n]: lent[n] for n in lendable}


def preset_in_header(text: str, path: Path) -> Preset:
    """Read the preset that a safetensors file of ours states. Raises SanError, which names the file."""
    try:
        return preset_from_json(text)
    except SanError as error:
        raise SanError(f"checkpoint '{path}': {error.message}") from error


def _guess_preset(state: Mapping[str, Tensor], path: Path) -> Preset:
    positions = state.get("clip_visual_extractor.positional_embedding", state.get(_POSITIONS))
    for preset in PRESETS.values():
        shape = ((preset.clip.image_size // preset.clip.patch_size) ** 2 + 1, preset.clip.width)
        if positions is not None and positions.shape == shape:
            return preset
    what, way = kind_of_tensors(state)
    if what:
        what = f"it is {what}"
    elif positions is None:
        what = f"it has tensors such as {', '.join(sorted(state)[:3])}"
    else:
        what = f"its CLIP has positions of shape {list(positions.shape)}"
    raise SanError(
        f"'{path}' is not a checkpoint of a known SAN: {what}",
        hint=way
        or f"Known models: {', '.join(PRESETS)}. A model of your own needs its preset: --model FILE.json",
    )


def _at_its_input_size(state: Mapping[str, Tensor], preset: Preset) -> Preset:
    """Set the preset to the input size that the official file's side adapter has positions for."""
    name = "side_adapter.positions"
    positions = state.get(name, state.get(official_name(name, preset)))
    if positions is None or positions.ndim != 3:
        return preset
    return replace(preset, input_size=math.isqrt(positions.shape[1]) * preset.side_patch_size)


def _compare_names(found: set[str], expected: set[str], path: Path) -> None:
    for problem, names in (("lacks", expected - found), ("has the unknown", found - expected)):
        if names:
            listed = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise SanError(f"checkpoint '{path}' {problem} tensor{'s' * (len(names) > 1)}: {listed}")


def _squeeze_1x1(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Make a linear layer's weight of a 1 × 1 convolution's, which the official code has in its place."""
    if tensor.ndim == 4 and len(shape) == 2 and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0]
    return tensor


def _checked(checkpoint: Checkpoint, shapes: Mapping[str, torch.Size], path: Path) -> Checkpoint:
    for name, tensor in checkpoint.state.items():
        if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
            raise SanError(
                f"checkpoint '{path}': tensor {name} holds {tensor.dtype}, not floating-point numbers of 16 bits or "
                "more"
            )
        if tensor.shape != shapes[name]:
            shown = f"{name} (officially {official_name(name, checkpoint.preset)})"
            raise SanError(
                f"checkpoint '{path}': tensor {shown} has shape {list(tensor.shape)}, "
                f"{checkpoint.preset.name} needs {list(shapes[name])}"
            )
    return checkpoint


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise SanError naming the first tensor with a value that is not finite.

    Apart from `read_checkpoint` because it reads every byte: a run whose vocabulary is cached never has to
    bring the text tower into memory.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor.float().sum()):
            raise SanError(f"checkpoint '{path}': tensor {name} has values that are not finite")


def random_checkpoint(preset: Preset, seed: int = 0) -> Checkpoint:
    """Make an untrained model, the same for every run: for benchmarks and for training from nothing."""
    state_of_others = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        model, text = SAN(preset), build_text_tower(preset.clip)
    finally:
        torch.random.set_rng_state(state_of_others)
    state = model.state_dict() | {f"text.{name}": tensor for name, tensor in text.state_dict().items()}
    return Checkpoint(preset, state, {"source": f"random, seed {seed}"})
