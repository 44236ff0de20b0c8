"""The other number: how fast `san predict` gets through a folder, from files to files."""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from san_cli.datasets.images import BadImage
from san_cli.engine.segmenter import MapOptions, Segmenter
from san_cli.models.presets import Preset
from san_cli.predict.input_notes import nothing_usable
from san_cli.predict.inputs import discover
from san_cli.predict.pipeline import predict_images
from san_cli.predict.run import end_run, open_run
from san_cli.predict.settings import asked_settings, with_model
from san_cli.predict.stages import Job
from san_cli.runs.processes import default_workers
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.weights.find import local_weights

_KINDS = ("overlay", "labels", "json")
_MAX_PIXELS = 178_956_970  # as `san predict` has it


@dataclass(frozen=True)
class FolderRate:
    """A folder, done."""

    images: int
    failed: int
    images_per_s: float
    stages_ms: dict[str, float]  # medians an image; the stages run side by side
    classes: int
    weights: str  # "random", or where they were found


def folder_rate(
    folder: Path,
    vocabulary: Vocabulary,
    preset: Preset,
    *,
    device: str,
    precision: str,
    batch: int,
    compile: bool,
    say: Callable[[str], None],
    step: Callable[[int, int], None],
) -> FolderRate:
    """Run `san predict` over the images of a folder into one that is thrown away.

    Weights that lie ready are used, nothing is downloaded; else they are random. Loading, text and one image to
    warm up are not timed. Raises SanError where there is no image.
    """
    listing = discover([str(folder)], say=say)
    if not listing.images:
        raise nothing_usable(listing.failures)
    weights = local_weights(preset.name)
    segmenter = Segmenter.load(
        preset, weights or "random", device=device, precision=precision, compile=compile, say=say
    )
    segmenter.embed(vocabulary)
    try:
        segmenter.segment(listing.images[0].path, vocabulary)
    except BadImage:
        pass  # it will be counted as failed
    job = Job(vocabulary, MapOptions(), _KINDS, batch, _MAX_PIXELS)
    asked = asked_settings(
        vocabulary, segmenter.templates, _KINDS, show=None, background=None, min_score=0.0, batch=batch
    )
    outcomes = []
    workers = default_workers(segmenter.device.type)
    with tempfile.TemporaryDirectory(prefix="san-fps-") as temporary:
        settings = with_model(asked, segmenter, compile)
        with open_run(Path(temporary), listing, _KINDS, settings) as run:
            start = time.perf_counter()
            made = predict_images(run, job, segmenter, workers=workers, reread=False, say=say)
            with closing(made):
                for outcome in made:
                    outcomes.append(outcome)
                    step(len(outcomes), len(listing.images))
            end_run(run, job.classes)
            seconds = time.perf_counter() - start
    done = [outcome for outcome in outcomes if outcome.record.error is None]
    stages = {
        stage: statistics.median(outcome.ms[stage] for outcome in done)
        for stage in (done[0].ms if done else ())
    }
    return FolderRate(
        len(outcomes),
        len(outcomes) - len(done),
        len(done) / seconds,
        stages,
        len(vocabulary),
        "random" if weights is None else weights.name,
    )
