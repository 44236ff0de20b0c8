"""A pretrained CLIP to train a side adapter on: from a file, or as open_clip distributes OpenAI's weights."""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from san_cli.errors import SanError
from san_cli.models.presets import ClipShape, Preset, preset_from_json
from san_cli.text import printable, quoted
from san_cli.weights.cache_dir import read_small
from san_cli.weights.checkpoint import expected_shapes, read_checkpoint
from san_cli.weights.hub import CLIP, OFFICIAL, download, good_copy, is_published
from san_cli.weights.kind import is_san, kind_of_tensors
from san_cli.weights.pickled import load_pickle
from san_cli.weights.wrapped import has_left_out, plain_names, state_dict_in

_ACTIVATION = {True: "QuickGELU", False: "plain GELU"}
_LONGEST_CONFIG = 1 << 20  # bytes
_NOT_WEIGHTS = {"attn_mask", "text.attn_mask", "input_resolution", "context_length", "vocab_size"}


def clip_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the tensors of CLIP from among those of a whole SAN, under our names."""
    return {name: t for name, t in state.items() if name.startswith(("visual.", "text.", "logit_scale"))}


def read_clip(preset: Preset, file: Path | None, *, say: Callable[[str], None]) -> dict[str, Tensor]:
    """Read CLIP's tensors under our names (`visual.*`, `text.*`, `logit_scale`), float32.

    `file` is a state dict as open_clip names its tensors (.safetensors, .bin, .pt) or a whole SAN checkpoint,
    whose CLIP is taken. Without one, open_clip's cached or downloaded `openai` weights. Raises SanError for a
    file that is damaged or holds another architecture, and with the ways out where nothing can be had.
    """
    path = _pretrained_file(preset.clip, say) if file is None else file
    state = _read_tensors(path)
    if is_san(state):
        ours = _clip_of_san(state, path, preset)
    else:
        ours = {_our_name(name): t.float() for name, t in state.items() if name not in _NOT_WEIGHTS}
    shapes = clip_part({name: torch.empty(s, device="meta") for name, s in expected_shapes(preset).items()})
    for name, expected in shapes.items():
        if name not in ours:
            what, way = kind_of_tensors(state)
            cause = (
                f"it is {what}"
                if what and not what.startswith("a CLIP without")
                else f"it lacks {_shown(name)}"
            )
            raise SanError(
                f"{quoted(path)} is not a CLIP of {preset.name}: {cause}",
                hint=way
                or "--clip-weights takes a CLIP state dict with open_clip's names, or a SAN checkpoint.",
            )
        if ours[name].shape != expected.shape:
            raise SanError(
                f"{quoted(path)} is not a CLIP of {preset.name}: {_shown(name)} has shape "
                f"{list(ours[name].shape)}, not {list(expected.shape)}"
            )
    return {name: ours[name] for name in shapes}


def _clip_of_san(state: Mapping[str, Tensor], path: Path, preset: Preset) -> dict[str, Tensor]:
    """Take the CLIP in a SAN checkpoint, which may be of another preset as long as its CLIP is the same."""
    if not any(name.startswith(("text.", "ov_classifier.", "text_encoder.")) for name in state):
        raise SanError(
            f"{quoted(path)} holds no CLIP: it is a side adapter alone",
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
        loaded = load_file(path) if path.suffix == ".safetensors" else load_pickle(path)
        state = state_dict_in(loaded)
        if not state and has_left_out(loaded):
            raise ValueError("objects in place of tensors")
    except OSError as error:
        raise SanError(
            f"can't read CLIP weights {quoted(path)}: {error.strerror or error}",
            hint="Name a file with --clip-weights.",
        ) from error
    except Exception as error:  # a damaged file raises nearly anything
        raise SanError(
            f"{quoted(path)} holds no CLIP weights that can be read safely",
            hint="Give a .safetensors, .bin or .pt with a state dict; TorchScript archives are not opened.",
        ) from error
    return plain_names(state)


def _our_name(name: str) -> str:
    """Translate a name: the text tower of open_clip's plain CLIP is at top level, ours under `text.`."""
    return name if re.match(r"(visual|text)\.|logit_scale$", name) else f"text.{name}"


def _shown(name: str) -> str:
    return f"tensor {name.removeprefix('text.')}"


