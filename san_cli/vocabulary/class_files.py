"""Files of classes as people have them: what each is taken for, the classes in it, and their ids.

Read are our own kind (one name a line, `a|b` for synonyms, # starts a comment) and what leaves no doubt:

- lines with numbers that are 0…n-1 or 1…n in order, with bullets, or with WordNet ids before the names;
- JSON and YAML: a list of names, id → name, name → id, lists of objects with a name and perhaps an id (COCO's
  categories, CVAT's labels, ours), or an object that holds one of these under a usual key (YOLO's `names`).

All else is refused with what it is (`class_files_refused`), as a name that isn't one would be a class that
wins pixels. A line in quotes is always literally a name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from san_cli.errors import SanError
from san_cli.text import counted, printable, quoted
from san_cli.vocabulary.class_files_json import Entry, read_structured
from san_cli.vocabulary.class_files_refused import refuse_foreign
from san_cli.vocabulary.lines import all_lines, lines_of, read_text
from san_cli.vocabulary.terms import clean_word, read_line, shown, word_key

MOST = 65_535  # classes that a label map can hold

_NUMBERED = re.compile(r"(\d{1,9})(?:\s*[:)\]]\s*|\.\s+|\s+(?:-|[-=]>|=)\s+|\s+)(\S.*)")
_BULLET = re.compile(r"([-*+•–])\s+(\S.*)")
_PLACEHOLDER = re.compile(r"(label|class|cls|category|cat|object|obj)[ _-]?\d+", re.IGNORECASE)
_WORDNET = re.compile(r"n\d{8}\s+(\S.*)")


@dataclass(frozen=True)
class ClassFile:
    """The classes of a file, in its order or that of its ids."""

    path: str
    kind: str  # what the file was taken for
    groups: tuple[tuple[str, ...], ...]  # each class with its synonyms
    places: tuple[str, ...]  # where in the file each stands ("line 3")
    ids: tuple[int, ...] | None  # those that the file states; None: its classes are counted from 0
    gaps: tuple[
        tuple[int, bool], ...
    ] = ()  # lines between classes that hold none, and whether they are blank

    @property
    def note(self) -> str:
        """Say in one line what the file was taken for."""
        return f"{printable(Path(self.path).name)}: read as {self.kind}, {counted(len(self.groups), 'class')}"


def read_class_file(path: str) -> ClassFile:
    """Read the classes in `path`. SanError where it can't be read as such without doubt, with what it is."""
    return classes_in_text(read_text(path, "names"), path)


def classes_in_text(text: str, path: str) -> ClassFile:
    """Read the classes in the text of a file called `path`, see `read_class_file`."""
    if not text.strip():
        raise SanError(f"The file {quoted(path)} holds no names.", hint="One per line, # starts a comment.")
    structured = read_structured(text, path)
    if structured is not None:
        return _of_entries(path, *structured)
    lines = lines_of(text, path, "names")
    if len(lines) > MOST:
        raise _too_many(path, len(lines))
    kind, rest, ids = _without_marks(path, lines)
    refuse_foreign(path, text, [(number, line) for (number, _), line in zip(lines, rest, strict=True)])
    groups = tuple(
        _named(path, f"Line {number}", partial(read_line, line))
        for (number, _), line in zip(lines, rest, strict=True)
    )
    _refuse_placeholders(path, groups)
    places = tuple(f"line {number}" for number, _ in lines)
    return ClassFile(path, kind, groups, places, ids, _gaps(text, lines))


def _without_marks(path: str, lines: list[tuple[int, str]]) -> tuple[str, list[str], tuple[int, ...] | None]:
    """Find the kind of list, its lines without numbers, bullets or WordNet ids, and the numbers."""
    texts = [line for _, line in lines]
    numbered = [_NUMBERED.fullmatch(line) for line in texts]
    numbers = [int(found[1]) for found in numbered if found]
    start = numbers[0] if numbers else 0
    in_order = len(numbers) == len(texts) and start in (0, 1)
    in_order = in_order and numbers == list(range(start, start + len(texts)))
    if in_order and (len(texts) > 1 or re.match(r"\d+\s*[:.)]", texts[0])):
        kind = f"numbered lines from {start} on"
        return kind, [found[2] for found in numbered if found], tuple(numbers)
    bullets = [_BULLET.fullmatch(line) for line in texts]
    if len({found[1] if found else "" for found in bullets}) == 1 and bullets[0]:
        return "a list with bullets", [found[2] for found in bullets if found], None
    synsets = [_WORDNET.fullmatch(line) for line in texts]
    if all(synsets):
        return "WordNet ids and names", [found[1] for found in synsets if found], None
    return "one name a line", texts, None


def _gaps(text: str, lines: list[tuple[int, str]]) -> tuple[tuple[int, bool], ...]:
    first, last = lines[0][0], lines[-1][0]
    between = enumerate(all_lines(text)[first - 1 : last], start=first)
    return tuple((n, not line.strip()) for n, line in between if not line.strip() or line.strip()[0] == "#")


