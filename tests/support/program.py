"""The program under test: how a run ended, what a process of its own needs, pictures to give it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from recipe import image


@dataclass(frozen=True)
class Ended:
    """A run of the program that has ended."""

    code: int
    out: str
    err: str


San = Callable[..., Ended]


def make_photos(folder: Path, count: int) -> None:
    """`count` pictures of three sizes below `folder`, every other one in a folder of its own."""
    for number in range(count):
        path = folder / ("sub" if number % 2 else "") / f"p{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = [(72, 96), (96, 72), (80, 80)][number % 3]
        Image.fromarray(image(number, height, width)).save(path, quality=90)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def subprocess_environment(san_home: Path) -> dict[str, str]:
    """What a run in a process of its own needs."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": root, "SAN_HOME": str(san_home), "OMP_NUM_THREADS": "1"}


def hub_environment() -> dict[str, str]:
    """The environment without what would change how a hub is reached: proxies, offline switches, caches, tokens."""
    return {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and not name.startswith(("HF_", "HUGGING", "SAN_"))
    }
