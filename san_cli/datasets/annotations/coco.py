"""COCO's JSON: one file with images, categories, and annotations as polygons or run lengths.

The file is read once as a stream, and of an annotation no more is kept than where it stands; its shapes are read
from there when its image is wanted. Several polygons of an annotation are parts of one object: inside any of them
is inside. Annotations lie on top of one another in the order of the file.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.annotations.drawings import Drawing, Drawings, corners, damaged_file, stated_size
from san_cli.datasets.annotations.shapes import Cover, Outlines, Runs, Shape, Size, Union
from san_cli.datasets.json_stream import DamagedJson, json_elements
from san_cli.datasets.labels import label_fault
from san_cli.errors import ExitCode, SanError
from san_cli.regions.rle import run_lengths
from san_cli.text import counted, printable, quoted

_MOST_NAMES = 65_535
_WAY_OUT = "A box is no segmentation: export with masks or polygons (`segmentation`)."


@dataclass(frozen=True)
class CocoImage:
    """The annotations of one image, by where they stand in the file."""

    path: Path
    name: str
    size: Size | None
    names: Mapping[Any, str] = field(compare=False, repr=False)  # of categories, by id
    spans: NDArray[np.int64] = field(
        compare=False, repr=False
    )  # [n, 2] first byte, and the one behind the last

    def read(self) -> Drawing:
        """See `Drawn`."""
        shapes, flat = [], []
        what = f"{self.path}, image {self.name}"
        try:
            with self.path.open("rb") as file:
                for start, stop in self.spans.tolist():
                    file.seek(start)
                    one = json.loads(file.read(stop - start))
                    cover = cover_of(one.get("segmentation"), self.size)
                    if cover is None:
                        flat.append(_flat_kind(one))
                    else:
                        shapes.append(Shape(self.names[one["category_id"]], cover))
        except OSError as error:
            raise label_fault(str(self.path), f"can't be read any more: {error.strerror or error}") from None
        except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
            told = printable(" ".join(str(error).split()))[:120] or "it has changed meanwhile"
            raise label_fault(
                what, f"has an annotation that can't be read: {told}", "Export it anew."
            ) from None
        return Drawing(self.size, tuple(shapes), tuple(flat))


def cover_of(segmentation: Any, size: Size | None) -> Cover | None:
    """Read a `segmentation`, None where it covers no area; ValueError and its like where it is damaged."""
    if isinstance(segmentation, dict):
        height, width = segmentation["size"]
        own = int(height), int(width)
        if size is not None and own != size:
            raise ValueError(f"run lengths of {own[1]}×{own[0]} pixels in an image of {size[1]}×{size[0]}")
        counts = segmentation["counts"]
        lengths = run_lengths(counts, own) if isinstance(counts, str) else np.asarray(counts, np.int64)
        if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != own[0] * own[1]:
            raise ValueError("run lengths that are not those of the image")
        return Runs(lengths, own)
    if not isinstance(segmentation, list) or not segmentation:
        return None
    if all(isinstance(value, (int, float)) for value in segmentation):
        segmentation = [segmentation]  # one polygon without the list around it
    rings = []
    for one in segmentation:
        if isinstance(one, list) and len(one) % 2:
            raise ValueError("a polygon has an odd number of coordinates")
        ring = corners(np.asarray(one, np.float64).reshape(-1, 2), "a polygon")
        if len(ring) > 2:
            rings.append(ring)
    if not rings:
        return None
    return Outlines((rings[0],)) if len(rings) == 1 else Union(tuple(Outlines((ring,)) for ring in rings))


def _has_area(segmentation: Any) -> bool:
    """Tell whether `cover_of` finds an area, or damage; without the work that this is."""
    if isinstance(segmentation, dict):
        return True
    if not isinstance(segmentation, list) or not segmentation:
        return False
    first = segmentation[0]
    return not isinstance(first, list) or any(
        not isinstance(one, list) or len(one) > 4 for one in segmentation
    )


class _Index:
    """What is kept of the file while it is read."""

    def __init__(self) -> None:
        self.names: dict[Hashable, str] = {}
        self.images: dict[Hashable, tuple[str, Size | None]] = {}
        self.place: dict[Hashable, int] = {}  # of an image's id among those of annotations
        self.image, self.start, self.stop = array("q"), array("q"), array("q")
        self.of_category: Counter[Hashable] = Counter()
        self.flat: Counter[str] = Counter()

    def add(self, key: str | None, value: Any, start: int, stop: int) -> None:
        """Take in one element of one of the file's lists. KeyError and its like where it isn't as it should be."""
        if key == "categories":
            self.names[value["id"]] = str(value["name"])
        elif key == "images":
            size = stated_size(value.get("height"), value.get("width"))
            self.images[value["id"]] = str(value["file_name"]), size
        elif key == "annotations":
            self.image.append(self.place.setdefault(value["image_id"], len(self.place)))
            self.start.append(start)
            self.stop.append(stop)
            category = value["category_id"]
            if not _has_area(value.get("segmentation")):
                self.flat[_flat_kind(value)] += 1
            else:
                self.of_category[category] += 1


def read_coco(path: Path) -> Drawings:
    """Read what the file holds, but for the shapes. SanError (code NO_INPUT) where it isn't as it should be."""
    index = _Index()
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for element in json_elements(file):
                try:
                    index.add(*element)
                except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
                    missing = f"lacks {error}" if isinstance(error, KeyError) else f"is damaged ({error})"
                    place = f"an entry of {element.key} (byte {element.start})"
                    raise damaged_file(path, printable(f"can't be used: {place} {missing}"[:200])) from None
            file.seek(0)
            while block := file.read(1 << 20):
                hasher.update(block)
    except DamagedJson as error:
        raise damaged_file(path, f"is damaged or cut short at byte {error.at}") from None
    except OSError as error:
        raise SanError(
            f"can't read {quoted(path)}: {error.strerror or error}", code=ExitCode.NO_INPUT
        ) from None
    return _drawings(path, index, hasher.hexdigest())


