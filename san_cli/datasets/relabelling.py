"""`--label-map`: what values, colours or names of labels stand for, where it isn't the classes' own.

An entry is OLD=NEW. OLD is an id, a range of ids (1-150), a colour (128,0,0 or #800000), or a name where labels are
drawn; NEW is an id, a range as long as the old one, the name of a class, or `ignore`. Entries stand on the command
line, as lines in a file (# starts a comment; CVAT's labelmap.txt is read, too), or in a JSON object. All act at once:
what is given as NEW isn't looked up again.
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.labels import Labels, label_fault, read_colours, read_ids
from san_cli.errors import ExitCode, SanError, did_you_mean
from san_cli.files import read_regular
from san_cli.text import counted, nearest, printable, quoted
from san_cli.vocabulary.terms import word_key

IGNORE = "ignore"
UNCOVERED = "uncovered"  # in drawn labels, the pixels that no shape covers
_VALUES = 1 << 16
_ID, _RANGE = re.compile(r"\d{1,5}"), re.compile(r"(\d{1,5})\s*-\s*(\d{1,5})")
_COLOUR = re.compile(r"\(?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)?")
_HEX = re.compile(r"#([0-9a-fA-F]{6})")
_CVAT = re.compile(r"([^:]+):(\d{1,3},\d{1,3},\d{1,3}):[^:]*:[^:]*")  # a line of labelmap.txt
_FORM = (
    "An entry is OLD=NEW: 255=1, 1-150=0-149, '128,0,0=person', '#800000=person', 'truck=vehicle', 0=ignore."
)


@dataclass(frozen=True)
class Relabelling:
    """Entries as they were given; NEW is text until the classes are known."""

    ids: tuple[tuple[int, int, str], ...] = ()  # first and last old id
    colours: tuple[tuple[int, str], ...] = ()  # red << 16 | green << 8 | blue
    names: tuple[tuple[str, str], ...] = ()

    @property
    def told(self) -> tuple[str, ...]:
        """List the entries in one spelling, for the settings of a run."""
        ids = [f"{first}-{last}={new}" for first, last, new in self.ids]
        colours = [f"#{colour:06x}={new}" for colour, new in self.colours]
        return tuple(sorted([*ids, *colours, *(f"{old}={new}" for old, new in self.names)]))


@dataclass(frozen=True)
class IdChange:
    """What old ids, or colours, become; None is what doesn't count."""

    ids: tuple[tuple[int, int | None], ...] = ()
    colours: tuple[tuple[int, int | None], ...] = ()
    shifted: tuple[int, ...] = ()  # ids that ranges are moved to

    @property
    def says_what_counts(self) -> bool:
        """Tell whether it says what doesn't count, or what 255 is: then nobody needs to be asked."""
        return bool(self.colours) or any(new is None or old == 255 for old, new in self.ids)

    def read(self, path: Path, ignored: int) -> Labels:
        """Read a label file with its new ids [H, W], `ignored` for what doesn't count.

        SanError (code SOME_FAILED) for colours that no entry names (UnlistedColours), and for an id that keeps its
        value though a range was moved over it.
        """
        if self.colours:
            return _of_colours(self, path, ignored)
        ids = read_ids(path)
        clash, table = _tables(self, ignored)
        if clash is not None and clash[ids].any():
            held = np.unique(ids[clash[ids]]).tolist()[0]
            source = next(old for old, new in self.ids if new == held)
            raise label_fault(
                str(path),
                f"holds {held}, which --label-map leaves as it is, and makes {source} the same id {held}",
                f"Say what {held} is: --label-map {held}=ignore, or --label-map {held}={held} if both are one class.",
            )
        found = table[ids]
        return found.astype(np.uint8) if ids.dtype == np.uint8 and found.max() <= 255 else found


class UnlistedColours(SanError):
    """Colours of labels that `--label-map` doesn't name, with how many pixels have them."""

    def __init__(self, where: str, counts: Mapping[int, int]) -> None:
        self.counts = dict(counts)
        most = sorted(self.counts.items(), key=lambda one: (-one[1], one[0]))
        told = ", ".join(f"{_told_colour(colour)} ({counted(count, 'pixel')})" for colour, count in most[:8])
        more = f" and {len(most) - 8:,} more" if len(most) > 8 else ""
        what = "a colour" if len(most) == 1 else f"{len(most):,} colours"
        way = f"--label-map '{_told_colour(most[0][0])}=NAME' for each, or =ignore."
        if len(most) > 256:
            way = "So many come from interpolation or JPEG: save the labels anew, with nearest neighbour, as PNG."
        super().__init__(
            f"{where} {what} that --label-map doesn't name: {told}{more}", hint=way, code=ExitCode.SOME_FAILED
        )


def read_relabelling(given: Sequence[str] | None) -> Relabelling | None:
    """Parse the values of --label-map, None where there are none. SanError for what isn't understood."""
    if not given:
        return None
    entries: list[tuple[str, str]] = []
    for value in given:
        if "=" in value and not os.path.isfile(value):  # noqa: PTH113 (False for what is no path at all)
            entries.append(_split(value, f"--label-map {quoted(value[:80])}"))
        else:
            entries += _of_file(value)
    return relabelling_of(entries)


