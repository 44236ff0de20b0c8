"""Which preparation has come how far: a small file per split in ROOT/.san, so that half a tree is known."""

import json
from pathlib import Path

from san_cli.files import atomic_write

_FOLDER = ".san"


def is_unfinished(root: Path, name: str, split: str) -> bool:
    """Whether a preparation of this split was begun and not ended; trees made by other programs are ended."""
    return _read(root, name, split).get("complete") is False


def begin(root: Path, name: str, split: str, sources: str, *, empty: bool) -> bool:
    """Note that a preparation from `sources` (a fingerprint) begins; True if what is there must be its own.

    That is so if it goes on with an earlier one of the same sources that found the tree `empty` or was ended.
    """
    earlier = _read(root, name, split)
    own = earlier.get("sources") == sources and earlier.get("own") is True
    _write(root, name, split, {"sources": sources, "complete": False, "own": own or empty})
    return own


def end(root: Path, name: str, split: str, sources: str) -> None:
    """Note that the preparation is complete."""
    _write(root, name, split, {"sources": sources, "complete": True, "own": True})


def _path(root: Path, name: str, split: str) -> Path:
    return root / _FOLDER / f"prepare-{name}-{split}.json"


def _read(root: Path, name: str, split: str) -> dict[str, object]:
    path = _path(root, name, split)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(root: Path, name: str, split: str, state: dict[str, object]) -> None:
    path = _path(root, name, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as stream:
        stream.write(json.dumps(state, sort_keys=True).encode("ascii") + b"\n")