def _drawings(path: Path, index: _Index, sha256: str) -> Drawings:
    unknown = [category for category in index.of_category if category not in index.names]
    if unknown:
        raise damaged_file(
            path, f"has annotations of category {printable(str(unknown[0]))}, which it doesn't list"
        )
    lost = sum(image not in index.images for image in index.place)
    if lost:
        raise damaged_file(path, f"has annotations of {counted(lost, 'image')} that it doesn't list")
    if len(index.names) > _MOST_NAMES:
        raise damaged_file(path, f"lists {len(index.names):,} categories", "Is it a list of classes?")

    # The annotations of each image together, in the order of the file.
    image = np.frombuffer(index.image, np.int64) if index.image else np.zeros(0, np.int64)
    spans = np.stack([np.array(index.start, np.int64), np.array(index.stop, np.int64)], axis=1)
    order = np.argsort(image, kind="stable")
    ends = np.cumsum(np.bincount(image, minlength=len(index.place)))
    none = np.zeros((0, 2), np.int64)
    images: dict[str, CocoImage] = {}
    for image_id, (name, size) in index.images.items():
        place = index.place.get(image_id)
        own = none
        if place is not None:
            own = spans[order[ends[place - 1] if place else 0 : ends[place]]]
        if name in images:
            raise damaged_file(path, f"lists the image {quoted(name)} twice", "Delete one of the two.")
        images[name] = CocoImage(path, name, size, index.names, own)
    found: Counter[str] = Counter()
    for category, number in index.of_category.items():
        found[index.names[category]] += number
    by_id = sorted(index.names) if all(isinstance(one, int) for one in index.names) else list(index.names)  # type: ignore[type-var]
    classes = tuple(index.names[category] for category in by_id)
    return Drawings("COCO", path, images, classes, found, index.flat, sha256, way_out=_WAY_OUT)


def _flat_kind(annotation: Mapping[str, Any]) -> str:
    if annotation.get("keypoints") and not annotation.get("segmentation"):
        return "set of keypoints"
    return "box of detection" if annotation.get("bbox") else "annotation without a segmentation"