def relabelling_of(entries: Iterable[tuple[str, str]]) -> Relabelling:
    """Sort entries (old, new) out by what the old is. SanError for one that is given twice, or can't be."""
    ids: list[tuple[int, int, str]] = []
    colours: dict[int, str] = {}
    names: dict[str, tuple[str, str]] = {}
    for old, new in entries:
        if not old or not new:
            raise SanError(f"--label-map has an entry without a side: {quoted(f'{old}={new}')}", hint=_FORM)
        if "=" in new and not _HEX.fullmatch(new):
            raise SanError(
                f"--label-map {quoted(f'{old}={new}'[:80])} holds more than one =",
                hint="Give each entry a --label-map of its own, or a line of a file.",
            )
        colour = _colour(old)
        between = _RANGE.fullmatch(old)
        if colour is not None:
            if colours.setdefault(colour, new) != new:
                raise _twice(old)
        elif _ID.fullmatch(old) or between:
            first, last = (int(between[1]), int(between[2])) if between else (int(old), int(old))
            _check_range(old, first, last, new)
            ids.append((first, last, new))
        elif names.setdefault(word_key(old), (old, new))[1] != new:
            raise _twice(old)
    _refuse_overlaps(ids)
    if colours and (ids or names):
        raise SanError(
            "--label-map names colours and others; such a mixture is in no kind of labels", hint=_FORM
        )
    return Relabelling(tuple(ids), tuple(colours.items()), tuple(names.values()))


def id_change(relabelling: Relabelling, groups: Sequence[Sequence[str]], ignored: Sequence[int]) -> IdChange:
    """Find the ids that the entries lead to; `groups` are the words of each class, `ignored` the values of --ignore.

    SanError where an entry names no class, or contradicts --ignore.
    """
    if relabelling.names:
        raise SanError(
            f"--label-map {quoted('='.join(relabelling.names[0]))} begins with a name, and label maps hold ids",
            hint=_FORM,
        )
    ids: dict[int, int | None] = {}
    shifted: list[int] = []
    for first, last, new in relabelling.ids:
        between = _RANGE.fullmatch(new)
        for old in range(first, last + 1):
            to = str(int(between[1]) + old - first) if between else new
            ids[old] = _target(to, groups, ignored)
            if between and ids[old] is not None:
                shifted.append(int(to))
    colours = {colour: _target(new, groups, ignored) for colour, new in relabelling.colours}
    if not ignored and None in (*ids.values(), *colours.values()):
        raise SanError(
            "--ignore none counts every value, and --label-map has an entry =ignore", hint="Leave one out."
        )
    return IdChange(tuple(ids.items()), tuple(colours.items()), tuple(shifted))


def name_targets(
    relabelling: Relabelling | None, groups: Sequence[Sequence[str]], there: Collection[str]
) -> tuple[dict[str, int | None], int | None]:
    """Find the ids that names lead to, by `word_key`, None for `ignore`; and that of the pixels without a shape.

    A number may be a name, if it is `there` in the labels. SanError where an entry names no class, or begins with
    another number or a colour.
    """
    if relabelling is None:
        return {}, None
    numbers_are_names = all(first == last and str(first) in there for first, last, _ in relabelling.ids)
    if relabelling.colours or not numbers_are_names:
        raise SanError(
            "--label-map begins with ids or colours, and drawn labels have names",
            hint="Give the name in its place, such as --label-map 'truck=vehicle', or 'truck=ignore'.",
        )
    names = [*relabelling.names, *((str(first), new) for first, _, new in relabelling.ids)]
    found = {word_key(old): _target(new, groups, ()) for old, new in names}
    return found, found.pop(UNCOVERED, None)


