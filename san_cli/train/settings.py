"""What a training was started with, kept beside it so that it is resumed as the same training."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from san_cli.datasets.emoji.source import EmojiSource
from san_cli.errors import SanError
from san_cli.models.presets import Preset
from san_cli.text import printable, quoted
from san_cli.train.data import TrainingData
from san_cli.train.recipe import Recipe
from san_cli.train.state_files import read_object, write_json
from san_cli.train.training_set import PairSource

FILE = "settings.json"
# Settings of the recipe that came later: what was done until then.
_AS_BEFORE = {"muon_learning_rate": 0.0, "warm_up": 0}
_SCENES = "scenes"  # of data that is rendered; until it was noted, scenes had the side of the preset's input


def settings_of(
    preset: Preset,
    recipe: Recipe,
    data: TrainingData,
    seed: int,
    precision: str,
    templates: str,
    started_from: str,
) -> dict[str, Any]:
    """Everything that the losses depend on; not the device, nor how the work is shared out."""
    words = ["|".join(entry.words) for entry in data.vocabulary.entries]
    source = data.source
    names = [pair.stem for pair in source.pairs] if isinstance(source, PairSource) else []
    scenes = {_SCENES: {"seed": source.seed, "size": source.size}} if isinstance(source, EmojiSource) else {}
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
            **({} if data.ignored in (None, (data.ignore_label,)) else {"ignored": list(data.ignored or ())}),
            **scenes,
        },
        "templates": templates,
        "seed": seed,
        "precision": precision,
        "started_from": started_from,
    }


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def write_settings(output: Path, settings: dict[str, Any]) -> None:
    """Write them into the training's folder."""
    write_json(output / FILE, settings)


def check_settings(output: Path, settings: dict[str, Any]) -> None:
    """SanError that names what differs from what the training in `output` was started with."""
    path = output / FILE
    try:
        before = read_object(path)
        before["recipe"] = _AS_BEFORE | before["recipe"]
        if _SCENES in settings["data"]:
            scenes = settings["data"][_SCENES] | {"size": before["preset"]["input_size"]}
            before["data"] = {_SCENES: scenes} | before["data"]
        before["started_from"] = settings["started_from"]  # that is in the weights
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SanError(
            f"can't resume: {quoted(path)} can't be read ({error})",
            hint="Restore it; or train on from the last weights in another -o: --init-from "
            f"{printable(str(output))}/checkpoints/step-…/weights.safetensors.",
        ) from error
    differing = _differing(before, settings)
    if differing:
        name, (was, now) = next(iter(differing.items()))
        raise SanError(
            f"can't resume with another {printable(name)}: the training in {quoted(output)} was started with "
            f"{_short(was)}, not {_short(now)}",
            hint="Repeat the command that started it, with --resume; or start anew in another -o.",
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return printable(text if len(text) <= 200 else f"{text[:200]} …")


def _differing(before: Any, now: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted(before.keys() | now.keys()):
            found |= _differing(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        return found
    return {} if before == now else {name: (before, now)}
