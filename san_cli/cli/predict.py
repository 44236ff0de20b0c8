"""`san predict`: what the user asked for is checked, cheap things first; then the run."""

import math
import sys
import time
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from san_cli.cli import options
from san_cli.cli import predict_options as own
from san_cli.cli.predict_report import Report, run_line
from san_cli.cli.progress import progress
from san_cli.cli.stray_words import may_be_word, refuse_stray_words
from san_cli.datasets.bad_image import MAX_PIXELS
from san_cli.errors import ExitCode, SanError, did_you_mean
from san_cli.text import nearest, quoted

_FILE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
    ".gif",
    ".json",
    ".jsonl",
    ".html",
    ".zip",
)

if TYPE_CHECKING:
    from san_cli.datasets.reading import Reading
    from san_cli.engine.segmenter import Segmenter
    from san_cli.predict.folder import Run
    from san_cli.predict.inputs import Listing
    from san_cli.predict.stages import Job
    from san_cli.runs.processes import Processes
    from san_cli.runs.shares import Share
    from san_cli.vocabulary.grammar import Vocabulary

_KINDS_ELSEWHERE = {  # what people ask for by its format, or by another program's word
    **dict.fromkeys(("png", "mask", "masks", "label", "map", "labelmap", "seg"), "labels"),
    **dict.fromkeys(("jpg", "jpeg", "image", "images", "vis", "visualization", "color", "colour"), "overlay"),
    **dict.fromkeys(("coco", "rle", "annotations", "predictions"), "json"),
    **dict.fromkeys(("page", "gallery", "report", "web"), "html"),
    "all": "overlay,labels,json,html",
}


def predict(
    inputs: own.Inputs,
    output: own.Output = Path("san-out"),
    vocab: options.Vocab = None,
    show: own.Show = None,
    background: own.Background = None,
    min_score: own.MinScore = 0.0,
    templates: options.Templates = "vild",
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile: options.Compile = False,
    save: own.Save = "overlay,labels,json",
    jsonl: own.Jsonl = False,
    overwrite: own.Overwrite = False,
    recursive: own.Recursive = True,
    exclude: own.Exclude = None,
    null: own.Null = False,
    limit: own.Limit = None,
    range: own.Range = None,
    bands: own.Bands = None,
    max_pixels: own.MaxPixels = MAX_PIXELS,
    max_bytes: own.MaxBytes = None,
    fail_fast: own.FailFast = False,
    batch: own.Batch = 1,
    workers: own.Workers = None,
    shard: own.Shard = None,
    quiet: options.Quiet = False,
) -> None:
    """Segment images: overlays, label maps and one predictions.json for all.

    The tree of the inputs is mirrored under the output folder. The same command
    again does only what is missing or has changed, so that an interrupted run
    goes on where it stopped.

    \b
    Examples:
      san predict examples/scenes --model tiny
      san predict photos --vocab coco+"golden retriever"
      san predict street.jpg --vocab cityscapes+graffiti --show graffiti
      san predict 'photos/**/*.jpg' -o out --vocab @names.txt --save labels
      find . -name '*.png' -print0 | san predict - -0 --jsonl --save none
      torchrun --nproc-per-node 8 -m san_cli predict photos/ --batch 8
    """
    from san_cli.predict.folder import check_folder, end_run, open_run
    from san_cli.predict.inputs import fail_unreadable
    from san_cli.predict.journal import STATE_FOLDER
    from san_cli.predict.settings import asked_settings, with_model
    from san_cli.runs.lock import refuse_unusable_folder
    from san_cli.vocabulary.templates import templates as template_set

    kinds = _kinds(save)
    if not math.isfinite(min_score):
        raise SanError("--min-score is not a number", hint="Scores begin at 0; most pixels have less than 1.")
    reading = _reading(range, bands)
    _check_output_name(output)
    share, processes = _share(shard, overwrite)
    report = Report(output, kinds, jsonl, quiet, leads=processes.leads)
    refuse_stray_words(inputs, may_be_word)
    vocabulary, shown = _vocabulary(vocab, _default_vocabulary(model), show, background, min_score, report)
    asked = asked_settings(
        vocabulary, template_set(templates), kinds,
        show=shown, background=background, min_score=min_score, batch=batch, reading=reading,
    )  # fmt: skip
    listing = _listing(inputs, output, recursive, exclude or [], null, limit, processes, report)
    refuse_unusable_folder(output)
    if not (output / STATE_FOLDER).exists():  # else the run must take away what it made of them before
        listing = fail_unreadable(listing, max_pixels)
    _tell_failures(listing, fail_fast, report)
    _check_model(model, weights, device, precision, report)
    if not overwrite:  # last, as it may be meant for another run and must not hide what else is wrong
        check_folder(output, listing.images, kinds, asked)

    from san_cli.engine.tiny_world import note_on_pictures, note_on_words
    from san_cli.predict.stages import Job, MapOptions  # only now, as importing torch takes seconds

    options = MapOptions(min_score, background, shown)
    job = Job(vocabulary, options, kinds, batch, max_pixels, max_bytes, reading)
    with report.timed("load"):
        segmenter = _load(model, weights, device, precision, compile, templates, report)
    report.info(
        run_line(segmenter, weights, device, len(vocabulary) + (background is not None), len(listing.images))
    )
    _tell_of_tiny(note_on_words(segmenter.preset, vocabulary), report)
    settings = with_model(asked, segmenter, compile)
    with open_run(
        output, listing, kinds, settings, share=share, processes=processes, overwrite=overwrite
    ) as run:
        with report.timed("text"):
            _embed(segmenter, vocabulary, processes, report)
        _work(run, job, segmenter, workers, fail_fast, report)
        _tell_of_tiny(note_on_pictures(segmenter.pictures, segmenter.strange_pictures), report)
        report.nothing_found(job.classes, shown, min_score)
        ending = end_run(run, job.classes)
        _print_together(run, job, report)
    report.end(ending, job.classes, share)
    raise typer.Exit(report.exit_code(ending))


