"""The folder of a run's results: checked, locked and opened, and finished by whoever is last.

alone (the usual case)   locks the folder, appends to `journal`, finishes
--shard i/n              shares the lock, appends to `journal-i-of-n`; whoever finds all images done finishes
torchrun                 process 0 locks and finishes, all append to theirs; they meet at both ends
"""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from san_cli.errors import ExitCode, SanError
from san_cli.files import sweep_stale
from san_cli.outputs.coco import dataset_info
from san_cli.outputs.places import DATA_YAML, PLACED
from san_cli.outputs.record import ImageRecord
from san_cli.predict.finish import (
    Tally,
    failed_records,
    finish,
    remove_stale,
    still_there,
    unfinished,
)
from san_cli.predict.inputs import Listing
from san_cli.predict.journal import STATE_FOLDER, ImageJournal, Source, same_content, source_of
from san_cli.predict.kept_list import keep_list, list_digest
from san_cli.predict.made_files import Mark, has_size, marks_from, was_changed, was_edited
from san_cli.predict.output_names import marked_paths, result_paths
from san_cli.predict.partial import remove_rows
from san_cli.predict.result_tars import PackedResults, tars_of
from san_cli.predict.results import foreign_file, make_folder, stopping
from san_cli.predict.search import FailedInput, InputImage
from san_cli.predict.settings import as_kept, kept_settings, refuse_other_run, settings_file
from san_cli.runs.lock import lock_file, locked, refuse_unusable_folder
from san_cli.runs.processes import ALONE, Processes
from san_cli.runs.settings import Settings, other_settings, write_settings
from san_cli.runs.shares import WHOLE, Share
from san_cli.text import counted, printable, quoted

_MERGE_S = 60.0  # how long shards wait for one another's last steps
_LOOK_S = 1.0  # for somebody who only looks whether there is a lock (`san status`)


@dataclass(frozen=True)
class Run:
    """A run that has its folder."""

    output: Path
    listing: Listing
    save: tuple[str, ...]
    info: Mapping[str, object]  # of the COCO dataset
    by_region: bool  # it has an annotation for each region
    share: Share
    processes: Processes
    lock: int | None  # descriptor of the folder's lock; the leading process has it for all
    journal: ImageJournal
    packed: PackedResults

    def is_done(self, image: InputImage) -> bool:
        """Tell whether an image is finished, unchanged since then, and its files are there in full, or edited."""
        entry = self.journal.entries.get(image.name)
        if entry is None or entry.failed or not same_content(entry.source, source_of(image.path)):
            return False
        return all(
            has_size(path, mark) or self.packed.has(image, key, mark) or was_edited(path, mark)
            for key, path, mark in self._marked(image)
        )

    def edited(self, image: InputImage) -> list[str]:
        """List those of a finished image's files that somebody has changed."""
        return [
            str(path)
            for key, path, mark in self._marked(image)
            if not (has_size(path, mark) or self.packed.has(image, key, mark))
        ]

    def _marked(self, image: InputImage) -> list[tuple[str, Path, Mark | None]]:
        marks = marks_from(self.journal.entries[image.name].marks)
        paths = {
            kind: path for kind, path in result_paths(image.name, self.save).items() if kind not in PLACED
        }
        paths |= marked_paths(image.name, marks)
        return [(key, self.output / path, marks.get(key)) for key, path in paths.items()]


@dataclass(frozen=True)
class Ending:
    """End of a run; `tally` is over all images, None if everything was finished and merged before."""

    tally: Tally | None
    missing: int = 0  # images that other shards have yet to do; nothing is merged until then


def check_folder(output: Path, images: Sequence[InputImage], save: Sequence[str], settings: Settings) -> bool:
    """Tell whether the folder holds results of such a run, False if of none. Changes nothing.

    `settings` may lack those that only the model tells. SanError if the folder can't be used, holds another
    run's results, or files that would be overwritten and that no run has made.
    """
    refuse_unusable_folder(output)
    found = kept_settings(output)
    if found is None:
        tars = [tar.path for tar in tars_of(images, save)]
        foreign = foreign_file(output, [image.name for image in images], save, tars)
        found = kept_settings(output)  # another shard may have begun in between
        if foreign is not None and found is None:
            raise SanError(
                f"{quoted(foreign)} is there already and was not made by a run in this folder",
                hint="Choose another folder with -o, or add --overwrite to replace such files.",
            )
    if found is not None:
        refuse_other_run(output, found, settings)
    return found is not None


