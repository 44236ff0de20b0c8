"""Names of the results of an image and of a run; the proof before a run that no two results meet.

Results of a former run are known by their names, too, so that they aren't taken for photographs.
"""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH113, PTH118, PTH119, PTH120, PTH122

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from san_cli.datasets.image_names import IMAGE_SUFFIXES, name_key, output_stem
from san_cli.errors import SanError
from san_cli.outputs.places import (
    BY_CLASS,
    FILES,
    PLACED,
    SHARDS,
    STAGED,
    TARRED,
    YOLO_IMAGES,
    place_of,
    run_files,
)
from san_cli.predict.journal import STATE_FOLDER
from san_cli.predict.search import InputImage, real_path
from san_cli.text import printable

# What --save takes.
KINDS = (
    *("overlay", "labels", "json", "html", "labels-gray", "scores", "table", "parquet", "geojson"),
    *("coco-polygons", "yolo", "labelme", "label-studio", "cvat", "masks", "cutouts", SHARDS),
)
RESULTS = tuple(place for kind, place in FILES.items() if not kind.startswith(STAGED))
_RESULT_SUFFIXES = tuple(suffix for _, suffix in RESULTS if suffix.count(".") > 1 or suffix == ".geojson")
_THUMBNAILS = ("thumbnail", "thumbnail_classes")  # of the page
# Folders below that of the results where all pictures are ours, whatever they are called.
_RESULT_FOLDERS = tuple(f"/{folder}/" for folder in (*BY_CLASS, YOLO_IMAGES))
_FOLDERS = sorted({before for before, _ in RESULTS} | {f"{kind}/" for kind in (*BY_CLASS, YOLO_IMAGES)})

_Pair = tuple[str, str]


def result_paths(name: str, save: Sequence[str]) -> dict[str, str]:
    """Give kind and path below the folder of the results of each file that belongs to the image `name` alone.

    Not every image has those that are `PLACED`, and those of each class (`BY_CLASS`) come to them.
    """
    stem = output_stem(name)
    kinds = [*result_kinds(save), *(kind for kind in PLACED if _comes_with(kind) in save)]
    if SHARDS in save:
        kinds = [STAGED + kind for kind in kinds if kind in TARRED]
    kinds += _THUMBNAILS if "html" in save else ()
    return {kind: place_of(stem, kind) for kind in kinds}


def _comes_with(placed: str) -> str:
    return "labels" if placed == "labels-tiff" else placed


def marked_paths(name: str, keys: Iterable[str]) -> dict[str, str]:
    """Give key and path of the files that were made for the image `name`, by the keys of their marks."""
    stem = output_stem(name)
    return {key: place_of(stem, key) for key in keys}


def result_kinds(save: Sequence[str]) -> list[str]:
    """List the kinds of files that every image has for itself."""
    return [kind for kind in save if kind in FILES and kind not in PLACED]


def class_folders(name: str, save: Sequence[str]) -> dict[str, str]:
    """Give kind and folder of the files that the image `name` has for each of its classes."""
    return {kind: f"{kind}/{output_stem(name)}" for kind in BY_CLASS if kind in save}


def check_collisions(images: Sequence[InputImage], output: Path | None = None) -> None:
    """Raise SanError if two images would write the same file on some file system, or one would hit an input.

    Names count as the same if they differ only in case, in Unicode composition (NFC, NFD) or, for folders, in
    dots and spaces at the end. A result must not be needed as a folder either. `output` is the folder of the
    results, where known.
    """
    owners: dict[str, InputImage] = {}  # by stem
    folders: dict[str, InputImage] = {}  # every folder that the results need, by one image in it
    pairs: list[_Pair] = []
    for image in images:
        key = name_key(output_stem(image.name))
        first = owners.setdefault(key, image)
        if first is not image:
            pairs.append((str(first.path), str(image.path)))
        for before in _FOLDERS:
            folder = (before + key).rpartition("/")[0]
            while folder and folder not in folders:
                folders[folder] = image
                folder = folder.rpartition("/")[0]
    pairs += _files_needed_as_folders(owners, folders)
    if output is not None:
        pairs += _results_over_inputs(owners, images, real_path(os.fspath(output)))
    if pairs:
        shown = "; ".join(f"{printable(one)} and {printable(other)}" for one, other in pairs[:3])
        more = f" (and {len(pairs) - 3:,} more pairs)" if len(pairs) > 3 else ""
        raise SanError(
            f"inputs would write the same output: {shown}{more}",
            hint=_way_out(pairs),
        )


