"""Rows of a large picture's label map, kept so that a run that was killed needn't begin the picture again.

    DIR/.san/partial-HASH        the rows that are done, raw, from the top
    DIR/.san/partial-HASH.json   how many of them count, what was counted there, and what they are of

HASH is of the image's name. Rows are on the disk before the counts tell of them, so rows beyond those are of a save
that was cut short. A CRC-32 stands for each file's content: what doesn't fit is not there.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from san_cli.datasets.images import os_cause
from san_cli.files import atomic_write, open_regular, read_regular
from san_cli.predict.journal import STATE_FOLDER, Source
from san_cli.predict.settings import settings_file
from san_cli.text import printable

if TYPE_CHECKING:
    from san_cli.engine.segmentation_map import Unfinished

SAVE_EVERY_S = 60.0  # of work: a picture that takes less never touches the disk
_PREFIX = "partial-"


class KeptRows:
    """The rows of one image that a run before has left, and those that this run adds."""

    def __init__(self, output: Path, name: str, source: Source, say: Callable[[str], None]) -> None:
        """Keep rows of the image `name` in a folder of results; `say` is for what the user should know."""
        self._output, self._name, self._source, self._say = output, name, source, say
        self._labels, self._counts = _files(output, name)
        self._of = ""
        self._rows = self._crc = 0  # that are on the disk
        self._saved = time.monotonic()
        self._given_up = False

    def begin(self, size: tuple[int, int], classes: int) -> "Unfinished":
        """Return the map of `size` (height, width) as far as it was kept, and keep what is added to it."""
        # With it comes torch, which a folder that is done does without.
        from san_cli.engine.segmentation_map import UNLABELLED, Unfinished

        so_far = Unfinished.new(size, classes)
        so_far.on_rows = self._add
        what = [self._name, self._source, size, classes, so_far.label_map.dtype.str]
        try:
            settings = read_regular(settings_file(self._output))
            self._of = hashlib.sha256(json.dumps(what).encode("ascii") + settings).hexdigest()
            self._load(so_far)
        except (OSError, ValueError):  # nothing was kept, or it is damaged: all is done anew
            so_far.label_map.fill(UNLABELLED)
        return so_far

    def _load(self, so_far: "Unfinished") -> None:
        """Fill a new map with what was kept of it; OSError or ValueError where that can't be read."""
        crc, _, text = read_regular(self._counts).partition(b" ")
        if int(crc, 16) != zlib.crc32(text):
            raise ValueError("damaged counts")
        kept = json.loads(text)
        if kept["of"] != self._of:
            return
        with open(open_regular(self._labels, os.O_RDONLY), "rb") as file:  # noqa: PTH123
            rows = _bytes(so_far.label_map[: kept["rows"]])
            if file.readinto(rows) != len(rows) or zlib.crc32(rows) != kept["crc"]:
                raise ValueError("damaged rows")
        so_far.pixels[:], so_far.sums[:] = kept["pixels"], kept["sums"]  # floats come back to the last bit
        so_far.highest[:] = [(value, label) for value, label in kept["highest"]]
        so_far.uncertain, so_far.looked_at, so_far.rows = kept["uncertain"], kept["looked_at"], kept["rows"]
        self._rows, self._crc = kept["rows"], kept["crc"]

    def _add(self, so_far: "Unfinished") -> None:
        """Keep the rows that are new, if it is time; a run that can't, for want of room, does without."""
        if self._given_up or time.monotonic() - self._saved < SAVE_EVERY_S:
            return
        try:
            self._save(so_far)
        except OSError as error:
            self._given_up = True
            remove_rows(self._output, self._name)
            self._say(
                f"{printable(self._name)}: can't keep the rows that are done, so that a run that is cut short "
                f"begins it again: {os_cause(error)}"
            )
        self._saved = time.monotonic()

    def _save(self, so_far: "Unfinished") -> None:
        with open(open_regular(self._labels, os.O_RDWR | os.O_CREAT), "r+b") as file:  # noqa: PTH123
            file.seek(so_far.label_map[: self._rows].nbytes)
            file.truncate()
            fresh = _bytes(so_far.label_map[self._rows : so_far.rows])
            file.write(fresh)
            file.flush()
            os.fsync(file.fileno())
        crc = zlib.crc32(fresh, self._crc)
        kept = {
            "of": self._of,
            "rows": so_far.rows,
            "crc": crc,
            "pixels": so_far.pixels.tolist(),
            "sums": so_far.sums.tolist(),
            "highest": so_far.highest,
            "uncertain": so_far.uncertain,
            "looked_at": so_far.looked_at,
        }
        text = json.dumps(kept).encode("ascii")
        with atomic_write(self._counts) as stream:
            stream.write(b"%08x %s" % (zlib.crc32(text), text))
        self._rows, self._crc = so_far.rows, crc


def remove_rows(output: Path, name: str | None = None) -> None:
    """Remove what was kept of an image, or of all: no error if that fails, as a later run does it again."""
    folder = output / STATE_FOLDER
    for path in folder.glob(f"{_PREFIX}*") if name is None else reversed(_files(output, name)):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _files(output: Path, name: str) -> tuple[Path, Path]:
    """Name the files of an image: its rows, and the counts."""
    stem = _PREFIX + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return output / STATE_FOLDER / stem, output / STATE_FOLDER / f"{stem}.json"


def _bytes(rows: np.ndarray) -> memoryview:
    return rows.data.cast("B")