def _kinds(save: str) -> tuple[str, ...]:
    """The kinds that `--save` names, in their usual order."""
    from san_cli.predict.results import KINDS

    asked = [kind.strip().lower() for kind in save.split(",")]
    if asked in ([""], ["none"]):
        return ()
    for kind in asked:
        if kind not in KINDS:
            near = _KINDS_ELSEWHERE.get(kind) or nearest(kind, KINDS)
            hint = did_you_mean(near, f"There are {', '.join(KINDS)}, or none.")
            raise SanError(f"--save knows no '{kind}'", hint=hint)
    return tuple(kind for kind in KINDS if kind in asked)


def _check_output_name(output: Path) -> None:
    """SanError for a folder of results by the name of a file: somebody expects a file there."""
    if str(output) == "-":
        raise SanError("-o names a folder", hint="What goes to stdout is --jsonl.")
    if output.suffix.lower() in _FILE_SUFFIXES and not output.is_dir():
        raise SanError(
            f"-o names a folder for all results, and {quoted(output)} would be one",
            hint="Name a folder: the overlay of cat.jpg is written there as cat.overlay.jpg, its label map as "
            "cat.labels.png.",
        )


def _reading(range: str | None, bands: str | None) -> "Reading":
    """What `--range` and `--bands` say."""
    from san_cli.datasets.reading import Reading, parse_bands, parse_range

    return Reading(
        None if range is None else parse_range(range), None if bands is None else parse_bands(bands)
    )


def _default_vocabulary(model: str | None) -> str:
    """That of the model's world; SanError for an unknown model, before anything else is found wrong."""
    from san_cli.models.presets import get_preset

    return "emoji" if model is not None and get_preset(model).name == "tiny" else "coco"


def _share(shard: str | None, overwrite: bool) -> "tuple[Share, Processes]":
    """Our share of the list, and the processes that torchrun started with us, if it did."""
    from san_cli.runs.processes import ALONE, meet, own_share
    from san_cli.runs.shares import parse_shard

    if shard is None:
        processes = meet()
        return processes.share, processes
    if own_share().count > 1:
        raise SanError("--shard can't be combined with torchrun, which splits the list itself")
    if overwrite:
        raise SanError(
            "--overwrite can't be combined with --shard: no shard knows which results of others are old",
            hint="Choose a new folder with -o.",
        )
    return parse_shard(shard), ALONE


def _vocabulary(
    vocab: list[str] | None,
    default: str,
    show: list[str] | None,
    background: str | None,
    min_score: float,
    report: Report,
) -> "tuple[Vocabulary, tuple[str, ...] | None]":
    """The vocabulary, and the names that `--show` keeps."""
    from san_cli.vocabulary.grammar import parse_vocabulary, select_entries
    from san_cli.vocabulary.terms import check_word, word_key

    vocabulary = parse_vocabulary(vocab or [default])
    for text in vocabulary.notes:
        report.info(f"note: {text}")
    if background is not None:
        check_word(background)
        if word_key(background) in map(word_key, vocabulary.words):
            raise SanError(
                f"--background '{background}' is in the vocabulary, too", hint="Give it a name of its own."
            )
    if len(vocabulary) <= 3 and background is None and not show and not min_score:
        only = "of the one class" if len(vocabulary) == 1 else f"one of {len(vocabulary)} classes"
        report.info(
            f"note: every pixel must be {only}; with --vocab coco+… and --show … "
            "the classes of coco compete, with --background NAME whatever is no object"
        )
    if not show:
        return vocabulary, None
    nothing = [] if background is None else [word for word in show if word_key(word) == word_key(background)]
    named = select_entries(vocabulary, [word for word in show if word not in nothing])
    return vocabulary, (*(vocabulary.names[index] for index in named), *nothing[:1])