def _of_entries(path: str, kind: str, entries: list[Entry]) -> ClassFile:
    """Take the classes of a JSON or YAML file, sorted by their ids where it gives them."""
    if not entries:
        raise SanError(f"The file {quoted(path)} holds no names.", hint="Put one name a line into it.")
    if len(entries) > MOST:
        raise _too_many(path, len(entries))
    ids = [entry.number for entry in entries if entry.number is not None]
    if len(ids) == len(entries):
        twice = _first_double(ids)
        if twice is not None:
            raise SanError(f"{quoted(path)} gives the id {twice} to two classes.", hint="Mend the file.")
        entries = sorted(entries, key=lambda entry: entry.number or 0)
    groups = tuple(
        _named(path, entry.where.capitalize(), partial(_cleaned, entry.words)) for entry in entries
    )
    if kind == "id → name" and all(words[0].isdecimal() for words in groups):
        raise _placeholders(path, groups)
    _refuse_placeholders(path, groups)
    places = tuple(entry.where for entry in entries)
    return ClassFile(path, kind, groups, places, tuple(sorted(ids)) if len(ids) == len(entries) else None)


def _refuse_placeholders(path: str, groups: tuple[tuple[str, ...], ...]) -> None:
    """Raise SanError where every name is a number with a word for "class" before it."""
    if all(_PLACEHOLDER.fullmatch(words[0]) for words in groups):
        raise _placeholders(path, groups)


def _placeholders(path: str, groups: tuple[tuple[str, ...], ...]) -> SanError:
    return SanError(
        f"The names in {quoted(path)} are placeholders ({printable(groups[0][0])}), of which CLIP knows nothing.",
        hint="Put names in their place.",
    )


def _cleaned(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(clean_word, words))


def _first_double(values: list[int]) -> int | None:
    seen: set[int] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _named(path: str, where: str, read: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """Call `read`; an error of it says where in the file."""
    try:
        return read()
    except SanError as error:
        raise SanError(f"{where} of {quoted(path)}: {error.message}", hint=error.hint) from None


def _too_many(path: str, count: int) -> SanError:
    return SanError(
        f"The file {quoted(path)} has {count:,} names; {MOST:,} classes are the most that a label map can hold.",
        hint="Is it a list of classes?",
    )


def read_label_classes(path: str) -> tuple[ClassFile, tuple[str, ...]]:
    """Read the classes that the values of label maps stand for: class 0, 1, … in order; and notes for the user.

    SanError where an id would be in doubt: a blank line between classes, ids that are not 0…n-1, one name
    for two ids.
    """
    try:
        found = read_class_file(path.removeprefix("@"))
    except SanError as error:
        at = error.hint if "@" not in error.hint or "--vocab" in error.hint else ""
        raise SanError(
            error.message, hint=at or "--classes FILE has one class a line, from id 0 on."
        ) from None
    _refuse_other_ids(found)
    _refuse_doubles(found)
    blank = [number for number, is_blank in found.gaps if is_blank]
    if blank and found.ids is None:
        raise SanError(
            f"Line {blank[0]} of {quoted(path)} is blank, between the classes of ids "
            f"{_id_before(found, blank[0])} and {_id_before(found, blank[0]) + 1}.",
            hint="Remove the line if no id is meant; otherwise write the name of that id.",
        )
    last = len(found.groups) - 1
    names = [shown(group[0]) for group in (found.groups[0], found.groups[-1])]
    span = f"0 is {names[0]}" + (f", {last} is {names[1]}" if last else "")
    notes = [f"{found.note}: {span}"]
    comments = [str(number) for number, is_blank in found.gaps if not is_blank]
    if comments and found.ids is None:
        some = f"{', '.join(comments[:3])}{' …' if len(comments) > 3 else ''}"
        notes.append(f"{printable(Path(path).name)}: comments between the classes (line {some}) have no id")
    return found, tuple(notes)


def _id_before(found: ClassFile, line: int) -> int:
    return sum(int(place.removeprefix("line ")) < line for place in found.places) - 1


def _refuse_other_ids(found: ClassFile) -> None:
    """Raise SanError unless the ids of the file, if it gives any, are 0…n-1."""
    if found.ids is None or found.ids == tuple(range(len(found.ids))):
        return
    missing = next(n for n, number in enumerate((*found.ids, -1)) if n != number)
    given = ", ".join(map(str, found.ids[:4])) + (f" … {found.ids[-1]}" if len(found.ids) > 4 else "")
    raise SanError(
        f"{quoted(found.path)} has the ids {given}, so that the label value {missing} has no name; labels have "
        "the values 0 to n-1 of n classes.",
        hint=f"If {missing} is a value of your labels, give it a name (and --ignore {missing} if it doesn't "
        "count); if the values are 0 to n-1 all the same, give the names alone, one a line.",
    )


def _refuse_doubles(found: ClassFile) -> None:
    """Raise SanError where two ids have a word in common: the second would never be predicted."""
    place: dict[str, int] = {}
    for index, words in enumerate(found.groups):
        for word in words:
            other = place.setdefault(word_key(word), index)
            if other != index:
                raise SanError(
                    f"{found.places[other].capitalize()} and {found.places[index]} of {quoted(found.path)} "
                    f"are both {shown(word)}: one name can't stand for two ids.",
                    hint="Give each id a name of its own, such as 'road' and 'road marking'.",
                )