@contextmanager
def open_run(
    output: Path,
    listing: Listing,
    save: tuple[str, ...],
    settings: Settings,
    *,
    share: Share = WHOLE,
    processes: Processes = ALONE,
    overwrite: bool = False,
) -> Iterator[Run]:
    """Make and lock the folder, read its journals and open our own; SanError as for `check_folder`.

    `overwrite` forgets what was done and replaces whatever is there.
    """
    info = dataset_info(as_kept(settings))
    with ExitStack() as stack:
        lock = None
        try:
            # The leading process locks the folder and makes sure that it is ours; shards share the lock.
            if processes.leads:
                is_old = (output / STATE_FOLDER).exists()
                output.mkdir(parents=True, exist_ok=True)
                make_folder(output, output / STATE_FOLDER)
                shard = processes.world == 1 and share.count > 1
                lock = stack.enter_context(
                    locked(
                        output / STATE_FOLDER,
                        output,
                        "san predict",
                        shared=shard,
                        wait_s=_MERGE_S if shard else _LOOK_S,
                    )
                )
                _claim(output, listing, save, settings, overwrite, is_old=is_old)
            _agree(processes, output, settings, listing)
            # What is done is known from here on; nobody else appends to our part of the journal.
            journal = open_journal(output, listing.images)
            stack.callback(journal.close)
            _refuse_other_sources(journal, listing.images, output)
            if processes.leads:
                keep_list(output, listing)
            if not lock_file(journal.open_own(share), wait_s=_LOOK_S):
                raise SanError(
                    f"another process is doing share {share.index + 1}/{share.count} in {quoted(output)}"
                )
        except OSError as error:
            raise _unusable(error, output) from error
        packed = PackedResults(output, listing.images, save)
        yield Run(
            output, listing, save, info, bool(settings["regions"]), share, processes, lock, journal, packed
        )


def look_into(
    output: Path,
    listing: Listing,
    save: tuple[str, ...],
    settings: Settings,
    *,
    share: Share,
    processes: Processes,
    overwrite: bool,
) -> Run:
    """Read a folder of results as `open_run` would, and change nothing; SanError as from that."""
    try:
        if (output / STATE_FOLDER / "lock").is_file():
            with locked(output / STATE_FOLDER, output, "san predict", shared=share.count > 1):
                pass
        journal = open_journal(output, listing.images)
        if overwrite:
            _refuse_corrected_numbers(output, journal, settings)
        else:
            check_folder(output, listing.images, save, settings)
            _refuse_other_sources(journal, listing.images, output)
    except OSError as error:
        raise _unusable(error, output) from error
    packed = PackedResults(output, listing.images, save)
    return Run(output, listing, save, {}, False, share, processes, None, journal, packed)


def _unusable(error: OSError, output: Path) -> SanError:
    """Say why a run can't even begin in the folder."""
    fault = stopping(error, output)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
        return fault
    return SanError(
        f"{quoted(error.filename or output)} can't be used: {(error.strerror or str(error)).lower()}",
        hint="Choose another folder with -o.",
    )


def _claim(
    output: Path, listing: Listing, save: Sequence[str], settings: Settings, overwrite: bool, *, is_old: bool
) -> None:
    """Make sure that what is in the folder is ours to go on with, or to replace."""
    if is_old:
        sweep_stale(output)
    if overwrite:
        _forget(output, listing, settings)
        write_settings(settings_file(output), as_kept(settings))
    elif not check_folder(output, listing.images, save, settings):
        write_settings(settings_file(output), as_kept(settings))


def _forget(output: Path, listing: Listing, settings: Settings) -> None:
    """Remove what a run before has made, but for results of inputs not given now that are as they would be made."""
    remove_rows(output)
    journal = open_journal(output, listing.images)
    try:
        same = not other_settings(kept_settings(output) or {}, settings)
    except SanError:  # damaged, and replaced now
        same = False
    _refuse_corrected_numbers(output, journal, settings)
    if DATA_YAML in journal.run_marks or "yolo" in list(
        settings["save"]
    ):  # else its names might be those of before
        (output / DATA_YAML).unlink(missing_ok=True)
    kept = still_there(journal, listing) if same else []
    remove_stale(output, journal, kept, ())
    journal.merge(kept, "", {})


def _refuse_corrected_numbers(output: Path, journal: ImageJournal, settings: Settings) -> None:
    """Raise SanError for YOLO's files that were corrected, as they stay, where their numbers are of other classes."""
    try:
        before = kept_settings(output) or {}
    except SanError:  # damaged
        before = {}
    if before.get("vocab") == settings["vocab"]:
        return
    corrected = [
        path
        for name, entry in journal.entries.items()
        for kind, path in marked_paths(name, marks_from(entry.marks)).items()
        if kind == "yolo" and was_changed(output / path, marks_from(entry.marks)[kind])
    ]
    if corrected:
        raise SanError(
            f"somebody has corrected {counted(len(corrected), 'YOLO file')} in {quoted(output)}, whose numbers are "
            "of other classes",
            hint=f"Choose another folder with -o, or remove what was corrected, such as {quoted(corrected[0])}.",
        )


