"""The end of a run: what concerns all images, made from the journal alone, however they were done."""

import os
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import chain
from pathlib import Path

from san_cli.datasets.archives import Archive, Member
from san_cli.datasets.image_names import output_stem
from san_cli.outputs.annotations.yolo import write_data_yaml
from san_cli.outputs.gallery import FOLDER, write_gallery
from san_cli.outputs.places import DATA_YAML, FILES, RUN_FILES, run_files
from san_cli.outputs.record import ImageRecord
from san_cli.outputs.run_files import write_run_files
from san_cli.predict.inputs import Listing
from san_cli.predict.journal import ImageJournal, same_content, source_of
from san_cli.predict.kept_list import list_digest
from san_cli.predict.links import are_there, update_links, wanted_links
from san_cli.predict.made_files import NEVER_MADE, Mark, has_size, mark_of, marks_from, remove_made
from san_cli.predict.output_names import marked_paths, result_kinds, result_paths
from san_cli.predict.result_tars import TarWriter, tars_of
from san_cli.predict.results import make_folder, stopping
from san_cli.predict.search import FailedInput, InputImage


@dataclass
class Tally:
    """Counts over images and their pixels."""

    images: int = 0
    failed: int = 0
    pixels: int = 0
    class_pixels: dict[int, int] = field(default_factory=dict)
    class_images: dict[int, int] = field(default_factory=dict)
    removed: tuple[str, ...] = ()  # results of inputs that are gone or failed, below the folder
    left: tuple[str, ...] = ()  # files in the place of results that aren't as they were made, and stay

    def add(self, record: ImageRecord) -> None:
        """Count one image."""
        self.images += 1
        self.failed += record.error is not None
        self.pixels += record.height * record.width
        for found in record.found:
            self.class_pixels[found.class_id] = self.class_pixels.get(found.class_id, 0) + found.region.area
            self.class_images[found.class_id] = self.class_images.get(found.class_id, 0) + 1


def unfinished(journal: ImageJournal, images: Sequence[InputImage]) -> list[InputImage]:
    """List the images that no process has done, or failed at, in their present state."""
    return [image for image in images if not _is_journalled(journal, image)]


def _is_journalled(journal: ImageJournal, image: InputImage) -> bool:
    entry = journal.entries.get(image.name)
    return entry is not None and same_content(entry.source, source_of(image.path))


def finish(
    output: Path,
    listing: Listing,
    *,
    journal: ImageJournal,
    save: Sequence[str],
    classes: Sequence[str],
    info: Mapping[str, object],
    by_region: bool,
) -> Tally | None:
    """Write what concerns all images, bring the journal into its final order and count.

    Every image must be journalled. Returns None, and does nothing, where that was done before for this very
    list. Raises SanError where results can't be written.
    """
    # The seal of an earlier run for this very list spares reading all records again.
    names = [image.name for image in listing.images]
    seal = list_digest(listing, info)
    kept = still_there(journal, listing)
    done = {
        image.name: Path(image.path) for image in listing.images if not journal.entries[image.name].failed
    }
    links = wanted_links(done) if "yolo" in save else {}
    writer, tars = TarWriter(output, journal, classes, by_region=by_region), tars_of(listing.images, save)
    if (
        journal.seal == seal
        and len(names) + len(kept) == len(journal.entries)
        and _whole(output, journal, save)
        and are_there(output, links)
        and writer.are_whole(tars)
    ):
        journal.remove_parts()  # empty ones: a line would have broken the seal
        return None

    # Records are streamed from the journal, once for each file, as 100,000 of them don't fit into memory.
    counted = _CountedRecords(journal, names, listing.failures)
    try:
        for tar in tars:
            writer.pack(tar)
        removed = remove_stale(output, journal, {*names, *kept}, save)
        removed += () if kept else writer.remove_others(tars)
        paths = {image.name: image.path for image in listing.images}
        edited = _edited_files(output, save, classes, journal.run_marks)
        make = [kind for kind in save if not edited.keys() & set(RUN_FILES.get(kind, ()))]
        write_run_files(
            output, make, classes, info, counted, by_region=by_region, path_of=lambda name: Path(paths[name])
        )
        blocked = update_links(output, links, kept if "yolo" in save else ())
        if "html" in save:
            make_folder(output, output / FOLDER)
            write_gallery(
                output,
                info=info,
                classes=classes,
                links={kind: FILES[kind][1] for kind in result_kinds(save) if not FILES[kind][0]},
                records=counted(),
                stem_of=output_stem,
            )
        if not counted.tally.images:  # no file needed them
            for _ in counted():
                pass

        # The merged journal comes last: it says that all of this is there.
        run_marks = {path: mark_of(output / path) for path in run_files(save)} | edited
        journal.merge([*names, *kept], seal, run_marks)
    except OSError as error:
        raise stopping(error, output) from error
    left = (*blocked, *(str(output / path) for path in edited))
    return replace(counted.tally, removed=removed, left=left)


