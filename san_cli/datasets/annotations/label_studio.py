"""Label Studio's JSON export: a list of tasks, each an image with annotations or predictions.

Of a task counts its last annotation that wasn't cancelled; where there is none at all, its last prediction. Points
are percent of the image's sides. Areas are polygons, rectangles and ellipses; brush strokes are in a format of their
own, which isn't read.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from san_cli.datasets.annotations.drawings import Drawing, Drawings, corners, damaged_file, stated_size
from san_cli.datasets.annotations.shapes import Cover, Ellipse, Outlines, Shape, Size, turned
from san_cli.datasets.json_stream import DamagedJson, json_elements
from san_cli.datasets.labels import label_fault
from san_cli.errors import ExitCode, SanError
from san_cli.text import counted, printable, quoted

_KEYS = ("polygonlabels", "rectanglelabels", "ellipselabels", "labels")  # of names, in a result's value
_FLAT = {"keypointlabels": "point", "keypoint": "point", "vectorlabels": "line", "vector": "line"}
_BRUSH = (
    "holds brush strokes, whose format san doesn't read",
    'Export from Label Studio as "COCO with Images" (or "Brush labels to PNG").',
)
_IMAGE = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?|gif|avif|jp2)$", re.IGNORECASE)
_MANGLED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the names of uploaded files
_WAY_OUT = "Draw polygons, rectangles or ellipses: points have no area."


class _NotRead(Exception):
    """Why a result isn't read: cause and way out."""


@dataclass(frozen=True)
class LabelStudioTask:
    """One task, by where it stands in the file."""

    path: Path
    name: str
    start: int = field(compare=False)
    stop: int = field(compare=False)

    def read(self) -> Drawing:
        """See `Drawn`."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                task = json.loads(file.read(self.stop - self.start))
            return drawing_of(chosen_results(task)[0] or [])
        except OSError as error:
            raise label_fault(str(self.path), f"can't be read any more: {error.strerror or error}") from None
        except (ValueError, KeyError, AttributeError, TypeError, IndexError, _NotRead) as error:
            told = printable(" ".join(str(error.args[0] if error.args else error).split()))[:120]
            raise label_fault(
                f"{self.path}, image {self.name}", f"can't be read: {told}", "Export it anew."
            ) from None


def read_label_studio(path: Path) -> Drawings:
    """Read which tasks there are. SanError (code NO_INPUT) where the file is another export, or damaged."""
    images: dict[str, LabelStudioTask] = {}
    found: Counter[str] = Counter()
    flat: Counter[str] = Counter()
    left: Counter[str] = Counter()
    unlabelled: list[str] = []
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for element in json_elements(file):
                name = image_name(element.value)
                results, what = chosen_results(element.value)
                left[what] += 1
                if results is None:
                    unlabelled.append(name)
                    continue
                if name in images:
                    raise _NotRead(f"has two tasks with the image {quoted(name)}", "Delete one of the two.")
                images[name] = LabelStudioTask(path, name, element.start, element.stop)
                drawing = drawing_of(results)
                found.update(shape.name for shape in drawing.shapes)
                flat.update(drawing.flat)
            file.seek(0)
            while block := file.read(1 << 20):
                hasher.update(block)
    except _NotRead as why:
        raise damaged_file(path, *why.args) from None
    except DamagedJson as error:
        raise damaged_file(path, f"is damaged or cut short at byte {error.at}") from None
    except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        missing = f"a task lacks {error}" if isinstance(error, KeyError) else str(error)
        raise damaged_file(path, printable(f"is no JSON export of Label Studio: {missing}"[:200])) from None
    except OSError as error:
        raise SanError(
            f"can't read {quoted(path)}: {error.strerror or error}", code=ExitCode.NO_INPUT
        ) from None
    classes = tuple(found)
    notes = tuple(_notes(left, len(images)))
    return Drawings(
        "Label Studio",
        path,
        images,
        classes,
        found,
        flat,
        hasher.hexdigest(),
        notes=notes,
        way_out=_WAY_OUT,
        unlabelled=tuple(name for name in unlabelled if name not in images),
    )


def chosen_results(task: Mapping[str, Any]) -> tuple[list[Any] | None, str]:
    """Choose the results of a task that count, None where it has none; and what they are.

    KeyError and its like where it is no task; _NotRead for the export JSON-MIN.
    """
    if "annotations" not in task and "predictions" not in task:
        if "completions" in task or "annotation_id" in task:
            raise _NotRead("is not the full export of Label Studio", 'Export as "JSON", not as "JSON-MIN".')
        raise KeyError("annotations")
    annotations = task.get("annotations") or []
    done = [one for one in annotations if not one.get("was_cancelled")]
    if done:
        return list(done[-1].get("result") or []), "annotated"
    if annotations:
        return None, "cancelled"
    predictions = [one for one in task.get("predictions") or [] if isinstance(one, dict)]
    return (list(predictions[-1].get("result") or []), "predicted") if predictions else (None, "empty")


def image_name(task: Mapping[str, Any]) -> str:
    """Tell what a task's image is called: its path, without the rest of its address. KeyError if it has none."""
    data = task["data"]
    texts = [value for value in data.values() if isinstance(value, str)]
    usual = [
        data[key] for key in ("image", "img", "photo", "picture", "url") if isinstance(data.get(key), str)
    ]
    address = next((one for one in texts if _IMAGE.search(urlsplit(one).path) or "?d=" in one), None)
    address = usual[0] if usual else address
    if address is None:
        raise KeyError("the address of an image in its data")
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    path = local[0] if local else unquote(parts.path, errors="surrogateescape")
    folder, slash, name = path.lstrip("/").rpartition("/")
    if "upload" in folder.split("/"):
        name = _MANGLED.sub("", name, count=1)
        folder, slash = "", ""
    return f"{folder}{slash}{name}"


