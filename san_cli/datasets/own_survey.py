"""Before anything is loaded: what some of the user's own images and labels tell of them all."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.catalogue import Pair
from san_cli.datasets.images import displayed_size, load_image
from san_cli.datasets.label_scheme import Look, ambiguous, described, look, nothing_seen, shift_from_1
from san_cli.datasets.own_pairs import OwnPair, settled_ids, stored_orientation
from san_cli.datasets.relabelling import UnlistedColours
from san_cli.errors import ExitCode, SanError
from san_cli.text import counted, printable, quoted

MOST = 100  # labels read: a second or so
_LOOKED_AT = 8  # images read: one in a folder of a kind is like the others
_AN_OPTION_OF_PREDICT = re.compile(r"; --(range|bands)\b.*")


@dataclass(frozen=True)
class _Seen:
    look: Look
    is_wrong: bool  # whether it holds a value that is no id
    is_8_bit: bool
    colours: dict[int, tuple[int, ...]]  # by id, where ids are indices of a palette
    is_turned: bool  # the image, by EXIF orientation, in a way that sizes don't tell
    other_size: SanError | None  # where the image has another size


def survey_labels(
    folder: Path, pairs: Sequence[OwnPair], names: Sequence[str], ignored: tuple[int, ...], *, said: bool
) -> tuple[str, ...]:
    """Look at some of the labels, evenly spread, and say what the user may want to know of them.

    `said`: the user has named the `ignored` values. SanError where the labels as a whole can't be meant: another
    numbering than from 0, colours, interpolated values, other sizes than the images', nothing that counts (code
    NO_INPUT), or masks of 0 and 255 of which nobody said what 255 is (code USAGE). One file among good ones is left
    to whoever reads it.
    """
    chosen = [pairs[place * len(pairs) // MOST] for place in range(MOST)] if len(pairs) > MOST else pairs
    chosen = [pair for pair in chosen if pair.label.exists()]
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda pair: _look(pair, len(names)), chosen))
        values = {value for one in found if isinstance(one, _Seen) for value in one.look.values()}
        if not said and len(values) == 1 and len(chosen) < len(pairs):
            # Of masks of rare things all of these may be empty: one that isn't tells what the values mean.
            (only,) = values
            for start in range(0, len(pairs), MOST):
                batch = pairs[start : start + MOST]
                others = [
                    pair
                    for pair, holds in zip(batch, pool.map(_holds_other(only), batch), strict=True)
                    if holds
                ]
                if others:
                    found.append(_look(others[0], len(names)))
                    break
    seen = [one for one in found if isinstance(one, _Seen)]
    faults = [one for one in found if isinstance(one, SanError)]
    _refuse_unlisted(folder, faults, len(chosen))
    if faults and not seen:
        more = f" ({len(faults):,} labels are like this)" if len(faults) > 1 else ""
        raise SanError(faults[0].message + more, hint=faults[0].hint, code=ExitCode.NO_INPUT)
    sizes = [one.other_size for one in seen if one.other_size is not None]
    if sizes and len(sizes) == len(seen):
        more = f" ({len(sizes):,} pairs are like this)" if len(sizes) > 1 else ""
        raise SanError(sizes[0].message + more, hint=sizes[0].hint, code=ExitCode.NO_INPUT)
    whole = sum((one.look for one in seen), nothing_seen())
    where = f"the labels in {quoted(folder)}"
    some = f" ({len(seen):,} of {len(pairs):,} read)" if len(seen) < len(pairs) else ""
    asked = None if said else ambiguous(whole, names)
    if asked is not None and ignored == (255,):
        raise SanError(f"{where} {asked[0]}{some}", hint=asked[1])
    counted_values = whole.values(ignored)
    if not counted_values and len(chosen) == len(pairs) and seen:
        told = ", ".join(map(str, whole.values()))
        raise SanError(
            f"{where} hold no pixel that counts: all are {told}, which is ignored",
            hint="--ignore ID names the value that means ignored; with `--ignore none` every value is an id.",
            code=ExitCode.NO_INPUT,
        )
    wrong = sum(one.is_wrong for one in seen)
    shifted = counted_values and counted_values[0] == 1 and counted_values[-1] == len(names)
    if 2 * wrong > len(seen) or (wrong and shifted):
        what, way = described(whole, len(names), ignored)
        if any(one.colours for one in seen):
            way += " (They are palette images: indices are ids, colours don't count.)"
        raise SanError(f"{where} {what}{some}", hint=way, code=ExitCode.NO_INPUT)
    masks = 0 if said else sum(one.look.values() == [0, 255] for one in seen)
    notes = _notes(seen, whole, names, ignored)
    if masks and ignored == (255,):
        notes.append(
            f"{masks:,} of {len(seen):,} labels hold nothing but 0 and 255, as binary masks do, and 255 is ignored, "
            "as always without --ignore: if it is a class there, --label-map 255=ID says which"
        )
    return tuple(notes)


def _refuse_unlisted(folder: Path, faults: Sequence[SanError], read: int) -> None:
    """Raise SanError for all colours together that --label-map doesn't name."""
    counts: Counter[int] = Counter()
    for fault in faults:
        if isinstance(fault, UnlistedColours):
            counts.update(fault.counts)
    if counts:
        found = UnlistedColours(
            f"the labels in {quoted(folder)} ({counted(read, 'label')} read) hold", counts
        )
        raise SanError(found.message, hint=found.hint, code=ExitCode.NO_INPUT)