def _agree(processes: Processes, output: Path, settings: Settings, listing: Listing) -> None:
    """Make sure that all processes see the same list, or some images would be nobody's, and compute alike."""
    digest = list_digest(listing).encode()
    if processes.from_leader("list", lambda: digest) != digest:
        raise SanError(
            f"process {processes.rank} sees other inputs than process 0",
            hint="All processes need the same arguments, and shared folders that nobody is writing to.",
        )
    if processes.leads:
        return
    found = kept_settings(output)
    if found is None:
        raise SanError(
            f"process {processes.rank} does not see the folder {quoted(output)} of process 0",
            hint="All processes must write to one shared folder.",
        )
    refuse_other_run(output, found, settings)


def end_run(run: Run, classes: Sequence[str]) -> Ending:
    """End a run after its share's last image: merge everything, if it is all there and ours to do.

    SanError where that can't be written.
    """
    if run.processes.world > 1:
        return _end_together(run, classes)
    if run.share.count == 1:
        return Ending(_finish(run, run.journal, classes))
    missing = unfinished(_read_journal(run.output, run.listing.images), run.listing.images)
    if missing:
        return Ending(None, len(missing))
    # Whoever gets here gives up its share of the lock; the others are at their end too, soon here or gone.
    run.journal.close()
    if run.lock is not None and not lock_file(run.lock, wait_s=_MERGE_S):
        raise SanError(
            "all images are done, but another process keeps the folder locked",
            hint="Run the same command without --shard to merge the results.",
            code=ExitCode.SOME_FAILED,
        )
    return Ending(_finish(run, _read_journal(run.output, run.listing.images), classes))


def all_records(run: Run) -> Iterator[tuple[InputImage | FailedInput, ImageRecord, int]]:
    """Yield every image of a run that has ended, its record, EXIF orientation, in order; then failed inputs."""
    journal = _read_journal(run.output, run.listing.images)
    for image in run.listing.images:
        record = journal.record(image.name)
        yield image, record, journal.entries[image.name].exif_orientation
    journal.close()
    for failure, record in zip(run.listing.failures, failed_records(run.listing.failures), strict=True):
        yield failure, record, 1


def _end_together(run: Run, classes: Sequence[str]) -> Ending:
    run.journal.close()
    run.processes.wait()
    ending = Ending(None)
    with run.processes.leader_first("merged"):
        if run.processes.leads:
            journal = _read_journal(run.output, run.listing.images)
            missing = unfinished(journal, run.listing.images)
            if missing:
                raise SanError(
                    f"{counted(len(missing), 'image')} not done, e.g. {printable(missing[0].name)}: "
                    "they have changed meanwhile, or the processes see different folders",
                    hint="Run the same command again.",
                    code=ExitCode.SOME_FAILED,
                )
            ending = Ending(_finish(run, journal, classes))
    run.processes.leave()
    return ending


def _finish(run: Run, journal: ImageJournal, classes: Sequence[str]) -> Tally | None:
    ending = finish(
        run.output,
        run.listing,
        journal=journal,
        save=run.save,
        classes=classes,
        info=run.info,
        by_region=run.by_region,
    )
    remove_rows(run.output)  # all images are done: what is left is of others that were begun once
    return ending


def _read_journal(output: Path, images: Sequence[InputImage]) -> ImageJournal:
    """Read the journal at the end of a run; SanError where it can't be read any more."""
    try:
        return open_journal(output, images)
    except OSError as error:
        raise stopping(error, output) from error


def open_journal(output: Path, images: Sequence[InputImage]) -> ImageJournal:
    paths = {image.name: image.path for image in images}

    @cache
    def current(name: str) -> Source | None:
        return source_of(paths[name]) if name in paths else None

    return ImageJournal(output, current)


def _refuse_other_sources(journal: ImageJournal, images: Sequence[InputImage], output: Path) -> None:
    """Refuse another file under the name of one that is done; the same file, changed, is done anew."""
    for image in images:
        entry = journal.entries.get(image.name)
        current = source_of(image.path) if entry is not None else None
        if entry is None or current is None or same_content(entry.source, current):
            continue
        if entry.source.where != current.where:
            raise SanError(
                f"{quoted(output)} holds the results of another file called {printable(image.name)}",
                hint="Choose another folder with -o, or add --overwrite to do everything anew.",
            )
