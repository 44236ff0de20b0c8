"""The state of an evaluation on disk, from which `--resume` goes on.

    DIR/.san-eval/NAME.json            the settings that the counts depend on
    DIR/.san-eval/NAME.npz             the tally of everything that earlier runs counted
    DIR/.san-eval/NAME.part-1-of-2.npz the tally of process 1 of 2 since then
    DIR/.san-eval/NAME.predictions.part-1-of-2, with --save-predictions (prediction_spool.py)
    DIR/.san-eval/lock                 empty; locked while an evaluation writes here

Each file is replaced as a whole. A resume adds the parts to the first file, then removes them; a kill between
the two leaves parts that the first file contains already, which is how they are recognised.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from san_cli.errors import SanError
from san_cli.evaluate.tally import Tally, empty_tally, pack_tally, unpack_tally
from san_cli.files import atomic_write, sweep_stale
from san_cli.runs import lock
from san_cli.runs.shares import WHOLE, Share
from san_cli.text import json_text, printable, quoted

STATE_FOLDER = ".san-eval"


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Have the output folder for this evaluation alone; SanError if another one has it.

    The system frees the lock of a dead process.
    """
    with ExitStack() as stack:
        try:
            (output / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.locked(output / STATE_FOLDER, output, "san eval"))
        except OSError as error:
            raise _unusable(output / STATE_FOLDER, error) from error
        yield


class EvalState:
    """The state of one evaluation, called `name`, in the output folder `output`."""

    def __init__(self, output: Path, name: str) -> None:
        self._folder = output / STATE_FOLDER
        self._name = name

    def start(self, settings: Mapping[str, Any], images: int, classes: int, *, resume: bool) -> Tally:
        """What earlier runs counted; only one process may call this, before any saves. Empty unless `resume`.

        SanError where the state is of other settings or unreadable, or the folder can't be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            sweep_stale(self._folder)
            for folder in (self._folder.parent, self._folder.parent / self._name):
                sweep_stale(folder, below=False)
            if resume and self._settings.is_file():
                self._refuse_other(settings)
                tally = self._merged(images, classes)
            else:
                tally = empty_tally(images, classes)
                self._whole.unlink(missing_ok=True)
                for stale in self._folder.glob(f"{self.predictions.name}.part-*"):
                    stale.unlink()
            for part in self._parts():
                part.unlink()
            with atomic_write(self._settings) as stream:
                stream.write((json_text(dict(settings)) + "\n").encode("ascii"))
        except OSError as error:
            raise _unusable(self._folder, error) from error
        return tally

    def save(self, tally: Tally, share: Share = WHOLE) -> None:
        """Keep what this process has counted itself."""
        path = self._folder / f"{self._name}.part-{share.index + 1}-of-{share.count}.npz"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(path, tally)
        except OSError as error:
            raise _unusable(self._folder, error) from error

    @property
    def predictions(self) -> Path:
        """What the names of the files begin with that hold the predictions."""
        return self._folder / f"{self._name}.predictions"

    @property
    def _settings(self) -> Path:
        return self._folder / f"{self._name}.json"

    @property
    def _whole(self) -> Path:
        return self._folder / f"{self._name}.npz"

    def _parts(self) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"{self._name}.part-*.npz") if path.is_file())

    def _merged(self, images: int, classes: int) -> Tally:
        """Everything counted so far, in one file now."""
        tally = self._read(self._whole) if self._whole.is_file() else empty_tally(images, classes)
        for path in self._parts():
            part = self._read(path)
            try:
                if not (part.done & ~tally.done).any():
                    continue  # merged before
                tally.add(part)
            except ValueError as error:
                raise self._damaged(path, error) from error
        if tally.done.shape != (images,) or len(tally.confusion) != classes + 1:
            raise self._damaged(self._whole, "other images or classes")
        tally.failed.clear()  # may have been mended: tried again
        _write(self._whole, tally)
        return tally

    def _read(self, path: Path) -> Tally:
        try:
            return unpack_tally(path.read_bytes())
        except OSError:
            raise
        except Exception as error:  # np.load has no narrower class for damaged files
            raise self._damaged(path, error) from error

    def _refuse_other(self, settings: Mapping[str, Any]) -> None:
        try:
            found = json.loads(self._settings.read_bytes())
        except (ValueError, RecursionError) as error:
            raise self._damaged(self._settings, error) from error
        wanted = json.loads(json_text(dict(settings)))
        other = [key for key in wanted if not isinstance(found, dict) or wanted[key] != found.get(key)]
        if other:
            raise SanError(
                f"the evaluation in {quoted(self._folder.parent)} was begun with other settings: "
                f"{', '.join(other)}",
                hint="Start anew without --resume, or choose another folder with -o.",
            )

    def _damaged(self, path: Path, why: object) -> SanError:
        return SanError(
            f"can't go on from {quoted(path)}: {printable(str(why))}",
            hint="Start anew without --resume.",
        )


def _unusable(folder: Path, error: OSError) -> SanError:
    return SanError(
        f"can't write to {quoted(folder)}: {error.strerror or error}",
        hint="Choose another folder with -o.",
    )


def _write(path: Path, tally: Tally) -> None:
    with atomic_write(path) as stream:
        stream.write(pack_tally(tally))