def _way_out(pairs: Sequence[_Pair]) -> str:
    """Say what keeps the results of such pairs apart."""
    suffixes = [{os.path.splitext(path)[1] for path in pair} for pair in pairs]
    shared = (
        set.intersection(*suffixes) & IMAGE_SUFFIXES if all(len(both) == 2 for both in suffixes) else set()
    )
    if shared:
        suffix = ".png" if ".png" in shared else min(shared)  # masks beside photographs are PNGs, mostly
        return (
            f"If the {suffix} files are masks or copies, leave them out: --exclude '*{suffix}'. "
            "To have the results of both, do each kind in a run with its own -o folder."
        )
    if all(os.path.basename(one) == os.path.basename(other) for one, other in pairs):
        return (
            "Give the files as a list, which keeps their folders in the names of the results: "
            "find FOLDER FOLDER -type f | san predict -"
        )
    return "Rename one of each pair, or give them to separate runs with different -o folders."


def _files_needed_as_folders(owners: dict[str, InputImage], folders: dict[str, InputImage]) -> list[_Pair]:
    pairs = []
    for folder, image in folders.items():
        if folder in run_files(KINDS):
            pairs.append((f"the run's own {folder}", str(image.path)))
        owner = _owner(folder, owners)
        if owner is not None:
            pairs.append((str(owner.path), str(image.path)))
    return pairs


def _owner(key: str, owners: dict[str, InputImage]) -> InputImage | None:
    """Return the image that has a result of this name."""
    for before, after in RESULTS:
        if key.startswith(before) and key.endswith(after):
            owner = owners.get(key[len(before) : len(key) - len(after)])
            if owner is not None:
                return owner
    return None


def _results_over_inputs(
    owners: dict[str, InputImage], images: Sequence[InputImage], output: str
) -> list[_Pair]:
    """Find inputs that lie in the folder of the results, under the name of a result."""
    pairs = []
    real_folders: dict[str, str] = {}
    for image in images:
        folder, name = os.path.split(str(image.path))
        if folder not in real_folders:
            real_folders[folder] = os.path.join(real_path(folder), "")
        if not real_folders[folder].startswith(os.path.join(output, "")):
            continue
        key = name_key(os.path.relpath(real_folders[folder] + name, output).replace(os.sep, "/"))
        owner = _owner(key, owners)
        if owner is not None:
            pairs.append((str(owner.path), str(image.path)))
    return pairs


def has_result_name(name: str) -> bool:
    """Tell whether a file is called like a result, as no photograph is."""
    return name.endswith(_RESULT_SUFFIXES)


def is_result_below(name: str) -> bool:
    """Tell whether a file below the folder of a run's results is one of them."""
    return has_result_name(name) or f"/{name}".startswith(_RESULT_FOLDERS)


class FormerResults:
    """Tells the results of former runs from other files: by name, and by the run's own folder beside or above."""

    def __init__(self) -> None:
        self._run_of: dict[str, str] = {}  # by folder: that of the run that it is in, or ""

    def has(self, real: str) -> bool:
        """Tell whether a run has made the file; `real` is its path without links."""
        run = self._run(os.path.dirname(real))
        if not run:
            return False
        return is_result_below(real[len(run.rstrip("/")) + 1 :])

    def _run(self, folder: str) -> str:
        if folder not in self._run_of:
            above = os.path.dirname(folder)
            is_one = os.path.isfile(f"{folder}/{STATE_FOLDER}/run.json")
            self._run_of[folder] = folder if is_one else "" if above == folder else self._run(above)
        return self._run_of[folder]
