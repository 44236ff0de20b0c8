"""`--set NAME=VALUE`: single numbers and switches of a preset or a recipe, such as the paper's ablations."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from san_cli.errors import SanError, did_you_mean
from san_cli.models.presets import ClipShape, Preset
from san_cli.text import nearest, printable, quoted
from san_cli.train.recipe import Recipe

_ELSEWHERE = {"lr": "learning_rate", "batch_size": "batch", "max_iter": "iterations", "warmup": "warm_up"}


def overridden(preset: Preset, recipe: Recipe, settings: Sequence[str]) -> tuple[Preset, Recipe]:
    """Return preset and recipe with `NAME=VALUE` settings applied, `clip.NAME` for a field of the preset's CLIP.

    Values are JSON: 3, 1e-4, true, [[0,0],[1,3]]. A preset that differs from the named one is called
    `<name>-custom`. Raises SanError for an unknown name, with the nearest known one, or a value of another kind.
    """
    changes: dict[str, dict[str, Any]] = {"preset": {}, "clip": {}, "recipe": {}}
    owners = {
        **{f"clip.{field.name}": ("clip", field, preset.clip) for field in dataclasses.fields(ClipShape)},
        **{field.name: ("preset", field, preset) for field in dataclasses.fields(Preset)},
        **{field.name: ("recipe", field, recipe) for field in dataclasses.fields(Recipe)},
    }
    for known in ("name", "clip"):
        del owners[known]
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in owners:
            likely = _ELSEWHERE.get(name) or nearest(name, list(owners))
            raise SanError(
                f"--set {printable(setting)}: "
                + ("expected NAME=VALUE" if not equals else f"no setting {quoted(name)}"),
                hint=did_you_mean(likely) or f"There are: {', '.join(sorted(owners))}.",
            )
        owner, field, holder = owners[name]
        optional = field.default is None
        changes[owner][field.name] = _value(name, text, getattr(holder, field.name), optional=optional)
    if changes["clip"]:
        changes["preset"]["clip"] = dataclasses.replace(preset.clip, **changes["clip"])
    changed = dataclasses.replace(preset, **changes["preset"])
    changed.check_input(changed.input_size)
    if changed != preset:
        changed = dataclasses.replace(changed, name=f"{preset.name.removesuffix('-custom')}-custom")
    return changed, dataclasses.replace(recipe, **changes["recipe"])


def _value(name: str, text: str, current: Any, *, optional: bool) -> Any:
    """Read `text` as a value of the kind that the setting has now; null where it is one that may be missing."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if value is None and optional:
        return None
    if isinstance(current, tuple) or current is None:
        value = _tuple(value)
    elif type(current) is float and type(value) is int and abs(value) < _MOST:
        value = float(value)
    kind = tuple if current is None else type(current)
    pairs = name == "fusion"
    if (
        type(value) is not kind
        or (isinstance(value, float) and not math.isfinite(value))
        or not _are_ints(value, pairs)
    ):
        such = "" if current is None else f", such as {json.dumps(current)}"
        raise SanError(f"--set {name}={printable(text)}: expected {_EXPECTED[kind]}{such}")
    return value


_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a list", str: "a name"}
_MOST = 2**53  # up to which a float holds every whole number


def _are_ints(value: Any, pairs: bool) -> bool:
    """Tell whether a tuple holds whole numbers alone, or `pairs` of them; what is no tuple passes."""
    if not isinstance(value, tuple):
        return True
    if pairs:
        return all(isinstance(item, tuple) and len(item) == 2 and _are_ints(item, False) for item in value)
    return all(type(item) is int for item in value)


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
