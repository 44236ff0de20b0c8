"""The end of a run: what concerns all images, made from the journal alone, however they were done."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from san_cli.engine.input_notes import FailedInput
from san_cli.engine.inputs import InputImage, Listing
from san_cli.engine.journal import Journal, same_content, source_of
from san_cli.engine.output_names import output_stem
from san_cli.engine.results import CLASSES, PREDICTIONS, make_folder, result_suffixes, run_files, stopping
from san_cli.outputs.atomic import atomic_write
from san_cli.outputs.coco import write_coco
from san_cli.outputs.gallery import FOLDER, write_gallery
from san_cli.outputs.label_map import write_class_table
from san_cli.outputs.record import ImageRecord


@dataclass
class Tally:
    """Counts over images and their pixels."""

    images: int = 0
    failed: int = 0
    pixels: int = 0
    class_pixels: dict[int, int] = field(default_factory=dict)
    class_images: dict[int, int] = field(default_factory=dict)

    def add(self, record: ImageRecord) -> None:
        """Count one image."""
        self.images += 1
        self.failed += record.error is not None
        self.pixels += record.height * record.width
        for class_id, _, region in record.regions:
            self.class_pixels[class_id] = self.class_pixels.get(class_id, 0) + region.area
            self.class_images[class_id] = self.class_images.get(class_id, 0) + 1


def unfinished(journal: Journal, images: Sequence[InputImage]) -> list[InputImage]:
    """The images that no process has done, or failed at, in their present state."""
    return [image for image in images if not _is_journalled(journal, image)]


def _is_journalled(journal: Journal, image: InputImage) -> bool:
    entry = journal.entries.get(image.name)
    return entry is not None and same_content(entry.source, source_of(image.path))


def finish(
    output: Path,
    listing: Listing,
    *,
    journal: Journal,
    save: Sequence[str],
    classes: Sequence[str],
    info: Mapping[str, object],
) -> Tally | None:
    """Write what concerns all images, bring the journal into its final order and count.

    Every image must be journalled. Returns None, and does nothing, where that was done before for this very
    list. Raises SanError where results can't be written.
    """
    names = [image.name for image in listing.images]
    seal = list_digest(listing)
    if journal.seal == seal and all((output / name).is_file() for name in run_files(save)):
        journal.remove_others()  # empty ones: a line would have broken the seal
        return None
    counted = _CountedRecords(journal, names, listing.failures)
    try:
        if "labels" in save:
            write_class_table(output / CLASSES, classes)
        if "json" in save:
            with atomic_write(output / PREDICTIONS) as stream:
                write_coco(stream, info=info, categories=classes, records=counted)
        if "html" in save:
            make_folder(output, output / FOLDER)
            write_gallery(
                output,
                info=info,
                classes=classes,
                links=result_suffixes(save),
                records=counted(),
                stem_of=output_stem,
            )
        if not {"json", "html"} & set(save):
            for _ in counted():
                pass
        journal.compact(names, seal)
    except OSError as error:
        raise stopping(error, output) from error
    return counted.tally


class _CountedRecords:
    """The records of all inputs, as often as they are asked for; `tally` is of the last time."""

    def __init__(self, journal: Journal, names: Sequence[str], failures: Iterable[FailedInput]) -> None:
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
    """Inputs that came to no image, as records; they follow the images, so that these keep their ids."""
    return (ImageRecord(failure.name, 0, 0, error=failure.cause) for failure in failures)


def list_digest(listing: Listing) -> str:
    """A hash that tells lists of inputs apart."""
    digest = hashlib.sha256()
    failures = ((failure.name, failure.cause) for failure in listing.failures)
    for part in chain((image.name for image in listing.images), ["/"], chain.from_iterable(failures)):
        digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
