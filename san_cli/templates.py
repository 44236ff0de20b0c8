"""Sentences into which a class name is put before CLIP's text tower reads it."""

import re
import unicodedata

from san_cli.errors import SanError
from san_cli.textlist import read_lines
from san_cli.vocabularies import nearest

# ViLD's 14 as SAN uses them; the missing full stops are SAN's and change the embeddings.
VILD = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)
TEMPLATE_SETS = {"vild": VILD, "photo": ("a photo of a {}.",), "name": ("{}",)}
TEMPLATE_NAMES = (*TEMPLATE_SETS, "imagenet")


def templates(name: str) -> tuple[str, ...]:
    """The template set called `name`, or the lines of the file in "@file.txt"; each has one `{}` for a word.

    Fill them with `str.replace`: other braces stand for themselves. "imagenet" (OpenAI's) imports open_clip.
    Raises SanError for an unknown set, an unusable file, or a line without exactly one `{}`.
    """
    if name.startswith("@"):
        return _from_file(name[1:])
    if name.casefold() == "imagenet":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    if name.casefold() not in TEMPLATE_SETS:
        near = nearest(name, TEMPLATE_NAMES)
        raise SanError(
            f"There is no template set '{name}'.",
            hint=(f"Did you mean {near}? " if near else "")
            + f"There are {', '.join(TEMPLATE_NAMES)}, or @file.txt with one template per line.",
        )
    return TEMPLATE_SETS[name.casefold()]


def _from_file(path: str) -> tuple[str, ...]:
    found = []
    for number, line in read_lines(path, "templates"):
        template = re.sub(r"\s#.*", "", line).rstrip()
        if template.count("{}") != 1 or "Cc" in map(unicodedata.category, template):
            raise SanError(
                f"Line {number} of '{path}' is no template.",
                hint="It needs exactly one {} where the name goes, and no control characters.",
            )
        found.append(template)
    return tuple(found)
