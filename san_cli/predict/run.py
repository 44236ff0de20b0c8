"""`san predict` from its inputs to its results.

inputs (inputs.py)  →  folder (folder.py)  →  images done (pipeline.py), kept (journal.py)  →  results (finish.py)
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from san_cli.engine.backend import PYTORCH, check_backend
from san_cli.engine.onnx_file import is_onnx
from san_cli.engine.tiling import is_squeezed
from san_cli.errors import ExitCode, SanError
from san_cli.models.presets import PRESETS, get_preset
from san_cli.outputs.annotations.yolo import link_suffix, untaken_note
from san_cli.outputs.jsonl import image_line
from san_cli.outputs.places import PLACED, SHARDS, idle_options
from san_cli.outputs.record import ImageRecord
from san_cli.predict.finish import failed_records
from san_cli.predict.folder import Run, all_records, check_folder, end_run, open_run
from san_cli.predict.input_hints import nothing_usable
from san_cli.predict.inputs import Listing, fail_unreadable
from san_cli.predict.journal import STATE_FOLDER
from san_cli.predict.kept_notes import keep_notes
from san_cli.predict.output_names import class_folders, result_paths
from san_cli.predict.request import (
    Inputs,
    Job,
    Model,
    Plan,
    Words,
    check_output_name,
    job_of,
    list_images,
    our_share,
    saved_kinds,
)
from san_cli.predict.result_tars import check_archives, places_in_tar
from san_cli.predict.search import FailedInput, InputImage
from san_cli.predict.settings import as_loaded, asked_settings, with_model
from san_cli.predict.summary import Summary, run_line
from san_cli.runs.lock import refuse_unusable_folder
from san_cli.runs.processes import Processes, default_workers, own_device
from san_cli.runs.settings import Settings
from san_cli.runs.shares import Share
from san_cli.runs.voice import Step, Voice
from san_cli.text import printable
from san_cli.vocabulary.templates import templates as template_set
from san_cli.weights.file_hash import begin_hashing
from san_cli.weights.find import expanded, find_weights, local_weights

if TYPE_CHECKING:
    from san_cli.engine.segmenter import Segmenter
    from san_cli.predict.states import Outcome


@dataclass(frozen=True)
class Checked:
    """What was asked for, found to be possible as far as that shows without a model."""

    job: Job
    templates: tuple[str, ...]
    settings: Settings  # but for the model's
    listing: Listing
    share: Share
    processes: Processes
    summary: Summary


def predict(inputs: Inputs, words: Words, model: Model, plan: Plan, voice: Voice) -> ExitCode:
    """Segment images into a folder of results: only those that it lacks, or that have changed or failed.

    Returns what the command ends with. SanError for whatever keeps it from its end. Of a dry run the plan is told.
    """
    checked = _checked(inputs, words, model, plan, voice)
    job, listing, processes, summary = checked.job, checked.listing, checked.processes, checked.summary
    if plan.dry_run:
        from san_cli.predict.dry_run import tell_plan

        return tell_plan(checked, model, plan)

    # A folder in which everything is done says so at once.
    from san_cli.predict.finished import end_if_finished

    ended = end_if_finished(checked, words, model, plan)
    if ended is not None:
        return ended

    # The model, as far as it is known without loading it. Importing torch takes seconds: only now.
    _hash_meanwhile(model)
    from san_cli.engine.learned_rows import refuse_words_of_others
    from san_cli.engine.outlook import refuse_words_before_loading
    from san_cli.engine.tiny_world import note_on_pictures, note_on_words

    refuse_words_before_loading(job.vocabulary, model.name, model.weights)
    backend = _check_model(model, summary)
    if not plan.overwrite:  # last, as it may be meant for another run and must not hide what else is wrong
        check_folder(plan.output, listing.images, job.save, checked.settings)

    segmenter = _load(model, checked, backend)
    refuse_words_of_others(job.vocabulary, segmenter.preset.name, segmenter.hashes)
    loaded = as_loaded(segmenter, model.compile)
    summary.voice.tell(run_line(loaded, model, len(job.classes), len(listing.images)))
    summary.warn(note_on_words(segmenter.preset, job.vocabulary))

    # The words, then image after image, each in the journal once its files are whole.
    settings = with_model(checked.settings, loaded)
    with open_run(
        plan.output,
        listing,
        job.save,
        settings,
        share=checked.share,
        processes=processes,
        overwrite=plan.overwrite,
    ) as run:
        with summary.timed("text"), processes.leader_first("embedded"):  # the others find them in the cache
            competing, notes = _embed(segmenter, job, summary.voice, verbose=words.verbose)
        if processes.leads:
            keep_notes(plan.output, notes)
        _do_images(run, job, segmenter, plan, summary)
        summary.warn(note_on_pictures(segmenter.pictures, segmenter.strange_pictures))
        summary.nothing_found(job, competing)

        # What concerns all images is made from the journal, by whoever is last.
        ending = end_run(run, job.classes)
        if plan.jsonl and processes.world > 1 and processes.leads:  # only now they are in order
            for one, record, exif_orientation in all_records(run):
                summary.voice.data(json_line(plan.output, job, one, record, exif_orientation))
    summary.end(ending, job.classes, checked.share)
    return summary.exit_code(ending) if processes.leads else ExitCode.DONE


def _load(model: Model, checked: Checked, backend: str) -> "Segmenter":
    """Load the model; where it may be exported first, one process does that for all. SanError where it can't be."""
    from san_cli.engine.segmenter import Segmenter

    own, summary = backend == PYTORCH, checked.summary
    summary.seconds["start"] = time.monotonic() - summary.started  # most of it PyTorch's
    with summary.timed("load"), nullcontext() if own else checked.processes.leader_first("loaded"):
        return Segmenter.load(
            model.name,
            model.weights,
            device=own_device(model.device) if own else model.device,
            precision=model.precision,
            templates=checked.templates,
            compile=model.compile,
            backend=backend,
            say=summary.warn,
        )


