"""A pretrained CLIP to train a side adapter on: from a file, or as open_clip distributes OpenAI's weights."""

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from san_cli.errors import SanError
from san_cli.inert import inert
from san_cli.models.checkpoint import expected_shapes, read_checkpoint
from san_cli.models.presets import ClipShape, Preset

PRETRAINED = "openai"  # open_clip's tag of the weights that SAN is trained on
_NOT_WEIGHTS = {"attn_mask", "text.attn_mask", "input_resolution", "context_length", "vocab_size"}


def clip_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of CLIP among those of a whole SAN, under our names."""
    return {name: t for name, t in state.items() if name.startswith(("visual.", "text.", "logit_scale"))}


def read_clip(preset: Preset, file: Path | None, *, say: Callable[[str], None]) -> dict[str, Tensor]:
    """CLIP's tensors under our names (`visual.*`, `text.*`, `logit_scale`), float32.

    `file` is a state dict as open_clip names its tensors (.safetensors, .bin, .pt) or a whole SAN checkpoint,
    whose CLIP is taken. Without one, open_clip's cached or downloaded `openai` weights. Raises SanError for a
    file that is damaged or holds another architecture, and with the ways out where nothing can be had.
    """
    path = _pretrained_file(preset.clip, say) if file is None else file
    state = _read_tensors(path)
    if any(name.startswith(("side_adapter", "clip_rec_head.")) for name in state):
        ours = _clip_of_san(state, path, preset)
    else:
        ours = {_our_name(name): t.float() for name, t in state.items() if name not in _NOT_WEIGHTS}
    shapes = clip_part({name: torch.empty(s, device="meta") for name, s in expected_shapes(preset).items()})
    for name, expected in shapes.items():
        if name not in ours:
            raise SanError(
                f"'{inert(str(path))}' is not a CLIP of {preset.name}: it lacks {_shown(name)}",
                hint="--clip-weights takes a CLIP state dict with open_clip's names, or a SAN checkpoint.",
            )
        if ours[name].shape != expected.shape:
            raise SanError(
                f"'{inert(str(path))}' is not a CLIP of {preset.name}: {_shown(name)} has shape "
                f"{list(ours[name].shape)}, not {list(expected.shape)}"
            )
    return {name: ours[name] for name in shapes}


def _clip_of_san(state: Mapping[str, Tensor], path: Path, preset: Preset) -> dict[str, Tensor]:
    """The CLIP in a SAN checkpoint, which may be of another preset as long as its CLIP is the same."""
    if not any(name.startswith(("text.", "ov_classifier.")) for name in state):
        raise SanError(
            f"'{inert(str(path))}' holds no CLIP: it is a side adapter alone",
            hint="--clip-weights takes a CLIP state dict with open_clip's names, or a whole SAN checkpoint.",
        )
    try:
        return clip_part(read_checkpoint(path).state)
    except SanError:
        if path.suffix == ".safetensors":
            raise
        return clip_part(read_checkpoint(path, preset).state)  # an official file of no published model


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            # Only the zip format, which torch.save has written since 2020, can be memory-mapped.
            mapped = zipfile.is_zipfile(path)
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError as error:
        raise SanError(
            f"can't read CLIP weights '{inert(str(path))}': {error.strerror or error}",
            hint="Name a file with --clip-weights.",
        ) from error
    except (SafetensorError, Exception) as error:  # a damaged file raises nearly anything
        raise SanError(
            f"'{inert(str(path))}' holds no CLIP weights that can be read safely",
            hint="Give a .safetensors, .bin or .pt with a state dict; TorchScript archives are not opened.",
        ) from error
    held = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else {}
    state = held if isinstance(held, dict) else {}
    tensors = {str(name): t for name, t in state.items() if isinstance(t, Tensor)}
    return {name.removeprefix("module."): t for name, t in tensors.items()}


def _our_name(name: str) -> str:
    """open_clip keeps the text tower of its plain CLIP at top level, we under `text.`, as its custom CLIPs do."""
    return name if re.match(r"(visual|text)\.|logit_scale$", name) else f"text.{name}"


def _shown(name: str) -> str:
    return f"tensor {name.removeprefix('text.')}"


def _pretrained_file(shape: ClipShape, say: Callable[[str], None]) -> Path:
    """Where open_clip's weights of that architecture are, after downloading them if need be."""
    if not shape.open_clip_name:
        raise SanError(
            "this model has no pretrained CLIP",
            hint="Name one with --clip-weights FILE; `--clip-weights random` trains beside an untrained CLIP.",
        )
    import open_clip

    config = open_clip.get_pretrained_cfg(shape.open_clip_name, PRETRAINED)
    repository = str(config.get("hf_hub", "")).rstrip("/")
    say(f"CLIP: {shape.open_clip_name}, {PRETRAINED} weights, from huggingface.co/{repository}")
    try:
        return Path(open_clip.download_pretrained(config))
    except Exception as error:  # no network, a refusal, a full disk: huggingface_hub has many ways to fail
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        url = f"https://huggingface.co/{repository}/resolve/main/open_clip_model.safetensors"
        raise SanError(
            f"can't get the CLIP weights of {shape.open_clip_name} ({inert(reason)})",
            hint="On a machine with network access\n"
            f"  curl -L -o clip.safetensors {url}\n"
            "gives the file; copy it here and add --clip-weights clip.safetensors. A SAN checkpoint such as "
            "san_vit_b_16.pth holds CLIP, too: --clip-weights san_vit_b_16.pth.\n"
            "Where huggingface.co is blocked, a mirror may work: HF_ENDPOINT=https://MIRROR san train …",
        ) from error
