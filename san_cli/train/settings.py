"""The settings of a training, kept beside it so that it is resumed as the same training."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from san_cli.datasets.emoji.source import EmojiSource
from san_cli.datasets.source import PairSource
from san_cli.errors import SanError
from san_cli.models.presets import Preset
from san_cli.runs.settings import Settings, read_settings, refuse_other_settings
from san_cli.text import printable, quoted
from san_cli.train.data import TrainingData
from san_cli.train.plan import Model
from san_cli.train.recipe import Recipe
from san_cli.train.state_files import write_json

FILE = "settings.json"


def settings_of(
    preset: Preset,
    recipe: Recipe,
    data: TrainingData,
    model: Model,
    *,
    seed: int,
    precision: str,
) -> dict[str, Any]:
    """Return everything that the losses depend on; not the device, nor how the work is shared out."""
    words = ["|".join(entry.words) for entry in data.vocabulary.entries]
    source = data.source
    names = [pair.stem for pair in source.pairs] if isinstance(source, PairSource) else []
    ignored = data.ignored or (data.ignore_label,)
    started_from = (
        f"CLIP: {model.clip_weights or 'openai'}" if model.init_from is None else str(model.init_from)
    )
    return {
        "preset": json.loads(json.dumps(asdict(preset))),
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "data": {
            "name": data.name,
            "images": len(data.source),
            "names_sha256": _sha256(names),
            "classes": len(data.vocabulary),
            "words_sha256": _sha256(words),
            "ignore_label": data.ignore_label,
            "ignored": list(ignored),
            "label_map": list(data.relabelled) or None,
            "drawn_labels": data.drawings,
            "scenes": {"seed": source.seed, "size": source.size} if isinstance(source, EmojiSource) else None,
        },
        "templates": model.templates,
        "seed": seed,
        "precision": precision,
        "started_from": started_from,
    }


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def write_settings(output: Path, settings: Settings) -> None:
    """Write them into the training's folder. OSError where that fails."""
    write_json(output / FILE, settings)


def check_settings(output: Path, settings: Settings) -> None:
    """Raise SanError that names what differs from what the training in `output` was started with."""
    path = output / FILE
    way_out = (
        "Restore it; or train on from the last weights in another -o: --init-from "
        f"{printable(str(output))}/checkpoints/step-…/weights.safetensors."
    )
    before = read_settings(path, hint=way_out)
    if before is None:
        raise SanError(f"can't resume: {quoted(path)} is missing", hint=way_out)
    # What it started from is in the weights.
    refuse_other_settings(
        before,
        {key: value for key, value in settings.items() if key != "started_from"},
        holds=f"can't resume: {quoted(output)} holds a training",
        hint="Repeat the command that started it, with --resume; or start anew in another -o.",
    )