def _hash_meanwhile(model: Model) -> None:
    """Begin to hash the weights, if they are here and their hash isn't known yet."""
    preset = PRESETS.get(model.name or "vit-b-16")
    named = model.weights or (None if preset is None else local_weights(preset.name))
    if named is not None and os.path.isfile(path := expanded(Path(named))):  # noqa: PTH113 (no error for odd names)
        begin_hashing(path)


def _check_model(model: Model, summary: Summary) -> str:
    """Check what is known of the model without loading it; returns the backend. SanError for what can't be."""
    backend = check_backend(
        model.backend, model.weights, device=model.device, precision=model.precision, compile=model.compile
    )
    if not is_onnx(model.weights) and model.weights != "random":
        find_weights(get_preset(model.name or "vit-b-16").name, model.weights, say=summary.warn)
    return backend


def _checked(inputs: Inputs, words: Words, model: Model, plan: Plan, voice: Voice) -> Checked:
    """Check what was asked for, cheap things first; SanError for what can't be, or can't be begun."""
    # What is wrong with an option shows first: nothing is read for that.
    saved_kinds(plan.save)
    check_output_name(plan.output)
    # The leading one of several processes speaks for all; the others tell of their failures.
    share, processes = our_share(plan, voice)
    if not processes.leads:
        voice = Voice(say=voice.say, progress=voice.progress)

    # Words, images and the folder of the results: seconds at most, and most mistakes are there.
    job = job_of(inputs, words, model, plan, voice)
    for note in idle_options(job.save, regions=job.regions and not plan.jsonl, simplify=job.simplify):
        voice.note(note)
    listing = list_images(inputs, plan.output, processes, voice)
    check_archives(listing.images, job.save, plan.output)
    refuse_unusable_folder(plan.output)
    if not (plan.output / STATE_FOLDER).exists():  # else the run must take away what it made of them before
        listing = fail_unreadable(listing, inputs.max_pixels)
    untaken = [
        image.name for image in listing.images if "yolo" in job.save and link_suffix(image.path.name) is None
    ]
    if untaken:
        voice.note(untaken_note(untaken))
    summary = Summary(plan.output, job.save, voice)
    _tell_failures(listing, job, plan, summary, leads=processes.leads)
    templates = template_set(words.templates)
    return Checked(job, templates, asked_settings(job, templates), listing, share, processes, summary)


def predict_folder(
    listing: Listing, output: Path, job: Job, segmenter: "Segmenter", *, compile: bool, voice: Voice
) -> Iterator["Outcome"]:
    """Segment all of a list into a folder, by one process, in the list's order. SanError where that fails."""
    from san_cli.predict.pipeline import predict_images

    settings = with_model(asked_settings(job, segmenter.templates), as_loaded(segmenter, compile))
    workers = default_workers(segmenter.device.type)
    with open_run(output, listing, job.save, settings) as run:
        yield from predict_images(run, job, segmenter, workers=workers, reread=False, say=voice.warn)
        end_run(run, job.classes)


def _tell_failures(listing: Listing, job: Job, plan: Plan, summary: Summary, *, leads: bool) -> None:
    """Tell of inputs that came to no image at all; SanError if none is left."""
    failures = listing.failures
    if leads and (listing.images or len(failures) > 1):
        for failure in failures:
            summary.failure(failure.name, failure.cause)
    if not listing.images:
        if plan.jsonl and leads and not plan.dry_run:
            for failure, record in zip(failures, failed_records(failures), strict=True):
                summary.voice.data(json_line(plan.output, job, failure, record))
        raise nothing_usable(failures)
    if failures and plan.fail_fast:
        raise _stopped()


