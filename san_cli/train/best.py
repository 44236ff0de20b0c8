"""The model of the best evaluation so far: `best.safetensors`.

How good it is stands in its own sealed header, so that the two can't come apart; `best.json` says it for people.
A resumed training keeps that model until a better one comes.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from san_cli.errors import SanError
from san_cli.files import read_regular
from san_cli.text import printable, quoted
from san_cli.train.state_files import Writer, unwritable, write_json
from san_cli.weights.checkpoint import Checkpoint
from san_cli.weights.file_hash import check_stated_hash

MODEL, SUMMARY = "best.safetensors", "best.json"
_KEY = "evaluation"  # in the header: the row of the evaluation as JSON


def keep_best(output: Path, checkpoint: Checkpoint, row: dict[str, Any], write: Writer) -> None:
    """Write the model and what it reached: `iteration`, `mIoU` and so on. Raises SanError."""
    with_row = {**checkpoint.metadata, _KEY: json.dumps(row)}
    try:
        write(Checkpoint(checkpoint.preset, checkpoint.state, with_row), output / MODEL)
        write_json(output / SUMMARY, row)
    except (OSError, SanError) as error:
        raise unwritable("the best model", output, error) from error


def kept_best(output: Path) -> float | None:
    """Return the mIoU of the model that an earlier run kept in `output`, percent; None if there is no model.

    `best.json` is mended or removed where it says something else. SanError where the model is damaged, or where
    nothing tells how good it is: it would be written over by a worse one.
    """
    path = output / MODEL
    if not path.exists() and not path.is_symlink():
        with suppress(OSError):
            (output / SUMMARY).unlink()  # it would tell of a model that isn't there
        return None
    header = _header(path)
    row = _row(header)
    if row is None:
        raise SanError(
            f"can't resume: nothing tells how good {quoted(path)} is; no training has kept it",
            hint=f"Move {MODEL} away, and the best from here on is kept.",
        )
    if row != _summary(output / SUMMARY):
        try:
            write_json(output / SUMMARY, row)
        except OSError as error:
            raise SanError(f"can't resume: {quoted(output / SUMMARY)} can't be written ({error})") from error
    return float(row["mIoU"])


def _header(path: Path) -> dict[str, str]:
    """Read the metadata of a model that is whole. Raises SanError."""
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        if not check_stated_hash(path):
            raise ValueError("it doesn't state its sha256")
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, ValueError, SafetensorError, SanError) as error:
        cause = error.message if isinstance(error, SanError) else f"'{path}' can't be read: {error}"
        raise SanError(
            f"can't resume: the best model so far is damaged ({printable(cause)})",
            hint=f"Restore {MODEL}; or move it away, and the best from here on is kept.",
        ) from error


def _row(header: dict[str, str]) -> dict[str, Any] | None:
    try:
        return _sound(json.loads(header[_KEY]))
    except (KeyError, ValueError, RecursionError):
        return None


def _summary(path: Path) -> dict[str, Any] | None:
    try:
        return _sound(json.loads(read_regular(path)))
    except (OSError, ValueError, RecursionError):
        return None


def _sound(row: Any) -> dict[str, Any] | None:
    """Return the row if it has a mIoU that can be one."""
    if not isinstance(row, dict):
        return None
    found = row.get("mIoU")
    return row if isinstance(found, int | float) and 0 <= found <= 100 else None
