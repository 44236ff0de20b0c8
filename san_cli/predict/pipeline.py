"""Every image of a list through one pipeline, and nothing done twice.

    threads: load (decode, resize)  →  this one: segment  →  threads: save (encode, write)  →  this one: journal

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

import numpy as np
import torch
from numpy.typing import NDArray

from san_cli.datasets.images import (
    BadImage,
    LoadedImage,
    displayed_size,
    load_image,
    raise_pillow_limit,
    silence_decoders,
)
from san_cli.datasets.resize import benchmark_size
from san_cli.engine.pipeline import threaded
from san_cli.engine.results import NotFinite
from san_cli.engine.segmentation_map import SegmentationMap
from san_cli.engine.segmenter import Segmenter
from san_cli.outputs.parts import count_parts
from san_cli.outputs.record import Found, ImageRecord
from san_cli.outputs.rle import Region, encode_label_map
from san_cli.outputs.tables import TABLES
from san_cli.predict.batches import Size, group_by, plan_batches
from san_cli.predict.folder import Run
from san_cli.predict.journal import Source, image_line, source_of
from san_cli.predict.request import Job
from san_cli.predict.results import Written, cause_of_one_image, discard, stopping, write_results
from san_cli.text import counted, printable

Ms = Mapping[str, float]  # stage → milliseconds; a batch's are shared out


@dataclass(frozen=True)
class Outcome:
    """One image, done now or before."""

    record: ImageRecord  # of an image done before: without its regions, unless they were asked for
    exif_orientation: int = 1
    done_before: bool = False
    ms: Ms = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    highest: tuple[float, int] = (0.0, 0)  # the largest winning score and its class, of an image done now
    surest: tuple[float, int] = (0.0, 0)  # the largest confidence and its class


@dataclass(frozen=True)
class Planned:
    """An image that is to go through the pipeline."""

    position: int  # in the list
    is_wanted: bool  # the other images of a batch are computed again only because they share a forward pass
    ends_batch: bool


@dataclass(frozen=True)
class Loaded:
    """An image that is decoded."""

    planned: Planned
    source: Source
    image: LoadedImage
    resized: NDArray[np.uint8]  # [h, w, 3], at the network's size
    ms: Ms


@dataclass(frozen=True)
class Segmented:
    """An image with its label map."""

    planned: Planned
    source: Source
    pixels: NDArray[np.uint8]  # [H, W, 3]
    made: SegmentationMap
    exif_orientation: int
    notes: tuple[str, ...]
    ms: Ms


@dataclass(frozen=True)
class Failed:
    """An image that comes to nothing, and why."""

    planned: Planned
    source: Source
    cause: str
    exif_orientation: int
    notes: tuple[str, ...]
    ms: Ms


@dataclass(frozen=True)
class Saved:
    """An image whose files are written, still under temporary names, or that failed."""

    position: int
    written: Mapping[str, Written]  # by kind
    line: bytes  # for the journal
    outcome: Outcome


def predict_images(
    run: Run,
    job: Job,
    segmenter: Segmenter,
    *,
    workers: int,
    reread: bool,
    say: Callable[[str], None],
) -> Generator[Outcome, None, None]:
    """Do what is not done yet of our share of the images; yields all its outcomes, in the list's order.

    `workers` threads load and as many save. `reread` gives the regions of images done before, too.
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

    # Batches may end out of turn: what is finished early waits, at most a window of batches.
    stages = Stages(run, job, segmenter, say)
    held: dict[int, Saved] = {}
    with ExitStack() as stack:
        stack.callback(stages.discard_unnamed)
        finished = stack.enter_context(closing(_through(stages, wanted, workers)))
        for position in positions:
            if not wanted[position]:
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
            yield image.outcome


def _done_before(run: Run, name: str, reread: bool) -> Outcome:
    record = run.journal.record(name) if reread else ImageRecord(name, 0, 0)
    return Outcome(record, run.journal.entries[name].exif_orientation, done_before=True)


def _through(stages: "Stages", wanted: bytearray, workers: int) -> Generator[Saved, None, None]:
    """Send the wanted images through all stages, batch by batch."""
    batch = stages.job.batch
    batches = plan_batches(
        len(wanted), batch, stages.run.share, lambda i: bool(wanted[i]), stages.network_size
    )
    planned = (
        Planned(position, bool(wanted[position]), ends_batch=position == group[-1])
        for group in batches
        for position in group
    )
    ahead = workers + batch - 1
    with (
        closing(threaded(stages.load, planned, threads=workers, ahead=ahead)) as loaded,
        closing(threaded(stages.save, stages.segment(loaded), threads=workers, ahead=ahead)) as saved,
    ):
        yield from saved


