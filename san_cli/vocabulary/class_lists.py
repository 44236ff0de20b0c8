"""The class lists of the benchmarks, one JSON file each beside this module, and what was meant by a slip."""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from san_cli.errors import SanError, did_you_mean
from san_cli.text import nearest, printable

DATASET_NAMES = ("coco", "ade150", "ade847", "pc59", "pc459", "voc", "cityscapes", "emoji")

_FAMILIES = {
    "coco": ("coco",),
    "ade": ("ade150", "ade847"),
    "pc": ("pc59", "pc459"),
    "voc": ("voc",),
    "cityscapes": ("cityscapes",),
    "pascal": ("voc", "pc59", "pc459"),
}
_OTHER_SPELLINGS = {
    "ade": "ade",
    "adefull": "ade",
    "cocopanoptic": "coco",
    "cocostuff": "coco",
    "mscoco": "coco",
    "pascal": "pascal",
    "pascalcontext": "pc",
    "pascalvoc": "voc",
    "pcontext": "pc",
}
# Data sets whose classes we don't have, and whose names are no ordinary words; compared without digits.
_OTHERS = {
    "acdc", "bdd", "bddk", "camvid", "cifar", "fashionmnist", "imagenet", "imagenetk", "isaid", "kitti",
    "loveda", "lvis", "mapillary", "mapillaryvistas", "mnist", "nuscenes", "nyu", "nyudepth", "nyuv",
    "openimages", "openimagesv", "scannet", "semantickitti", "sunrgbd", "visualgenome", "wilddash",
}  # fmt: skip
_OTHERS_WITH_DIGITS = ("gta5", "objects365", "places365", "v3det")
# Words that are one letter from "coco" or "emoji" and may well be meant.
_WORDS = {"cocoa", "cocos", "coca", "loco", "poco", "toco", "choco", "coo"}
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
    """Load the class list called `name` (one of DATASET_NAMES, in any case); SanError for another name."""
    if name.casefold() not in DATASET_NAMES:
        raise unknown_dataset(name)
    if name.casefold() == "emoji":
        return _emoji_vocabulary()
    file = resources.files("san_cli.vocabulary") / f"{name.casefold()}.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    classes = tuple(_dataset_class(row) for row in facts["classes"])
    head = {key: facts[key] for key in ("name", "title", "source", "ignore_label", "raw_id_meaning")}
    return DatasetVocabulary(**head, classes=classes)


def _emoji_vocabulary() -> DatasetVocabulary:
    """Load the names in the emoji world, whose list has synonyms and categories, too."""
    from san_cli.vocabulary.emoji_concepts import BACKGROUND, concepts

    classes = tuple(
        DatasetClass(one.name, index, one.name, thing=one.category != BACKGROUND)
        for index, one in enumerate(concepts())
    )
    return DatasetVocabulary(
        "emoji",
        "Emoji scenes, rendered by san",
        "san_cli/vocabulary/emoji.json",
        65535,
        "place in the list",
        classes,
    )


def _dataset_class(row: dict) -> DatasetClass:
    colour = tuple(row["colour"]) if "colour" in row else None
    return DatasetClass(**{"registered_name": row["name"], **row, "colour": colour})


def dataset_slip(word: str) -> tuple[str, ...]:
    """Find the datasets that `word`, itself none of them, can only have meant; empty where it may be a class.

    Ordinary words must not be caught, so it takes a sign that no such word has: other separators ("ade-847"),
    a dataset and a suffix ("coco-stuff"), its letters with other digits ("voc2012"), a spelling in use
    elsewhere ("pcontext"), one wrong letter ("cocoo", "coc0"), or most of the letters of "cityscapes", which no
    word but "cityscape" shares.
    """
    key = word.casefold()
    if key in DATASET_NAMES:
        return ()
    squeezed = re.sub(r"[-_.\s]", "", key)
    if squeezed in DATASET_NAMES:
        return (squeezed,)
    if " " in key:
        return ()
    mistyped = _mistyped(squeezed)
    if mistyped is not None:
        return (mistyped,)
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


def _mistyped(word: str) -> str | None:
    """Find the dataset of which `word` is a mistyping: one letter off "coco" or "emoji", "voc" with one doubled or
    swapped or with a digit for the o, which leaves out words such as "doc" and "vol".
    """
    if word in ("vooc", "vocc", "vvoc", "vco", "ovc", "v0c"):
        return "voc"
    near = [name for name in ("coco", "emoji") if _one_letter_off(word, name)]
    return near[0] if near and word not in _WORDS else None


def _one_letter_off(word: str, name: str) -> bool:
    """Tell whether one letter is missing, added, another, or two neighbours are swapped."""
    start = 0
    while start < min(len(word), len(name)) and word[start] == name[start]:
        start += 1
    rest, other = word[start:], name[start:]
    swapped = rest[:2] == other[1::-1] and rest[2:] == other[2:] and len(rest) > 1
    return word != name and (rest[1:] == other or rest == other[1:] or rest[1:] == other[1:] or swapped)


def foreign_dataset(word: str) -> bool:
    """Tell whether `word` is the name of a data set whose classes san doesn't have ("lvis", "ImageNet-1k")."""
    squeezed = re.sub(r"[-_.\s]", "", word.casefold())
    return squeezed in _OTHERS_WITH_DIGITS or re.sub(r"\d+", "", squeezed) in _OTHERS


def unknown_dataset(name: str) -> SanError:
    """Make the error for a dataset called `name`, which there isn't; it names the likely ones, or all."""
    likely = dataset_slip(name) or tuple(filter(None, [nearest(name, DATASET_NAMES)]))
    return SanError(
        f"There is no dataset called '{printable(name)[:60]}'.",
        hint=did_you_mean(" or ".join(likely)) or f"There are: {', '.join(DATASET_NAMES)}.",
    )


def dataset_lookalike(word: str) -> str | None:
    """Find the dataset that `word` is one letter or so from, though it may well be a class ("cocoa")."""
    return nearest(word, ("coco", "voc"), 0.8) if word.isalpha() else None
