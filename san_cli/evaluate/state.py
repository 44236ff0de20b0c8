"""Counts of an evaluation, in memory and on disk, where a later run finds it and goes on.

    DIR/.san-eval/NAME.json                     the settings that the counts depend on
    DIR/.san-eval/NAME.counts[-2-of-4]          a line for each image that counts (runs/journal.py), by process
    DIR/.san-eval/NAME.predictions[-2-of-4]     with --save-predictions: a line with each image's entries
    DIR/.san-eval/lock                          empty; locked while an evaluation writes here

Nothing is merged: a resume reads all lines, whichever process wrote them. An image's entries are written before it
counts, so that none counts without them. Without -o only predictions are kept, beside their file until it is there.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from san_cli.engine.metrics import Confusion, empty_confusion
from san_cli.errors import SanError
from san_cli.evaluate.counting import STAGES, Counted
from san_cli.files import atomic_write, sweep_stale
from san_cli.runs import lock
from san_cli.runs.journal import Journal, encode_line
from san_cli.runs.settings import read_settings, refuse_other_settings, write_settings
from san_cli.runs.shares import Share
from san_cli.text import quoted

STATE_FOLDER = ".san-eval"
_FORMAT = 1  # of the lines
_ANEW = "Start anew without --resume."


@dataclass
class Counts:
    """The sums over some of a dataset's images, by their place in its list."""

    confusion: Confusion  # [N+1, N+1], [predicted, truth]
    done: NDArray[np.bool_]  # [images]
    image_iou: NDArray[
        np.float64
    ]  # [images] mean of the classes in the label, percent; NaN: not done, or none
    seconds: dict[str, float]  # by stage
    skipped: dict[int, str]  # images that can't be evaluated, and why

    @classmethod
    def empty(cls, images: int, classes: int) -> "Counts":
        """Count nothing yet."""
        return cls(
            empty_confusion(classes),
            np.zeros(images, bool),
            np.full(images, np.nan),
            dict.fromkeys(STAGES, 0.0),
            {},
        )

    def add(self, image: Counted) -> None:
        """Count an image; one that is in already doesn't count twice."""
        if self.done[image.position]:
            return
        self.confusion.ravel()[image.cells] += image.pixels
        self.image_iou[image.position] = image.iou
        for stage, seconds in zip(STAGES, image.seconds, strict=True):
            self.seconds[stage] += seconds
        self.done[image.position] = True

    def merge(self, other: "Counts") -> None:
        """Add the counts of other images. ValueError if an image is in both."""
        if (self.done & other.done).any():
            raise ValueError("an image would count twice")
        self.confusion += other.confusion
        self.image_iou[other.done] = other.image_iou[other.done]
        self.done |= other.done
        self.skipped |= other.skipped
        for stage in STAGES:
            self.seconds[stage] += other.seconds[stage]


