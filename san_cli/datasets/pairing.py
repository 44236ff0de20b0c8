"""Images and files of labels in two folders, paired by their names."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from san_cli.datasets.labels import SUFFIXES as LABEL_SUFFIXES
from san_cli.datasets.name_patterns import NamePattern, fitting_patterns, keyed, name_pattern, nearest_name
from san_cli.errors import ExitCode, SanError
from san_cli.text import printable, quoted


class NoPartner(SanError):
    """Images without labels or labels without images, which an evaluation may skip."""


_ANY = "{stem}"
_NO_LABELS = {  # what lies in folders of labels by mistake, and what to do about it
    (
        ".jpg",
        ".jpeg",
        ".webp",
        ".jp2",
    ): "JPEG and its like change the values of pixels, so that ids are lost: "
    "save the labels as PNG, from where they were made.",
    (
        ".json",
        ".txt",
        ".xml",
        ".csv",
        ".zip",
    ): "Drawn labels are read from labelme's JSON and YOLO's .txt (a folder with a file for each image), from COCO's "
    "and Label Studio's JSON and CVAT's XML; others have to be drawn first: a PNG for each image, whose pixels are "
    "class ids.",
    (
        ".mat",
        ".npz",
        ".h5",
        ".pkl",
        ".pgm",
        ".ppm",
    ): "Save each label map as a PNG, or as an array [H, W] in a .npy.",
}


@dataclass(frozen=True)
class LabelFiles:
    """The files in a folder that may hold the labels of one image."""

    folder: Path
    suffixes: tuple[str, ...] = LABEL_SUFFIXES
    files: tuple[str, ...] | None = None  # below the folder; None: all that there are


@dataclass(frozen=True)
class FilePair:
    """An image, its labels, and what their names share; one of the two may be missing."""

    image: Path
    label: Path
    stem: str


@dataclass(frozen=True)
class FilePairs:
    """Pairs, and notes that the user may want to read about them."""

    pairs: tuple[FilePair, ...]
    notes: tuple[str, ...] = ()


def pair_files(
    images: Path,
    given: LabelFiles,
    *,
    image_name: str | None = None,
    label_name: str | None = None,
    keep_going: bool = False,
) -> FilePairs:
    """Pair the images under one folder with the files under another by name, sub-folders included.

    The names are alike but for the suffix, or fit the two patterns (see `name_patterns`). SanError (code
    NO_INPUT) for a missing or empty folder, two files of one name, and for what has no partner: with
    `keep_going` such an image or label is a pair all the same, which can't be read.
    """
    labels, suffixes = given.folder, given.suffixes
    Image.init()
    image_pattern = name_pattern(image_name or _ANY, tuple(Image.EXTENSION), "--image-name")
    label_pattern = name_pattern(label_name or _ANY, suffixes, "--label-name")
    for folder, what in ((images, "images"), (labels, "labels")):
        refuse_no_folder(folder, what)
    image_files = files_below(images, leave_out=labels)
    label_files = list(given.files) if given.files is not None else files_below(labels, leave_out=images)
    with_path = image_pattern.has_path and label_pattern.has_path
    found_labels = keyed(label_pattern, label_files, with_path=with_path)
    found_images = keyed(image_pattern, image_files, with_path=with_path)
    image_suffixes = tuple(Image.EXTENSION)
    notes = _left_out("image", image_pattern, image_files, found_images, image_suffixes) if image_name else ()
    notes += _left_out("label", label_pattern, label_files, found_labels, suffixes) if label_name else ()
    if labels.samefile(images) and suffixes == LABEL_SUFFIXES:
        if not image_name and not label_name:
            raise _one_folder(images, found_images)
        names = {relative for _, relative in (found_labels if label_name else found_images)}
        if label_name:
            found_images = [(key, relative) for key, relative in found_images if relative not in names]
        else:
            found_labels = [(key, relative) for key, relative in found_labels if relative not in names]
    if not found_images or not found_labels:
        what = "label" if found_images else "image"
        folder, files, option = (
            (labels, label_files, label_name) if found_images else (images, image_files, image_name)
        )
        raise _nothing(what, folder, files, option, images, image_files, label_files)
    image_by_key, label_by_key = _unique(images, found_images), _unique(labels, found_labels)
    lone = (
        sorted(image_by_key.keys() - label_by_key.keys()),
        sorted(label_by_key.keys() - image_by_key.keys()),
    )
    if (any(lone) and not keep_going) or not image_by_key.keys() & label_by_key.keys():
        hint = _partner_hint(
            image_by_key, label_by_key, lone, (label_files, suffixes), bool(image_name or label_name)
        )
        raise _no_partner(images, labels, image_by_key, label_by_key, lone, hint)
    pairs = [
        FilePair(
            images / image_by_key.get(key, f"{key} (no image)"),
            labels / label_by_key.get(key, f"{key}{suffixes[0]}"),
            str(PurePosixPath(image_by_key.get(key, key)).with_suffix("")) if image_name else key,
        )
        for key in sorted(image_by_key.keys() | label_by_key.keys())
    ]
    return FilePairs(tuple(pairs), notes)


def refuse_no_folder(folder: Path, what: str) -> None:
    """Raise SanError (code NO_INPUT) where there is no folder, `what` being "images" or "labels"."""
    if folder.is_dir():
        return
    if not folder.exists():
        raise SanError(
            f"there is no folder of {what} {quoted(folder)}",
            hint=f"--{what} names the folder that holds them, in which sub-folders count, too.",
            code=ExitCode.NO_INPUT,
        )
    way = next((way for suffixes, way in _NO_LABELS.items() if folder.suffix.lower() in suffixes), "")
    raise SanError(
        f"--{what} takes a folder, and {quoted(folder)} is a file",
        hint=way
        if what == "labels" and way
        else "Name the folder that it is in, or that it was unpacked to.",
        code=ExitCode.NO_INPUT,
    )


def files_below(folder: Path, *, leave_out: Path) -> list[str]:
    """List the paths of all files below a folder, relative to it and sorted; hidden ones and `leave_out` apart.

    Links to folders are followed, but not to one that they are in.
    """
    found = []
    above = {str(folder): frozenset({os.path.realpath(folder)})}  # by folder: itself and those that it is in
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent)
        inside = above.pop(parent)
        real = {name: os.path.realpath(here / name) for name in folders}
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and real[name] not in inside
            and not (here != leave_out and _is_same(here / name, leave_out))
        )
        above |= {os.path.join(parent, name): inside | {real[name]} for name in folders}  # noqa: PTH118
        found += [(here / name).relative_to(folder).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.name == other.resolve().name and one.samefile(other)
    except OSError:
        return False


def _left_out(
    what: str,
    pattern: NamePattern,
    files: Sequence[str],
    found: Sequence[tuple[str, str]],
    suffixes: tuple[str, ...],
) -> tuple[str, ...]:
    readable = sum(name.lower().endswith(suffixes) for name in files)
    left = readable - len(found)
    text = f"{left:,} of {readable:,} {what}s don't fit --{what}-name {quoted(pattern.text)} and are left out"
    return (text,) if left > 0 else ()


def _one_folder(folder: Path, found: Sequence[tuple[str, str]]) -> SanError:
    photos = [PurePosixPath(name).suffix for _, name in found]
    photo = next((suffix for suffix in photos if suffix.lower() not in LABEL_SUFFIXES), ".jpg")
    return SanError(
        f"images and labels are both in {quoted(folder)}",
        hint=f"Say how their names differ, such as --image-name '{{stem}}{printable(photo)}', or --label-name "
        "'{stem}_mask.png'.",
        code=ExitCode.NO_INPUT,
    )


def _nothing(
    what: str,
    folder: Path,
    files: Sequence[str],
    option: str | None,
    images: Path,
    image_files: Sequence[str],
    label_files: Sequence[str],
) -> SanError:
    """There is no image or no label at all."""
    kinds = Counter(PurePosixPath(name).suffix.lower() for name in files).most_common(3)
    there = ", ".join(f"{count:,} {printable(suffix) or 'without suffix'}" for suffix, count in kinds)
    where = f"{quoted(folder)}"
    if option and there:
        fitting = fitting_patterns(image_files, label_files, (tuple(Image.EXTENSION), LABEL_SUFFIXES))
        hint = f"{fitting.options} would find {fitting.pairs:,}." if fitting else f"There are: {there}."
        return SanError(
            f"no {what} in {where} fits --{what}-name {quoted(option)}",
            hint=hint,
            code=ExitCode.NO_INPUT,
        )
    kind = "label map (PNG, TIFF, BMP, GIF or .npy)" if what == "label" else "image"
    message = f"there is no {kind} in {where}" + (f"; it holds {there}" if there else ", it is empty")
    hint = ""
    if what == "label" and kinds:
        hint = next((way for suffixes, way in _NO_LABELS.items() if kinds[0][0] in suffixes), "")
        labels_there = [name for name in image_files if name.lower().endswith(LABEL_SUFFIXES)]
        photos_here = kinds[0][0] in (".jpg", ".jpeg")
        if photos_here and image_files and len(labels_there) == len(image_files):
            hint = f"{quoted(images)} holds no photographs, but what labels are kept in: are the two swapped?"
    return SanError(message, hint=hint, code=ExitCode.NO_INPUT)


def _unique(folder: Path, found: Sequence[tuple[str, str]]) -> dict[str, str]:
    by_key: dict[str, str] = {}
    for key, relative in found:
        first = by_key.setdefault(key, relative)
        if first != relative:
            raise SanError(
                printable(f"'{folder / first}' and '{folder / relative}' have the same stem"),
                hint="Move one of them away, or leave one kind out with --image-name or --label-name, such as "
                f"'{{stem}}{printable(PurePosixPath(first).suffix)}'.",
                code=ExitCode.NO_INPUT,
            )
    return by_key


Lone = tuple[list[str], list[str]]


def _no_partner(
    images: Path,
    labels: Path,
    image_by_key: dict[str, str],
    label_by_key: dict[str, str],
    lone: Lone,
    hint: str,
) -> SanError:
    faults = []
    for keys, folder, by_key, partner in (
        (lone[1], labels, label_by_key, "image"),
        (lone[0], images, image_by_key, "label"),
    ):
        if keys:
            more = f" (and {len(keys) - 1:,} more)" if len(keys) > 1 else ""
            faults.append(f"'{folder / by_key[keys[0]]}'{more} has no {partner}")
    return NoPartner(printable(", ".join(faults)), hint=hint, code=ExitCode.NO_INPUT)


def _partner_hint(
    image_by_key: dict[str, str],
    label_by_key: dict[str, str],
    lone: Lone,
    labels: tuple[Sequence[str], tuple[str, ...]],
    has_pattern: bool,
) -> str:
    images = sorted(image_by_key.values())
    label_files, suffixes = labels
    readable = [name for name in label_files if name.lower().endswith(suffixes)]
    fitting = fitting_patterns(images, readable, (tuple(Image.EXTENSION), suffixes))
    if fitting is not None and fitting.pairs > len(image_by_key.keys() & label_by_key.keys()):
        found = f"each of the {len(images):,} images has a label"
        if fitting.pairs < len(images):
            found = f"{fitting.pairs:,} of {len(images):,} images have a label"
        elif len(images) == 1:
            found = "the image has a label"
        return f"With {fitting.options} {found}."
    told = ""
    if all(lone):
        first = image_by_key[lone[0][0]]
        near = nearest_name(first, [label_by_key[key] for key in lone[1]])
        told = f"The label name nearest to {quoted(first)} is {quoted(near)}. "
    how = (
        "" if has_pattern else "Image and label have the same name but for the suffix, or fit --label-name. "
    )
    return f"{told}{how}Move away what has no partner."
