"""The concepts of the emoji world: names, synonyms, and which ones are kept for evaluation."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

BACKGROUND = "backgrounds"  # the category of the textures


@dataclass(frozen=True)
class Concept:
    """A thing or a texture with its names; its id is its place in `concepts()`."""

    name: str
    synonyms: tuple[str, ...]
    category: str
    emoji: str  # one character; empty for a background
    seen: bool  # its masks may be trained on

    @property
    def words(self) -> tuple[str, ...]:
        """List the name and its synonyms."""
        return (self.name, *self.synonyms)


@cache
def concepts() -> tuple[Concept, ...]:
    """Load all concepts, emoji by category first, then the backgrounds; the ids of the full list are their places."""
    text = files("san_cli.vocabulary").joinpath("emoji.json").read_text(encoding="utf-8")
    return tuple(_concepts(json.loads(text)))


def _concepts(stored: dict[str, Any]) -> Iterator[Concept]:
    for category, entries in stored["categories"].items():
        for place, entry in enumerate(entries):
            seen = place % 3 != 2
            yield Concept(entry["name"], tuple(entry["synonyms"]), category, entry["emoji"], seen)
    for entry in stored["backgrounds"]:
        yield Concept(entry["name"], tuple(entry["synonyms"]), BACKGROUND, "", True)


def all_ids() -> tuple[int, ...]:
    """List the ids of all concepts."""
    return tuple(range(len(concepts())))


def seen_ids() -> tuple[int, ...]:
    """List the ids of the seen emoji and of all backgrounds, ascending."""
    return tuple(i for i, concept in enumerate(concepts()) if concept.seen)


def unseen_ids() -> tuple[int, ...]:
    """List the ids of the unseen emoji, ascending."""
    return tuple(i for i, concept in enumerate(concepts()) if not concept.seen)
