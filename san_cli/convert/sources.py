"""Labels to convert, image by image, from whatever they are kept in."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from posixpath import commonpath

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.annotations.drawings import Drawings, Drawn
from san_cli.datasets.annotations.find import READ, find_annotations, read_annotations, read_drawings
from san_cli.datasets.annotations.labelme import IGNORED
from san_cli.datasets.annotations.shapes import label_map_of
from san_cli.datasets.catalogue import Pair
from san_cli.datasets.drawn_labels import NameIds, listed_classes, name_ids, refuse_nothing_drawn
from san_cli.datasets.images import displayed_size
from san_cli.datasets.labels import SUFFIXES as LABEL_SUFFIXES
from san_cli.datasets.pairing import files_below
from san_cli.datasets.task import OwnData, Task, own_task
from san_cli.errors import ExitCode, SanError
from san_cli.outputs.places import CLASSES, CORRECTABLE, FILES, PREDICTIONS
from san_cli.text import counted, printable, quoted

LabelMap = NDArray[np.signedinteger]


@dataclass(frozen=True)
class Labelled:
    """An image with its labels."""

    name: str  # of the image, relative to its folder, with `/`
    image: Path | None
    read_map: Callable[[], LabelMap]  # [H, W], -1 where unlabelled; SanError where it can't be read


@dataclass(frozen=True)
class Source:
    """All images with their labels."""

    classes: tuple[str, ...]
    images: tuple[Labelled, ...]
    notes: tuple[str, ...] = ()


def of_results(labels: Path, say: Callable[[str], None]) -> tuple[Path, str | None, str | None]:
    """Return what of a folder of results of `san predict` holds the labels, and its classes and pattern of names.

    `say` is told where other files of the run may have been corrected since. Anything else is returned as it is.
    """
    state = labels / ".san" / "run.json"
    if not state.is_file():
        is_one = (labels / PREDICTIONS).is_file()  # of `san convert`
        return labels / PREDICTIONS if is_one else labels, None, None
    try:
        save = json.loads(state.read_bytes())["save"]
    except (OSError, ValueError, KeyError, TypeError):
        save = ()
    classes = str(labels / CLASSES) if (labels / CLASSES).is_file() else None
    correctable = [kind for kind in CORRECTABLE if kind in save]
    found: tuple[Path, str | None, str | None]
    if "json" in save:
        found = labels / PREDICTIONS, None, None
    elif "labels" in save:
        found = labels, classes, "{stem}" + FILES["labels"][1]
    elif correctable:
        return labels / correctable[0], classes, None
    else:
        raise SanError(
            f"{quoted(labels)} is a run of `san predict` that saved no labels: {', '.join(save) or 'nothing'}",
            hint="Run it once more with --save json into another folder.",
            code=ExitCode.NO_INPUT,
        )
    elsewhere = (
        f": what was corrected in {labels / correctable[0]} is read from that folder" if correctable else ""
    )
    say(f"{found[0].name if found[0] != labels else 'label maps'} of the run, as it found them{elsewhere}")
    return found


def with_images(data: OwnData, say: Callable[[str], None]) -> Source:
    """List the labels of the images of a folder. SanError as `own_task`."""
    if data.classes is None:
        data = replace(data, groups=_names_found(data, say))
    task = own_task(data, keep_going=True, say=say)
    images = tuple(
        Labelled(
            pair.image.relative_to(data.images).as_posix(), pair.image, partial(_map_of_pair, task, pair)
        )
        for pair in task.pairs
    )
    return Source(task.classes, images, task.notes)


def _names_found(data: OwnData, say: Callable[[str], None]) -> tuple[tuple[str, ...], ...] | None:
    """List the names in labels that list no classes, in the order of the alphabet; None for all others."""
    found = find_annotations(data.labels, data.images, data.label_name)
    if found is None:
        _refuse_no_maps(data.labels)
        raise SanError(
            f"label maps hold numbers, and nothing says what those in {quoted(data.labels)} stand for",
            hint="Give the names, one a line, from id 0 on: --classes FILE.",
        )
    if found.kind != "labelme":
        return None
    names = _alphabetical(read_annotations(found))
    say(f"classes, in the order of the alphabet: {', '.join(map(printable, names))}")
    return tuple((name,) for name in names)


def _refuse_no_maps(labels: Path) -> None:
    """Raise SanError (code NO_INPUT) for a file, and for a folder without a label map."""
    names = files_below(labels, leave_out=labels) if labels.is_dir() else []
    if not any(name.lower().endswith(LABEL_SUFFIXES) for name in names):
        raise SanError(f"there are no labels in {quoted(labels)}", hint=READ, code=ExitCode.NO_INPUT)


def _map_of_pair(task: Task, pair: Pair) -> LabelMap:
    ids = pair.read_labels(len(task.classes), task.ignore_label)
    size, own = displayed_size(pair.image), (ids.shape[0], ids.shape[1])
    if size not in (None, own):
        raise pair.other_size(size, own)
    wide = np.int16 if len(task.classes) < 2**15 else np.int32
    return np.where(ids == task.ignore_label, -1, ids.astype(wide))


def without_images(data: OwnData) -> Source:
    """List what files say that name their images and give their sizes; `data.images` isn't looked at.

    Classes are those of `data.groups`, or else those that the files list, or else the names found, in the order of
    the alphabet. SanError for labels that need their images, and for names that are no class.
    """
    labels = data.labels
    if find_annotations(labels) is None:
        _refuse_no_maps(labels)
        raise SanError(
            f"{quoted(labels)} holds label maps, which are paired with their images",
            hint="Give the images, too: --images DIR.",
        )
    drawings = read_drawings(labels)
    refuse_nothing_drawn(drawings)
    groups = data.groups
    if groups is None and drawings.classes:
        groups = listed_classes(drawings, data.relabelling)
    elif groups is None:
        groups = tuple((name,) for name in _alphabetical(drawings))
    ids = name_ids(drawings, groups, data.relabelling, data.classes or quoted(labels))
    names = _relative_names(drawings)
    images = tuple(
        Labelled(names[name], None, partial(_map_of_drawing, drawn, name, ids))
        for name, drawn in drawings.images.items()
    )
    span = f"0 is {quoted(groups[0][0])}, {len(groups) - 1} is {quoted(groups[-1][0])}"
    told = f"{counted(len(groups), 'class')}: {span}"
    flat = [f"{kind} ({count:,})" for kind, count in drawings.flat.items()]
    left_out = (f"left out, as they cover no area: {', '.join(flat)}",) if flat else ()
    return Source(tuple(group[0] for group in groups), images, (told, *drawings.notes, *ids.notes, *left_out))


def _alphabetical(drawings: Drawings) -> list[str]:
    return sorted(drawings.found.keys() - {IGNORED})


def _relative_names(drawings: Drawings) -> dict[str, str]:
    """Give the names under which results are written: below one folder, whatever paths the labels name.

    Absolute paths, as Label Studio's are, lose the folder that all have in common. SanError for a name that is none.
    """
    paths = {name: PurePosixPath(name.replace("\\", "/")) for name in drawings.images}
    if drawings.per_image:
        paths = {name: path.with_suffix("") for name, path in paths.items()}
    for name, path in paths.items():
        if not path.name or ".." in path.parts:
            raise SanError(
                f"{quoted(drawings.path)} has an image called {quoted(name)}, after which nothing can be named",
                hint="Give the images, too: --images DIR.",
                code=ExitCode.NO_INPUT,
            )
    is_whole = drawings.kind == "Label Studio" or any(path.is_absolute() for path in paths.values())
    parents = [str(path.parent).lstrip("/").removeprefix(".") for path in paths.values()]
    shared = commonpath(parents) if is_whole and parents else ""
    return {
        name: str(path).lstrip("/").removeprefix(f"{shared}/" if shared else "")
        for name, path in paths.items()
    }


def _map_of_drawing(drawn: Drawn, name: str, ids: NameIds) -> LabelMap:
    drawing = drawn.read()
    if drawing.size is None:
        raise SanError(
            f"the labels of {printable(name)} don't say how large the image is",
            hint="Give the images: --images DIR.",
            code=ExitCode.SOME_FAILED,
        )
    return label_map_of(drawing.shapes, drawing.size, ids.ids, rest=ids.rest)