def check_activation(preset: Preset, file: Path | None, *, say: Callable[[str], None]) -> None:
    """Compare the activation that a CLIP was trained with, where that can be known, with the preset's.

    A state dict doesn't hold it, and with the wrong one a CLIP runs and understands little. `say` is told where it
    isn't known; SanError where it is another. `file` is as for `read_clip`.
    """
    trained, asked = (True if file is None else _quick_gelu(file)), preset.clip.quick_gelu
    name = "OpenAI's CLIP" if file is None else f"{quoted(file)}"
    if trained is None:
        say(
            f"{name} doesn't say whether its CLIP was trained with QuickGELU, as OpenAI's, or with plain GELU, as "
            f"most of LAION's and DataComp's: taken for {_ACTIVATION[asked]} "
            f"(--set clip.quick_gelu={json.dumps(not asked)} takes it for {_ACTIVATION[not asked]})"
        )
    elif trained != asked:
        raise SanError(
            f"{name} was trained with {_ACTIVATION[trained]}; {printable(preset.name)} is set to "
            f"{_ACTIVATION[asked]}",
            hint=f"Add --set clip.quick_gelu={json.dumps(trained)}",
        )


def _quick_gelu(file: Path) -> bool | None:
    """Find whether a CLIP was trained with QuickGELU, from whatever tells: the file, those beside it, its name."""
    if file.suffix == ".safetensors":
        with suppress(SafetensorError, OSError, SanError), safe_open(file, framework="pt") as opened:
            if "preset" in (metadata := opened.metadata() or {}):
                return preset_from_json(metadata["preset"]).clip.quick_gelu
    with suppress(OSError, SanError):
        if any(is_published(file, official) for official in (*CLIP.values(), *OFFICIAL.values())):
            return True
    for name, read in (("open_clip_config.json", _of_open_clip), ("config.json", _of_transformers)):
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return read(json.loads(read_small(file.parent / name, _LONGEST_CONFIG)))
    return _of_published(file)


def _of_open_clip(config: Any) -> bool:
    return bool(config["model_cfg"].get("quick_gelu", False))


def _of_transformers(config: Any) -> bool:
    return str((config.get("vision_config") or config)["hidden_act"]) == "quick_gelu"


def _of_published(file: Path) -> bool | None:
    """Look up what open_clip knows of a file that it publishes by that name, or in the repository of that folder."""
    import open_clip

    found = set()
    for model, tag in open_clip.list_pretrained():
        config = open_clip.get_pretrained_cfg(model, tag) or {}
        url, repository = str(config.get("url") or ""), str(config.get("hf_hub") or "").strip("/")
        folder = f"models--{repository.replace('/', '--')}"
        if url.rsplit("/", 1)[-1] == file.name or (repository and folder in file.parts):
            found.add(bool(config.get("quick_gelu")) or model.endswith("-quickgelu") or tag == "openai")
    return found.pop() if len(found) == 1 else None


def _pretrained_file(shape: ClipShape, say: Callable[[str], None]) -> Path:
    """Get OpenAI's weights of that architecture: found where open_clip keeps them, or downloaded."""
    if not shape.open_clip_name:
        raise SanError(
            "this model has no pretrained CLIP",
            hint="Name one with --clip-weights FILE; `--clip-weights random` trains beside an untrained CLIP.",
        )
    if shape.open_clip_name not in CLIP:
        raise SanError(
            f"san knows no published CLIP {quoted(shape.open_clip_name)}; there are {', '.join(CLIP)}",
            hint="Name its file with --clip-weights FILE.",
        )
    official = CLIP[shape.open_clip_name]
    say(f"CLIP: {official.model}, from huggingface.co/{official.repo}")
    ways = (
        "On a machine with network access\n"
        f"  curl -L -o {official.local_name} {official.url}\n"
        f"gives the file ({official.size} bytes, sha256 {official.sha256}); copy it here and add --clip-weights "
        f"{official.local_name}. A SAN checkpoint such as san_vit_b_16.pth holds CLIP, too: --clip-weights "
        "san_vit_b_16.pth.\n"
        "Where huggingface.co is blocked, a mirror may work: HF_ENDPOINT=https://MIRROR san train …\n"
        "Without any download: --init-from tiny goes on with the model that comes with san, and --clip-weights "
        "random trains beside an untrained CLIP."
    )
    return good_copy(official, say) or download(official, say=say, ways=ways)
