"""CVAT's own XML, "CVAT for images 1.1": one file for all images, alone or in the .zip in which CVAT exports it.

Shapes lie on top of one another by their z_order, and where that is equal in the order of the file. Polygons, boxes,
ellipses and masks are areas; lines, points, cuboids and tags aren't.
"""

import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

import numpy as np

from san_cli.datasets.annotations.drawings import Drawing, Drawings, corners, damaged_file, stated_size
from san_cli.datasets.annotations.shapes import Bitmap, Cover, Ellipse, Outlines, Shape, rectangle
from san_cli.errors import ExitCode, SanError
from san_cli.text import printable, quoted

_AREAS = ("polygon", "box", "ellipse", "mask")
_FLAT = {"polyline": "line", "points": "point", "cuboid": "cuboid", "skeleton": "skeleton"}
_INSIDE = "annotations.xml"  # in a .zip
_BLOCK = 1 << 20
_MOST_PIXELS = 2**31  # of a mask's box
_WAY_OUT = "Draw polygons, rectangles, ellipses or masks: points and lines have no area."


class _Refused(Exception):
    """Why a file isn't read: cause and way out."""


class _Reader:
    """What expat's events come to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._within: list[str] = []  # the elements around
        self._image: dict[str, str] = {}
        self._shapes: list[tuple[int, Shape]] = []
        self._flat: list[str] = []
        self._text = ""
        self.labels: list[str] = []
        self.images: dict[str, Drawing] = {}
        self.found: Counter[str] = Counter()
        self.flat: Counter[str] = Counter()

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take in the beginning of an element."""
        if not self._within:
            _refuse_other_root(tag)
        if tag == "track":
            raise _Refused(
                "holds tracks of CVAT for video", 'Export it as "CVAT for images 1.1", which has each image.'
            )
        if tag == "image" and self._within == ["annotations"]:
            self._image, self._shapes, self._flat = attributes, [], []
        elif self._within[-1:] == ["image"] and tag in _AREAS:
            order = int(attributes.get("z_order", 0))
            self._shapes.append((order, Shape(attributes["label"], _cover(tag, attributes))))
        elif self._within[-1:] == ["image"] and tag in _FLAT:
            self._flat.append(_FLAT[tag])
        self._within.append(tag)
        self._text = ""

    def text(self, text: str) -> None:
        """Take in text, which comes in pieces."""
        self._text += text

    def end(self, tag: str) -> None:
        """Take in the end of an element."""
        self._within.pop()
        if tag == "name" and self._within[-2:] == ["labels", "label"]:
            self.labels.append(self._text.strip())
        if tag == "image" and self._within == ["annotations"]:
            name = self._image["name"]
            if name in self.images:
                raise _Refused(f"lists the image {quoted(name)} twice", "Delete one of the two.")
            shapes = tuple(shape for _, shape in sorted(self._shapes, key=lambda one: one[0]))
            size = stated_size(int(self._image["height"]), int(self._image["width"]))
            self.images[name] = Drawing(size, shapes, tuple(self._flat))
            self.found.update(shape.name for shape in shapes)
            self.flat.update(self._flat)
        self._text = ""


def read_cvat(path: Path) -> Drawings:
    """Read an .xml, or the one in a .zip. SanError (code NO_INPUT) where it is another, or damaged."""
    reader = _Reader(path)
    hasher = hashlib.sha256()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.text
    parser.EntityDeclHandler = _refuse_entities
    try:
        with _opened(path) as stream:
            while block := stream.read(_BLOCK):
                hasher.update(block)
                parser.Parse(block, False)
        parser.Parse(b"", True)
    except _Refused as why:
        raise damaged_file(path, *why.args) from None
    except expat.ExpatError as error:
        told = f"is damaged or no XML: {expat.errors.messages[error.code]} (line {error.lineno})"
        raise damaged_file(path, told) from None
    except (KeyError, ValueError, IndexError) as error:
        line = parser.CurrentLineNumber
        missing = f"lacks {error}" if isinstance(error, KeyError) else f"is damaged ({error})"
        told = printable(f"can't be used: what stands in line {line} {missing}"[:200])
        raise damaged_file(path, told) from None
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise SanError(
            f"can't read {quoted(path)}: {getattr(error, 'strerror', None) or error}", code=ExitCode.NO_INPUT
        ) from None
    classes = tuple(dict.fromkeys(reader.labels))
    return Drawings(
        "CVAT", path, reader.images, classes, reader.found, reader.flat, hasher.hexdigest(), way_out=_WAY_OUT
    )


def zip_holds_cvat(path: Path) -> bool:
    """Tell whether a .zip is such an export."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _INSIDE in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path.suffix.lower() != ".zip":
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(_INSIDE) as file:
        yield file  # type: ignore[misc]


def _refuse_entities(*_: object) -> None:
    raise _Refused("defines entities, which CVAT never does", "Export it anew.")


def _refuse_other_root(tag: str) -> None:
    if tag == "annotation":
        raise _Refused(
            "holds boxes of Pascal VOC, and a box is no segmentation",
            "Pascal VOC's segmentation is the PNG files in SegmentationClass.",
        )
    if tag != "annotations":
        raise _Refused(
            f"is XML of another kind (<{printable(tag)[:40]}>)", 'CVAT exports "CVAT for images 1.1".'
        )


def _cover(tag: str, given: Mapping[str, str]) -> Cover:
    """What a shape covers; KeyError or ValueError where it isn't as it should be."""
    degrees = float(given.get("rotation") or 0)
    if tag == "polygon":
        points = corners([pair.split(",") for pair in given["points"].split(";")], "a polygon")
        if len(points) < 3:
            raise ValueError("a polygon of fewer than 3 points")
        return Outlines((points,))
    if tag == "box":
        left, top, right, bottom = (_number(given[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(left, top, right, bottom, degrees)
    if tag == "ellipse":
        x, y, radius_x, radius_y = (_number(given[key]) for key in ("cx", "cy", "rx", "ry"))
        return Ellipse(x, y, radius_x, radius_y, degrees)
    left, top, width, height = (int(_number(given[key])) for key in ("left", "top", "width", "height"))
    runs = np.array(given["rle"].split(","), np.int64) if given["rle"].strip() else np.zeros(0, np.int64)
    pixels = width * height
    if min(width, height) < 1 or pixels > _MOST_PIXELS or (runs < 0).any() or runs.sum() > pixels:
        raise ValueError("a mask with run lengths that don't fit its box")
    flat = np.zeros(pixels, bool)
    flat[: runs.sum()] = np.repeat(
        np.arange(len(runs)) % 2 == 1, runs
    )  # along the rows, first what is outside
    return Bitmap(left, top, flat.reshape(height, width))


def _number(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"{text} is no number of pixels")
    return value
