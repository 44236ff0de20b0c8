"""Sentences into which a class name is put before CLIP's text tower reads it."""

import json
import re
import unicodedata
from collections.abc import Sequence

from san_cli.errors import SanError, did_you_mean
from san_cli.text import nearest, printable, quoted
from san_cli.vocabulary.lines import lines_of, read_text
from san_cli.vocabulary.terms import is_file_name, shown

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


def templates(name: str | Sequence[str]) -> tuple[str, ...]:
    """Load the template set called `name`, or the lines of the file in "@file.txt"; each has one `{}` for a word.

    Templates themselves are taken as they are. Fill them with `str.replace`: other braces stand for themselves.
    "imagenet" (OpenAI's) imports open_clip. Raises SanError for an unknown set, an unusable file, or a line without
    exactly one `{}`.
    """
    if not isinstance(name, str):
        for place, one in enumerate(name, start=1):
            _check(one, f"Entry {place}", "the list of templates")
        return tuple(name)
    if name.startswith("@"):
        return _from_file(name[1:])
    if name.casefold() == "imagenet":
        from san_cli.models import import_hub_settings

        import_hub_settings()
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    if name.casefold() not in TEMPLATE_SETS:
        raise SanError(f"There is no template set {shown(name)}.", hint=_way_to_templates(name))
    return TEMPLATE_SETS[name.casefold()]


def _way_to_templates(name: str) -> str:
    if is_file_name(name):
        return f"To read templates from that file, write @{name}"
    if "{" in name or " " in name:
        return "Put the sentence into a file, with {} where the name goes, and give that as @file.txt."
    known = f"There are {', '.join(TEMPLATE_NAMES)}, or @file.txt with one template per line."
    return did_you_mean(nearest(name, TEMPLATE_NAMES), known)


def _from_file(path: str) -> tuple[str, ...]:
    text = read_text(path, "templates")
    if text.lstrip()[:1] == "[":
        return _from_json(text, path)
    found = []
    for number, line in lines_of(text, path, "templates"):
        template = re.sub(r"\s#.*", "", line).rstrip()
        _check(template, f"Line {number}", path)
        found.append(template)
    marks = [re.match(r"(\d+)[\s,;:.)]|[-*•]\s", template) for template in found]
    if all(marks) and (len(found) > 1 or re.match(r"[-*•0]", found[0])):
        raise SanError(
            f"The templates of {quoted(path)} begin with numbers or bullets, which CLIP would read, too.",
            hint="Put the sentences alone into the file, one a line.",
        )
    return tuple(found)


def _from_json(text: str, path: str) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise SanError(
            f"{quoted(path)} begins like a list, but is no JSON list of sentences.",
            hint="Put the sentences alone into the file, one a line, each with {} where the name goes.",
        )
    for place, template in enumerate(found, start=1):
        _check(template, f"Entry {place}", path)
    return tuple(found)


def _check(template: str, where: str, path: str) -> None:
    """Raise SanError unless `template` is a sentence with one {}, without the marks of another format around it."""
    hint = "It needs exactly one {} where the name goes, and no control characters."
    other = re.search(r"\{\w+\}|%s|\[class\]|<class>|\$\w+", template, re.IGNORECASE)
    if other and "{}" not in template:
        hint = f"Write {{}} instead of {printable(other[0])} where the name goes."
    elif re.search(r"[\"'],?$", template) and re.match(r"[^\w{]*[\"']", template):
        hint = "Take off the quotes and commas around it, which CLIP would read, too."
    elif template.count("{}") == 1 and "Cc" not in map(unicodedata.category, template):
        return
    raise SanError(f"{where} of {quoted(path)} is no template.", hint=hint)