def drawing_of(results: list[Any]) -> Drawing:
    """Make the drawing of one annotation's results; ValueError and its like where they can't be read."""
    names = {}  # by region, where the labels are a result of their own
    for one in results:
        value = one.get("value") or {}
        if one.get("type") == "labels" and isinstance(value.get("labels"), list):
            names[one.get("id")] = value["labels"]
    shapes, flat, size, seen = [], [], None, set()
    for one in results:
        size = stated_size(one.get("original_height"), one.get("original_width")) or size
        cover = _cover(one, size)
        kind = one.get("type")
        if cover is None:
            flat += [_FLAT[kind]] if kind in _FLAT else []
            continue
        labels = next((one["value"][key] for key in _KEYS if one["value"].get(key)), names.get(one.get("id")))
        if not labels:
            flat.append("area without a label")
            continue
        region = (one.get("id"), tuple(labels))
        if one.get("id") is not None and region in seen:  # the same area as `polygon` and as `labels`
            continue
        seen.add(region)
        shapes += [Shape(str(label), cover) for label in labels]
    return Drawing(size, tuple(shapes), tuple(flat))


def _cover(result: Mapping[str, Any], size: Size | None) -> Cover | None:
    """What one result covers, None where it is no area."""
    kind, value = result.get("type"), result.get("value") or {}
    if kind in ("brushlabels", "brush") or "rle" in value:
        raise _NotRead(*_BRUSH)
    if result.get("image_rotation") and ("points" in value or "width" in value or "radiusX" in value):
        raise _NotRead(
            "holds images that were turned while they were labelled",
            "Turn the images themselves, and label them as they are.",
        )
    if isinstance(value.get("points"), list) and kind not in _FLAT:
        points = corners(value["points"], "a polygon")
        return Outlines((points / 100,), relative=True) if len(points) > 2 else None
    if "radiusX" in value:
        down, across = _sides(size)
        x, y, radius_x, radius_y = (float(value[key]) / 100 for key in ("x", "y", "radiusX", "radiusY"))
        return Ellipse(
            x * across, y * down, radius_x * across, radius_y * down, float(value.get("rotation") or 0)
        )
    if "width" in value and "height" in value and kind not in _FLAT and "x" in value:
        return _rectangle(value, size)
    return None


def _rectangle(value: Mapping[str, Any], size: Size | None) -> Outlines:
    """A rectangle, turned about its first corner."""
    x, y, width, height = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
    ring = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
    degrees = float(value.get("rotation") or 0)
    if not degrees:
        return Outlines((ring,), relative=True)
    ring = ring * np.array(_sides(size)[::-1], np.float64)
    return Outlines((turned(ring, ring[0], degrees),))


def _sides(size: Size | None) -> Size:
    if size is None:
        raise ValueError("a result lacks original_width and original_height")
    return size


def _notes(left: Mapping[str, int], images: int) -> Iterator[str]:
    if left["predicted"]:
        yield (
            f"{counted(left['predicted'], 'task')} of {images:,} in Label Studio's file have no annotation: their "
            "last prediction counts"
        )
    for what, told in (
        ("cancelled", "were skipped by those who annotate"),
        ("empty", "have no annotation yet"),
    ):
        if left[what]:
            yield f"{counted(left[what], 'task')} in Label Studio's file {told} and are left out"