@dataclass
class Stages:
    """Stages of an image's way: `load` and `save` run in threads, `segment` between them in this one."""

    run: Run
    job: Job
    segmenter: Segmenter
    say: Callable[[str], None]
    most: int = field(init=False)  # images that fit into memory together
    unnamed: dict[int, Mapping[str, Written]] = field(default_factory=dict)  # results under temporary names
    ended: bool = False

    def __post_init__(self) -> None:
        self.most = self.job.batch

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
        """Return the size at the network's input that the file's header promises, None if it promises none."""
        size = displayed_size(self.run.listing.images[position].path)
        preset = self.segmenter.preset
        try:
            return None if size is None else benchmark_size(*size, preset.input_size, preset.longest_side)
        except BadImage:
            return None

    def load(self, planned: Planned) -> Loaded | Failed:
        """Decode and resize, in a thread."""
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
            resized = self.segmenter.resize(image.pixels)
        except BadImage as fault:
            if isinstance(fault.__cause__, OSError) and fault.__cause__.errno in (errno.EMFILE, errno.ENFILE):
                raise stopping(fault.__cause__, self.run.output) from fault
            return Failed(planned, source, fault.cause, 1, (), {"decode": _ms_since(start)})
        return Loaded(planned, source, image, resized, {"decode": _ms_since(start)})

    def segment(self, loaded: Iterable[Loaded | Failed]) -> Iterator[Segmented | Failed]:
        """Make label maps for batch after batch, in this thread; yields the wanted images."""
        batch: list[Loaded | Failed] = []
        for image in loaded:
            batch.append(image)
            if not image.planned.ends_batch:
                continue
            wanted = [image.planned.position for image in batch if image.planned.is_wanted]
            done = self._segment_batch(batch)
            batch = []
            for position in wanted:  # each is let go of as it is handed on: pixels are most of the memory
                yield done.pop(position)

    def _segment_batch(self, batch: Sequence[Loaded | Failed]) -> dict[int, Segmented | Failed]:
        """Segment a batch, in as many forward passes as it takes; by position."""
        made: dict[int, Segmented | Failed] = {
            image.planned.position: image for image in batch if isinstance(image, Failed)
        }
        readable = [image for image in batch if isinstance(image, Loaded)]
        if any(image.planned.is_wanted for image in readable):
            # The header may have promised another size than the image has.
            for alike in group_by(readable, lambda image: image.resized.shape, len(batch)):
                made |= {image.planned.position: image for image in self._segment_alike(alike)}
        return made

    def _segment_alike(self, images: Sequence[Loaded]) -> Iterator[Segmented | Failed]:
        """Segment images of one size, as many at a time as fit into memory."""
        while images:
            made = self._segment_together(images[: self.most])
            if made:
                yield from made
                images = images[self.most :]
            elif min(self.most, len(images)) > 1:
                if self.most == self.job.batch:
                    self.say("out of memory: going on with smaller batches")
                self.most = min(self.most, len(images)) // 2
            else:
                yield _failed(images[0], "not enough memory for an image of this size", {})
                images = images[1:]

    def _segment_together(self, images: Sequence[Loaded]) -> list[Segmented | Failed]:
        """Segment images in one forward pass; none if the memory is not enough for it."""
        times = [time.perf_counter()]
        try:
            maps = self.segmenter.segment_resized(
                [image.resized for image in images],
                [image.image.pixels.shape[:2] for image in images],
                self.job.vocabulary,
                self.job.options,
                lambda: times.append(time.perf_counter()),
                [image.image.no_data for image in images],
            )
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            maps = []
        if not maps:  # only here, as the exception has kept the tensors alive
            if self.segmenter.device.type == "cuda":
                torch.cuda.empty_cache()
            return []
        start, between, end = times[0], times[-1], time.perf_counter()
        ms = {
            "model": (between - start) * 1000 / len(images),
            "post": (end - between) * 1000 / len(images),
        }
        return [
            _failed(image, NotFinite(self.segmenter.precision).cause, ms)
            if made is None
            else Segmented(
                image.planned,
                image.source,
                image.image.pixels,
                made,
                image.image.exif_orientation,
                image.image.notes,
                {**image.ms, **ms},
            )
            for image, made in zip(images, maps, strict=True)
        ]

    def save(self, image: Segmented | Failed) -> Saved:
        """Write the image's files and make its journal line, in a thread."""
        start = time.perf_counter()
        position = image.planned.position
        name = self.run.listing.images[position].name
        written: Mapping[str, Written] = {}
        if isinstance(image, Failed):
            record = ImageRecord(name, 0, 0, error=image.cause, notes=image.notes)
        else:
            try:
                record, written = self._write(name, image)
            except OSError as error:
                cause = cause_of_one_image(error)
                if cause is None:
                    raise stopping(error, self.run.output) from error
                record = ImageRecord(name, 0, 0, error=cause, notes=image.notes)
        marks = {kind: result.mark for kind, result in written.items()}
        line = image_line(image.source, image.exif_orientation, record, marks)
        ms = {**image.ms, "write": _ms_since(start)}
        outcome = Outcome(record, image.exif_orientation, ms=ms, notes=image.notes)
        if isinstance(image, Segmented):
            outcome = replace(outcome, highest=image.made.highest, surest=image.made.surest)
        return Saved(position, written, line, outcome)

    def _write(self, name: str, image: Segmented) -> tuple[ImageRecord, Mapping[str, Written]]:
        made, save = image.made, self.job.save
        written = write_results(self.run.output, name, save, image.pixels, made, self.job.classes)
        self.unnamed[image.planned.position] = written
        if self.ended:  # a thread that a second interrupt didn't wait for
            discard(written)
        regions = encode_label_map(made.label_map)
        parts = count_parts(made.label_map, regions) if set(TABLES) & set(save) else {}
        if "json" not in save:  # only its areas are wanted, and run lengths are most of a journal
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
        height, width = made.label_map.shape
        uncertain = None if made.uncertain is None else round(made.uncertain, 6)
        return ImageRecord(name, height, width, found, uncertain=uncertain, notes=image.notes), written


def _failed(image: Loaded, cause: str, ms: Ms) -> Failed:
    return Failed(
        image.planned,
        image.source,
        cause,
        image.image.exif_orientation,
        image.image.notes,
        {**image.ms, **ms},
    )


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """PyTorch has a class for it on CUDA, and on the CPU a RuntimeError of "can't allocate memory"."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
