"""Every image of a list through one pipeline, and nothing done twice.

    threads: load (decode, resize)  →  segment (this one, or streams)  →  threads: save  →  this one: journal

Both queues are bounded, so memory doesn't grow with the list, and keep the order. What a file of unknown origin does
wrong makes it a `Failed` image; any other exception ends the run.

An image's files are complete before its journal line is written and get their names after: whatever ends the run, a
rerun continues from the journal, and knows every file that was made.
"""

import errno
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from san_cli.datasets.archives import Member, expect
from san_cli.datasets.images import BadImage, displayed_size, load_image, raise_pillow_limit, silence_decoders
from san_cli.datasets.resize import benchmark_size
from san_cli.engine.pipeline import threaded
from san_cli.engine.segmentation_map import SegmentationMap
from san_cli.engine.segmenter import Segmenter
from san_cli.engine.tiling import tiling_of
from san_cli.outputs.picture_files import Picture
from san_cli.outputs.places import CORRECTABLE, OUTLINED, OUTLINED_TOGETHER
from san_cli.outputs.record import Found, ImageRecord
from san_cli.outputs.tables import TABLES
from san_cli.predict.batches import Size, plan_batches
from san_cli.predict.folder import Run
from san_cli.predict.journal import image_line, source_of
from san_cli.predict.made_files import NEVER_MADE, Mark, marks_from, remove_made, was_changed
from san_cli.predict.output_names import marked_paths
from san_cli.predict.partial import remove_rows
from san_cli.predict.request import Job
from san_cli.predict.result_tars import ResultTar, TarWriter, last_of_tars
from san_cli.predict.results import Written, cause_of_one_image, discard, stopping, write_results
from san_cli.predict.segmenting import Segmenting
from san_cli.predict.states import Failed, Large, Loaded, Outcome, Planned, Saved, Segmented
from san_cli.predict.turns import Turns
from san_cli.regions.parts import count_parts
from san_cli.regions.rle import Region, encode_label_map
from san_cli.regions.split import FoundRegion, split
from san_cli.text import counted, printable

# Pictures of more pixels (which --max-pixels has to allow) are in memory one at a time; the size of others isn't even
# looked up: a file of so few bytes is no such picture, however well it is packed.
_ALONE, _SMALL_FILE = 200_000_000, 100_000


def predict_images(
    run: Run,
    job: Job,
    segmenter: Segmenter,
    *,
    workers: int,
    reread: bool,
    say: Callable[[str], None],
    on_windows: Callable[[int, int], None] = lambda seen, all: None,
) -> Generator[Outcome, None, None]:
    """Do what is not done yet of our share of the images; yields all its outcomes, in the list's order.

    `workers` threads load and as many save. `reread` gives the regions of images done before, too. `on_windows` is
    told how many windows of how many of a tiled picture the network has just seen.
    Raises SanError where results can't be written; what is journalled by then is complete.
    """
    raise_pillow_limit(job.max_pixels)
    silence_decoders()

    # What is done stays as it is, also where somebody has worked on a result since.
    images = run.listing.images
    positions = list(run.share.positions(len(images), job.batch))
    wanted, edited = bytearray(len(images)), list[str]()
    for position in positions:
        wanted[position] = not run.is_done(images[position])
        if not wanted[position]:
            edited += run.edited(images[position])
    if edited:
        say(
            f"left alone: {counted(len(edited), 'result')} that somebody has changed, e.g. {printable(edited[0])} "
            "(remove one, and all results of its image are made anew)"
        )

    # What a batch has beside wanted images is read, too.
    read = (images[i].path for i in positions if wanted[i] or job.batch > 1)
    expect(path for path in read if isinstance(path, Member))

    # Batches may end out of turn: what is finished early waits, at most a window of batches.
    stages = Stages(run, job, segmenter)
    segmenting = Segmenting(run, job, segmenter, stages.load_large, say, on_windows)
    held: dict[int, Saved] = {}
    writer = TarWriter(run.output, run.journal, job.classes, by_region=job.regions)
    is_alone = run.share.count == 1 and run.processes.world == 1
    ends = last_of_tars(images, job.save) if is_alone else {}  # else whoever is last makes the tars
    with ExitStack() as stack:
        stack.callback(stages.discard_unnamed)
        finished = stack.enter_context(closing(_through(stages, segmenting, wanted, workers)))
        for position in positions:
            if not wanted[position]:
                if position in ends:
                    _pack(writer, ends[position], run.output)
                yield _done_before(run, images[position].name, reread)
                continue
            while position not in held:
                image = next(finished)
                held[image.position] = image
            image = held.pop(position)
            try:
                run.journal.append(image.line)
                stages.name_results(image)
            except OSError as error:
                raise stopping(error, run.output) from error
            if job.tile is not None:
                remove_rows(run.output, images[position].name)
            if position in ends:
                _pack(writer, ends[position], run.output)
            yield image.outcome


