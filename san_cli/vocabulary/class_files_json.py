"""Class files in JSON or YAML: the few shapes in which the classes of a data set are stated."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from san_cli.errors import SanError
from san_cli.text import printable, quoted
from san_cli.vocabulary.lines import with_names

# Under which an object holds its classes, and what has it: YOLO, COCO, a Hugging Face config, Detectron2, others.
_KEYS = {
    "names": "YOLO names",
    "categories": "COCO categories",
    "id2label": "id2label of a Hugging Face configuration",
    "stuff_classes": "stuff_classes of Detectron2",
    "thing_classes": "thing_classes of Detectron2",
    "classes": "a list of classes",
    "CLASSES": "a list of classes",
    "class_names": "a list of classes",
    "labels": "a list of labels",
}
# What else the number of a class is called, beside "id"; compared without case, - and _.
_OTHER_IDS = {
    "index",
    "idx",
    "value",
    "labelid",
    "classid",
    "classindex",
    "categoryid",
    "trainid",
    "labelvalue",
}
_MOST_YAML = 2**20  # PyYAML reads some 0.2 MB a second
_NAMES_ALONE = "Put the names alone into a file, one a line."


@dataclass(frozen=True)
class Entry:
    """A class as the file gives it; nothing about its words is checked yet."""

    where: str
    number: int | None
    words: tuple[str, ...]


class _Shape(Exception):
    """Why a value is no list of classes."""


def read_structured(text: str, path: str) -> tuple[str, list[Entry]] | None:
    """Read the kind of a JSON or YAML text and its classes; None for a text that is neither.

    SanError where it is JSON or YAML but not, or not certainly, a list of classes.
    """
    suffix = Path(path).suffix.lower()
    start = text.lstrip()[:2]
    if suffix == ".json" or start[:1] == "{" or re.match(r'\[[\s"\'\[{\]\d-]|\[$', start):
        value, name = _json(text, path), "JSON"
    elif suffix in (".yaml", ".yml") or re.search(r"(?m)^names[ \t]*:", text):
        value, name = _yaml(text, path), "YAML"
    else:
        return None
    try:
        return _classes(value, name)
    except _Shape as why:
        raise SanError(
            f"{quoted(path)} is {name}, but {printable(str(why))}.",
            hint=f"{_NAMES_ALONE} In {name}, a list of names or id → name is read, too.",
        ) from None


def _json(text: str, path: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        cause, hint = "it is nested too deeply", _NAMES_ALONE
    except _Shape as why:
        cause, hint = str(why), "Mend the file."
    except ValueError as error:  # also for numbers of thousands of digits
        cause, hint = _why_no_json(text, str(error))
    raise SanError(
        f"{quoted(path)} can't be read as JSON: {printable(cause)}.", hint=with_names(hint, path)
    ) from None


def _why_no_json(text: str, error: str) -> tuple[str, str]:
    """Say what a text is that begins like JSON, and the way out."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.lstrip()[0] in "{[" and line.rstrip()[-1] in "}]" for line in lines):
        return "it has an object in each line (JSON Lines)", f"{_NAMES_ALONE} Or make it one JSON list."
    if re.search(r"[\[{,:(]\s*'", text) or re.match(r"\s*\{\s*\d", text):
        return (
            "it is Python",
            "Make JSON of it: `python -c 'import ast, json; print(json.dumps(ast.literal_eval(open(0).read())))' "
            "< FILE > NEW`.",
        )
    if "integer string" in error:
        return "a number in it has thousands of digits", "Mend the file."
    return error[:100], "Mend it, or put the names alone into a file, one a line."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the object of these members; _Shape if a key comes twice, of which JSON readers drop the first."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Shape(f"the key '{key[:60]}' comes twice")
        found[key] = value
    return found