def _listing(
    inputs: list[str],
    output: Path,
    recursive: bool,
    exclude: list[str],
    null: bool,
    limit: int | None,
    processes: "Processes",
    report: Report,
) -> "Listing":
    from san_cli.predict.inputs import Listing, discover
    from san_cli.predict.output_names import check_collisions

    if null and "-" not in inputs:
        report.info("note: -0 is about a list on stdin, and there is no INPUT - that reads one")
    listing = discover(
        inputs,
        recursive=recursive,
        stdin=_stdin(processes) if "-" in inputs else None,
        null_separated=null,
        exclude=exclude,
        output=output,
        say=lambda text: report.info(f"note: {text}"),
    )
    listing = Listing(listing.images[:limit], listing.failures)
    check_collisions(listing.images, output)
    return listing


def _stdin(processes: "Processes") -> BinaryIO | None:
    """The list on stdin; of several processes only the leading one reads it and tells the others."""
    from san_cli.predict.input_list import LONGEST_LIST

    stdin = None if sys.stdin is None else sys.stdin.buffer
    if processes.world == 1 or stdin is None:
        return stdin
    return BytesIO(processes.from_leader("stdin", lambda: stdin.read(LONGEST_LIST + 1)))


def _tell_failures(listing: "Listing", fail_fast: bool, report: Report) -> None:
    """Inputs that came to no image at all; SanError if none is left."""
    from san_cli.predict.finish import failed_records
    from san_cli.predict.input_notes import nothing_usable

    failures = listing.failures
    if report.leads and (listing.images or len(failures) > 1):
        for failure in failures:
            report.failure(failure.name, failure.cause)
    if not listing.images:
        if report.jsonl and report.leads:
            for failure, record in zip(failures, failed_records(failures), strict=True):
                report.json_line(failure.path, record, ())
        raise nothing_usable(failures)
    if failures and fail_fast:
        raise _stopped()


def _check_model(model: str | None, weights: str | None, device: str, precision: str, report: Report) -> None:
    """Whatever can be wrong with these options and is known without loading the model; SanError if it is."""
    from san_cli.engine.device import choose_device, choose_precision
    from san_cli.models.presets import get_preset
    from san_cli.weights.find import find_weights

    choose_precision(precision, choose_device(device))
    if weights != "random":
        find_weights(get_preset(model or "vit-b-16").name, weights, say=report.warning)


def _load(
    model: str | None,
    weights: str | None,
    device: str,
    precision: str,
    compile: bool,
    templates: str,
    report: Report,
) -> "Segmenter":
    from san_cli.engine.segmenter import Segmenter
    from san_cli.runs.processes import own_device

    return Segmenter.load(
        model,
        weights,
        device=own_device(device),
        precision=precision,
        templates=templates,
        compile=compile,
        say=report.warning,
    )


def _tell_of_tiny(note: str | None, report: Report) -> None:
    if note is not None:
        report.warning(note)


def _embed(segmenter: "Segmenter", vocabulary: "Vocabulary", processes: "Processes", report: Report) -> None:
    """Have the words embedded; by the leading process first, the others find them in the cache."""
    from san_cli.engine.alike_words import word_notes

    with (
        processes.leader_first("embedded"),
        progress("embedding words", len(vocabulary.words), quiet=report.quiet) as step,
    ):
        embedded = segmenter.embed(vocabulary, step)
    length = segmenter.preset.clip.context_length
    for text in word_notes(vocabulary, embedded, segmenter.templates, length):
        report.info(f"note: {text}")


def _work(
    run: "Run", job: "Job", segmenter: "Segmenter", workers: int | None, fail_fast: bool, report: Report
) -> None:
    """Do our share of the images."""
    from san_cli.predict.finish import failed_records
    from san_cli.predict.pipeline import predict_images
    from san_cli.runs.processes import default_workers

    images, own_lines = run.listing.images, report.jsonl and run.processes.world == 1
    outcomes = predict_images(
        run,
        job,
        segmenter,
        workers=workers or default_workers(segmenter.device.type),
        reread=own_lines,
        say=report.warning,
    )
    positions = list(run.share.positions(len(images), job.batch))
    report.work_started = time.monotonic()
    with closing(outcomes), progress("images", len(positions), quiet=report.quiet) as step:
        for number, outcome in enumerate(outcomes):
            report.outcome(outcome)
            if own_lines:
                path = str(images[positions[number]].path)
                report.json_line(path, outcome.record, job.classes, outcome.exif_orientation, outcome.ms)
            step(number + 1)
            if fail_fast and outcome.record.error is not None:
                raise _stopped()
    report.work_seconds = time.monotonic() - report.work_started
    if own_lines:
        for failure, record in zip(run.listing.failures, failed_records(run.listing.failures), strict=True):
            report.json_line(failure.path, record, job.classes)


def _print_together(run: "Run", job: "Job", report: Report) -> None:
    """Print the lines of several processes at the end, as only then they are in order."""
    from san_cli.predict.folder import all_records

    if run.processes.world > 1 and run.processes.leads and report.jsonl:
        for path, record, exif_orientation in all_records(run):
            report.json_line(path, record, job.classes, exif_orientation)


def _stopped() -> SanError:
    return SanError("stopped at the first failure (--fail-fast)", code=ExitCode.SOME_FAILED)
