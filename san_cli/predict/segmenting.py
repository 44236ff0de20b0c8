"""The middle of the pipeline: loaded images through the network, batch by batch, on a CPU in several streams."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from san_cli.engine.results import NotFinite
from san_cli.engine.segmentation_map import Unfinished
from san_cli.engine.segmenter import Segmenter
from san_cli.engine.streams import is_out_of_memory, streamed, streams_for
from san_cli.engine.tiling import Tiling
from san_cli.predict.batches import group_by
from san_cli.predict.folder import Run
from san_cli.predict.partial import KeptRows
from san_cli.predict.request import Job
from san_cli.predict.states import Failed, Large, Loaded, Ms, Segmented
from san_cli.text import printable

_Batch = Sequence[Loaded | Failed | Large]


@dataclass
class Segmenting:
    """A model at work on loaded images."""

    run: Run
    job: Job
    segmenter: Segmenter
    load_large: Callable[[Large], Loaded | Failed]
    say: Callable[[str], None]
    on_windows: Callable[[int, int], None]  # how many windows of how many of a picture were just seen
    most: int = field(init=False)  # images, or windows of one, that fit into memory together

    def __post_init__(self) -> None:
        self.most = self.job.batch

    def through(
        self, loaded: Iterable[Loaded | Failed | Large], images: int
    ) -> Generator[Segmented | Failed, None, None]:
        """Make label maps for batch after batch; yields the wanted images, of which there are `images`.

        Streams have a batch each. A tiled picture is alone, having batches enough of its own, and so is what would
        leave streams idle: the last batches, where they are fewer.
        """
        streams = streams_for(self.segmenter, self.job.batch)
        if streams > 1:  # or each would do it
            self._embed_words()
        shared = images - images % (streams * self.job.batch)

        def is_alone(batch: _Batch) -> bool:
            large = any(isinstance(one, Large) or _is_tiled(one) for one in batch)
            return large or batch[0].planned.before >= shared

        work = self._segment_batch
        with closing(streamed(work, _batches(loaded), streams=streams, is_alone=is_alone)) as batches:
            for done in batches:
                # Each is let go of as it is handed on: pixels are most of the memory.
                for position in list(done):
                    yield done.pop(position)

    def _embed_words(self) -> None:
        words = self.job.vocabulary
        if self.job.options.only:
            self.segmenter.contrast(words)
        else:
            self.segmenter.embed(words)

    def _segment_batch(self, batch: _Batch, at_once: int) -> dict[int, Segmented | Failed]:
        """Segment a batch beside others, in as many forward passes as it takes; its wanted images by position.

        MemoryError where there isn't memory for it beside others.
        """
        here = [self.load_large(one) if isinstance(one, Large) else one for one in batch]
        wanted = [one.planned.position for one in here if one.planned.is_wanted]
        made: dict[int, Segmented | Failed] = {
            image.planned.position: image for image in here if isinstance(image, Failed)
        }
        readable = [image for image in here if isinstance(image, Loaded)]
        if any(image.planned.is_wanted for image in readable):
            # The header may have promised another size than the image has.
            for alike in group_by(readable, _seen_as, len(here)):
                made |= {image.planned.position: image for image in self._segment_alike(alike, at_once)}
        return {position: made[position] for position in wanted}

    def _segment_alike(self, images: Sequence[Loaded], at_once: int) -> Iterator[Segmented | Failed]:
        """Segment images of one size, or a tiled one, as many at a time as fit into memory."""
        while images:
            tiling = images[0].seen
            together = min(self.most, len(images))
            if isinstance(tiling, Tiling):
                together = min(self.most, len(tiling))  # windows; there is one image
                made = self._if_memory_allows(partial(self._through_windows, images[0], tiling))
            else:
                made = self._if_memory_allows(partial(self._whole, images[:together], at_once))
            if made is not None:
                yield from made
                images = images[len(made) :]
            elif at_once > 1:
                raise MemoryError
            elif together > 1:
                if self.most == self.job.batch:
                    self.say("out of memory: going on with smaller batches")
                self.most = together // 2
            else:
                yield _failed(images[0], "not enough memory for an image of this size", {})
                images = images[1:]

    def _if_memory_allows(
        self, work: Callable[[], list[Segmented | Failed]]
    ) -> list[Segmented | Failed] | None:
        """Do it, or return None if the memory is not enough for it."""
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, as the exception has kept the tensors alive.
        if self.segmenter.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _whole(self, images: Sequence[Loaded], at_once: int) -> list[Segmented | Failed]:
        """Segment images in one forward pass, of so many at once."""
        times = [time.perf_counter()]
        maps = self.segmenter.segment_resized(
            [image.seen for image in images if not isinstance(image.seen, Tiling)],
            [image.image.pixels.shape[:2] for image in images],
            self.job.vocabulary,
            self.job.options,
            lambda: times.append(time.perf_counter()),
            [image.image.no_data for image in images],
        )
        start, between, end = times[0], times[-1], time.perf_counter()
        sharing = len(images) * at_once
        ms = {"model": (between - start) * 1000 / sharing, "post": (end - between) * 1000 / sharing}
        return [
            _failed(image, NotFinite(self.segmenter.precision).cause, ms)
            if made is None
            else Segmented(image.planned, image.source, image.image, made, 1, {**image.ms, **ms})
            for image, made in zip(images, maps, strict=True)
        ]

    def _through_windows(self, image: Loaded, tiling: Tiling) -> list[Segmented | Failed]:
        """Segment one image through its windows."""
        start, model, left = time.perf_counter(), 0.0, len(tiling)

        def seen(windows: int, seconds: float) -> None:
            nonlocal model, left
            model += seconds
            left -= windows
            self.on_windows(windows, len(tiling))

        def begin(size: tuple[int, int], classes: int) -> Unfinished:
            if self.job.options.keep_scores:  # four times as large as the labels: they aren't kept
                return Unfinished.new(size, classes)
            name = self.run.listing.images[image.planned.position].name
            so_far = KeptRows(self.run.output, name, image.source, self.say).begin(size, classes)
            if so_far.rows:
                self.say(f"{printable(name)}: going on at row {so_far.rows:,} of {size[0]:,}")
            if above := tiling.above(so_far.rows):
                seen(above, 0.0)
            return so_far

        try:
            made = self.segmenter.segment_tiled(
                image.image, tiling, self.job.vocabulary, self.job.options, self.most, seen, begin
            )
        except NotFinite as fault:
            self.on_windows(left, len(tiling))
            return [replace(_failed(image, fault.cause, {"model": model * 1000}), windows=len(tiling))]
        except (RuntimeError, MemoryError):
            self.on_windows(left - len(tiling), len(tiling))  # they may be seen again, fewer at a time
            raise
        if left:  # without data
            self.on_windows(left, len(tiling))
        ms = {"model": model * 1000, "post": (time.perf_counter() - start - model) * 1000}
        return [Segmented(image.planned, image.source, image.image, made, len(tiling), {**image.ms, **ms})]


def _batches(loaded: Iterable[Loaded | Failed | Large]) -> Iterator[_Batch]:
    batch: list[Loaded | Failed | Large] = []
    for image in loaded:
        batch.append(image)
        if image.planned.ends_batch:
            del image  # or the last one would be kept while the next is loaded
            yield batch
            batch = []


def _is_tiled(image: Loaded | Failed | Large) -> bool:
    return isinstance(image, Loaded) and isinstance(image.seen, Tiling)


def _seen_as(image: Loaded) -> tuple[int, ...]:
    """Return what is equal for images that can share a forward pass."""
    return (image.planned.position,) if isinstance(image.seen, Tiling) else image.seen.shape


def _failed(image: Loaded, cause: str, ms: Ms) -> Failed:
    return Failed(
        image.planned,
        image.source,
        cause,
        image.image.exif_orientation,
        image.image.notes,
        {**image.ms, **ms},
    )
