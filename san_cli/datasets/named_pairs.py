"""Images paired with what one file says of them all, by the names that it has for them."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from san_cli.datasets.name_patterns import nearest_name
from san_cli.datasets.pairing import NoPartner, files_below, refuse_no_folder
from san_cli.errors import ExitCode, SanError
from san_cli.text import printable, quoted


@dataclass(frozen=True)
class NamedPair:
    """An image, and its name in the file; None where the file has nothing of it."""

    image: Path
    name: str | None
    stem: str


def pair_named(
    images: Path, file: Path, names: Iterable[str], *, keep_going: bool = False
) -> list[NamedPair]:
    """Pair the images under a folder, sub-folders included, with the `names` in `file`.

    A name is a path from the folder on, or else the image whose path ends most like it, whatever its suffix.
    SanError (code NO_INPUT) where two are equally like it, and for what has no partner: with `keep_going` this is a
    pair all the same, which can't be read.
    """
    Image.init()
    refuse_no_folder(images, "images")
    suffixes = tuple(Image.EXTENSION)
    found = [name for name in files_below(images, leave_out=images) if name.lower().endswith(suffixes)]
    if not found:
        raise SanError(f"there is no image in {quoted(images)}", code=ExitCode.NO_INPUT)
    names = list(names)
    image_of = _matched(images, found, names)
    taken = {image: name for name, image in image_of.items()}
    lone = [name for name in found if name not in taken], [name for name in names if name not in image_of]
    if (any(lone) and not keep_going) or not image_of:
        raise _no_partner(images, file, lone)
    pairs = [NamedPair(images / image, taken.get(image), _without_suffix(image)) for image in found]
    pairs += [
        NamedPair(images / f"{PurePosixPath(name).name} (no image)", name, _without_suffix(name))
        for name in lone[1]
    ]
    return sorted(pairs, key=lambda pair: pair.stem)


def _matched(images: Path, found: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Find the image of each name that has one."""
    whole = {_parts(image): image for image in found}
    matched = {name: whole[_parts(name)] for name in names if _parts(name) in whole}
    taken = set(matched.values())
    by_stem: dict[str, list[str]] = defaultdict(list)
    for image in found:
        if image not in taken:
            by_stem[PurePosixPath(_parts(image)[-1]).stem].append(image)

    # Each name's most alike image; of several names for one image the most alike.
    above = _parts(images.absolute().as_posix())
    chosen: dict[str, list[tuple[tuple[int, bool], str]]] = defaultdict(list)
    for name in names:
        own = _parts(name)
        if name in matched or not own:
            continue
        liking = [
            (_likeness(own, (*above, *_parts(image))), image)
            for image in by_stem[PurePosixPath(own[-1]).stem]
        ]
        best = [image for score, image in liking if score == max(liking)[0]]
        if len(best) > 1:
            raise _ambiguous(quoted(name), best, "image")
        if best:
            chosen[best[0]].append((max(liking)[0], name))
    for image, given in chosen.items():
        most = [name for score, name in given if score == max(given)[0]]
        if len(most) > 1:
            raise _ambiguous(quoted(image), most, "name in the file")
        matched[most[0]] = image
    return matched


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path of any system, in NFC, as macOS may write NFD."""
    path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))
    return tuple(part for part in path.parts if part not in ("/", "."))


def _likeness(one: Sequence[str], other: Sequence[str]) -> tuple[int, bool]:
    """How many parts at their ends are equal, suffixes apart, and whether the suffix is."""
    same = 1
    while same < min(len(one), len(other)) and one[-1 - same] == other[-1 - same]:
        same += 1
    return same, one[-1] == other[-1]


def _without_suffix(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _ambiguous(what: str, others: Sequence[str], kind: str) -> SanError:
    return SanError(
        f"{what} could be the {kind} {quoted(others[0])} or {quoted(others[1])}",
        hint="Give --images the folder from which the names in the file are paths.",
        code=ExitCode.NO_INPUT,
    )


def _no_partner(images: Path, file: Path, lone: tuple[Sequence[str], Sequence[str]]) -> NoPartner:
    faults = []
    for names, what in ((lone[1], "image"), (lone[0], "label")):
        if names:
            more = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
            where = f"{quoted(names[0])} in {quoted(file)}" if what == "image" else quoted(images / names[0])
            faults.append(f"{where}{more} has no {what}")
    near = nearest_name(lone[0][0], lone[1]) if all(lone) else ""
    told = f"The name nearest to {quoted(lone[0][0])} is {quoted(near)}. " if near else ""
    return NoPartner(
        printable(", ".join(faults)), hint=f"{told}Move away what has no partner.", code=ExitCode.NO_INPUT
    )