def _embed(
    segmenter: "Segmenter", job: Job, voice: Voice, *, verbose: bool
) -> tuple[tuple[str, ...], list[str]]:
    """Embed the words; returns the names of all classes that compete, seen or not, and what was told of the words."""
    from san_cli.engine.alike_words import word_notes
    from san_cli.engine.contrast import told

    names = job.classes
    with voice.progress("embedding words", len(job.vocabulary.words)) as step:
        embedded = segmenter.embed(job.vocabulary, step)
        contrast = segmenter.contrast(job.vocabulary, step) if job.options.only else None
    if contrast is not None:
        names = contrast.competing.names
    if verbose:
        lines = [f"competing: {', '.join(map(printable, names))}"] if contrast is None else told(contrast)
        for line in lines:
            voice.tell(line)
    length = segmenter.preset.clip.context_length
    notes = word_notes(job.vocabulary, embedded, segmenter.templates, length)
    for text in notes:
        voice.note(text)
    return names, notes


def _do_images(run: Run, job: Job, segmenter: "Segmenter", plan: Plan, summary: Summary) -> None:
    """Do our share of the images, and print a line on each unless other processes have some of them."""
    from san_cli.predict.pipeline import predict_images

    images, prints = run.listing.images, plan.jsonl and run.processes.world == 1
    positions = list(run.share.positions(len(images), job.batch))
    workers = plan.workers or default_workers(segmenter.device.type)
    summary.work_started = time.monotonic()
    with ExitStack() as stack:
        what = "images" if job.tile is None else "windows"
        bar = WindowCount(stack.enter_context(summary.voice.progress(what, len(positions))), len(positions))
        outcomes = stack.enter_context(
            closing(
                predict_images(
                    run, job, segmenter,
                    workers=workers, reread=prints, say=summary.warn, on_windows=bar.seen,
                )
            )
        )  # fmt: skip
        for number, outcome in enumerate(outcomes):
            summary.outcome(outcome)
            if prints:
                image = images[positions[number]]
                line = json_line(
                    plan.output, job, image, outcome.record, outcome.exif_orientation, outcome.ms
                )
                summary.voice.data(line)
            bar.image(outcome.windows)
            record = outcome.record
            is_new = not outcome.done_before and record.height
            if is_new and outcome.windows == 1 and is_squeezed(record.height, record.width, segmenter.preset):
                summary.seen_small(record)
            if plan.fail_fast and outcome.record.error is not None:
                raise _stopped()
    summary.work_seconds = time.monotonic() - summary.work_started
    if prints:
        failures = run.listing.failures
        for failure, record in zip(failures, failed_records(failures), strict=True):
            summary.voice.data(json_line(plan.output, job, failure, record))


class WindowCount:
    """Counts windows for a bar: as many as there are images, until one turns out to have more."""

    def __init__(self, step: Step, images: int) -> None:
        """Begin a bar for so many images."""
        self._step, self._total = step, images
        self._done = self._of_this = 0

    def seen(self, windows: int, of: int) -> None:
        """Count windows of a tiled image that has `of`; below 0: all that were counted are to be seen again."""
        if windows and not self._of_this:
            self._total += of - 1
        self._of_this += windows
        self._done += windows
        if windows < 0:
            self._total -= of - 1
        if self._of_this == of:
            self._of_this = 0
        self._step(self._done, self._total)

    def image(self, windows: int) -> None:
        """Count an image that is finished; a tiled one's windows have been."""
        self._done += windows == 1
        self._step(self._done, self._total)


def json_line(
    output: Path,
    job: Job,
    of: InputImage | FailedInput,
    record: ImageRecord,
    exif_orientation: int = 1,
    ms: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """One input as a line of JSON."""
    outputs = {} if record.error else result_paths(record.file_name, job.save)
    outputs = {
        kind: path for kind, path in outputs.items() if kind not in PLACED or (output / path).is_file()
    }
    if record.found:
        outputs |= class_folders(record.file_name, job.save)
    if SHARDS in job.save and isinstance(of, InputImage):
        outputs = places_in_tar(of, outputs, job.save)
    return image_line(
        record,
        job.classes,
        input=str(of.path),
        exif_orientation=exif_orientation,
        outputs={kind: str(output / relative) for kind, relative in outputs.items()},
        ms=ms,
        by_region=job.regions,
    )


def _stopped() -> SanError:
    return SanError("stopped at the first failure (--fail-fast)", code=ExitCode.SOME_FAILED)
