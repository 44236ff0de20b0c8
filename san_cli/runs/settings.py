"""The settings that make results what they are, kept beside them so that no folder mixes two runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from san_cli.errors import SanError
from san_cli.files import atomic_write, read_regular
from san_cli.text import json_text, printable, quoted

Settings = Mapping[str, Any]  # JSON values; a mapping within groups settings


def write_settings(path: Path, settings: Settings) -> None:
    """Keep the settings of a run; OSError where that fails."""
    with atomic_write(path) as stream:
        stream.write((json_text(dict(settings)) + "\n").encode("ascii"))


def read_settings(path: Path, *, hint: str) -> Settings | None:
    """Read the settings kept in a file, None where there is none; SanError with `hint` where it is damaged."""
    try:
        found = json.loads(read_regular(path))
        if not isinstance(found, dict):
            raise ValueError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise SanError(
            f"can't read {quoted(path)}, the settings of the run in that folder: {reason.lower()}", hint=hint
        ) from error
    return found


def other_settings(found: Settings, wanted: Settings) -> list[str]:
    """List the wanted settings that are others in what was found, told with both values where these are short."""
    return list(_others(found, json.loads(json_text(dict(wanted)))))


def refuse_other_settings(found: Settings, wanted: Settings, *, holds: str, hint: str) -> None:
    """Raise SanError that names what differs, if a run with the `wanted` settings would mix with the results found.

    `holds` says who was begun with other settings: "'out' holds a run". `wanted` may lack settings that are not
    known yet; they are not compared.
    """
    others = other_settings(found, wanted)
    if others:
        raise SanError(f"{holds} with other settings: {'; '.join(others)}", hint=hint)


def _others(found: Any, wanted: Settings, group: str = "") -> Iterator[str]:
    for key, now in wanted.items():
        then = found.get(key) if isinstance(found, dict) else None
        if isinstance(now, dict) and isinstance(then, dict):
            # Of a group all is known: what it lacks now was there for nothing else to take its place.
            yield from _others(then, {**dict.fromkeys(then), **now}, f"{group}{key}.")
        elif then != now:
            told = f"(then {_told(then)}, now {_told(now)})"
            yield printable(f"{group}{key}" + (f" {told}" if len(told) < 90 else ""))


def _told(value: object) -> str:
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return json_text(value)
    return "none" if value is None else str(value)