def _holds_other(only: int) -> Callable[[OwnPair], bool]:
    """Tells of a pair whether its label can be read and holds another value than `only`."""

    def holds(pair: OwnPair) -> bool:
        try:
            return pair.label.exists() and bool((pair.read_stored() != only).any())
        except SanError:
            return False

    return holds


def _look(pair: OwnPair, classes: int) -> "_Seen | SanError":
    try:
        ids = pair.read_stored()
    except SanError as fault:
        return fault
    settled = settled_ids(ids, classes, pair.ignored, pair.ignored[0] if pair.ignored else -1)
    wrong = settled[settled >= classes]
    size, shape = displayed_size(pair.image), (ids.shape[0], ids.shape[1])
    return _Seen(
        look(ids),
        bool(np.setdiff1d(wrong, pair.ignored).size),
        ids.dtype == np.uint8,
        {} if pair.change is not None and pair.change.colours else _palette(pair.label),
        size == shape and stored_orientation(pair.image) > 1,
        None if size in (None, shape) else pair.other_size(size, shape),
    )


def _palette(path: Path) -> dict[int, tuple[int, ...]]:
    try:
        with Image.open(path) as image:
            flat = (image.getpalette() or []) if image.mode == "P" else []
    except Exception:  # an array, say
        return {}
    return {index: tuple(flat[3 * index : 3 * index + 3]) for index in range(len(flat) // 3)}


def _notes(seen: Sequence[_Seen], whole: Look, names: Sequence[str], ignored: tuple[int, ...]) -> list[str]:
    values = whole.values(ignored)
    notes = []
    if not ignored and len(names) == 2 and 255 in values:
        notes.append(f"255 is read as id 1 ({printable(names[1])}), as in binary masks")
    if whole.is_interpolated and len(values) > 3:
        notes.append(
            "where areas meet, the labels hold ids between theirs: if they were resized with interpolation, these "
            "are wrong"
        )
    if len(names) > 255 and 255 in values and all(one.is_8_bit for one in seen):
        notes.append(
            f"255 counts as id 255 ({printable(names[255])}), as there are {len(names)} classes; --ignore 255 says "
            "otherwise"
        )
    steps = set(np.diff(values).tolist())
    if len(values) > 2 and len(steps) == 1 and min(steps) >= 8:
        notes.append(
            f"the labels hold {', '.join(map(str, values[:4]))}{', …' if len(values) > 4 else ''} alone, in equal "
            "steps, as shades for the eye do: they count as the ids they are; --label-map says otherwise (such as "
            f"--label-map {values[1]}=1)"
        )
    if len(values) > 1 and values[0] == 1 and 0 not in ignored:
        notes.append(
            f"no label holds id 0 ({printable(names[0])}): if the ids start from 1, give "
            f"{shift_from_1(len(names), with_0=False)}"
        )
    turned = sum(one.is_turned for one in seen)
    if turned:
        notes.append(
            f"{turned:,} of {len(seen):,} images are turned upright by their EXIF orientation; their labels are "
            "taken as drawn on the upright image"
        )
    if _palettes_differ(seen, ignored):
        notes.append(
            "the palettes of the labels give one id different colours: ids are the indices; if the colours are "
            "what counts, they are wrong"
        )
    return notes


def _palettes_differ(seen: Sequence[_Seen], ignored: tuple[int, ...]) -> bool:
    colours: dict[int, tuple[int, ...]] = {}
    for one in seen:
        for value in one.look.values(ignored) if one.colours else ():
            colour = one.colours.get(value, ())
            if colours.setdefault(value, colour) != colour:
                return True
    return False


def survey_images(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Read a few of the images, evenly spread, and return what was noted, each kind once with one image's name.

    Evaluation and training read images as they are stored, so a note that names an option of `san predict` leads
    to converting them instead. An image that can't be read is left to whoever needs it.
    """
    places = sorted({place * len(pairs) // _LOOKED_AT for place in range(_LOOKED_AT)}) if pairs else []
    notes: dict[str, str] = {}
    for place in places:
        image = pairs[place].image
        try:
            found = load_image(image).notes
        except BadImage:
            continue
        for note in found:
            text = _AN_OPTION_OF_PREDICT.sub("; save the images as 8-bit RGB to choose otherwise", note)
            kind = re.sub(r"[\d., ]+", " ", text)
            notes.setdefault(kind, f"{printable(image.name)}: {text}")
    return tuple(notes.values())
