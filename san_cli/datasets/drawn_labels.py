"""Drawn labels of a folder of images, checked before anything is loaded: classes, names, sizes, and coverage."""

import hashlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.datasets.annotations.drawings import Drawings, Drawn
from san_cli.datasets.annotations.find import Found, read_annotations
from san_cli.datasets.annotations.labelme import IGNORED
from san_cli.datasets.annotations.shapes import NOTHING, contested_pixels
from san_cli.datasets.drawn_pairs import DrawnPair
from san_cli.datasets.named_pairs import pair_named
from san_cli.datasets.own_pairs import stored_orientation
from san_cli.datasets.own_survey import survey_images
from san_cli.datasets.pairing import LabelFiles, pair_files
from san_cli.datasets.relabelling import UNCOVERED, Relabelling, class_words, name_targets
from san_cli.errors import ExitCode, SanError, did_you_mean
from san_cli.text import counted, nearest, printable, quoted
from san_cli.vocabulary.terms import as_line, clean_word, word_key

if TYPE_CHECKING:
    from san_cli.datasets.task import OwnData

MOST = 100  # images that are painted beforehand
_SHOWN = 30  # names in a message

Groups = tuple[tuple[str, ...], ...]  # each class with its synonyms


@dataclass(frozen=True)
class DrawnData:
    """Everything that a task needs to know of drawn labels."""

    groups: Groups
    pairs: tuple[DrawnPair, ...]
    notes: tuple[str, ...]
    total: int  # pairs that there are without a limit
    sha256: str  # of the labels and the classes


def drawn_data(
    found: Found,
    data: "OwnData",
    groups: Groups | None,
    *,
    keep_going: bool,
    limit: int | None,
    say: Callable[[str], None],
) -> DrawnData:
    """Read drawn labels and pair them with their images; `groups` are the classes, None for those of the files.

    `say` is told what classes these are. SanError for whatever can't be meant, see the functions below.
    """
    if data.ignored is not None:
        raise SanError(
            "--ignore is about the values of label maps, and these labels are drawn",
            hint="Pixels that no shape covers never count; --label-map 'NAME=ignore' leaves a class out.",
        )
    drawings = read_annotations(found, None if groups is None else [group[0] for group in groups])
    refuse_nothing_drawn(drawings)
    classes = f"'{data.classes}'" if data.classes else "the training's"
    if groups is None:
        groups, classes = listed_classes(drawings, data.relabelling), f"{quoted(drawings.path)}"
        say(
            f"{counted(len(groups), 'class')}, as the {drawings.kind} labels list them: 0 is {quoted(groups[0][0])}"
            + (f", {len(groups) - 1} is {quoted(groups[-1][0])}" if len(groups) > 1 else "")
        )
    ids = name_ids(drawings, groups, data.relabelling, classes)
    pairs, notes = pair_drawings(
        data.images,
        drawings,
        ids,
        image_name=data.image_name,
        label_name=data.label_name,
        keep_going=keep_going,
    )
    chosen = pairs[:limit]
    surveyed = survey_drawings(drawings, chosen)
    return DrawnData(
        groups,
        chosen,
        (*drawings.notes, *notes, *ids.notes, *surveyed, *survey_images(chosen)),
        len(pairs),
        hashlib.sha256(f"{drawings.sha256}\0{groups}".encode("utf-8", "surrogatepass")).hexdigest(),
    )


@dataclass(frozen=True)
class NameIds:
    """The ids of names by `word_key`, NOTHING for what doesn't count, and that of what no shape covers."""

    ids: Mapping[str, int]
    rest: int
    notes: tuple[str, ...] = ()


