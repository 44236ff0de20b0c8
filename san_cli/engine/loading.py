"""Loading a model: which file, checked to be whole and of the model that was asked for, and its text tower apart."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from san_cli.engine.text_embeddings import TextTower
from san_cli.errors import SanError
from san_cli.models.presets import Preset, get_preset, preset_to_json
from san_cli.weights.adapter import read_model
from san_cli.weights.checkpoint import Checkpoint, check_finite, random_checkpoint
from san_cli.weights.file_hash import weights_sha256
from san_cli.weights.find import find_weights


@dataclass(frozen=True)
class LoadedWeights:
    """A model's tensors, memory-mapped where they come from a file."""

    checkpoint: Checkpoint
    text_tower: TextTower
    sha256: str  # of the file; "random:…" for an untrained network


def load_weights(
    model: str | Preset | None, weights: str | os.PathLike[str] | None, *, say: Callable[[str], None]
) -> LoadedWeights:
    """Read a model by preset name, or by a preset of one's own; by default the one that `weights` holds.

    `weights` is a file, "random", or None to look for the official one. The text tower is left unread: a run whose
    words are all known never brings it into memory. Raises SanError.
    """
    preset = get_preset(model or "vit-b-16")
    if weights == "random":
        say("random weights: the output means nothing, only its speed does")
        sha256 = "random:" + hashlib.sha256(preset_to_json(preset).encode()).hexdigest()[:16]
        tower = TextTower(preset.clip, lambda: random_checkpoint(preset).part("text"), sha256)
        return LoadedWeights(random_checkpoint(preset), tower, sha256)
    # The file says which model it is; a name that was given must agree with it.
    path = find_weights(preset.name, str(weights) if weights else None, say=say)
    checkpoint = read_model(path, model if isinstance(model, Preset) else None, say=say)
    if model is not None:
        _refuse_other_preset(checkpoint.preset, preset, path)
    # Looking at the values reads every byte, so the text tower is left for when a word needs it.
    check_finite({n: t for n, t in checkpoint.state.items() if not n.startswith("text.")}, path)

    absolute = path.absolute()  # the working folder may be another one by then

    def read_text() -> dict[str, Tensor]:
        whole = read_model(absolute, checkpoint.preset)
        check_finite({n: t for n, t in whole.state.items() if n.startswith("text.")}, path)
        return whole.part("text")

    sha256 = weights_sha256(path)
    return LoadedWeights(checkpoint, TextTower(checkpoint.preset.clip, read_text, sha256), sha256)


def _refuse_other_preset(found: Preset, asked: Preset, path: Path) -> None:
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
