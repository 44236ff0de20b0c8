"""detectron2's `sem_seg_predictions.json`: one list, one entry per image and predicted class.

    {"file_name": …, "category_id": …, "segmentation": {"size": [H, W], "counts": compressed RLE}}

Entries come in evaluation order, within an image by ascending class. `category_id` is the train id, but for
COCO-Stuff, whose metadata holds a map to the ids of the dataset (1 … 182).

Such a file may hold gigabytes. It is written image by image, and read by an index of where each image's entries
stand, so that neither holds more than an image at a time.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import Pair
from san_cli.datasets.json_stream import DamagedJson, json_elements
from san_cli.errors import ExitCode, SanError
from san_cli.regions.rle import encode_label_map, run_lengths
from san_cli.text import printable, quoted

_CHUNK = 1 << 20
_HINT = "It should be a JSON list as detectron2 writes it: file_name, category_id and segmentation."


def image_entries(file_name: str, label_map: NDArray[np.integer], ids: Sequence[int] | None) -> str:
    """Write an image's entries as JSON text, without the brackets of a list; empty if no pixel has a class.

    `label_map` [H, W] holds train ids, `ids` what stands for them in the file (None: they themselves).
    """
    size = list(label_map.shape)
    entries = [
        {
            "file_name": file_name,
            "category_id": train_id if ids is None else ids[train_id],
            "segmentation": {"size": size, "counts": region.counts},
        }
        for train_id, region in encode_label_map(label_map).items()
    ]
    return json.dumps(entries)[1:-1]


@dataclass(frozen=True)
class PredictionFile:
    """Index of each image's entries in a file of predictions, and which ids it uses."""

    path: Path
    spans: dict[str, list[tuple[int, int]]]  # stem of the file name → byte ranges, each of whole entries
    category_ids: frozenset[int]
    sha256: str

    def entries(self, stem: str) -> list[dict[str, Any]]:
        """Read the entries of one image; SanError where the file has changed meanwhile."""
        found: list[dict[str, Any]] = []
        try:
            with self.path.open("rb") as file:
                for start, stop in self.spans[stem]:
                    file.seek(start)
                    found += json.loads(b"[" + file.read(stop - start) + b"]")
        except (OSError, ValueError, RecursionError) as error:
            raise SanError(
                f"can't read {quoted(self.path)} any more ({error})", code=ExitCode.SOME_FAILED
            ) from error
        return found


def image_stem(file_name: str) -> str:
    """Return what images are matched by: the file's name without folder (of any system) and extension."""
    return PurePosixPath(file_name.replace("\\", "/")).stem


def index_predictions(path: Path) -> PredictionFile:
    """Read a file of predictions once from end to end. SanError (code NO_INPUT) where it isn't one."""
    spans: dict[str, list[tuple[int, int]]] = {}
    names: dict[str, str] = {}
    ids: set[int] = set()
    last = None
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"  # a pipe can't be read twice, and may never end
        raise SanError(
            f"--predictions {quoted(path)} is {kind}",
            hint="Name a .json file.",
            code=ExitCode.NO_INPUT,
        )
    try:
        with path.open("rb") as file:
            _refuse_other_json(file, path)
            for _, entry, start, stop in json_elements(file):
                name, stem = _checked(entry, path, start)
                if names.setdefault(stem, name) != name:
                    raise SanError(
                        f"{quoted(path)} has two images called {printable(stem)}: "
                        f"{printable(names[stem])} and {printable(name)}",
                        hint="Images are matched by their names without folder and extension.",
                        code=ExitCode.NO_INPUT,
                    )
                ids.add(entry["category_id"])
                if stem == last:
                    spans[stem][-1] = spans[stem][-1][0], stop
                else:
                    spans.setdefault(stem, []).append((start, stop))
                last = stem
        sha256 = _sha256(path)
    except DamagedJson as error:
        raise SanError(
            f"{quoted(path)} is damaged or cut short at byte {error.at}", hint=_HINT, code=ExitCode.NO_INPUT
        ) from error
    except OSError as error:
        raise SanError(
            f"can't read {quoted(path)}: {error.strerror or error}", code=ExitCode.NO_INPUT
        ) from error
    return PredictionFile(path, spans, frozenset(ids), sha256)