def _pack(writer: TarWriter, tar: ResultTar, output: Path) -> None:
    try:
        writer.pack(tar)
    except OSError as error:
        raise stopping(error, output) from error


def _done_before(run: Run, name: str, reread: bool) -> Outcome:
    record = run.journal.record(name) if reread else ImageRecord(name, 0, 0)
    return Outcome(record, run.journal.entries[name].exif_orientation, done_before=True)


def _through(
    stages: "Stages", segmenting: Segmenting, wanted: bytearray, workers: int
) -> Generator[Saved, None, None]:
    """Send the wanted images through all stages, batch by batch."""
    batch = stages.job.batch
    batches = plan_batches(
        len(wanted), batch, stages.run.share, lambda i: bool(wanted[i]), stages.network_size
    )
    planned = _planned(batches, wanted)
    ahead = workers + batch - 1
    with (
        closing(threaded(stages.load, planned, threads=workers, ahead=ahead)) as loaded,
        closing(segmenting.through(loaded, images=sum(wanted))) as segmented,
        closing(threaded(stages.save, segmented, threads=workers, ahead=ahead, at_once=True)) as saved,
    ):
        yield from saved


def _planned(batches: Iterable[Sequence[int]], wanted: bytearray) -> Iterator[Planned]:
    before = 0
    for group in batches:
        for position in group:
            yield Planned(position, bool(wanted[position]), ends_batch=position == group[-1], before=before)
        before += sum(map(wanted.__getitem__, group))


