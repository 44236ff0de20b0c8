"""Loading a model: which file, checked to be whole and of the model that was asked for, and its text tower apart."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from san_cli.engine.forked import settle_threads
from san_cli.engine.text_embeddings import TextTower
from san_cli.errors import SanError
from san_cli.models.presets import Preset, get_preset, preset_to_json
from san_cli.models.san import SAN, SanOutput
from san_cli.models.unfilled import unfilled
from san_cli.weights.adapter import read_model
from san_cli.weights.checkpoint import Checkpoint, check_finite, load_into, random_checkpoint
from san_cli.weights.converted import converted
from san_cli.weights.file_hash import weights_sha256
from san_cli.weights.find import find_weights

RANDOM_MEANS_NOTHING = "random weights: the output means nothing, only its speed does"


class RuntimeNetwork(Protocol):
    """A network that another runtime than PyTorch computes, see `onnx_network` and `openvino_network`."""

    backend: str

    def __call__(self, image: Tensor) -> list[SanOutput]:
        """Compute masks and regions for an image [B, 3, H, W] as of `normalise`."""


@dataclass(frozen=True)
class LoadedWeights:
    """A model's tensors, memory-mapped where they come from a file."""

    checkpoint: Checkpoint
    text_tower: TextTower
    sha256: str  # of the file; "random:…" for an untrained network
    path: Path | None = None  # of the file, absolute; None for an untrained network
    network: RuntimeNetwork | None = None  # to run in the place of PyTorch's


def load_weights(
    model: str | Preset | None, weights: str | os.PathLike[str] | None, *, say: Callable[[str], None]
) -> LoadedWeights:
    """Read a model by preset name, or by a preset of one's own; by default the one that `weights` holds.

    `weights` is a file, "random", or None to look for the official one. The text tower is left unread: a run whose
    words are all known never brings it into memory. Raises SanError.
    """
    settle_threads()
    preset = get_preset(model or "vit-b-16")
    if weights == "random":
        say(RANDOM_MEANS_NOTHING)
        sha256 = random_hash(preset)
        tower = TextTower(preset.clip, text_of_weights(None, preset), sha256)
        made = random_checkpoint(preset)
        image_side = {n: t for n, t in made.state.items() if not n.startswith("text.")}
        return LoadedWeights(Checkpoint(preset, image_side, made.metadata), tower, sha256)
    # The file says which model it is; a name that was given must agree with it.
    path = find_weights(preset.name, str(weights) if weights else None, say=say)
    checkpoint = read_model(path, model if isinstance(model, Preset) else None, say=say)
    if model is not None:
        refuse_other_preset(checkpoint.preset, preset, path)
    # Looking at the values reads every byte, so the text tower is left for when a word needs it.
    check_finite({n: t for n, t in checkpoint.state.items() if not n.startswith("text.")}, path)

    sha256 = weights_sha256(path)
    tower = TextTower(checkpoint.preset.clip, text_of_weights(path, checkpoint.preset), sha256)
    return LoadedWeights(checkpoint, tower, sha256, path.absolute())


def build_model(
    checkpoint: Checkpoint, device: torch.device, precision: torch.dtype, *, whole: bool = True
) -> SAN:
    """Build a network on a checkpoint's tensors, without copying those that are of that precision already.

    What compares regions with words is float32, and all that is there of a network that isn't `whole`: all that its
    checkpoint needs.
    """
    with unfilled():
        model = SAN(checkpoint.preset)
    if whole:
        state = {n: t for n, t in checkpoint.state.items() if not n.startswith("text.")}
        load_into(model, converted(state, device, precision))
    for name in ("background_embedding", "logit_scale"):
        # A copy: a part of a file that is memory-mapped would keep the whole mapped.
        setattr(model, name, nn.Parameter(checkpoint.state[name].float().to(device, copy=True)))
    return model.requires_grad_(False).eval()


def random_hash(preset: Preset) -> str:
    """Return what stands for the sha256 of an untrained network's file."""
    return "random:" + hashlib.sha256(preset_to_json(preset).encode()).hexdigest()[:16]


def text_of_weights(path: Path | None, preset: Preset) -> Callable[[], dict[str, Tensor]]:
    """Return what reads and checks a text tower's tensors once it is called; None is an untrained network's file."""
    if path is None:
        return lambda: random_checkpoint(preset).part("text")
    absolute = path.absolute()  # the working folder may be another one by then

    def read_text() -> dict[str, Tensor]:
        whole = read_model(absolute, preset)
        check_finite({n: t for n, t in whole.state.items() if n.startswith("text.")}, path)
        return whole.part("text")

    return read_text


def refuse_other_preset(found: Preset, asked: Preset, path: Path) -> None:
    """Raise SanError where a file holds another model than was asked for."""
    differing = [
        field.name for field in fields(Preset) if getattr(found, field.name) != getattr(asked, field.name)
    ]
    if not differing:
        return
    if differing == ["name"] or "name" not in differing:
        raise SanError(
            f"'{path}' holds a {found.name} model that differs in {', '.join(differing)}",
            hint="Leave the model out: the weights say which it is.",
        )
    raise SanError(
        f"'{path}' holds a {found.name} model, not {asked.name}",
        hint="Leave the model out, as the weights say which it is, or take other weights.",
    )
