"""The settings that make a run's results what they are, kept beside them so that no folder mixes two."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from san_cli.datasets.reading import AS_STORED, Reading
from san_cli.errors import SanError
from san_cli.files import atomic_write
from san_cli.predict.journal import STATE_FOLDER, open_state_file
from san_cli.text import json_text, quoted
from san_cli.vocabulary.grammar import Vocabulary

if TYPE_CHECKING:
    from san_cli.engine.segmenter import Segmenter

FORMAT = 2  # of the results; raise it whenever the same settings give other bytes

Settings = Mapping[str, Any]  # JSON values


def asked_settings(
    vocabulary: Vocabulary,
    templates: Sequence[str],
    save: Sequence[str],
    *,
    show: Sequence[str] | None,
    background: str | None,
    min_score: float,
    batch: int,
    reading: Reading = AS_STORED,
) -> Settings:
    """What the results depend on, as far as the command line tells it; the keys are the options' names."""
    return {
        "format": FORMAT,
        "vocab": [list(entry.words) for entry in vocabulary.entries],
        "templates": list(templates),
        "save": list(save),
        "show": None if show is None else list(show),
        "background": background,
        "min-score": min_score,
        "batch": batch,
        "range": list(reading.range) if isinstance(reading.range, tuple) else reading.range,
        "bands": None if reading.bands is None else list(reading.bands),
    }


def with_model(settings: Settings, segmenter: "Segmenter", compile: bool) -> Settings:
    """The full settings."""
    from san_cli.engine.device import PRECISIONS

    precision = next(name for name, dtype in PRECISIONS.items() if dtype == segmenter.precision)
    return {
        "model": segmenter.preset.name,
        "weights": segmenter.weights_sha256,
        "device": segmenter.device.type,  # the kind: another one rounds differently
        "precision": precision,
        "compile": compile,
        **settings,
    }


def read_settings(output: Path) -> Settings | None:
    """The settings of the run that the folder holds, None if there is none; SanError if unreadable."""
    path = output / STATE_FOLDER / "run.json"
    try:
        with open(open_state_file(path, os.O_RDONLY), "rb") as file:  # noqa: PTH123
            found = json.loads(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise SanError(
            f"can't read {quoted(path)}, the settings of the run in that folder: {reason.lower()}",
            hint="Add --overwrite to do everything anew, or choose another folder with -o.",
        ) from error
    return found if isinstance(found, dict) else {}


def write_settings(output: Path, settings: Settings) -> None:
    """Keep the settings of a run; OSError where that fails."""
    with atomic_write(output / STATE_FOLDER / "run.json") as stream:
        stream.write((json_text(dict(settings)) + "\n").encode("ascii"))


def other_settings(found: Settings, wanted: Settings) -> list[str]:
    """The names of the wanted settings that are others in what was found."""
    return [key for key in wanted if json.loads(json_text(wanted[key])) != found.get(key)]


def refuse_other_settings(output: Path, found: Settings, wanted: Settings) -> None:
    """SanError that names what differs, if a run with the `wanted` settings would mix with the results found.

    `wanted` may lack settings that are not known yet; they are not compared.
    """
    other = other_settings(found, wanted)
    if other:
        told = "; ".join(_difference(key, found, wanted) for key in other)
        raise SanError(
            f"'{output}' holds a run with other settings: {told}",
            hint="Choose another folder with -o, or add --overwrite to do everything anew.",
        )


def _difference(key: str, found: Settings, wanted: Settings) -> str:
    """One setting, then and now, unless that is too long to be told."""
    then, now = _told(found.get(key)), _told(wanted[key])
    return f"{key} (then {then}, now {now})" if then and now and len(then + now) < 80 else key


def _told(value: object) -> str:
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return json_text(value) if len(value) < 5 else ""
    return "none" if value is None else str(value)