def _yaml(text: str, path: str) -> Any:
    """Read the text's value; all scalars are strings, so that `no` and `1e3` are names like others."""
    import yaml  # only here, as few runs need it

    class Loader(yaml.BaseLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            return _once(self.construct_pairs(node, deep=True))

    if len(text) > _MOST_YAML:
        raise SanError(
            f"{quoted(path)} is YAML above 1 MiB, too large for a list of names.", hint=_NAMES_ALONE
        )
    cause = "is nested too deeply"
    try:
        return yaml.load(text, Loader=Loader)
    except RecursionError:
        pass
    except _Shape as why:
        cause = f"invalid: {why}"
    except (yaml.YAMLError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        cause = f"can't be read{place}: {getattr(error, 'problem', None) or error}"
    raise SanError(
        f"{quoted(path)} looks like YAML, but {printable(cause)[:200]}.", hint=_NAMES_ALONE
    ) from None


def _classes(value: Any, name: str) -> tuple[str, list[Entry]]:
    """Read the classes in a list or an object, or in that under the one key of `_KEYS` that it has."""
    if isinstance(value, list):
        return _of_list(value, f"a {name} list")
    if not isinstance(value, dict):
        raise _Shape("neither a list nor an object")
    held = [key for key in _KEYS if isinstance(value.get(key), (list, dict))]
    if held:
        found = [_of_member(value[key], _KEYS[key], key) for key in held]
        if any([e.words for e in entries] != [e.words for e in found[0][1]] for _, entries in found):
            raise _Shape(f"it is not clear which of {' and '.join(held)} are the classes")
        _check_count(value, held[0], found[0][1])
        _check_ids_beside(value, held[0], found[0][1])
        return found[0]
    if "names" in value and len(value) > 1:
        raise _Shape(f"names is '{str(value['names'])[:60]}'; if that is a file, give it as @FILE")
    return _of_object(value, name)


def _of_member(value: Any, kind: str, key: str) -> tuple[str, list[Entry]]:
    try:
        if isinstance(value, list):
            own_kind, entries = _of_list(value, kind)
            return (own_kind if key not in ("names", "categories") else kind), entries
        return kind, _of_object(value, kind)[1]
    except _Shape as why:
        raise _Shape(f"in {key}: {why}") from None


def _check_count(value: dict[str, Any], key: str, entries: list[Entry]) -> None:
    """YOLO says the number twice; where the numbers differ, one of them is wrong."""
    if key == "names" and str(value.get("nc", len(entries))).strip() != str(len(entries)):
        raise _Shape(f"nc is {str(value['nc'])[:20]} and names holds {len(entries)}")


def _check_ids_beside(value: dict[str, Any], key: str, entries: list[Entry]) -> None:
    """Refuse a list of ids beside the names that numbers them otherwise than by their place."""
    for other, ids in value.items():
        is_ids = re.sub("[-_]", "", other).lower().removesuffix("s") in {"id", *_OTHER_IDS}
        if is_ids and isinstance(ids, list) and list(map(_as_id, ids)) != list(range(len(entries))):
            raise _Shape(f"it is not clear whether {other[:30]} or their place in {key} numbers its classes")


def _of_list(values: list[Any], kind: str) -> tuple[str, list[Entry]]:
    if all(isinstance(one, str) for one in values):
        return kind, [Entry(f"entry {place}", None, (one,)) for place, one in enumerate(values, start=1)]
    if all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in values):
        return _of_objects(values, kind)
    if all(isinstance(one, dict) for one in values):
        keys = sorted({str(key)[:30] for one in values for key in one})
        raise _Shape(f'its entries have no "name" (they have: {", ".join(keys[:6])})')
    kinds = {type(one).__name__ for one in values}
    raise _Shape(f"its entries are not all names ({_json_words(kinds)})")


def _of_objects(values: list[dict[str, Any]], kind: str) -> tuple[str, list[Entry]]:
    """Objects with a name: COCO's categories have ids, CVAT's labels may have those of its data base."""
    cvat = any("attributes" in one for one in values)
    with_words = all(_is_words(one.get("words")) for one in values)
    ids = [_as_id(one.get("id")) for one in values]
    if not cvat and any("id" in one for one in values) and None in ids:
        raise _Shape(f"entry {ids.index(None) + 1} has no id from 0 on")
    if not _is_class_table(values, ids):
        _refuse_other_numbers(values, ids, cvat=cvat)
    entries = [
        Entry(
            f"entry {place}",
            None if cvat else number,
            tuple(one["words"]) if with_words else (one["name"],),
        )
        for place, (number, one) in enumerate(zip(ids, values, strict=True), start=1)
    ]
    if cvat:
        return "CVAT labels", entries
    if all("colour" in one for one in values) or with_words:
        return "a class list of san", entries
    return "COCO categories" if None not in ids else kind, entries


def _is_class_table(values: list[dict[str, Any]], ids: list[int | None]) -> bool:
    """Tell whether this is the classes.json of `san predict`, whose category_id is the id and one."""
    numbered = (
        own is not None and _as_id(one.get("category_id")) == own + 1
        for one, own in zip(values, ids, strict=True)
    )
    return all("colour" in one for one in values) and all(numbered)


def _refuse_other_numbers(values: list[dict[str, Any]], ids: list[int | None], *, cvat: bool) -> None:
    """Raise _Shape where the objects have numbers that are not those which their classes would get."""
    for place, (one, own) in enumerate(zip(values, ids, strict=True)):
        meant = place if own is None or cvat else own
        for key, value in one.items():
            number = _as_id(value) if re.sub("[-_]", "", key).lower() in _OTHER_IDS else None
            if number not in (None, meant):
                other = "their place in the list" if own is None or cvat else "id"
                raise _Shape(f"it is not clear whether {key[:30]} or {other} is the number of its classes")


def _of_object(value: dict[str, Any], kind: str) -> tuple[str, list[Entry]]:
    """id → name, or name → id."""
    numbers = [_as_id(key) for key in value]
    if value and None not in numbers and all(isinstance(one, str) for one in value.values()):
        pairs: Iterable[tuple[int | None, Any]] = zip(numbers, value.values(), strict=True)
        return "id → name", [Entry(f"id {number}", number, (one,)) for number, one in pairs]
    ids = [_as_id(one) for one in value.values()]
    if value and None not in ids and not any(_as_id(key) is not None for key in value):
        return "name → id", [
            Entry(f"id {number}", number, (key,)) for key, number in zip(value, ids, strict=True)
        ]
    if value and None not in numbers:
        kinds = {type(one).__name__ for one in value.values()}
        raise _Shape(f"its ids stand for {_json_words(kinds)}, not for names alone")
    keys = ", ".join(str(key)[:30] for key in list(value)[:6])
    raise _Shape(f"it holds no list of classes that san knows (its keys: {keys or 'none'})")


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)


def _as_id(value: Any) -> int | None:
    """Read an id from 0 on, also as digits in a text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else None


def _json_words(types: set[str]) -> str:
    """Translate Python's names of types into JSON's."""
    words = {
        "str": "texts",
        "int": "numbers",
        "float": "numbers",
        "NoneType": "null",
        "bool": "true or false",
    }
    words |= {"list": "lists", "dict": "objects"}
    return " and ".join(sorted({words.get(name, name) for name in types}))