def listed_classes(drawings: Drawings, relabelling: Relabelling | None) -> Groups:
    """Return the classes that the files list, in their order, without those that --label-map makes another.

    SanError (code USAGE) where they list none: with the names that are there.
    """
    if not drawings.classes:
        names = [name for name in drawings.found if word_key(name) != word_key(IGNORED)]
        shown = " ".join(shlex.quote(printable(as_line(name))) for name in names[:_SHOWN])
        more = " …" if len(names) > _SHOWN else ""
        raise SanError(
            f"{drawings.kind}'s files list no classes: --classes FILE is missing",
            hint=f"They hold {_with_counts(drawings.found)}. Write the names into a file, one a line, such as with "
            f"printf '%s\\n' {shown}{more} > classes.txt",
        )
    moved = set()
    if relabelling is not None:
        moved = {word_key(old) for old, _ in relabelling.names} | {str(old) for old, _, _ in relabelling.ids}
    groups: dict[str, tuple[str, ...]] = {}
    for name in drawings.classes:
        if word_key(name) in (word_key(IGNORED), *moved):
            continue
        try:
            word = clean_word(name)
        except SanError as error:
            raise SanError(
                f"{quoted(drawings.path)}: {error.message}", hint=error.hint, code=ExitCode.NO_INPUT
            ) from None
        groups.setdefault(word_key(word), (word,))
    if not groups:
        raise SanError(f"{quoted(drawings.path)} leaves no class", hint="Give --classes FILE.")
    return tuple(groups.values())


def name_ids(drawings: Drawings, groups: Groups, relabelling: Relabelling | None, classes: str) -> NameIds:
    """Find the ids of all names in the drawings; `classes` says where the classes are from.

    SanError (code NO_INPUT) that lists the names which are no class.
    """
    words = class_words(groups)
    there = {word_key(name) for name in drawings.found}
    moved, rest = name_targets(relabelling, groups, there)
    ids = {**words, word_key(IGNORED): NOTHING}
    ids |= {key: NOTHING if target is None else target for key, target in moved.items()}
    unknown = {name: count for name, count in drawings.found.items() if word_key(name) not in ids}
    if unknown:
        first = next(iter(unknown))
        near = nearest(first, [group[0] for group in groups])
        raise SanError(
            f"the labels in {quoted(drawings.path)} hold {_what(len(unknown))} no class of {printable(classes)}: "
            f"{_with_counts(unknown)}",
            hint=did_you_mean(
                near and f"{quoted(near)} by {quoted(first)}",
                "Add them to the class file, as a class or as a synonym "
                f"(`NAME|{printable(first)}`), or give --label-map {quoted(f'{first}=NAME')} or "
                f"{quoted(f'{first}=ignore')}.",
            ),
            code=ExitCode.NO_INPUT,
        )
    idle = [key for key in moved if key not in there]
    notes = (f"--label-map: no label is called {', '.join(map(quoted, idle[:5]))}",) if idle else ()
    return NameIds(ids, NOTHING if rest is None else rest, notes)


def pair_drawings(
    images: Path,
    drawings: Drawings,
    ids: NameIds,
    *,
    image_name: str | None = None,
    label_name: str | None = None,
    keep_going: bool = False,
) -> tuple[tuple[DrawnPair, ...], tuple[str, ...]]:
    """Pair the images with their drawings, by name; and notes. SanError as `pair_files` and `pair_named`."""
    if drawings.per_image:
        files = tuple(drawings.images)
        suffix = Path(files[0]).suffix.lower() if files else ".json"
        found = pair_files(
            images,
            LabelFiles(drawings.path, (suffix,), files),
            image_name=image_name,
            label_name=label_name,
            keep_going=keep_going,
        )
        pairs = [
            DrawnPair(pair.image, pair.label, pair.stem, _drawn(drawings, pair.label), ids.ids, ids.rest)
            for pair in found.pairs
        ]
        return tuple(pairs), found.notes
    if image_name or label_name:
        raise SanError(
            "--image-name and --label-name are for labels with a file for each image",
            hint=f"{drawings.kind}'s file names the images itself: leave them out.",
        )
    names = [*drawings.images, *drawings.unlabelled]
    named = pair_named(images, drawings.path, names, keep_going=keep_going)
    return tuple(
        DrawnPair(
            pair.image,
            drawings.path,
            pair.stem,
            None if pair.name is None else drawings.images[pair.name],
            ids.ids,
            ids.rest,
        )
        for pair in named
        if pair.name not in drawings.unlabelled
    ), ()


def _drawn(drawings: Drawings, label: Path) -> Drawn | None:
    return drawings.images.get(label.relative_to(drawings.path).as_posix())