class State:
    """The journals of one evaluation; none without an output folder, none of predictions without their path."""

    def __init__(self, name: str, output: Path | None, predictions: Path | None) -> None:
        self._name, self._output, self._path = name, output, predictions
        self._counts = self._predictions = None
        if output is not None:
            self._counts = Journal(output / STATE_FOLDER, f"{name}.counts")
        if predictions is not None and output is not None:
            self._predictions = Journal(output / STATE_FOLDER, f"{name}.predictions")
        elif predictions is not None:
            self._predictions = Journal(predictions.parent, f".{predictions.name}.parts")

    def begin(self, settings: Mapping[str, Any], counts: Counts, *, resume: bool) -> bool:
        """Add to `counts` what earlier runs counted, if there is any; unless it is to be gone on from, clear it away.

        Returns whether it is gone on from. One process does this before any opens its own files. SanError where the
        state is of other settings, damaged, lacks predictions, or can't be read or written.
        """
        if self._path is not None:
            sweep_stale(self._path.parent, below=False)
        if self._output is None:
            with self._unwritable():
                self._clear()
            return False
        folder = self._output / STATE_FOLDER
        with _unusable(folder):
            # What killed runs left half written goes first, whatever follows.
            folder.mkdir(parents=True, exist_ok=True)
            sweep_stale(folder)
            for results in (self._output, self._output / self._name):
                sweep_stale(results, below=False)
            if resume and self.take_up(settings, counts):
                return True
            self._clear()
            write_settings(folder / f"{self._name}.json", {"format": _FORMAT, **settings})
            return False

    def take_up(self, settings: Mapping[str, Any], counts: Counts) -> bool:
        """Add to `counts` what earlier runs counted, and change nothing; whether there is any. SanError as there."""
        if self._output is None:
            return False
        folder = self._output / STATE_FOLDER
        with _unusable(folder):
            before = read_settings(folder / f"{self._name}.json", hint=_ANEW)
            if before is None:
                return False
            refuse_other_settings(
                before,
                {"format": _FORMAT, **settings},
                holds=f"the evaluation in {quoted(self._output)} was begun",
                hint="Start anew without --resume, or choose another folder with -o.",
            )
            self._read(counts)
            if self._lacks_predictions(counts.done):
                raise SanError(
                    "the run to go on from did not keep all its predictions, or they are damaged",
                    hint="Start anew without --resume, or leave out --save-predictions.",
                )
            return True

    def open_own(self, share: Share) -> None:
        """Open the files that this process appends to."""
        if self._predictions is not None:
            with self._unwritable():
                self._predictions.folder.mkdir(parents=True, exist_ok=True)
                self._predictions.open_own(share)
        if self._counts is not None:
            with _unusable(self._counts.folder):
                self._counts.folder.mkdir(parents=True, exist_ok=True)
                self._counts.open_own(share)

    def append(self, image: Counted) -> None:
        """Keep an image. SanError where that can't be written."""
        if self._predictions is not None:
            with self._unwritable():
                self._predictions.append(encode_line(image.position, image.entries))
        if self._counts is not None:
            iou = None if np.isnan(image.iou) else image.iou
            head = [image.position, iou, image.seconds, image.cells.tolist(), image.pixels.tolist()]
            with _unusable(self._counts.folder):
                self._counts.append(encode_line(head))

    def write_predictions(self, done: NDArray[np.bool_]) -> None:
        """Write the file of predictions of the images `done` [images], in this order, from all processes' lines.

        SanError where that fails, or lines are missing.
        """
        if self._predictions is None or self._path is None:
            return
        if self._lacks_predictions(done):
            raise SanError(
                "predictions of other processes are missing",
                hint="--save-predictions needs a folder that all machines share.",
            )
        with self._unwritable(), atomic_write(self._path) as stream:
            lines = {line.head: line for line in self._predictions.lines()}
            bodies = (self._predictions.body(lines[position]) for position in np.flatnonzero(done).tolist())
            stream.write(b"[")
            for number, entries in enumerate(filter(None, bodies)):  # an image may have no class at all
                stream.write(f"{', ' if number else ''}{entries}".encode("ascii"))
            stream.write(b"]")
        self.close()
        if self._output is None:
            self._predictions.remove()

    def _lacks_predictions(self, done: NDArray[np.bool_]) -> bool:
        """Tell whether predictions are wanted and those of some image `done` [images] aren't kept."""
        if self._predictions is None:
            return False
        with self._unwritable():
            kept = {line.head for line in self._predictions.lines()}
        return not kept.issuperset(np.flatnonzero(done).tolist())

    def close(self) -> None:
        """Close all files."""
        for journal in (self._counts, self._predictions):
            if journal is not None:
                journal.close()

    def _clear(self) -> None:
        if self._counts is not None:
            self._counts.remove()
            # Also where this run wants none: a later one would take them for its own.
            Journal(self._counts.folder, f"{self._name}.predictions").remove()
        elif self._predictions is not None:
            self._predictions.remove()

    def _read(self, counts: Counts) -> None:
        assert self._counts is not None
        for line in self._counts.lines():
            position, iou, seconds, cells, pixels = line.head
            counts.add(
                Counted(
                    position,
                    np.array(cells, np.int64),
                    np.array(pixels, np.int64),
                    np.nan if iou is None else iou,
                    seconds=tuple(seconds),
                )
            )

    @contextmanager
    def _unwritable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SanError(
                f"can't write the predictions to {quoted(self._path)}: {error.strerror or error}",
                hint="Choose another --save-predictions.",
            ) from error


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Have the output folder for this evaluation alone; SanError if another one has it."""
    with ExitStack() as stack:
        with _unusable(output / STATE_FOLDER):
            (output / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.locked(output / STATE_FOLDER, output, "san eval"))
        yield


@contextmanager
def _unusable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SanError(
            f"can't write to {quoted(folder)}: {error.strerror or error}",
            hint="Choose another folder with -o.",
        ) from error
