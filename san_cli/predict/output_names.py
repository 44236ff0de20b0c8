"""Names of the results of an image and of a run; the proof before a run that no two results meet.

Results of a former run are known by their names, too, so that they aren't taken for photographs.
"""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH113, PTH118, PTH119, PTH120, PTH122

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from san_cli.datasets.foreign_formats import PHOTO_SUFFIXES
from san_cli.errors import SanError
from san_cli.outputs import gallery
from san_cli.outputs.tables import TABLES
from san_cli.predict.journal import STATE_FOLDER
from san_cli.predict.search import IMAGE_SUFFIXES, InputImage, real_path
from san_cli.text import printable

# What --save takes.
KINDS = ("overlay", "labels", "json", "html", "labels-gray", "scores", "table", "parquet", "geojson")
PREDICTIONS, CLASSES = "predictions.json", "classes.json"
LONGEST_STEM = 200  # bytes: file systems allow 255, of which the suffix and a temporary file's mark take some
_SUFFIXES = {
    "overlay": ".overlay.jpg",
    "labels": ".labels.png",
    "labels-gray": ".labels-gray.png",
    "scores": ".confidence.png",
    "labels-tiff": ".labels.tif",
    "geojson": ".geojson",
}
# Results that only pictures have which say where on earth they lie; the first comes with the labels.
PLACED = ("labels-tiff", "geojson")
_THUMBNAILS = {"thumbnail": gallery.PHOTO_SUFFIX, "thumbnail_classes": gallery.CLASSES_SUFFIX}  # of the page
_RUN_FILES = {
    "json": [PREDICTIONS],
    "labels": [CLASSES],
    "labels-gray": [CLASSES],
    "html": [gallery.DATA, gallery.PAGE],
    **{kind: list(files) for kind, files in TABLES.items()},
}
# An image's results are its stem between two of these. No suffix ends in another, so two results have one name
# only if their images have one stem.
RESULTS = tuple(("", suffix) for suffix in _SUFFIXES.values()) + tuple(
    (f"{gallery.FOLDER}/", suffix) for suffix in _THUMBNAILS.values()
)
_RESULT_SUFFIXES = tuple(suffix for _, suffix in RESULTS)

_Pair = tuple[str, str]


def output_stem(name: str) -> str:
    """Return an input's name without an image's suffix: `sub/photo.jpg` → `sub/photo`, but `data.v2` → `data.v2`.

    A last part that is too long for its results is cut, with a hash of the whole at its end.
    """
    folder, slash, last = name.rpartition("/")
    stem, suffix = os.path.splitext(last)
    if suffix.lower() not in IMAGE_SUFFIXES and suffix.lower() not in PHOTO_SUFFIXES:
        stem = last
    return folder + slash + (stem if len(stem) * 4 <= LONGEST_STEM else _cut(stem))


def _cut(stem: str) -> str:
    if len(os.fsencode(stem)) <= LONGEST_STEM:
        return stem
    mark = "~" + hashlib.sha256(os.fsencode(stem)).hexdigest()[:16]
    while len(os.fsencode(stem)) > LONGEST_STEM - len(mark):
        stem = stem[:-1]
    return stem + mark


def result_paths(name: str, save: Sequence[str]) -> dict[str, str]:
    """Give kind and path below the folder of the results of each file that belongs to the image `name` alone.

    Not every image has those that are `PLACED`.
    """
    stem = output_stem(name)
    paths = {kind: stem + suffix for kind, suffix in result_suffixes(save).items()}
    placed = {"labels-tiff": "labels" in save, "geojson": "geojson" in save}
    paths |= {kind: stem + _SUFFIXES[kind] for kind in PLACED if placed[kind]}
    if "html" in save:
        paths |= {kind: f"{gallery.FOLDER}/{stem}{suffix}" for kind, suffix in _THUMBNAILS.items()}
    return paths


def result_suffixes(save: Sequence[str]) -> dict[str, str]:
    """Give kind and suffix of the full-size results that every image has; they stand at its stem."""
    return {kind: _SUFFIXES[kind] for kind in save if kind in _SUFFIXES and kind not in PLACED}


def run_files(save: Sequence[str]) -> list[str]:
    """List the paths, below the folder of the results, of the files that concern all images."""
    return list(dict.fromkeys(path for kind in save for path in _RUN_FILES.get(kind, [])))


def told_kinds(save: Sequence[str]) -> list[str]:
    """Say what the results of each kind are called: "*.overlay.jpg", "predictions.json"."""
    told = {kind: f"*{suffix}" for kind, suffix in _SUFFIXES.items()} | {"html": gallery.PAGE}
    told["geojson"] += " of pictures that lie on a map"
    return [told.get(kind) or ", ".join(_RUN_FILES[kind]) for kind in save]


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
        key = _key(output_stem(image.name))
        first = owners.setdefault(key, image)
        if first is not image:
            pairs.append((str(first.path), str(image.path)))
        for before in ("", f"{gallery.FOLDER}/"):
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


def _key(name: str) -> str:
    """Equal for names that some file system takes for one."""
    folder, slash, last = name.rpartition("/")
    if folder and (" " in folder or "." in folder):
        folder = "/".join(part.rstrip(" .") or part for part in folder.split("/"))
    name = folder + slash + last
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


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
        key = _key(os.path.relpath(real_folders[folder] + name, output).replace(os.sep, "/"))
        owner = _owner(key, owners)
        if owner is not None:
            pairs.append((str(owner.path), str(image.path)))
    return pairs


def has_result_name(name: str) -> bool:
    """Tell whether a file is called like a result."""
    return name.endswith(_RESULT_SUFFIXES)


class FormerResults:
    """Tells the results of former runs from other files: by name, and by the run's own folder beside or above."""

    def __init__(self) -> None:
        self._in_run: dict[str, bool] = {}  # by folder

    def has(self, real: str) -> bool:
        """Tell whether a run has made the file; `real` is its path without links."""
        return has_result_name(real) and self._is_in_run(os.path.dirname(real))

    def _is_in_run(self, folder: str) -> bool:
        if folder not in self._in_run:
            above = os.path.dirname(folder)
            self._in_run[folder] = os.path.isfile(f"{folder}/{STATE_FOLDER}/run.json") or (
                above != folder and self._is_in_run(above)
            )
        return self._in_run[folder]
