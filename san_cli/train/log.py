"""`metrics.jsonl`: a line for every so many iterations and for every evaluation."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from san_cli.errors import SanError
from san_cli.files import atomic_write, read_regular
from san_cli.text import quoted
from san_cli.train.state_files import unwritable
from san_cli.train.step import StepResult

_MOST_BYTES = 2**31  # of the file: a line for each of millions of iterations


@dataclass
class Interval:
    """Losses of the iterations since the last line, summed; those without an update don't count."""

    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def add(self, result: StepResult) -> None:
        """Take in one more iteration."""
        if not result.updated:
            return
        for name, value in {**result.losses, "gradient_norm": result.gradient_norm}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1

    def means(self) -> dict[str, float]:
        """Return mean losses; empty if no iteration counted."""
        return {name: value / self.steps for name, value in self.sums.items()}


class MetricsLog:
    """The file, appended to line by line; a resumed training first drops what it will write again."""

    def __init__(self, path: Path, up_to: int) -> None:
        """Keep the lines of iterations up to `up_to`. SanError if the file can't be read or written."""
        self.path = path
        try:
            kept = [row for row in _rows(path) if row["iteration"] <= up_to]
            with atomic_write(path) as file:
                file.writelines(_line(row) for row in kept)
        except OSError as error:
            cause = error.strerror or error
            raise SanError(
                f"can't write {quoted(path)}: {cause}", hint="Move it away, or choose another -o."
            ) from error
        self.lines = len(kept)
        # Those that were there when the checkpoint of that iteration was written: its evaluation comes after it.
        self.lines_of_checkpoint = sum(row["iteration"] < up_to or "evaluation" not in row for row in kept)
        self._evaluated = {row["iteration"] for row in kept if "evaluation" in row}

    def write(self, row: dict[str, Any]) -> None:
        """Append a line. SanError if that fails, as on a full disk."""
        try:
            with self.path.open("ab") as file:
                file.write(_line(row))
        except OSError as error:
            raise unwritable("the log", self.path.parent, error) from error
        self.lines += 1

    @property
    def has_evaluations(self) -> bool:
        """Tell whether the file had any to begin with."""
        return bool(self._evaluated)

    def has_evaluation(self, iteration: int) -> bool:
        """Tell whether the file had the evaluation after that iteration to begin with."""
        return iteration in self._evaluated


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read the file's lines, but those that a killed process left half written, or that are damaged."""
    if not path.exists():
        return []
    rows = []
    for line in read_regular(path, _MOST_BYTES).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("iteration")) is int:
            rows.append(row)
    return rows


def _line(row: dict[str, Any]) -> bytes:
    """Strict JSON, which has no NaN."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return (json.dumps(plain) + "\n").encode()