def refuse_nothing_drawn(drawings: Drawings) -> None:
    """Raise SanError (code NO_INPUT) where no shape covers an area."""
    if drawings.found:
        return
    flat = _with_counts(drawings.flat)
    what = f"no shape that covers an area: {flat}" if drawings.flat else "no shapes at all"
    raise SanError(
        f"the labels in {quoted(drawings.path)} ({drawings.kind}) hold {what}",
        hint=drawings.way_out if drawings.flat else "Is it the right file or folder?",
        code=ExitCode.NO_INPUT,
    )


@dataclass(frozen=True)
class _Seen:
    pixels: int
    covered: int  # pixels with a class
    contested: int  # pixels where a shape lies over one of another class
    is_turned: bool


def survey_drawings(drawings: Drawings, pairs: Sequence[DrawnPair]) -> tuple[str, ...]:
    """Paint some of the pairs, evenly spread, and say what the user may want to know.

    SanError (code NO_INPUT) where none can be painted, such as for other sizes than the images', or nothing counts.
    """
    chosen = [pairs[place * len(pairs) // MOST] for place in range(MOST)] if len(pairs) > MOST else pairs
    chosen = [pair for pair in chosen if pair.drawn is not None and pair.image.exists()]
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        found = list(pool.map(_look, chosen))
    seen = [one for one in found if isinstance(one, _Seen)]
    faults = [one for one in found if isinstance(one, SanError)]
    if faults and not seen:
        more = f" ({len(faults):,} pairs are like this)" if len(faults) > 1 else ""
        raise SanError(faults[0].message + more, hint=faults[0].hint, code=ExitCode.NO_INPUT)
    if len(seen) == len(pairs) and not any(one.covered for one in seen):
        raise SanError(
            f"the labels in {quoted(drawings.path)} hold no pixel that counts",
            hint="Are they those of these images, and does --label-map leave a class?",
            code=ExitCode.NO_INPUT,
        )
    return tuple(_notes(drawings, seen, len(pairs), pairs[0].rest if pairs else NOTHING))


def _look(pair: DrawnPair) -> "_Seen | SanError":
    try:
        label_map, drawing = pair.paint()
    except SanError as fault:
        return fault
    height, width = label_map.shape
    covered, contested = int((label_map >= 0).sum()), contested_pixels(drawing.shapes, (height, width))
    return _Seen(label_map.size, covered, contested, stored_orientation(pair.image) > 1)


def _notes(drawings: Drawings, seen: Sequence[_Seen], pairs: int, rest: int) -> list[str]:
    notes = []
    some = f" ({len(seen):,} of {pairs:,} images looked at)" if len(seen) < pairs else ""
    pixels, covered = sum(one.pixels for one in seen), sum(one.covered for one in seen)
    if covered < pixels and rest == NOTHING:
        notes.append(
            f"{_percent(pixels - covered, pixels)} of the pixels are in no shape and don't count{some}; "
            f"--label-map {UNCOVERED}=NAME gives them a class"
        )
    contested = sum(one.contested for one in seen)
    if contested:
        notes.append(
            f"{_percent(contested, covered)} of the labelled pixels are in shapes of several classes{some}: the "
            "later one counts"
        )
    if drawings.flat:
        notes.append(f"left out, as they cover no area: {_with_counts(drawings.flat)}")
    if drawings.faults:
        notes.append(
            f"{counted(len(drawings.faults), 'label file')} can't be read: {drawings.faults[0].message}"
        )
    turned = sum(one.is_turned for one in seen)
    if turned:
        notes.append(
            f"{turned:,} of {len(seen):,} images are turned upright by their EXIF orientation; their labels are "
            "taken as drawn on the upright image"
        )
    return notes


def _percent(part: int, whole: int) -> str:
    share = 100 * part / max(whole, 1)
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def _what(names: int) -> str:
    return "names that are" if names > 1 else "a name that is"


def _with_counts(names: Mapping[str, int]) -> str:
    told = [f"{printable(name)} ({count:,})" for name, count in names.items()]
    return ", ".join(told[:_SHOWN]) + (f" and {len(told) - _SHOWN:,} more" if len(told) > _SHOWN else "")