def class_words(groups: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return each class's id by `word_key` of all its words; of a word that several have, the first's."""
    words: dict[str, int] = {}
    for number, group in enumerate(groups):
        for word in group:
            words.setdefault(word_key(word), number)
    return words


def _target(new: str, groups: Sequence[Sequence[str]], ignored: Sequence[int]) -> int | None:
    words = class_words(groups)
    if word_key(new) in words:
        return words[word_key(new)]
    if new.casefold() == IGNORE:
        return None
    if not _ID.fullmatch(new):
        known = [group[0] for group in groups]
        near = nearest(new, known)
        some = f"{', '.join(known[:8])}{', …' if len(known) > 8 else ''}"
        raise SanError(
            f"--label-map leads to {quoted(new[:60])}, which is no class",
            hint=did_you_mean(
                near and quoted(near),
                f"The classes are {printable(some)}; or `ignore`. --classes FILE can hold others.",
            ),
        )
    number = int(new)
    if number in ignored and number < len(groups):
        raise SanError(
            f"--label-map leads to {number}, which --ignore says doesn't count",
            hint=f"--ignore is about the new ids: leave it out, and say --label-map {number}=ignore of the old one.",
        )
    if number >= len(groups) and number not in ignored:
        raise SanError(
            f"--label-map leads to the id {number}, but {counted(len(groups), 'class')} have the ids 0 to "
            f"{len(groups) - 1}",
            hint="Ids begin at 0. What doesn't count is `ignore`.",
        )
    return None if number in ignored else number


def _split(text: str, where: str) -> tuple[str, str]:
    """Split at the =, which no id, colour or `ignore` holds; of a name's own the first counts."""
    old, equals, new = text.partition("=")
    if not equals:
        raise SanError(f"{where} is no entry OLD=NEW", hint=_FORM)
    return old.strip(), new.strip()


def _of_file(path: str) -> list[tuple[str, str]]:
    """Read the entries of a file."""
    try:
        text = read_regular(Path(path), 2**24).decode("utf-8-sig")
    except (OSError, ValueError) as error:  # no UTF-8, or no name of a file
        cause = error.strerror if isinstance(error, OSError) else "it is no text file"
        raise SanError(f"can't read --label-map {quoted(path)}: {cause}", hint=_FORM) from None
    if text.lstrip().startswith(("{", "[")):
        return _of_json(text, path)
    entries = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        as_colour = re.match(r"#[0-9a-fA-F]{6}\s*=", line)
        if not as_colour:
            line = re.split(r"(?:^|\s)#", line)[0].strip()
        if not line:
            continue
        cvat = _CVAT.fullmatch(line)
        entries.append(
            (cvat[2], cvat[1].strip()) if cvat else _split(line, f"line {number} of {quoted(path)}")
        )
    if not entries:
        raise SanError(f"{quoted(path)} holds no entries", hint=_FORM)
    return entries


def _of_json(text: str, path: str) -> list[tuple[str, str]]:
    try:
        found = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise SanError(
            f"{quoted(path)} can't be read as JSON: {printable(str(error))[:100]}", hint=_FORM
        ) from None
    right = isinstance(found, list) and all(
        isinstance(one, tuple) and isinstance(one[1], (str, int)) and not isinstance(one[1], bool)
        for one in found
    )
    if not right or not found:
        raise SanError(
            f"{quoted(path)} is no JSON object of old and new", hint='Write {"255": 1, "0": "ignore"}.'
        )
    return [(old.strip(), str(new).strip()) for old, new in found]


def _colour(text: str) -> int | None:
    """Read a colour, None where it is none. SanError for numbers above 255."""
    as_hex = _HEX.fullmatch(text)
    if as_hex:
        return int(as_hex[1], 16)
    parts = _COLOUR.fullmatch(text)
    if parts is None:
        return None
    red, green, blue = (int(part) for part in parts.groups())
    if max(red, green, blue) > 255:
        raise SanError(f"--label-map {quoted(text)} is no colour: its parts are 0 to 255", hint=_FORM)
    return red << 16 | green << 8 | blue


def _check_range(old: str, first: int, last: int, new: str) -> None:
    to = _RANGE.fullmatch(new)
    if last < first or last >= _VALUES:
        raise SanError(f"--label-map {quoted(old)} is no range of ids from 0 to 65535", hint=_FORM)
    if to and int(to[2]) - int(to[1]) != last - first:
        raise SanError(
            f"--label-map {quoted(f'{old}={new}')}: the two ranges differ in length",
            hint=f"{first}-{last} has {last - first + 1:,} ids; one id or name on the right takes them all.",
        )


def _refuse_overlaps(ids: list[tuple[int, int, str]]) -> None:
    ids[:] = list(dict.fromkeys(ids))
    ordered = sorted(ids)
    for (_, last, _), (first, _, _) in pairwise(ordered):
        if first <= last:
            raise _twice(str(first))


def _twice(old: str) -> SanError:
    return SanError(f"--label-map says twice what {quoted(old)} is, each time another", hint="Leave one out.")


def _told_colour(colour: int) -> str:
    return f"{colour >> 16},{colour >> 8 & 255},{colour & 255}"


@lru_cache(maxsize=4)
def _tables(change: IdChange, ignored: int) -> tuple[NDArray[np.bool_] | None, NDArray[np.uint16]]:
    """Old ids that keep their value though another becomes it [65536], None if there are none; and the new ids."""
    table = np.arange(_VALUES, dtype=np.uint16)
    for old, new in change.ids:
        table[old] = ignored if new is None else new
    kept = set(change.shifted) - {old for old, _ in change.ids}
    if not kept:
        return None, table
    clash = np.zeros(_VALUES, bool)
    clash[list(kept)] = True
    return clash, table


def _of_colours(change: IdChange, path: Path, ignored: int) -> Labels:
    colours = read_colours(path)
    known = np.array(sorted(change.colours, key=lambda one: one[0]), object)
    keys = known[:, 0].astype(np.uint32)
    values = np.array([ignored if new is None else new for new in known[:, 1]], np.uint16)
    place = np.minimum(np.searchsorted(keys, colours), len(keys) - 1)
    wrong = keys[place] != colours
    if wrong.any():
        others, counts = np.unique(colours[wrong], return_counts=True)
        raise UnlistedColours(
            f"{printable(str(path))} holds", dict(zip(others.tolist(), counts.tolist(), strict=True))
        )
    found = values[place]
    return found.astype(np.uint8) if values.max() <= 255 else found
