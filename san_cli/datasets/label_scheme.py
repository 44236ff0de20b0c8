"""Guesses at what labels hold where they aren't ids below the number of classes: messages with a way out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.labels import Labels
from san_cli.text import printable

_VALUES = 1 << 16
_WINDOW = 1024  # pixels


@dataclass(frozen=True)
class Look:
    """Counts of each value, and of neighbours along rows and columns that differ. Looks add up."""

    counts: NDArray[np.int64]  # [65536] pixels
    pairs: int = 0  # of neighbours
    equal: int = 0  # of them, that have one value
    changes: int = 0  # pixels whose two neighbours differ
    ramps: int = 0  # of them, those strictly between the two

    def __add__(self, other: "Look") -> "Look":
        return Look(
            self.counts + other.counts,
            self.pairs + other.pairs,
            self.equal + other.equal,
            self.changes + other.changes,
            self.ramps + other.ramps,
        )

    @property
    def is_flat(self) -> bool:
        """Tell whether most pixels are like the next one, as in label maps and hardly ever in photographs."""
        return self.equal > 0.5 * self.pairs

    @property
    def is_interpolated(self) -> bool:
        """Tell whether where areas meet values lie between theirs, as only interpolation makes them.

        Of changes, hardly any go on in label maps, 50 to 60 % in photographs, 75 % and more where small areas
        were interpolated.
        """
        return self.ramps > (0.25 if self.is_flat else 0.7) * max(self.changes, 1)

    def values(self, ignored: tuple[int, ...] = ()) -> list[int]:
        """List the values that occur, ascending, but for `ignored` ones."""
        return [value for value in np.flatnonzero(self.counts).tolist() if value not in ignored]


def nothing_seen() -> Look:
    """An empty look, to begin adding with."""
    return Look(np.zeros(_VALUES, np.int64))


def look(ids: Labels) -> Look:
    """Look at one label map [H, W]; at neighbours in the middle of a large one alone."""
    seen = Look(np.bincount(ids.ravel(), minlength=_VALUES))
    top, left = (max(0, side // 2 - _WINDOW // 2) for side in ids.shape)
    window = ids[top : top + _WINDOW, left : left + _WINDOW]
    for one in (window, window.T):
        equal = one[:, 1:] == one[:, :-1]
        left, middle, right = one[:, :-2], one[:, 1:-1], one[:, 2:]
        between = ((left < middle) & (middle < right)) | ((left > middle) & (middle > right))
        differ = int((left != right).sum())
        seen += Look(np.zeros(_VALUES, np.int64), equal.size, int(equal.sum()), differ, int(between.sum()))
    return seen


def described(seen: Look, classes: int, ignored: tuple[int, ...]) -> tuple[str, str]:
    """Say what labels with values out of range hold, to stand after their name, and the way out."""
    values = seen.values(ignored)
    low, high, count = values[0], values[-1], len(values)
    shown = f"{', '.join(map(str, values[:4]))}{', …' if count > 4 else ''}"
    names = f"{classes} classes" if classes > 1 else "one class"
    if seen.is_interpolated and count > max(8, classes):
        return (
            f"hold {count} values, most between classes: these labels were resized with interpolation",
            "Resize them anew with nearest neighbour (Image.NEAREST, cv2.INTER_NEAREST), and keep them as PNG: "
            "JPEG blurs ids, too.",
        )
    if not seen.is_flat and count > 64:
        return (
            f"hold {count} values that change from pixel to pixel, like a photograph",
            "Are --images and --labels swapped?",
        )
    if high > 255 and all(value % 257 == 0 for value in values):
        return (
            "hold multiples of 257: labels of 8 bits that were stretched to 16",
            "Save them as 8 bits again: value // 257.",
        )
    if high >= 1000 and count <= 1000 * classes and all(v < 256 or v >= 1000 for v in values):
        return (
            f"hold values up to {high}, like ids of instances (class × 1000 + number)",
            "Take the files with ids of classes, such as *_labelTrainIds.png, or save value // 1000.",
        )
    if values in ([0, 255], [255]):
        return (
            f"hold 0 and 255, as binary masks do, but there {'are' if classes > 1 else 'is'} {names}",
            "Name two classes, first what 0 is, then what 255 is, and give --label-map 255=1 (or --ignore none); "
            "if 0 means unlabelled, --label-map 0=ignore --label-map 255=0.",
        )
    shades = seen.values()  # 255 is white here, whatever else it may mean
    if 1 < len(shades) <= max(classes, 2) + 1 and min(np.diff(shades)) >= 8:
        told = ", ".join(map(str, shades))
        return (
            f"hold {len(shades)} values, {told}: shades for the eye, it seems, not ids",
            f"If they are classes in this order: {_as_places(shades)}.",
        )
    if low == 1 and high == classes:
        return (
            f"hold ids from 1 to {high}, but {names} have the ids 0 to {classes - 1}: ids from 1?",
            f"Ids begin at 0: give {shift_from_1(high, with_0=bool(seen.counts[0]))}"
            + (" in the place of --ignore 0." if 0 in ignored else "."),
        )
    if low == 0 and high == classes:
        return (
            f"hold ids from 0 to {high}, one more than there are classes",
            "What is 0? If it means unlabelled, give "
            f"{shift_from_1(high, with_0=True)}; if it is a class, such as `background`, put a line for it at the "
            "top of the class file.",
        )
    marks = [value for value in values if value >= classes]
    if marks in ([255], [65535]) and ignored:
        given = " ".join(f"--ignore {value}" for value in (*ignored, marks[0]))
        return f"hold {marks[0]}, which is no class here", f"If {marks[0]} means ignored, too: {given}."
    return (
        f"hold {count} values up to {high} ({shown}), but {names} have ids up to {classes - 1}",
        "Give the list of classes that these labels were made with, one for each id from 0 on; --ignore names the "
        "values that don't count.",
    )


def shift_from_1(high: int, *, with_0: bool) -> str:
    """Return the options that make ids 1 to `high` start from 0, and 0 not count."""
    moved = f"--label-map 1-{high}=0-{high - 1}" if high > 1 else "--label-map 1=0"
    return f"--label-map 0=ignore {moved}" if with_0 else moved


def _as_places(values: Sequence[int]) -> str:
    """Return the options that make of each value its place among them."""
    moved = [f"--label-map {value}={place}" for place, value in enumerate(values) if value != place]
    return " ".join(moved)


def advice(seen: Look, classes: int, ignored: tuple[int, ...]) -> str:
    """Say the same of a single file, as a hint."""
    what, way = described(seen, classes, ignored)
    return f"It seems to {what}. {way}"


def ambiguous(seen: Look, names: Sequence[str]) -> tuple[str, str] | None:
    """Ask what 255 is, where it would be ignored by default and nothing but it and 0 occurs; None elsewhere."""
    if seen.values() != [0, 255]:
        return None
    first = printable(names[0])
    masks = (
        "In binary masks, where it is the second class, give --label-map 255=1 (or --ignore none)."
        if len(names) == 2
        else "In binary masks name two classes, first what 0 is, then what 255 is, and give --label-map 255=1 (or "
        "--ignore none)."
    )
    return (
        f"hold nothing but 0 and 255, and 255 means ignored: only pixels of '{first}' would count",
        f"{masks} If 255 does mean ignored, give --ignore 255.",
    )