@dataclass
class Stages:
    """Stages of an image's way before and after `Segmenting`, which run in threads."""

    run: Run
    job: Job
    segmenter: Segmenter
    turns: Turns = field(default_factory=Turns)
    unnamed: dict[int, Mapping[str, Written]] = field(default_factory=dict)  # results under temporary names
    ended: bool = False

    def name_results(self, image: Saved) -> None:
        """Give an image's results their names, now that the journal has its line; OSError where that fails."""
        for result in image.written.values():
            result.temp.replace(result.path)
        self.unnamed.pop(image.position, None)

    def discard_unnamed(self) -> None:
        """Remove what a run that ends early has not come to name, now and from here on."""
        self.ended = True
        for written in list(self.unnamed.values()):
            discard(written)
        self.unnamed.clear()

    def network_size(self, position: int) -> Size | None:
        """Return the size at the network's input that the file's header promises, None if it promises none.

        A picture that is seen through windows shares its forward passes with none: nothing is of its size.
        """
        size = displayed_size(self.run.listing.images[position].path)
        preset = self.segmenter.preset
        try:
            if size is not None and tiling_of(*size, self.job.tile, preset) is not None:
                return (position, 0)
            return None if size is None else benchmark_size(*size, preset.input_size, preset.longest_side)
        except BadImage:
            return None

    def load(self, planned: Planned) -> Loaded | Failed | Large:
        """Decode and resize, in a thread; but a large picture, which has to wait."""
        path = self.run.listing.images[planned.position].path
        size = displayed_size(path) if source_of(path).size > _SMALL_FILE else None
        if size is not None and size[0] * size[1] > _ALONE:
            return Large(planned)
        return self.decode(planned)

    def load_large(self, large: Large) -> Loaded | Failed:
        """Decode and resize a large picture once all images of the batches before its own are saved."""
        self.turns.wait(large.planned.before)
        return self.decode(large.planned)

    def decode(self, planned: Planned) -> Loaded | Failed:
        """Decode an image, and resize it for the network."""
        start = time.perf_counter()
        path = self.run.listing.images[planned.position].path
        source = source_of(path)  # before reading: a later change is noticed by the next run
        try:
            image = load_image(
                path,
                max_pixels=self.job.max_pixels,
                max_bytes=self.job.max_bytes,
                reading=self.job.reading,
            )
            height, width = image.pixels.shape[:2]
            tiling = tiling_of(height, width, self.job.tile, self.segmenter.preset)
            seen = tiling or self.segmenter.resize(image.pixels)
        except BadImage as fault:
            if isinstance(fault.__cause__, OSError) and fault.__cause__.errno in (errno.EMFILE, errno.ENFILE):
                raise stopping(fault.__cause__, self.run.output) from fault
            return Failed(planned, source, fault.cause, 1, (), {"decode": _ms_since(start)})
        return Loaded(planned, source, image, seen, {"decode": _ms_since(start)})

    def save(self, image: Segmented | Failed) -> Saved:
        """Write the image's files and make its journal line, in a thread."""
        try:
            return self._save(image)
        finally:
            self.turns.saved()

    def _save(self, image: Segmented | Failed) -> Saved:
        start = time.perf_counter()
        position = image.planned.position
        name = self.run.listing.images[position].name
        written: Mapping[str, Written] = {}
        corrected = self._corrected(name)
        orientation, notes = (
            (image.exif_orientation, image.notes)
            if isinstance(image, Failed)
            else (image.image.exif_orientation, image.image.notes)
        )
        if isinstance(image, Failed):
            record = ImageRecord(name, 0, 0, error=image.cause, notes=notes)
        else:
            try:
                record, written = self._write(name, image, [k for k in self.job.save if k not in corrected])
            except OSError as error:
                cause = cause_of_one_image(error)
                if cause is None:
                    raise stopping(error, self.run.output) from error
                record = ImageRecord(name, 0, 0, error=cause, notes=notes)
        marks = {**corrected, **{kind: result.mark for kind, result in written.items()}}
        line = image_line(image.source, orientation, record, marks)
        ms = {**image.ms, "write": _ms_since(start)}
        stays = tuple(
            f"{path} stays, as somebody has changed it (remove it, and it is made anew)"
            for path in marked_paths(name, corrected).values()
        )
        outcome = Outcome(record, orientation, windows=image.windows, ms=ms, notes=(*record.notes, *stays))
        if isinstance(image, Segmented):
            outcome = replace(outcome, highest=image.made.highest, surest=image.made.surest)
        return Saved(position, written, line, outcome)

    def _corrected(self, name: str) -> dict[str, Mark]:
        """Find what somebody has corrected or drawn, with the marks of what was made: that is never replaced."""
        entry = self.run.journal.entries.get(name)
        marks = {} if entry is None else marks_from(entry.marks)
        paths = marked_paths(name, [kind for kind in CORRECTABLE if kind in self.job.save])
        return {
            kind: marks.get(kind, NEVER_MADE)
            for kind, path in paths.items()
            if was_changed(self.run.output / path, marks.get(kind, NEVER_MADE))
        }

    def _write(
        self, name: str, image: Segmented, save: Sequence[str]
    ) -> tuple[ImageRecord, Mapping[str, Written]]:
        made = image.made
        regions = encode_label_map(made.label_map)
        parts = count_parts(made.label_map, regions) if set(TABLES) & set(save) else {}
        if "json" not in save or self.job.regions:  # only its areas are wanted, and run lengths are long
            regions = {class_id: Region("", r.area, r.bbox) for class_id, r in regions.items()}
        found = tuple(
            Found(
                class_id,
                region,
                round(float(made.class_scores[class_id]), 6),
                round(float(made.class_confidences[class_id]), 6),
                parts.get(class_id),
            )
            for class_id, region in regions.items()
        )
        regions_found = self._regions(made)
        picture = Picture(
            self.run.listing.images[image.planned.position].path,
            image.image.pixels,
            made.label_map,
            found,
            regions_found,
            made.confidence,
            image.image.geo_tags,
        )
        written, notes = write_results(self.run.output, name, save, picture, self.job.classes)
        self.unnamed[image.planned.position] = written
        if self.ended:  # a thread that a second interrupt didn't wait for
            discard(written)
        self._remove_former(name, written)
        height, width = made.label_map.shape
        uncertain = None if made.uncertain is None else round(made.uncertain, 6)
        notes = (*image.image.notes, *notes)
        kept = self._kept(regions_found)
        record = ImageRecord(name, height, width, found, uncertain=uncertain, notes=notes, regions=kept)
        return record, written

    def _regions(self, made: SegmentationMap) -> tuple[FoundRegion, ...]:
        """Find the regions of an image, where something is made of them."""
        job = self.job
        outlines = bool(set(OUTLINED) & set(job.save))
        if not (outlines or job.regions):
            return ()
        run_lengths = job.regions and "json" in job.save
        return split(made.label_map, run_lengths=run_lengths, outlines=outlines, simplify=job.simplify)

    def _kept(self, regions: tuple[FoundRegion, ...]) -> tuple[FoundRegion, ...]:
        """Choose what the journal keeps of them: what files that concern all images are made from."""
        if set(OUTLINED_TOGETHER) & set(self.job.save):
            return regions
        return tuple(region._replace(outlines=()) for region in regions) if self.job.regions else ()

    def _remove_former(self, name: str, written: Mapping[str, Written]) -> None:
        """Remove what an earlier state of the image had and this one can't have: it lies nowhere, lacks a class."""
        entry = self.run.journal.entries.get(name)
        if entry is None:
            return
        marks = marks_from(entry.marks)
        for key, path in marked_paths(name, marks).items():
            if key not in written:
                remove_made(self.run.output, path, marks[key])


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
