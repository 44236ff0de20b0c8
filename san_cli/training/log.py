"""`metrics.jsonl`: a line for every so many iterations and for every evaluation."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from san_cli.errors import SanError
from san_cli.inert import inert
from san_cli.outputs.atomic import atomic_write
from san_cli.training.step import StepResult


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
        """Mean losses; empty if no iteration counted."""
        return {name: value / self.steps for name, value in self.sums.items()}


class MetricsLog:
    """The file, appended to line by line; a resumed training first drops what it will write again."""

    def __init__(self, path: Path, up_to: int) -> None:
        """Keep the lines of iterations up to `up_to`. SanError if the file can't be written."""
        self.path = path
        try:
            kept = [line for line in self._lines() if line.get("iteration", 0) <= up_to]
            with atomic_write(path) as file:
                file.writelines(_line(row) for row in kept)
        except OSError as error:
            raise SanError(f"can't write '{inert(str(path))}': {error.strerror}") from error

    def write(self, row: dict[str, Any]) -> None:
        """Append a line. SanError if that fails, as on a full disk."""
        try:
            with self.path.open("ab") as file:
                file.write(_line(row))
        except OSError as error:
            raise SanError(
                f"can't write '{inert(str(self.path))}': {error.strerror}", hint="Make room and add --resume."
            ) from error

    def has_evaluation(self, iteration: int) -> bool:
        """Whether the evaluation after that iteration is in the file."""
        return any(row.get("iteration") == iteration and "evaluation" in row for row in self._lines())

    def _lines(self) -> list[dict[str, Any]]:
        """What the file holds; a line that a killed process left half written is not among it."""
        rows = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return [row for row in rows if isinstance(row, dict)]


def _line(row: dict[str, Any]) -> bytes:
    """Strict JSON, which has no NaN."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return (json.dumps(plain) + "\n").encode()
