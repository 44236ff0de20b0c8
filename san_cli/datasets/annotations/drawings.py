"""Drawn labels of a folder of images: what their files hold, read image by image when it is wanted."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.annotations.shapes import Shape, Size
from san_cli.datasets.labels import label_fault
from san_cli.errors import ExitCode, SanError
from san_cli.files import read_regular
from san_cli.text import counted, printable, quoted

_LARGEST = 2**30  # bytes of a file for one image, which may hold the image itself


@dataclass(frozen=True)
class Drawing:
    """The shapes of one image in the order in which they are drawn, and its (height, width) if that is stated."""

    size: Size | None
    shapes: tuple[Shape, ...] = field(compare=False)
    flat: tuple[str, ...] = ()  # what kinds of shapes there are beside, which cover no area

    def read(self) -> "Drawing":
        """Return itself, see `Drawn`."""
        return self


class Drawn(Protocol):
    """An image's drawing where it is kept; it is sent to worker processes."""

    def read(self) -> Drawing:
        """Read it; SanError (code SOME_FAILED) with the file's name where that can't be done."""
        ...


@dataclass(frozen=True)
class Drawings:
    """The drawn labels of many images.

    `images` are called as the file calls them, or, where each has a file of its own, by its path below `path`.
    """

    kind: str  # what the labels were taken for
    path: Path  # a file, or the folder of the files
    images: Mapping[str, Drawn]
    classes: tuple[str, ...]  # that the files list, in their order; none where they don't
    found: Mapping[str, int]  # how many shapes have each name
    flat: Mapping[str, int]  # how many of each kind cover no area
    sha256: str  # of everything in the files
    per_image: bool = False  # each image has a file of its own
    notes: tuple[str, ...] = ()
    way_out: str = ""  # where shapes cover no area
    faults: tuple[SanError, ...] = ()  # files that can't be read
    unlabelled: tuple[str, ...] = ()  # images that the file names and nobody has labelled yet


def parsed_json(data: bytes, name: str) -> Any:
    """Parse the JSON of one image; SanError that names the file."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        cause = printable(" ".join(str(error).split()))[:100]
        raise label_fault(name, f"is damaged or no JSON ({cause})", "Save it anew.") from None


def read_file(path: Path) -> bytes:
    """Read the file of one image; SanError that names it."""
    try:
        return read_regular(path, _LARGEST)
    except OSError as error:
        raise label_fault(str(path), f"can't be read: {error.strerror or error}") from None


def corners(value: Any, what: str) -> NDArray[np.float64]:
    """Read x and y [n, 2] of points; ValueError that begins with `what` for anything else."""
    try:
        points = np.asarray(value, np.float64)
    except (ValueError, TypeError):
        raise ValueError(f"{what} has points that are no pairs of numbers") from None
    if points.size == 0:
        return points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"{what} has points that are no pairs of numbers")
    return points


def stated_size(height: Any, width: Any) -> Size | None:
    """Return the size that a file states, None where it states none that could be one."""
    sides = []
    for side in (height, width):
        if isinstance(side, bool) or not isinstance(side, (int, float)) or side != side or side < 1:
            return None
        sides.append(int(side))
    return sides[0], sides[1]


def gathered(
    kind: str, folder: Path, images: Mapping[str, Drawn], classes: Sequence[str] = (), *, way_out: str
) -> Drawings:
    """Read all files of one image each once: their names, and what is wrong. SanError where none can be read."""
    found: Counter[str] = Counter()
    flat: Counter[str] = Counter()
    faults = []
    hasher = hashlib.sha256(repr(tuple(classes)).encode("utf-8", "surrogatepass"))
    for name, drawn in images.items():
        hasher.update(f"\0{name}\0".encode("utf-8", "surrogatepass"))
        try:
            drawing = drawn.read()
        except SanError as fault:
            faults.append(fault)
            continue
        found.update(shape.name for shape in drawing.shapes)
        flat.update(drawing.flat)
        _update(hasher, drawing)
    if faults and len(faults) == len(images):
        more = f" ({counted(len(faults), 'file')} are like this)" if len(faults) > 1 else ""
        raise SanError(faults[0].message + more, hint=faults[0].hint, code=ExitCode.NO_INPUT)
    return Drawings(
        kind,
        folder,
        images,
        tuple(classes),
        found,
        flat,
        hasher.hexdigest(),
        per_image=True,
        way_out=way_out,
        faults=tuple(faults),
    )


def _update(hasher: "hashlib._Hash", drawing: Drawing) -> None:
    hasher.update(repr(drawing.size).encode())
    for shape in drawing.shapes:
        hasher.update(shape.name.encode("utf-8", "surrogatepass"))
        for value in vars(shape.cover).values():
            rings = value if isinstance(value, tuple) else (value,)
            for ring in rings:
                hasher.update(ring.tobytes() if isinstance(ring, np.ndarray) else repr(ring).encode())


def damaged_file(path: Path, cause: str, hint: str = "Export it anew.") -> SanError:
    """Return the error for a file of all labels that can't be used."""
    return SanError(f"{quoted(path)} {cause}", hint=hint, code=ExitCode.NO_INPUT)
