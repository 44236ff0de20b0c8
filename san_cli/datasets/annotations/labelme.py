"""labelme's and X-AnyLabeling's JSON, one file for each image, beside it or in a folder of their own.

Areas are shapes of the types polygon, rectangle, rotation and the like, circle, and mask (a PNG in base64, the
corners of whose box are its first and last pixel). Points and lines cover none. What `__ignore__` covers doesn't
count.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from san_cli.datasets.annotations.drawings import (
    Drawing,
    Drawings,
    Drawn,
    corners,
    gathered,
    parsed_json,
    read_file,
    stated_size,
)
from san_cli.datasets.annotations.shapes import Bitmap, Cover, Ellipse, Outlines, Shape, rectangle
from san_cli.datasets.labels import label_fault

IGNORED = "__ignore__"  # labelme's own name for what shall not count
_POLYGONS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")
_LINES = ("line", "linestrip", "lines")
_FARTHEST = 2**31  # pixels
_WAY_OUT = "Draw polygons, rectangles, circles or masks: points and lines have no area."


@dataclass(frozen=True)
class LabelmeFile:
    """The drawing in one JSON file."""

    path: Path

    def read(self) -> Drawing:
        """See `Drawn`."""
        name = str(self.path)
        found = parsed_json(read_file(self.path), name)
        if not is_labelme(found):
            raise label_fault(name, "is JSON, but not labelme's: it has no list of shapes")
        shapes, flat = [], []
        for place, one in enumerate(found["shapes"], start=1):
            try:
                cover, kind = _cover(one, f"shape {place}")
            except ValueError as error:
                raise label_fault(name, f"is damaged: {error}", "Mend the shape or delete it.") from None
            if cover is None:
                flat.append(kind)
            else:
                shapes.append(Shape(one["label"], cover))
        size = stated_size(found.get("imageHeight"), found.get("imageWidth"))
        return Drawing(size, tuple(shapes), tuple(flat))


def is_labelme(value: Any) -> bool:
    """Tell whether this JSON value is such a file's."""
    return isinstance(value, dict) and isinstance(value.get("shapes"), list)


def read_labelme(folder: Path, files: list[str]) -> Drawings:
    """Read `files`, paths below `folder`."""
    images: Mapping[str, Drawn] = {name: LabelmeFile(folder / name) for name in files}
    return gathered("labelme", folder, images, way_out=_WAY_OUT)


def _cover(shape: Any, what: str) -> tuple[Cover | None, str]:
    """What the shape covers, None if no area, and its type; ValueError where it is damaged."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        raise ValueError(f"{what} has no label")
    kind = shape.get("shape_type") or "polygon"  # files of labelme 2 and 3 have none
    points = corners(shape.get("points", []), what)
    if kind in _POLYGONS or (kind == "rectangle" and len(points) == 4):
        return (Outlines((points,)), kind) if len(points) > 2 else (None, f"{kind} of fewer than 3 points")
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points.tolist()
        return rectangle(left, top, right, bottom), kind
    if kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        x, y = points[0].tolist()
        return Ellipse(x, y, radius, radius), kind
    if kind == "mask":
        return _mask(shape, points, what), kind
    if kind == "point" or kind == "points" or kind in _LINES:
        return None, "point" if kind.startswith("point") else "line"
    if kind in ("rectangle", "circle"):
        raise ValueError(f"{what}, a {kind}, has {len(points)} points")
    return None, f"shape of type {str(kind)[:40]}"


def _mask(shape: Mapping[str, Any], points: NDArray[np.float64], what: str) -> Bitmap:
    if len(points) != 2 or np.abs(points).max() > _FARTHEST or not isinstance(shape.get("mask"), str):
        raise ValueError(f"{what}, a mask, lacks its picture or its box")
    try:
        data = base64.b64decode(shape["mask"], validate=True)
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            pixels = np.asarray(image.convert("L")) > 0
    except (ValueError, OSError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture of {what}, a mask, can't be decoded") from error
    left, top = np.floor(points.min(axis=0) + 0.5).astype(int).tolist()
    right, bottom = np.floor(points.max(axis=0) + 0.5).astype(int).tolist()
    if pixels.shape not in ((bottom - top + 1, right - left + 1), (bottom - top, right - left)):
        raise ValueError(
            f"{what}, a mask, has a picture of {pixels.shape[1]}×{pixels.shape[0]} pixels and another box"
        )
    return Bitmap(left, top, pixels)
