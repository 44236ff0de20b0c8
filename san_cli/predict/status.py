"""How far the runs in a folder of results have come: read from the folder alone, while they run or after.

The list of inputs and the journals say it (kept_list.py, journal.py). Whether inputs or results have changed since is
not looked at: that is what the next run does.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from san_cli.errors import ExitCode, SanError
from san_cli.outputs.coco import dataset_info
from san_cli.outputs.record import ImageRecord
from san_cli.predict.journal import STATE_FOLDER, image_journal, told_lines
from san_cli.predict.kept_list import KeptList, digest_of, kept_list
from san_cli.predict.settings import kept_settings
from san_cli.runs.journal import Journal, Line
from san_cli.runs.lock import is_locked
from san_cli.runs.settings import Settings
from san_cli.runs.shares import Share
from san_cli.text import quoted

_PART = re.compile(r"journal-(\d{1,9})-of-(\d{1,9})")
_LOOKS = 5  # at a journal that is merged meanwhile


@dataclass(frozen=True)
class Counts:
    """How many images of a share, or of all, are done, failed, or neither."""

    done: int
    failed: int
    missing: int | None  # None: the list isn't known
    running: bool | None  # None: the file system doesn't tell


@dataclass(frozen=True)
class Status:
    """How far a folder of results has come."""

    output: Path
    whole: Counts
    merged: bool  # what concerns all images is there, and of this list
    idle_s: float | None  # since the last image was finished; None before the first
    shards: Mapping[Share, Counts]  # empty where nobody shares the list, or after merging
    failures: Sequence[tuple[str, str]]  # input and cause

    @property
    def exit_code(self) -> ExitCode:
        """Return 0 where everything is done, 3 where something failed or is missing."""
        complete = self.merged and not self.whole.failed and self.whole.missing == 0
        return ExitCode.DONE if complete else ExitCode.SOME_FAILED


@dataclass(frozen=True)
class _Seen:
    """What the journals hold."""

    done: Mapping[str, bool]  # every image with a line, and whether it is a success
    failures: Mapping[str, str]
    seal: str | None


def status_of(output: Path) -> Status:
    """Look at a folder of results. SanError (NO_INPUT) where `san predict` has left nothing there."""
    settings = _settings(output)
    journal, listed = image_journal(output), kept_list(output)
    seen = _look(journal)
    files = [output / STATE_FOLDER / name for name in journal.files()]
    parts = _parts(files)
    shards = {}
    names = list(seen.done) if listed is None else listed.names
    if parts and listed is not None:
        count = next(iter(parts.values())).count
        for share in (Share(index, count) for index in range(count)):
            mine = (names[position] for position in share.positions(len(names), settings["batch"]))
            file = output / STATE_FOLDER / f"journal-{share.index + 1}-of-{share.count}"
            shards[share] = _counts(mine, seen, running=is_locked(file))
    running = _running(output, files)
    unlisted = [] if listed is None else listed.failures
    whole = _counts(
        names, seen, running=running, failed=len(unlisted), is_known=listed is not None or bool(seen.seal)
    )
    wanted = set(names)
    failures = [(name, cause) for name, cause in seen.failures.items() if name in wanted]
    return Status(
        output, whole, _is_merged(seen, listed, settings), _idle(files), shards, [*failures, *unlisted]
    )


def _settings(output: Path) -> Settings:
    """Return the settings of the run that the folder holds; SanError, which says what it is, where it holds none."""
    found = kept_settings(output) if output.is_dir() else None
    if found is not None:
        return found
    what, hint = (
        "there is no such folder",
        "Name the folder that `san predict -o` was given (default san-out).",
    )
    if output.is_dir():
        what = "no `san predict` has written there"
        for state, command, news in (
            (".san-eval", "san eval", "report.json has the datasets that are done"),
            (".san-train", "san train", "metrics.jsonl has a line for each stage so far"),
        ):
            if (output / state).is_dir():
                what = f"it is a folder of `{command}`, and status is about those of `san predict`"
                hint = f"There {news}; the same command with --resume goes on from what is finished."
    elif output.exists():
        what = "it is a file"
    raise SanError(f"no status of {quoted(output)}: {what}", hint=hint, code=ExitCode.NO_INPUT)


def _look(journal: Journal) -> _Seen:
    """Read the journals; again where somebody merges them meanwhile. SanError where they can't be read."""
    for look in range(_LOOKS):
        try:
            return _read(journal)
        except OSError as error:
            if look + 1 == _LOOKS or not isinstance(error, FileNotFoundError):
                raise SanError(f"can't read the journal: {error.strerror or error}") from error
        finally:
            journal.close()
    raise AssertionError


def _read(journal: Journal) -> _Seen:
    """In one file a later line wins, in several a success: as a run takes them."""
    done: dict[str, tuple[bool, str]] = {}
    failed: dict[str, Line] = {}
    seal = None
    for name, is_failed, seal, line in told_lines(journal):
        known = done.get(name)
        if seal is not None or (is_failed and known is not None and known[0] and known[1] != line.file):
            continue
        done[name] = not is_failed, line.file
        failed.pop(name, None)
        if is_failed:
            failed[name] = line
    causes = {
        name: ImageRecord.from_json_line(journal.body(line)).error or "" for name, line in failed.items()
    }
    return _Seen({name: success for name, (success, _) in done.items()}, causes, seal)


def _counts(
    names: Iterable[str], seen: _Seen, *, running: bool | None, failed: int = 0, is_known: bool = True
) -> Counts:
    done = missing = 0
    for name in names:
        success = seen.done.get(name)
        done += success is True
        failed += success is False
        missing += success is None
    return Counts(done, failed, missing if is_known else None, running)


def _parts(files: Sequence[Path]) -> dict[Path, Share]:
    """Find the shares that have files of their own: of the division that was written to last."""
    found: dict[Path, Share] = {}
    for path in files:
        numbers = _PART.fullmatch(path.name)
        if numbers is not None and 1 <= int(numbers[1]) <= int(numbers[2]):
            found[path] = Share(int(numbers[1]) - 1, int(numbers[2]))
    if not found:
        return {}
    count = found[max(found, key=_time)].count
    return {path: share for path, share in found.items() if share.count == count}


def _running(output: Path, files: Sequence[Path]) -> bool | None:
    looks = [is_locked(path) for path in (output / STATE_FOLDER / "lock", *files)]
    return True if True in looks else None if None in looks else False


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # merged meanwhile
        return 0.0


def _idle(files: Sequence[Path]) -> float | None:
    times = [time for time in map(_time, files) if time]
    return max(0.0, time.time() - max(times)) if times else None


def _is_merged(seen: _Seen, listed: KeptList | None, settings: Settings) -> bool:
    """Tell whether the last run came to its end: sealed for this list, or for one that isn't known any more."""
    if listed is None:
        return seen.seal is not None
    return seen.seal == digest_of(listed.text, dataset_info(settings))
