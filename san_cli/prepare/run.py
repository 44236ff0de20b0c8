"""`san data prepare`: plan every split, then do its tasks in parallel, resumable, file by file."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from san_cli.datasets.catalogue import Dataset, get_split, list_pairs, preparation_file
from san_cli.datasets.labels import decode_label, encode_label, read_label
from san_cli.errors import ExitCode, SanError
from san_cli.files import atomic_write, sweep_stale
from san_cli.prepare.ade847 import plan_ade847
from san_cli.prepare.cityscapes import plan_cityscapes
from san_cli.prepare.pcontext import plan_pcontext
from san_cli.prepare.plan import ImageTask, LabelTask, NothingFound, Plan, Planner
from san_cli.prepare.sources import Member, Source, in_reading_order, open_sources
from san_cli.prepare.stuff_and_parse import plan_ade150, plan_coco
from san_cli.prepare.voc import plan_voc
from san_cli.runs.settings import read_settings, write_settings
from san_cli.text import counted, printable, quoted
from san_cli.vocabulary.class_lists import load_dataset_vocabulary

PLANNERS: dict[str, Planner] = {
    "coco": plan_coco,
    "ade150": plan_ade150,
    "ade847": plan_ade847,
    "voc": plan_voc,
    "pc59": plan_pcontext,
    "pc459": plan_pcontext,
    "cityscapes": plan_cityscapes,
}
_SHOWN = 5

_Task = ImageTask | LabelTask


@dataclass(frozen=True)
class Prepared:
    """A split that is complete: its pairs, and how many files were written and how many were there.

    `left_out`: labels without any class, of which the official preparation writes no file either.
    """

    split: str
    pairs: int
    written: int
    kept: int
    left_out: int = 0


def prepare(
    dataset: Dataset,
    sources: Sequence[Path],
    root: Path,
    splits: Sequence[str] | None = None,
    *,
    workers: int = 0,
    warn: Callable[[str], None] = lambda text: None,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Prepared, ...]:
    """Convert raw `sources` into prepared splits below `root`; without `splits`, all that the sources hold.

    Nothing is written until every split is planned. Files that are there and right stay as they are: after a
    killed run with the same sources what can be read is trusted, otherwise everything is compared. `step` is
    told (done, total) files. SanError for missing, damaged or meaningless input; a damaged file does not keep
    the others from being converted.
    """
    with open_sources(sources) as opened:
        # All splits are planned before anything is written: what is missing is said at once.
        _warn_of_refused(opened, warn)
        members = tuple(member for source in opened for member in source.members)
        plans, results = _plans(dataset, splits, members, root, warn)
        for plan in plans:
            known = get_split(dataset, plan.split).count
            if known is not None and known != len(plan.labels):
                warn(
                    f"{dataset.name} {plan.split}: {counted(len(plan.labels), 'pair')} in the sources, {known:,} in "
                    "the official data"
                )
        digest = _digest(members)
        # One split after the other, so that val is whole as early as can be.
        total = sum(len(plan.images) + len(plan.labels) for plan in plans)
        done = 0
        for plan in plans:
            before = done
            run = _Run(dataset, plan, root, digest, workers or _cores())
            for done in run.steps(before):
                step(done, total)
            results.append(run.result())
        return tuple(results)


def _plans(
    dataset: Dataset,
    splits: Sequence[str] | None,
    members: Sequence[Member],
    root: Path,
    warn: Callable[[str], None],
) -> tuple[list[Plan], list[Prepared]]:
    """Plan what is to be done, and find what needs no raw files as it lies prepared in `root` already."""
    plans, ready, missing = [], [], []
    for split in dataset.splits if splits is None else splits:
        get_split(dataset, split)
        try:
            plans.append(PLANNERS[dataset.name](dataset, split, members))
        except NothingFound as fault:
            pairs = _pairs_in(dataset, split, root)
            if pairs:
                ready.append(Prepared(split, pairs, 0, 2 * pairs))
            elif splits is not None:
                _refuse_prepared(dataset, split, members)
                raise
            else:
                missing.append((split, fault))
    if not plans and not ready:
        _refuse_prepared(dataset, dataset.default_split, members)
        raise missing[0][1]
    for split, lacking in missing:
        warn(f"{split} is left out: {lacking.message}")
    return plans, ready


def _refuse_prepared(dataset: Dataset, split: str, members: Sequence[Member]) -> None:
    """SanError if a source is itself a root with prepared labels: they need no raw files, and no copy."""
    for path in dict.fromkeys(member.source.path for member in members):
        if path.is_dir() and _pairs_in(dataset, split, path):
            raise SanError(
                f"{quoted(path)} holds {dataset.name} {split} prepared already",
                hint="Use it as it is, as --data-root or $SAN_DATASETS.",
            )


def _pairs_in(dataset: Dataset, split: str, root: Path) -> int:
    try:
        return len(list_pairs(dataset, split, root))
    except SanError:
        return 0


def _warn_of_refused(sources: Iterable[Source], warn: Callable[[str], None]) -> None:
    for source in sources:
        if source.refused:
            warn(
                f"{len(source.refused):,} members of '{source.path}' are links or lead outside the archive "
                f"and are left out, for example {printable(source.refused[0])}"
            )


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 32)


class _Run:
    """The tasks of one plan on their way."""

    def __init__(self, dataset: Dataset, plan: Plan, root: Path, sources: str, workers: int) -> None:
        self._dataset, self._plan, self._root, self._workers = dataset, plan, root, workers
        self._classes = len(load_dataset_vocabulary(dataset.name).classes)
        self._sources = sources
        self._written = self._finished = 0
        self._faults: list[str] = []
        self._make_folders()
        # Files that are there are trusted if a run of the same sources made them: one that found none, or ended.
        self._is_own = self._went_before()
        made = [task.target for task in self._tasks() if task.convert is not None]
        try:
            only_own = self._is_own or not any((root / target).exists() for target in made)
            self._note(complete=False, only_own=only_own)
        except OSError as error:
            raise _unwritable(root, error, ExitCode.USAGE) from error

    def _went_before(self) -> bool:
        """Tell whether all that is there was made from the same sources."""
        try:
            found = read_settings(preparation_file(self._root, self._dataset.name, self._plan.split), hint="")
        except SanError:  # damaged: as if another program had made the tree
            return False
        return found is not None and (found.get("sources"), found.get("only_own")) == (self._sources, True)

    def _note(self, *, complete: bool, only_own: bool) -> None:
        path = preparation_file(self._root, self._dataset.name, self._plan.split)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_settings(path, {"sources": self._sources, "complete": complete, "only_own": only_own})

    def _tasks(self) -> list[_Task]:
        return [*self._plan.images, *self._plan.labels]

    def _make_folders(self) -> None:
        folders = {str(Path(task.target).parent) for task in self._tasks()}
        try:
            for folder in sorted(folders):
                (self._root / folder).mkdir(parents=True, exist_ok=True)
                sweep_stale(self._root / folder)
        except OSError as error:
            raise _unwritable(self._root, error, ExitCode.USAGE) from error

    def steps(self, before: int) -> Iterator[int]:
        """Do all tasks; yields `before` plus the number done, whenever that has grown."""
        with ThreadPoolExecutor(self._workers) as pool:
            # A few files for each worker wait with their bytes: memory doesn't grow with the archive.
            waiting: set[Future[bool]] = set()
            try:
                for task, fetch in self._fetches():
                    waiting.add(pool.submit(self._do, task, fetch))
                    if len(waiting) >= 4 * self._workers:
                        waiting = self._collect(waiting)
                        yield before + self._finished
                while waiting:
                    waiting = self._collect(waiting)
                    yield before + self._finished
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _fetches(self) -> Iterator[tuple[_Task, Callable[[], bytes]]]:
        """Each task with a function that gives its bytes, source by source in the order of their archives."""
        yield from ((task, bytes) for task in self._plan.labels if task.member is None)
        by_source: dict[int, dict[Member, _Task]] = {}
        for task in self._tasks():
            if task.member is not None:
                by_source.setdefault(id(task.member.source), {})[task.member] = task
        for wanted in by_source.values():
            for member, fetch in in_reading_order(wanted):
                yield wanted[member], fetch

    def _collect(self, waiting: set[Future[bool]]) -> set[Future[bool]]:
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            self._finished += 1
            try:
                self._written += future.result()
            except SanError as fault:
                if fault.code != ExitCode.SOME_FAILED:
                    raise
                self._faults.append(fault.message)
            except OSError as error:
                raise _unwritable(self._root, error, ExitCode.SOME_FAILED) from error
        return waiting

    def _do(self, task: _Task, fetch: Callable[[], bytes]) -> bool:
        """Make one file; whether it was written."""
        path = self._root / task.target
        if self._is_own and self._looks_done(task, path):
            return False
        if isinstance(task, ImageTask):
            if path.exists() and _is_same_file(path, task.member):
                return False
            data = fetch()
            content = task.convert(data) if task.convert else data
            if _has_content(path, content):
                return False
        else:
            labels = task.convert(fetch())
            if labels is None or _has_labels(path, labels):
                return False
            content = encode_label(labels, path.suffix)
        with atomic_write(path) as stream:
            stream.write(content)
        return True

    def _looks_done(self, task: _Task, path: Path) -> bool:
        """Tell whether an earlier run of the same sources left the whole file: it can be read."""
        if not path.is_file():
            return False
        if isinstance(task, LabelTask):
            try:
                read_label(path, self._classes, self._dataset.ignore_label)
            except SanError:
                return False
            return True
        if task.convert is None:
            return path.stat().st_size == task.member.size
        return path.read_bytes().endswith(b"\xff\xd9")  # JPEG's end

    def result(self) -> Prepared:
        """Return what was done, once it is; SanError if a file could not be converted."""
        if self._faults:
            faults = sorted(self._faults)
            more = f"\n… and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
            raise SanError(
                f"{len(faults):,} files of {self._dataset.name} {self._plan.split} could not be converted",
                hint="\n".join(faults[:_SHOWN])
                + more
                + "\nMend them and run the same command again; what is done stays.",
                code=ExitCode.SOME_FAILED,
            )
        try:
            self._note(complete=True, only_own=True)
        except OSError as error:
            raise _unwritable(self._root, error, ExitCode.SOME_FAILED) from error
        left_out = sum(not (self._root / task.target).exists() for task in self._plan.labels)
        kept = self._finished - self._written - left_out
        return Prepared(self._plan.split, len(self._plan.labels) - left_out, self._written, kept, left_out)


def _unwritable(root: Path, error: OSError, code: ExitCode) -> SanError:
    """Say what keeps files from being written, and the way out that fits it."""
    way = "Set the permissions"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        way = "Make room"
    elif isinstance(error, FileNotFoundError):
        way = "A folder was removed or moved meanwhile: leave it in place"
    elif isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
        way = "Move what lies there away, or choose another --to"
    elif code == ExitCode.USAGE:
        way = "Set the permissions, or choose another --to"
    where = printable(str(error.filename or root))
    return SanError(
        f"can't write below {quoted(root)}: {error.strerror or error} ({where})",
        hint=f"{way}; the same command again goes on.",
        code=code,
    )


def _is_same_file(path: Path, member: Member) -> bool:
    return isinstance(member.key, Path) and path.samefile(member.key)


def _has_content(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def _has_labels(path: Path, labels: np.ndarray) -> bool:
    if not path.is_file():
        return False
    try:
        found = decode_label(path.read_bytes(), str(path))
    except SanError:
        return False
    return found.dtype == labels.dtype and np.array_equal(found, labels)


def _digest(members: Iterable[Member]) -> str:
    """Hash the names, sizes and stamps of all that the sources hold."""
    digest = hashlib.sha256()
    for member in members:
        digest.update(f"{member.name}\0{member.size}\0{member.stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
