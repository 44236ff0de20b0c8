"""Kinds of drawn labels, told apart by what is there: labelme, YOLO, COCO, CVAT, Label Studio, or none of them."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from san_cli.datasets.annotations import yolo
from san_cli.datasets.annotations.coco import read_coco
from san_cli.datasets.annotations.cvat import read_cvat, zip_holds_cvat
from san_cli.datasets.annotations.drawings import Drawings, damaged_file
from san_cli.datasets.annotations.label_studio import read_label_studio
from san_cli.datasets.annotations.labelme import is_labelme, read_labelme
from san_cli.datasets.json_stream import DamagedJson, json_elements
from san_cli.datasets.labels import SUFFIXES as LABEL_SUFFIXES
from san_cli.datasets.pairing import files_below
from san_cli.errors import ExitCode, SanError
from san_cli.text import counted, printable, quoted

Kind = Literal["labelme", "YOLO", "COCO", "CVAT", "Label Studio"]

READ = (
    "San reads label maps (PNG and the like), labelme's JSON and YOLO's .txt (a file for each image), COCO's and "
    "Label Studio's JSON, and CVAT's XML."
)
_LOOKED_AT = 20  # files of a kind
_PARSED = 2**26  # bytes of JSON that are parsed as a whole; of more, its lists are looked at
_BOXES = "A box is no segmentation; Pascal VOC's segmentation is the PNG files in SegmentationClass."


@dataclass(frozen=True)
class Found:
    """Drawn labels of one kind: a file, or a folder with a file for each image."""

    kind: Kind
    path: Path
    files: tuple[str, ...] = ()  # below `path`


def find_annotations(labels: Path, images: Path | None = None, label_name: str | None = None) -> Found | None:
    """Tell what kind of drawn labels `labels` are; None for label maps, and for what isn't there.

    `label_name` is a pattern that the files' names fit. SanError (code NO_INPUT) for labels of several kinds, and for
    files that are none, where there are no label maps.
    """
    if labels.is_dir():
        return _in_folder(labels, images, label_name)
    suffix = labels.suffix.lower()
    if not labels.is_file():
        return None
    if suffix == ".json":
        kind = json_kind(labels)
        if kind is None:
            raise _none(labels)
        return Found(kind, labels.parent, (labels.name,)) if kind == "labelme" else Found(kind, labels)
    if suffix == ".xml":
        return Found("CVAT", labels)
    if suffix == ".zip":
        if zip_holds_cvat(labels):
            return Found("CVAT", labels)
        raise damaged_file(
            labels, "is no .zip with CVAT's annotations.xml", "Unpack it, and give the folder."
        )
    return None


def read_annotations(found: Found, names: Sequence[str] | None = None) -> Drawings:
    """Read them; `names` are those of YOLO's class 0, 1 and so on, where no file says so. Raises SanError."""
    if found.kind == "labelme":
        return read_labelme(found.path, list(found.files))
    if found.kind == "YOLO":
        return yolo.read_yolo(found.path, found.files, names)
    readers = {"COCO": read_coco, "CVAT": read_cvat, "Label Studio": read_label_studio}
    return readers[found.kind](found.path)


def read_drawings(path: Path, *, images: Path | None = None, names: Sequence[str] | None = None) -> Drawings:
    """Read drawn labels of any kind; `images` is the folder of the images, which may be the same or within.

    SanError (code NO_INPUT) where `path` holds none, or several kinds.
    """
    found = find_annotations(path, images)
    if found is None:
        there = "holds no drawn labels" if path.exists() else "is not there"
        raise SanError(f"{quoted(path)} {there}", hint=READ, code=ExitCode.NO_INPUT)
    return read_annotations(found, names)


def json_kind(path: Path) -> Kind | None:
    """Tell whose a JSON file is, by its contents."""
    try:
        if path.stat().st_size <= _PARSED:
            return _kind_of(json.loads(path.read_bytes()))
        with path.open("rb") as file:
            for key, value, _, _ in json_elements(file):
                if key == "shapes":
                    return "labelme"
                if key in ("images", "annotations", "categories"):
                    return "COCO"
                if key is None:
                    return _kind_of([value])
    except (OSError, DamagedJson, ValueError, RecursionError):
        pass
    return None


def _kind_of(value: Any) -> Kind | None:
    if is_labelme(value):
        return "labelme"
    if isinstance(value, dict) and isinstance(value.get("images"), list):
        return "COCO" if isinstance(value.get("annotations"), list) else None
    if isinstance(value, list) and value and isinstance(value[0], dict):
        tasks = {"annotations", "predictions", "completions", "annotation_id"} & set(value[0])
        return "Label Studio" if tasks and "image_id" not in value[0] else None
    return None


