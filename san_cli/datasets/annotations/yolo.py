"""Folders of YOLO: for each image a .txt with a line for each object.

A line is `class x y x y …`, in shares of width and height. The numbers of classes get their names from a `data.yaml`
(or another .yaml with `names`, or a `classes.txt`) in the folder, in one above, or beside `labels` and `images`.
Lines of four numbers are the boxes of object detection: no area that a pixel could be said to be of.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np

from san_cli.datasets.annotations.drawings import Drawing, Drawings, gathered, read_file
from san_cli.datasets.annotations.shapes import Outlines, Shape
from san_cli.datasets.labels import label_fault
from san_cli.errors import ExitCode, SanError
from san_cli.text import printable, quoted
from san_cli.vocabulary.class_files import read_class_file

NO_LABELS = {"classes.txt", "obj.names", "train.txt", "val.txt", "test.txt", "readme.txt", "labels.txt"}
_LINE = re.compile(rb"\s*\d{1,5}(\s+[-+.\deE]+){4,}\s*")
_ABOVE = 2  # folders above the labels in which names are looked for
_MARGIN = 0.02  # so far beyond 0 and 1 corners may be, by rounding or at the image's edge
_WAY_OUT = "A box is no segmentation: export polygons, as for a task of segmentation and not of detection."


@dataclass(frozen=True)
class YoloFile:
    """The drawing in one .txt; `names` are those of class 0, 1 and so on."""

    path: Path
    names: tuple[str, ...]

    def read(self) -> Drawing:
        """See `Drawn`."""
        shapes, flat = [], []
        for number, line in enumerate(read_file(self.path).splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            try:
                shape = self._shape(words)
            except ValueError as error:
                told = f"is no list of YOLO polygons: line {number} {error}"
                raise label_fault(
                    str(self.path), told, "A line is a class's number and x y of each corner, all 0 to 1."
                ) from None
            if shape is None:
                flat.append("box of detection")
            else:
                shapes.append(shape)
        return Drawing(None, tuple(shapes), tuple(flat))

    def _shape(self, words: Sequence[bytes]) -> Shape | None:
        """The shape in one line, None for a box; ValueError that says what the line is instead."""
        if not words[0].isdigit():
            raise ValueError("doesn't begin with the number of a class")
        class_id = int(words[0][:9])
        if class_id >= len(self.names):
            raise ValueError(
                f"is of class {class_id}, but there are names for 0 to {len(self.names) - 1} alone"
            )
        values = np.array(words[1:], np.float64)  # ValueError: "could not convert …"
        if len(values) in (4, 5):  # the fifth is a confidence
            return None
        if len(values) < 6:
            raise ValueError(f"has {len(values)} numbers behind the class")
        ring = values[: len(values) // 2 * 2].reshape(-1, 2)  # an odd one at the end is a confidence
        if not (np.isfinite(ring).all() and ring.min() >= -_MARGIN and ring.max() <= 1 + _MARGIN):
            raise ValueError("has corners that are no shares of width and height")
        return Shape(self.names[class_id], Outlines((ring,), relative=True))


def labels_folder(folder: Path, files: Sequence[str]) -> Path:
    """Return the folder of the labels: the `labels` that all `files`, paths below `folder`, are in, else itself."""
    common = [PurePosixPath(name).parent.parts for name in files]
    shared = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*common, strict=False))]
    return folder.joinpath(*shared[: shared.index("labels") + 1]) if "labels" in shared else folder


def holds_labels(folder: Path, files: Sequence[str]) -> bool:
    """Tell whether `files`, paths below `folder`, are YOLO's: the first that isn't empty is."""
    for name in files[:200]:
        try:
            first = read_file(folder / name).strip().split(b"\n")[0]
        except SanError:
            continue
        if first:
            return _LINE.fullmatch(first) is not None
    return bool(files) and find_names(folder) is not None


def is_label_name(name: str) -> bool:
    """Tell whether a file of this name may hold labels."""
    return name.lower().endswith(".txt") and Path(name).name.lower() not in NO_LABELS


def find_names(folder: Path) -> tuple[tuple[str, ...], Path] | None:
    """Find the names of the classes and the file that holds them. SanError where that can't be read."""
    here = folder.absolute()
    for place in (here, *here.parents[:_ABOVE]):
        for path in _lists_of_names(place):
            found = read_class_file(str(path))
            ids = found.ids or range(len(found.groups))
            names = [""] * (max(ids) + 1)
            for number, group in zip(ids, found.groups, strict=True):
                names[number] = group[0]
            if "" in names:
                raise SanError(
                    f"{quoted(path)} has no name for class {names.index('')}",
                    hint="Give each number from 0 on a name.",
                    code=ExitCode.NO_INPUT,
                )
            return tuple(names), path
    return None


def read_yolo(folder: Path, files: Sequence[str], names: Sequence[str] | None) -> Drawings:
    """Read `files`, paths below `folder`; `names` of the classes where no file beside them gives any.

    SanError (code USAGE) where neither does.
    """
    found = find_names(folder)
    if found is None and names is None:
        raise SanError(
            f"there is no data.yaml with the names of the classes in or above {quoted(folder)}",
            hint="Put it there (`names:` and a list), or give the names with --classes FILE, that of class 0 first.",
        )
    listed = found[0] if found is not None else tuple(names or ())
    images = {name: YoloFile(folder / name, listed) for name in files}
    told = f"the names are those of {quoted(found[1])}" if found else "class numbers are places in --classes"
    drawings = gathered("YOLO", folder, images, listed, way_out=_WAY_OUT)
    return Drawings(**{**vars(drawings), "notes": (printable(told),)})


def _lists_of_names(folder: Path) -> Iterator[Path]:
    """Yield files in a folder that list names, the likeliest first."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".yaml", ".yml"))
    except OSError:
        return
    paths.sort(key=lambda path: path.stem.lower() not in ("data", "dataset"))
    yield from (path for path in paths if path.is_file() and _has_names(path))
    yield from (path for name in ("classes.txt", "obj.names") if (path := folder / name).is_file())


def _has_names(path: Path) -> bool:
    try:
        return path.stat().st_size < 2**20 and bool(re.search(rb"(?m)^names\s*:", path.read_bytes()))
    except OSError:
        return False
