"""`san predict`: every image of a list through one pipeline, and nothing done twice.

    threads: decode, resize  →  this one: network, label map  →  threads: encode, write  →  this one: journal

Both queues are bounded, so memory doesn't grow with the list, and keep the order. An image's files are complete
before its journal line is written and get their names after: whatever ends the run, a rerun continues from the
journal, and knows every file that was made.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from san_cli.datasets.images import raise_pillow_limit, silence_decoders
from san_cli.engine.pipeline import threaded
from san_cli.engine.segmenter import Segmenter
from san_cli.outputs.record import ImageRecord
from san_cli.predict.batches import plan_batches
from san_cli.predict.folder import Run
from san_cli.predict.inputs import InputImage
from san_cli.predict.journal import ImageJournal, same_content, source_of
from san_cli.predict.made_files import Mark, has_size, marks_from, was_edited
from san_cli.predict.results import result_paths, stopping
from san_cli.predict.stages import Job, PassingImage, Stages
from san_cli.runs.shares import Share
from san_cli.text import counted, printable


@dataclass(frozen=True)
class Outcome:
    """One image, done now or before."""

    record: ImageRecord  # of an image done before: without its regions, unless they were asked for
    exif_orientation: int = 1
    done_before: bool = False
    ms: dict[str, float] = field(default_factory=dict)  # stage → milliseconds; a batch's are shared out
    notes: tuple[str, ...] = ()
    highest: tuple[float, int] = (0.0, 0)  # the largest winning score and its class, of an image done now


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

    `workers` threads decode and as many write. `reread` gives the regions of images done before, too.
    Raises SanError where results can't be written; what is journalled by then is complete.
    """
    raise_pillow_limit(job.max_pixels)
    silence_decoders()
    images = run.listing.images
    positions = list(run.share.positions(len(images), job.batch))
    wanted, edited = bytearray(len(images)), list[str]()
    for position in positions:
        wanted[position] = not is_done(images[position], run.journal, run.output, job.save)
        if not wanted[position]:
            edited += _edited(images[position].name, run.journal, run.output, job.save)
    if edited:
        say(
            f"left alone: {counted(len(edited), 'result')} that somebody has changed, e.g. {printable(edited[0])} "
            "(remove one, and all results of its image are made anew)"
        )
    stages = Stages(images, job, segmenter, run.output, say)
    held: dict[int, PassingImage] = {}  # finished before their turn: at most a window of batches
    with ExitStack() as stack:
        stack.callback(stages.discard_unnamed)
        finished = stack.enter_context(closing(_finished(stages, run.share, wanted, workers)))
        for position in positions:
            if not wanted[position]:
                yield _done_before(images[position].name, run.journal, reread)
                continue
            while position not in held:
                image = next(finished)
                held[image.position] = image
            image = held.pop(position)
            _journal(run, stages, image)
            assert image.record is not None
            yield Outcome(
                image.record, image.exif_orientation, ms=image.ms, notes=image.notes, highest=image.highest
            )


def is_done(image: InputImage, journal: ImageJournal, output: Path, save: Sequence[str]) -> bool:
    """Whether the image is finished, unchanged since then, and its files are there in full, be it as edited."""
    entry = journal.entries.get(image.name)
    if entry is None or entry.failed or not same_content(entry.source, source_of(image.path)):
        return False
    results = _marked(image.name, journal, output, save)
    return all(has_size(path, mark) or was_edited(path, mark) for path, mark in results)


def _edited(name: str, journal: ImageJournal, output: Path, save: Sequence[str]) -> list[str]:
    """Those of a finished image's files that somebody has changed."""
    results = _marked(name, journal, output, save)
    return [str(path) for path, mark in results if not has_size(path, mark)]


def _marked(
    name: str, journal: ImageJournal, output: Path, save: Sequence[str]
) -> list[tuple[Path, Mark | None]]:
    marks = marks_from(journal.entries[name].marks)
    return [(output / path, marks.get(kind)) for kind, path in result_paths(name, save).items()]


def _done_before(name: str, journal: ImageJournal, reread: bool) -> Outcome:
    record = journal.record(name) if reread else ImageRecord(name, 0, 0)
    return Outcome(record, journal.entries[name].exif_orientation, done_before=True)


def _journal(run: Run, stages: Stages, image: PassingImage) -> None:
    try:
        run.journal.append(image.line)
        stages.name_results(image)
    except OSError as error:
        raise stopping(error, run.output) from error


def _finished(
    stages: Stages, share: Share, wanted: bytearray, workers: int
) -> Generator[PassingImage, None, None]:
    """The wanted images after all stages, batch by batch."""
    batch = stages.job.batch
    batches = plan_batches(len(stages.images), batch, share, lambda i: bool(wanted[i]), stages.network_size)
    images = (
        PassingImage(position, bool(wanted[position]), ends_batch=position == group[-1])
        for group in batches
        for position in group
    )
    ahead = workers + batch - 1
    with (
        closing(threaded(stages.load, images, threads=workers, ahead=ahead)) as loaded,
        closing(threaded(stages.save, stages.segment(loaded), threads=workers, ahead=ahead)) as saved,
    ):
        yield from saved
