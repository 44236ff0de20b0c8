"""The class lists of the benchmarks, one JSON file each beside this module, and what was meant by a slip."""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from san_cli.errors import SanError

DATASET_NAMES = ("coco", "ade150", "ade847", "pc59", "pc459", "voc", "cityscapes", "emoji")

_FAMILIES = {
    "coco": ("coco",),
    "ade": ("ade150", "ade847"),
    "pc": ("pc59", "pc459"),
    "voc": ("voc",),
    "cityscapes": ("cityscapes",),
}
_OTHER_SPELLINGS = {
    "ade": "ade",
    "adefull": "ade",
    "cocostuff": "coco",
    "mscoco": "coco",
    "pascalcontext": "pc",
    "pascalvoc": "voc",
    "pcontext": "pc",
}
_PREFIX = re.compile(r"(coco|voc|cityscapes|ade\d+k?|pc\d+)[-_]")


@dataclass(frozen=True)
class DatasetClass:
    """One class; its train id is its place in `DatasetVocabulary.classes`.

    `name` is the text that CLIP is fed, `registered_name` the key in official results, which differs for
    ADE's "window ". `raw_id` is the value in the dataset's own label files. `in_val`: whether the class
    occurs in the validation labels. None: not defined for the dataset.
    """

    name: str
    raw_id: int
    registered_name: str
    thing: bool | None = None
    colour: tuple[int, int, int] | None = None  # RGB, 0..255
    coco_category_id: int | None = None
    in_val: bool | None = None


@dataclass(frozen=True)
class DatasetVocabulary:
    """A benchmark's classes in train id order; a raw value that no class lists means `ignore_label`."""

    name: str
    title: str
    source: str
    ignore_label: int
    raw_id_meaning: str
    classes: tuple[DatasetClass, ...]


@cache
def load_dataset_vocabulary(name: str) -> DatasetVocabulary:
    """The class list called `name` (one of DATASET_NAMES, in any case); SanError for another name."""
    if name.casefold() not in DATASET_NAMES:
        likely = " or ".join(dataset_slip(name))
        raise SanError(
            f"There is no dataset called '{name}'.",
            hint=f"Did you mean {likely}?" if likely else f"There are: {', '.join(DATASET_NAMES)}.",
        )
    if name.casefold() == "emoji":
        return _emoji_vocabulary()
    file = resources.files(__name__) / f"{name.casefold()}.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    classes = tuple(_dataset_class(row) for row in facts["classes"])
    head = {key: facts[key] for key in ("name", "title", "source", "ignore_label", "raw_id_meaning")}
    return DatasetVocabulary(**head, classes=classes)


def _emoji_vocabulary() -> DatasetVocabulary:
    """The names in the emoji world, whose list is kept with its scenes."""
    from san_cli.datasets.emoji.concepts import BACKGROUND, concepts

    classes = tuple(
        DatasetClass(one.name, index, one.name, thing=one.category != BACKGROUND)
        for index, one in enumerate(concepts())
    )
    return DatasetVocabulary(
        "emoji",
        "Emoji scenes, rendered by san",
        "san_cli/datasets/emoji/concepts.json",
        65535,
        "place in the list",
        classes,
    )


def _dataset_class(row: dict) -> DatasetClass:
    colour = tuple(row["colour"]) if "colour" in row else None
    return DatasetClass(**{"registered_name": row["name"], **row, "colour": colour})


def nearest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The candidate most like `word`, whatever the case; None if none is alike enough to be suggested."""
    spelling = {candidate.casefold(): candidate for candidate in reversed(tuple(candidates))}
    close = difflib.get_close_matches(word.casefold(), spelling, n=1, cutoff=cutoff)
    return spelling[close[0]] if close else None


def dataset_slip(word: str) -> tuple[str, ...]:
    """The datasets that `word`, itself none of them, can only have meant; empty where it may be a class.

    Ordinary words must not be caught, so it takes a sign that no such word has: other separators ("ade-847"),
    a dataset and a suffix ("coco-stuff"), its letters with other digits ("voc2012"), a spelling in use
    elsewhere ("pcontext"), or most of the letters of "cityscapes", which no word but "cityscape" shares.
    """
    key = word.casefold()
    if key in DATASET_NAMES:
        return ()
    squeezed = re.sub(r"[-_.\s]", "", key)
    if squeezed in DATASET_NAMES:
        return (squeezed,)
    if " " in key:
        return ()
    letters = re.sub(r"\d+k?", "", squeezed)
    family = _FAMILIES.get(_OTHER_SPELLINGS.get(letters, letters), ())
    prefix = _PREFIX.match(key)
    if prefix:
        family = family or _FAMILIES[re.sub(r"\d+k?", "", prefix[1])]
    elif letters == squeezed and letters not in _OTHER_SPELLINGS:
        return ("cityscapes",) if nearest(squeezed, ["cityscapes"], 0.85) else ()
    spellings = (squeezed, prefix[1]) if prefix else (squeezed,)
    for spelling in spellings:
        close = nearest(spelling, family or DATASET_NAMES, 0.8)
        if close:
            return (close,)
    return family


def dataset_lookalike(word: str) -> str | None:
    """The dataset that `word` is one letter or so from, though it may well be a class ("cocoa")."""
    return nearest(word, ("coco", "voc"), 0.8) if word.isalpha() else None