def _in_folder(folder: Path, images: Path | None, label_name: str | None) -> Found | None:
    wanted = PurePosixPath(label_name).suffix.lower() if label_name else ""
    if wanted in LABEL_SUFFIXES:
        return None
    files = files_below(folder, leave_out=images or folder)
    found = [one for one in _candidates(folder, files) if wanted in ("", _suffix(one))]
    together = images is not None and images.is_dir() and folder.samefile(images)
    maps = [name for name in files if name.lower().endswith(LABEL_SUFFIXES)]
    maps = [name for name in maps if "images" not in PurePosixPath(name).parts[:-1]]
    if maps and not wanted and (label_name or not together):
        stems = {str(PurePosixPath(name).with_suffix("")) for name in maps}
        both = [
            one for one in found if any(str(PurePosixPath(n).with_suffix("")) in stems for n in one.files)
        ]
        if both and not label_name:
            raise SanError(
                f"{quoted(folder)} holds both {_told(both[0], folder)} and {counted(len(maps), 'image file')} under "
                "the same names: which are the labels?",
                hint=f"--label-name '{{stem}}{_suffix(both[0])}' takes the drawn ones, "
                f"--label-name '{{stem}}{PurePosixPath(maps[0]).suffix}' the others.",
                code=ExitCode.NO_INPUT,
            )
        return None
    if len(found) > 1:
        raise SanError(
            f"{quoted(folder)} holds several labels: {', '.join(_told(one, folder) for one in found[:6])}",
            hint="Give --labels the one file or folder that is meant.",
            code=ExitCode.NO_INPUT,
        )
    if not found and not maps:
        _refuse_others(folder, files)
    return found[0] if found else None


def drawn_beside(labels: Path, images: Path) -> str:
    """Say what drawn labels lie among label maps, which were taken for the labels; "" where there are none."""
    if not labels.is_dir():
        return ""
    found = list(_candidates(labels, files_below(labels, leave_out=images)))
    told = ", ".join(_told(one, labels) for one in found[:3])
    return f" Drawn labels are there, too ({told}): give --labels their file or folder." if found else ""


def _suffix(found: Found) -> str:
    return PurePosixPath(found.files[0]).suffix.lower() if found.files else found.path.suffix.lower()


def _told(found: Found, folder: Path) -> str:
    if found.files:
        return f"{counted(len(found.files), 'file')} of {found.kind} (such as {quoted(found.files[0])})"
    return f"{found.kind}'s {quoted(found.path.relative_to(folder))}"


def _candidates(folder: Path, files: Sequence[str]) -> Iterator[Found]:
    """Yield every kind of drawn labels in a folder, and of those in one file every file."""
    jsons = [name for name in files if name.lower().endswith(".json")]
    kinds = {name: json_kind(folder / name) for name in jsons[:_LOOKED_AT]}
    if "labelme" in kinds.values():
        others = {
            name for name, kind in kinds.items() if kind != "labelme" and not _is_damaged(folder / name)
        }
        whole = [name for name in jsons if name not in others]
        yield Found("labelme", folder, tuple(whole))
    for name, kind in kinds.items():
        if kind in ("COCO", "Label Studio"):
            yield Found(kind, folder / name)
    texts = [name for name in files if yolo.is_label_name(name)]
    if texts and yolo.holds_labels(folder, texts):
        below = yolo.labels_folder(folder, texts)
        yield Found("YOLO", below, tuple(Path(folder, name).relative_to(below).as_posix() for name in texts))
    xmls = [name for name in files if name.lower().endswith(".xml")]
    for name in xmls[:_LOOKED_AT]:
        if _xml_root(folder / name) == "annotations":
            yield Found("CVAT", folder / name)


def _is_damaged(path: Path) -> bool:
    """Tell whether a JSON file can't be parsed, so that nobody knows what it would be."""
    try:
        if path.stat().st_size <= _PARSED:
            json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return True
    return False


def _refuse_others(folder: Path, files: Sequence[str]) -> None:
    """Raise SanError for files that look like labels and are none that are read."""
    if any(_xml_root(folder / name) == "annotation" for name in files[:_LOOKED_AT] if name.endswith(".xml")):
        raise SanError(f"{quoted(folder)} holds boxes of Pascal VOC", hint=_BOXES, code=ExitCode.NO_INPUT)
    jsons = [name for name in files if name.lower().endswith(".json")]
    if jsons:
        fault = _none(folder / jsons[0])
        kinds = Counter(PurePosixPath(name).suffix.lower() for name in files).most_common(3)
        there = ", ".join(f"{count:,} {printable(suffix) or 'without suffix'}" for suffix, count in kinds)
        raise SanError(f"{fault.message}; {quoted(folder)} holds {there}", hint=fault.hint, code=fault.code)


def _none(path: Path) -> SanError:
    """Say of a JSON file what it is instead of labels."""
    try:
        value = json.loads(path.read_bytes()) if path.stat().st_size <= _PARSED else None
    except (OSError, ValueError, RecursionError):
        return damaged_file(path, "is damaged or no JSON", READ)
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, dict) and "image_id" in first:
        way = "Give the dataset's file, with images and categories; `san eval --predictions` scores such results."
        return damaged_file(path, "holds results in COCO's form, without the images' and classes' names", way)
    if isinstance(value, dict) and value.get("type") == "FeatureCollection":
        return damaged_file(path, "is GeoJSON, whose polygons lie on a map, not in images", READ)
    return damaged_file(path, "is JSON, but of no labels that san reads", READ)


def _xml_root(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = re.search(rb"<([A-Za-z][\w.-]*)", file.read(4096))
    except OSError:
        return ""
    return found[1].decode("ascii") if found else ""
