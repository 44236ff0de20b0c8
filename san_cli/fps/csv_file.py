"""Measurements of many runs in one CSV file: a line for every row, the header once."""

import csv as csv_format
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from san_cli.errors import SanError
from san_cli.fps.context import Context
from san_cli.fps.measure import SizeResult
from san_cli.fps.plot import refuse_without_matplotlib
from san_cli.fps.report import result_json
from san_cli.text import quoted

# Keys of the JSON objects, a nested one's after a dot.
_COMMON = ("size", "classes", "batch", "device", "threads", "precision", "compile")
_SYSTEM = (
    "name", "model", "clip_size", "params_trainable", "params_total", "gflops_network", "gflops_output",
    "gflops_paper_convention", "gflops_paper_convention_network", "fps", "latency_ms.median", "latency_ms.p10",
    "latency_ms.p90", "latency_ms.calls", "peak_memory_mb", "san_is_faster", "paper.params_m", "paper.gflops",
    "paper.fps",
)  # fmt: skip
_MACHINE = ("processor", "gpu", "versions.san", "versions.torch")
COLUMNS = (*_COMMON, *_SYSTEM, *_MACHINE)


def append_csv(path: Path, results: Sequence[SizeResult], context: Context) -> None:
    """Add a line for every row; a new or empty file gets the header first. Raises SanError."""
    old = refuse_other_columns(path)
    text = io.StringIO()
    writer = csv_format.writer(text, lineterminator="\n")
    if not old:
        writer.writerow(COLUMNS)
    elif not old.endswith("\n"):
        text.write("\n")
    for result in results:
        whole = result_json(result, context)
        for system in whole["systems"]:
            values = [_value(whole, key) for key in _COMMON]
            values += [_value(system, key) for key in _SYSTEM]
            writer.writerow(values + [_value(whole["machine"], key) for key in _MACHINE])
    try:
        with path.open("a", encoding="utf-8", newline="") as stream:
            stream.write(text.getvalue())
    except OSError as error:
        raise SanError(f"can't add to {quoted(path)}: {error.strerror}") from error


def refuse_other_columns(path: Path) -> str:
    """Read the file, "" where there is none; SanError if it holds anything but lines of `append_csv`."""
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
    except OSError as error:
        raise SanError(f"can't read {quoted(path)}: {error.strerror}") from error
    except UnicodeDecodeError:
        old = "?"
    if old and old.splitlines()[0] != ",".join(COLUMNS):
        raise SanError(f"{quoted(path)} has other columns", hint="Give --csv a new file.")
    return old


def _value(found: Any, key: str) -> Any:
    for part in key.split("."):
        found = found.get(part)
    return found


def refuse_unusable_files(csv: Path | None, plot: Path | None) -> None:
    """SanError if a CSV file or a plot can't be written there, or not at all."""
    for path in (csv, plot):
        fault = "" if path is None else _why_unwritable(path)
        if fault:
            raise SanError(f"can't write {quoted(path)}: {fault}", hint="Choose another file.")
    if csv is not None:
        refuse_other_columns(csv)
    if plot is not None:
        refuse_without_matplotlib()


def _why_unwritable(path: Path) -> str:
    """Say what keeps us from writing that file, "" if nothing does."""
    try:
        if path.is_dir():
            return "it is a folder"
        if path.exists() and not path.is_file():
            return "it is no file"  # and a pipe would be waited for
        folder = path.absolute().parent
        if not folder.is_dir():
            return "its folder doesn't exist"
        writable = os.access(path if path.exists() else folder, os.W_OK)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return "" if writable else "no permission"