def read_label_map(
    entries: Sequence[dict[str, Any]], size: tuple[int, int], train_ids: Mapping[int, int], what: str
) -> NDArray[np.int16]:
    """Make the label map [H, W] of one image's entries, -1 where no entry has the pixel.

    `train_ids` says what train id each category id stands for; `what` names the image. SanError (code
    SOME_FAILED) for another size, an unknown id, damaged run lengths, and for masks that overlap.

    The runs are put in order, and no mask is made of them: five times as fast as decoding 20 masks an image.
    """
    pixels = size[0] * size[1]
    starts, stops, owners = (
        [],
        [],
        [],
    )  # of the runs [R] of pixels down the columns; an owner is an entry's place
    for place, entry in enumerate(entries):
        lengths = _checked_lengths(entry, size, train_ids, what)
        ends = np.cumsum(lengths)
        starts.append((ends - lengths)[1::2])
        stops.append(ends[1::2])
        owners.append(np.full(len(lengths) // 2, place))
    start, stop, owner = np.concatenate(starts), np.concatenate(stops), np.concatenate(owners)
    order = np.argsort(start, kind="stable")
    order = order[(stop > start)[order]]
    start, stop, owner = start[order], stop[order], owner[order]
    overlaps = np.flatnonzero(start[1:] < stop[:-1])
    if len(overlaps):
        later = max(owner[overlaps[0]], owner[overlaps[0] + 1])
        raise _fault(
            what,
            f"gives pixels to category_id {entries[later]['category_id']} and to another one",
            "The masks of an image must not overlap.",
        )
    # Between two runs, and around them all, are runs without a class.
    edges = np.append(np.stack([start, stop], axis=1).ravel(), pixels)
    ids = np.full(len(edges), -1, np.int16)
    ids[1::2] = np.array([train_ids[entry["category_id"]] for entry in entries], np.int16)[owner]
    return np.repeat(ids, np.diff(edges, prepend=0)).reshape(size[1], size[0]).T


def _checked_lengths(
    entry: dict[str, Any], size: tuple[int, int], train_ids: Mapping[int, int], what: str
) -> NDArray[np.int64]:
    category, segmentation = entry["category_id"], entry["segmentation"]
    if category not in train_ids:
        raise _fault(
            what,
            f"has category_id {category}, which is no class of the dataset",
            f"Ids go from {min(train_ids)} to {max(train_ids)}.",
        )
    height, width = segmentation["size"]
    if (height, width) != size:
        raise _fault(
            what,
            f"is {width}×{height} pixels, its label {size[1]}×{size[0]}",
            "Predictions are compared at the size of the label file.",
        )
    try:
        return run_lengths(segmentation["counts"], size)
    except (ValueError, IndexError, UnicodeEncodeError) as error:
        raise _fault(what, f"has damaged run lengths for category_id {category}") from error


@dataclass(frozen=True)
class PredictedMaps:
    """Label maps from a file of predictions, ours or anyone's."""

    predictions: PredictionFile
    train_ids: Mapping[int, int]  # by category id of the file

    def load(self, pair: Pair, size: tuple[int, int]) -> NDArray[np.int16]:
        """Read the label map of a pair's image; SanError where the file has none for it."""
        name = printable(str(pair.image.name))
        stem = image_stem(str(pair.image))
        if stem not in self.predictions.spans:
            raise SanError(
                f"{quoted(self.predictions.path)} has no prediction for {name}",
                hint="Images are matched by their names without folder and extension.",
                code=ExitCode.SOME_FAILED,
            )
        entries = self.predictions.entries(stem)
        return read_label_map(entries, size, self.train_ids, f"{name} (label {printable(str(pair.label))})")

    def label_map(
        self, loaded: NDArray[np.int16], size: tuple[int, int], lap: Callable[[str], None]
    ) -> NDArray[np.int16]:
        """Return what was loaded."""
        lap("model")
        return loaded


def category_convention(
    used: frozenset[int], classes: int, dataset_ids: Sequence[int] | None
) -> tuple[dict[int, int], str]:
    """Tell the train id of each category id of a file that uses the ids `used`, and say so in a sentence.

    detectron2 writes train ids, but the dataset's own ids where its metadata has them (COCO-Stuff). Files that
    hold a train id which is no such id are taken to be by train ids throughout.
    """
    by_train_id = {train_id: train_id for train_id in range(classes)}
    if dataset_ids is None:
        return by_train_id, f"category_id is the train id (0 … {classes - 1})"
    if used <= set(dataset_ids) or not used <= set(by_train_id):
        of_dataset = {dataset_id: train_id for train_id, dataset_id in enumerate(dataset_ids)}
        return (
            of_dataset,
            "category_id is the dataset's own id, as detectron2 writes it for COCO-Stuff (1 … 182)",
        )
    return by_train_id, f"category_id is the train id (0 … {classes - 1}), not the dataset's own"


def _fault(what: str, fault: str, hint: str = "") -> SanError:
    return SanError(f"the prediction for {what} {fault}", hint=hint, code=ExitCode.SOME_FAILED)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _checked(entry: Any, path: Path, start: int) -> tuple[str, str]:
    """Return the entry's file name and its stem; SanError if it isn't a prediction."""
    try:
        name, category, segmentation = entry["file_name"], entry["category_id"], entry["segmentation"]
        height, width = segmentation["size"]
        numbers = (category, height, width)
        well_formed = isinstance(segmentation["counts"], str) and all(type(n) is int for n in numbers)
        well_formed = well_formed and max(map(abs, numbers)) < 2**31 and min(height, width) > 0
    except (KeyError, TypeError, ValueError):
        well_formed = False
    if not well_formed or not isinstance(name, str) or not name:
        raise SanError(
            f"{quoted(path)}: the entry at byte {start} is no prediction",
            hint=_HINT,
            code=ExitCode.NO_INPUT,
        )
    return name, image_stem(name)


def _refuse_other_json(file: BinaryIO, path: Path) -> None:
    """SanError where the file doesn't begin with a list."""
    start = file.read(_CHUNK).removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    file.seek(0)
    if not start.startswith(b"["):
        of_predict = start.startswith(b"{") and b'"annotations"' in start
        way = "COCO's format, as of `san predict`, is another: `san eval --save-predictions` writes this one."
        raise SanError(
            f"{quoted(path)} is no file of predictions",
            hint=f"{_HINT} {way}" if of_predict else _HINT,
            code=ExitCode.NO_INPUT,
        )