def _edited_files(
    output: Path, save: Sequence[str], classes: Sequence[str], marks: Mapping[str, Mark]
) -> dict[str, Mark]:
    """Find YOLO's data.yaml where somebody has edited it, with the mark of before."""
    file = output / DATA_YAML
    if "yolo" not in save or not file.is_file():
        return {}
    own = BytesIO()
    write_data_yaml(own, classes)
    is_ours = mark_of(file) == marks.get(DATA_YAML) or file.read_bytes() == own.getvalue()
    return {} if is_ours else {DATA_YAML: marks.get(DATA_YAML, NEVER_MADE)}


def _whole(output: Path, journal: ImageJournal, save: Sequence[str]) -> bool:
    """Tell whether the files that concern all images are there in full."""
    return all(
        has_size(output / path, journal.run_marks.get(path))
        or (path == DATA_YAML and (output / path).is_file())
        for path in run_files(save)
    )


def still_there(journal: ImageJournal, listing: Listing) -> list[str]:
    """List the names, sorted, of inputs that are in the journal and not in the list, unless they are gone.

    The journal has but a hash of an input's path. Where that comes from is told by the inputs of the list, whose
    names are ends of their paths; an input from elsewhere is taken to be there.
    """
    others = sorted(journal.entries.keys() - {image.name for image in listing.images})
    if not others:
        return []
    roots = {
        str(image.path).removesuffix(image.name)
        for image in listing.images
        if isinstance(image.path, Path) and str(image.path).endswith(image.name)
    }
    archives = {
        image.name.removesuffix(image.path.inner): image.path.archive
        for image in listing.images
        if isinstance(image.path, Member)
    }
    failed = {os.path.normpath(failure.path) for failure in listing.failures}
    taken = {
        output_stem(image.name) for image in listing.images
    }  # p.png's results are in the place of p.jpg's
    return [
        name
        for name in others
        if output_stem(name) not in taken
        and not _is_gone(name, journal.entries[name].source.where, roots, failed)
        and not _left_archive(name, journal.entries[name].source.where, archives)
    ]


def _left_archive(name: str, where: str, archives: Mapping[str, Archive]) -> bool:
    """Tell whether an input was in one of these archives, by what is in front of its images' names, and is not."""
    for front, archive in archives.items():
        inner = name.removeprefix(front)
        if name.startswith(front) and source_of(f"{archive.path}/{inner}").where == where:
            return inner not in archive.members
    return False


def _is_gone(name: str, where: str, roots: Iterable[str], failed: Container[str]) -> bool:
    for root in roots:
        path = Path(root + name)
        if source_of(path).where == where:
            return not path.exists() or any(str(part) in failed for part in (path, *path.parents))
    return False


def remove_stale(
    output: Path, journal: ImageJournal, names: Container[str], save: Sequence[str]
) -> tuple[str, ...]:
    """Remove what we made for inputs that failed or are not among `names`, as far as it is still ours to the byte.

    So are files of the whole run that `save` doesn't ask for. Returns what was removed; OSError where that fails.
    """
    stale = [
        (path, marks[kind])
        for name, texts in _all_marks(journal)
        if name not in names or journal.entries[name].failed
        for marks in map(marks_from, texts)
        for kind, path in marked_paths(name, marks).items()
    ]
    stale += [(path, mark) for path, mark in journal.run_marks.items() if path not in run_files(save)]
    if not stale:
        return ()
    owned = {
        _any_case(path): path
        for name, entry in journal.entries.items()
        if name in names and not entry.failed
        for path in (result_paths(name, save) | marked_paths(name, marks_from(entry.marks))).values()
    }
    return tuple(
        path
        for path, mark in stale
        if not _is_same(output, path, owned.get(_any_case(path))) and remove_made(output, path, mark)
    )


def _any_case(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _is_same(output: Path, path: str, other: str | None) -> bool:
    """Tell whether two paths are one file, as they may be where the file system looks at no case."""
    if other is None or path == other:
        return path == other
    return (output / path).exists() and (output / other).exists() and (output / path).samefile(output / other)


def _all_marks(journal: ImageJournal) -> Iterator[tuple[str, set[str]]]:
    """Yield every name in the journal with the marks of all that was ever made for it."""
    for name, entry in journal.entries.items():
        yield name, {entry.marks, *journal.replaced.get(name, ())}


class _CountedRecords:
    """The records of all inputs, as often as they are asked for; `tally` is of the last time."""

    def __init__(self, journal: ImageJournal, names: Sequence[str], failures: Iterable[FailedInput]) -> None:
        self._journal = journal
        self._names = names
        self._failures = failures
        self.tally = Tally()

    def __call__(self) -> Iterator[ImageRecord]:
        self.tally = Tally()
        for record in chain(map(self._journal.record, self._names), failed_records(self._failures)):
            self.tally.add(record)
            yield record


def failed_records(failures: Iterable[FailedInput]) -> Iterator[ImageRecord]:
    """Make records of inputs that came to no image; they follow the images, so that these keep their ids."""
    return (ImageRecord(failure.name, 0, 0, error=failure.cause) for failure in failures)
