"""Where each kind of result stands, below the folder of the results, and what a picture's results are called."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from san_cli.outputs import gallery
from san_cli.outputs.annotations.yolo import tree_name
from san_cli.outputs.tables import TABLES

PREDICTIONS, CLASSES, DATA_YAML = "predictions.json", "classes.json", "yolo/data.yaml"
YOLO_IMAGES = "yolo/images"  # links to the pictures, where YOLO looks for them

# Before and after the stem of a picture, by kind. A tool's files are in a folder of their own. No suffix ends in
# another, so that two results have one name only if their pictures have one stem.
FILES = {
    "overlay": ("", ".overlay.jpg"),
    "labels": ("", ".labels.png"),
    "labels-gray": ("", ".labels-gray.png"),
    "scores": ("", ".confidence.png"),
    "labels-tiff": ("", ".labels.tif"),
    "geojson": ("", ".geojson"),
    "labelme": ("labelme/", ".json"),
    "yolo": ("yolo/labels/", ".txt"),
    "thumbnail": (f"{gallery.FOLDER}/", gallery.PHOTO_SUFFIX),
    "thumbnail_classes": (f"{gallery.FOLDER}/", gallery.CLASSES_SUFFIX),
}
# Of pictures from an archive these may go into a tar, with a record of each; until then they wait in a folder.
SHARDS = "shards"
TARRED = ("overlay", "labels", "labels-gray", "scores", "labels-tiff", "geojson")
STAGED, STAGING = "staged-", ".san/staged"
RECORD_SUFFIX = ".json"
FILES |= {STAGED + kind: (f"{STAGING}/", FILES[kind][1]) for kind in TARRED}
# A picture has a folder there, with a file for each class that was found.
BY_CLASS = ("masks", "cutouts")
# Results that only pictures have which say where on earth they lie; the first comes with the labels.
PLACED = ("labels-tiff", "geojson", STAGED + "labels-tiff", STAGED + "geojson")
# Kinds that are made of outlines, and those of them whose outlines concern all pictures.
OUTLINED = ("coco-polygons", "yolo", "labelme", "label-studio", "cvat")
OUTLINED_TOGETHER = ("coco-polygons", "label-studio", "cvat")

# What people correct in place.
CORRECTABLE = ("labelme", "yolo")

# Files that concern all pictures, by kind.
RUN_FILES = {
    "json": (PREDICTIONS,),
    "labels": (CLASSES,),
    "labels-gray": (CLASSES,),
    "html": (gallery.DATA, gallery.PAGE),
    "coco-polygons": ("coco-polygons.json",),
    "yolo": (DATA_YAML,),
    "labelme": (CLASSES,),
    "label-studio": ("label-studio.json", "label-studio.xml"),
    "cvat": ("cvat.xml", "cvat-labels.json"),
    "masks": (CLASSES,),
    **{kind: tuple(files) for kind, files in TABLES.items()},
}


def place_of(stem: str, key: str) -> str:
    """Return the path of a result by the stem of its picture and its key: its kind, or what `class_key` gives."""
    kind, _, file = key.partition("/")
    if file:
        return f"{kind}/{stem}/{unquote(file)}.png"
    before, after = FILES[kind]
    return before + (tree_name(stem) if kind == "yolo" else stem) + after


def class_key(kind: str, file_name: str) -> str:
    """Return the key of one class's file, of a kind in `BY_CLASS`: without white space and colons."""
    return f"{kind}/{quote(file_name, safe='')}"


def run_files(save: Iterable[str]) -> list[str]:
    """List the paths of the files that concern all pictures."""
    return list(dict.fromkeys(path for kind in save for path in RUN_FILES.get(kind, ())))


def way_to(path: str | os.PathLike[str], folder: Path) -> str:
    """Return the relative path that leads to a file from a folder, with `/`; the absolute one to another drive."""
    try:
        way = os.path.relpath(os.path.abspath(path), os.path.realpath(folder))  # noqa: PTH100 (the same)
    except ValueError:
        way = os.path.abspath(path)  # noqa: PTH100 (links stay as they are)
    return way.replace(os.sep, "/")


def told_kinds(save: Sequence[str]) -> list[str]:
    """Say what the results of each kind are called: "*.overlay.jpg", "predictions.json"."""
    told = {kind: f"{before}*{after}" for kind, (before, after) in FILES.items()} | {"html": gallery.PAGE}
    told |= {kind: f"{kind}/" for kind in BY_CLASS} | {"yolo": "yolo/"}
    told["geojson"] += " of pictures that lie on a map"
    if SHARDS in save:
        inside = [told[kind] for kind in save if kind in TARRED] + ["*" + RECORD_SUFFIX]
        told |= dict.fromkeys(TARRED, "") | {SHARDS: f"*.tar of {', '.join(inside)}"}
        save = [kind for kind in save if kind not in TARRED]
    return [told.get(kind) or ", ".join(RUN_FILES[kind]) for kind in save]


def idle_options(save: Collection[str], *, regions: bool, simplify: float) -> Iterator[str]:
    """Say which options about regions change nothing, as no result asked for shows it."""
    if regions and "json" not in save:
        yield "--regions changes nothing: it is about predictions.json (--save json); polygons are of regions anyway"
    if simplify and not set(OUTLINED) & set(save):
        yield f"--simplify changes nothing: it is about outlines (--save {', '.join(OUTLINED)})"
