"""Patterns by which names of images and of their labels belong together, and which would fit where none was given.

A pattern is a file name with {stem} where an image and its label are alike: img_{stem}.jpg beside mask_{stem}.png.
Without a / it holds in any sub-folder, the same for both; with one it is the whole path below the folder, in which
{path} stands for sub-folders. Without a known suffix at its end any suffix will do.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import PurePosixPath

from san_cli.errors import SanError
from san_cli.text import quoted

_PARTS = re.compile(r"(\{path\}/|\{path\}|\{stem\})")
_EXPRESSIONS = {
    "{path}/": "(?:(?P<path>.+)/)?",
    "{path}": "(?P<path>.*)",
    "{stem}": "(?P<stem>[^/]+)",
}
_MOST_COMPARED = 200  # names looked at for a fitting pattern


@dataclass(frozen=True)
class NamePattern:
    """A pattern, ready to be compared with paths relative to its folder."""

    text: str
    expression: re.Pattern[str]

    @property
    def has_path(self) -> bool:
        """Tell whether sub-folders are part of what image and label share."""
        return "path" in self.expression.groupindex

    def parts(self, relative: str) -> tuple[str, str] | None:
        """The sub-folders and the stem of a path that fits."""
        found = self.expression.fullmatch(relative)
        if found is None:
            return None
        return (found["path"] or "" if self.has_path else ""), found["stem"]


def name_pattern(text: str, suffixes: Sequence[str], option: str) -> NamePattern:
    """Parse what `option` gives. SanError where {stem} isn't in it once or anything else is in braces."""
    whole = text if "/" in text else f"{{path}}/{text}"
    pieces = _PARTS.split(whole.removeprefix("./"))
    names = [piece.removesuffix("/") for piece in pieces[1::2]]
    if names.count("{stem}") != 1 or names.count("{path}") > 1 or re.search(r"[{}]", "".join(pieces[::2])):
        example = text.replace("*", "{stem}") if text.count("*") == 1 else "mask_{stem}.png"
        raise SanError(
            f"{option} {quoted(text)} doesn't hold {{stem}} once",
            hint=f"{{stem}} stands for what image and label have in common, as in {quoted(example)}; "
            "{path}/ in front for sub-folders.",
        )
    expression = "".join(
        _EXPRESSIONS[piece] if number % 2 else re.escape(piece) for number, piece in enumerate(pieces)
    )
    if not text.lower().endswith(tuple(suffix.lower() for suffix in suffixes)):
        expression += f"(?:{'|'.join(map(re.escape, suffixes))})"
    return NamePattern(text, re.compile(expression, re.IGNORECASE))


def keyed(pattern: NamePattern, relatives: Sequence[str], *, with_path: bool) -> list[tuple[str, str]]:
    """(what image and label share, path) of each path that fits the pattern; in NFC, as macOS may write NFD."""
    found = []
    for relative in relatives:
        parts = pattern.parts(relative)
        if parts is not None:
            folder, stem = parts
            key = f"{folder}/{stem}" if folder and with_path else stem
            found.append((unicodedata.normalize("NFC", key), relative))
    return found


@dataclass(frozen=True)
class Fitting:
    """Patterns under which `pairs` images have a label each; `image` is "" where it needs none."""

    image: str
    label: str
    pairs: int

    @property
    def options(self) -> str:
        """As they are typed."""
        image = f"--image-name {quoted(self.image)} " if self.image else ""
        return f"{image}--label-name {quoted(self.label)}"


def fitting_patterns(
    images: Sequence[str], labels: Sequence[str], suffixes: tuple[Sequence[str], Sequence[str]]
) -> Fitting | None:
    """Find the patterns that give the most images a label, if that is more than half of them; paths are relative.

    `suffixes` are those of images and of labels. Some names of each are compared, the first of them most.
    """
    candidates = Counter(
        candidate
        for image in images[:3]
        for label in labels[:_MOST_COMPARED]
        if (candidate := _alike(image, label)) is not None
    )
    most = Fitting("", "", 0)
    for (image_text, label_text), _ in candidates.most_common(_MOST_COMPARED):
        image_pattern = name_pattern(image_text or "{stem}", suffixes[0], "")
        label_pattern = name_pattern(label_text, suffixes[1], "")
        with_path = image_pattern.has_path and label_pattern.has_path
        image_keys = Counter(key for key, _ in keyed(image_pattern, images, with_path=with_path))
        label_keys = Counter(key for key, _ in keyed(label_pattern, labels, with_path=with_path))
        pairs = sum(label_keys[key] == count == 1 for key, count in image_keys.items())
        if (pairs, not image_text, -len(label_text)) > (most.pairs, not most.image, -len(most.label)):
            most = Fitting(image_text, label_text, pairs)
    return most if 2 * most.pairs > len(images) else None


def _alike(image: str, label: str) -> tuple[str, str] | None:
    """The patterns that these two have in common: of the image ("" for any name), and of the label."""
    image_path, label_path = PurePosixPath(image), PurePosixPath(label)
    stem, name = image_path.stem, label_path.name
    match = SequenceMatcher(None, stem, name, autojunk=False).find_longest_match()
    common = stem[match.a : match.a + match.size]
    core = common if common == stem else common.strip("_-. ")
    if not core or re.search(r"[{}]", image + label):
        return None
    image_text, label_text = stem.replace(core, "{stem}", 1), name.replace(core, "{stem}", 1)
    image_folder, label_folder = (str(path.parent).strip(".") for path in (image_path, label_path))
    if label_folder != image_folder:
        if image_folder and image_folder in label_folder:
            label_folder = label_folder.replace(image_folder, "{path}", 1)
        label_text = f"{label_folder or '.'}/{label_text}"
    return ("" if core == stem else f"{image_text}{image_path.suffix}"), label_text


def nearest_name(name: str, others: Sequence[str]) -> str:
    """Find the one of `others` that is most like `name`, "" if there is none."""
    stem = PurePosixPath(name).stem
    ratio = [SequenceMatcher(None, stem, PurePosixPath(other).stem).ratio() for other in others[:2000]]
    return others[ratio.index(max(ratio))] if ratio else ""
