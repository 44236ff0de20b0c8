"""What happens to an image on its way through `san predict`: load, segment, save.

`load` and `save` run in threads, `segment` between them in the main one. What a file of unknown origin does
wrong is noted in its `error`; any other exception ends the run.
"""

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from san_cli.datasets.images import BadImage, displayed_size, load_image
from san_cli.datasets.reading import AS_STORED, Reading
from san_cli.datasets.resize import benchmark_size
from san_cli.engine.segmentation_map import SegmentationMap
from san_cli.engine.segmenter import MapOptions, NotFinite, Segmenter, shown_names
from san_cli.outputs.record import ImageRecord
from san_cli.outputs.rle import Region, encode_label_map
from san_cli.predict.batches import Size, group_by
from san_cli.predict.inputs import InputImage
from san_cli.predict.journal import Source, image_line, source_of
from san_cli.predict.results import Written, cause_of_one_image, discard, stopping, write_results
from san_cli.vocabulary.grammar import Vocabulary


@dataclass(frozen=True)
class Job:
    """What to do with every image."""

    vocabulary: Vocabulary
    options: MapOptions
    save: tuple[str, ...]  # of results.KINDS
    batch: int
    max_pixels: int
    max_bytes: int | None = None  # of a file; None: as many as its pixels can account for
    reading: Reading = AS_STORED

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that label maps index."""
        return shown_names(self.vocabulary, self.options)


@dataclass
class PassingImage:
    """An image on its way; each stage adds what it makes and drops what no later one needs."""

    position: int  # in the list
    is_wanted: bool  # the other images of a batch are computed again only because they share a forward pass
    ends_batch: bool
    source: Source | None = None
    pixels: NDArray[np.uint8] | None = None  # [H, W, 3]
    resized: NDArray[np.uint8] | None = None  # at the network's size
    no_data: NDArray[np.bool_] | None = None  # [H, W], where the image has none
    made: SegmentationMap | None = None
    exif_orientation: int = 1
    notes: tuple[str, ...] = ()
    error: str | None = None
    ms: dict[str, float] = field(default_factory=dict)
    highest: tuple[float, int] = (0.0, 0)  # see `SegmentationMap`
    record: ImageRecord | None = None
    written: dict[str, Written] = field(default_factory=dict)
    line: bytes = b""  # for the journal


@dataclass
class Stages:
    """What happens to an image, stage by stage."""

    images: Sequence[InputImage]
    job: Job
    segmenter: Segmenter
    output: Path
    say: Callable[[str], None]
    unnamed: dict[int, dict[str, Written]] = field(
        default_factory=dict
    )  # results still under temporary names
    ended: bool = False

    def name_results(self, image: PassingImage) -> None:
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
        """The size at the network's input that the file's header promises, None if it promises none."""
        size = displayed_size(self.images[position].path)
        preset = self.segmenter.preset
        try:
            return None if size is None else benchmark_size(*size, preset.input_size, preset.longest_side)
        except BadImage:
            return None

    def load(self, image: PassingImage) -> PassingImage:
        """Decode and resize, in a thread."""
        start = time.perf_counter()
        path = self.images[image.position].path
        image.source = source_of(path)  # before reading: a later change is noticed by the next run
        try:
            loaded = load_image(
                path,
                max_pixels=self.job.max_pixels,
                max_bytes=self.job.max_bytes,
                reading=self.job.reading,
            )
            image.pixels, image.resized = loaded.pixels, self.segmenter.resize(loaded.pixels)
            image.exif_orientation, image.notes = loaded.exif_orientation, loaded.notes
            image.no_data = loaded.no_data
        except BadImage as fault:
            if isinstance(fault.__cause__, OSError) and fault.__cause__.errno in (errno.EMFILE, errno.ENFILE):
                raise stopping(fault.__cause__, self.output) from fault
            image.error = fault.cause
        image.ms["decode"] = _ms_since(start)
        return image

    def segment(self, loaded: Iterable[PassingImage]) -> Iterator[PassingImage]:
        """Label maps for batch after batch, in this thread; yields the wanted images."""
        most = self.job.batch
        batch: list[PassingImage] = []
        for image in loaded:
            batch.append(image)
            if not image.ends_batch:
                continue
            readable = [image for image in batch if image.error is None]
            if any(image.is_wanted for image in readable):
                # The header may have promised another size than the image has.
                for alike in group_by(readable, _shape, len(batch)):
                    most = self._segment_alike(alike, most)
            yield from (image for image in batch if image.is_wanted)
            batch = []

    def _segment_alike(self, images: list[PassingImage], most: int) -> int:
        """Segment images of one size, at most `most` at a time; returns how many fit into memory."""
        while images:
            if self._segment_together(images[:most]):
                images = images[most:]
            elif min(most, len(images)) > 1:
                if most == self.job.batch:
                    self.say("out of memory: going on with smaller batches")
                most = min(most, len(images)) // 2
            else:
                images[0].error = "not enough memory for an image of this size"
                images = images[1:]
        return most

    def _segment_together(self, images: list[PassingImage]) -> bool:
        """One forward pass; False if the memory is not enough for it."""
        times = [time.perf_counter()]
        resized = [image.resized for image in images if image.resized is not None]
        sizes = [image.pixels.shape[:2] for image in images if image.pixels is not None]
        try:
            maps = self.segmenter.segment_resized(
                resized,
                sizes,
                self.job.vocabulary,
                self.job.options,
                lambda: times.append(time.perf_counter()),
                [image.no_data for image in images],
            )
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            maps = []
        if not maps:  # only here, as the exception has kept the tensors alive
            if self.segmenter.device.type == "cuda":
                torch.cuda.empty_cache()
            return False
        start, between, end = times[0], times[-1], time.perf_counter()
        for image, made in zip(images, maps, strict=True):
            image.made, image.resized, image.no_data = made, None, None
            if made is None:
                image.error = NotFinite(self.segmenter.precision).cause
            image.ms |= {
                "model": (between - start) * 1000 / len(images),
                "post": (end - between) * 1000 / len(images),
            }
        return True

    def save(self, image: PassingImage) -> PassingImage:
        """Write the image's files and make its journal line, in a thread."""
        start = time.perf_counter()
        name = self.images[image.position].name
        if image.error is None:
            try:
                image.record = self._write(name, image)
            except OSError as error:
                image.error = cause_of_one_image(error)
                if image.error is None:
                    raise stopping(error, self.output) from error
        if image.record is None:
            image.record = ImageRecord(name, 0, 0, error=image.error)
        assert image.source is not None
        marks = {kind: result.mark for kind, result in image.written.items()}
        image.line = image_line(image.source, image.exif_orientation, image.record, marks)
        image.pixels = image.made = None
        image.ms["write"] = _ms_since(start)
        return image

    def _write(self, name: str, image: PassingImage) -> ImageRecord:
        assert image.pixels is not None
        assert image.made is not None
        label_map, scores, image.highest = image.made.label_map, image.made.class_scores, image.made.highest
        image.written = write_results(
            self.output, name, self.job.save, image.pixels, label_map, self.job.classes
        )
        self.unnamed[image.position] = image.written
        if self.ended:  # a thread that a second interrupt didn't wait for
            discard(image.written)
        regions = encode_label_map(label_map)
        if "json" not in self.job.save:  # only its areas are wanted, and run lengths are most of a journal
            regions = {class_id: Region("", r.area, r.bbox) for class_id, r in regions.items()}
        height, width = label_map.shape
        scored = tuple((i, round(float(scores[i]), 4), region) for i, region in regions.items())
        return ImageRecord(name, height, width, scored)


def _shape(image: PassingImage) -> tuple[int, ...]:
    return () if image.resized is None else image.resized.shape


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """PyTorch has a class for it on CUDA, and on the CPU a RuntimeError of "can't allocate memory"."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
