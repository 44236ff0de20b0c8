"""The other number: how fast `san predict` gets through a folder, from files to files."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from san_cli.datasets.images import BadImage
from san_cli.engine.segmenter import Segmenter
from san_cli.fps.systems import Setup
from san_cli.models.presets import Preset
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.weights.find import local_weights


@dataclass(frozen=True)
class Folder:
    """A folder of images, and the way to segment all of it."""

    images: Sequence[os.PathLike[str]]
    vocabulary: Vocabulary
    # Segments the images into a folder; for each the milliseconds of its stages, None for one that failed.
    predict: Callable[[Segmenter, Setup, Path], Iterable[Mapping[str, float] | None]]


@dataclass(frozen=True)
class FolderRate:
    """The rate at which a folder was done."""

    images: int
    failed: int
    images_per_s: float
    stages_ms: dict[str, float]  # medians an image; the stages run side by side
    classes: int
    weights: str  # "random", or where they were found


def folder_rate(
    folder: Folder,
    preset: Preset,
    setup: Setup,
    precision: str,
    step: Callable[[int, int], None],
    say: Callable[[str], None],
) -> FolderRate:
    """Time the segmenting of a folder, into one that is thrown away; loading, text and one image are not timed.

    Weights that lie ready are used, nothing is downloaded; else they are random.
    """
    weights = local_weights(preset.name)
    segmenter = Segmenter.load(
        preset,
        weights or "random",
        device=str(setup.device),
        precision=precision,
        compile=setup.compile,
        say=say,
    )
    segmenter.embed(folder.vocabulary)
    try:
        segmenter.segment(folder.images[0], folder.vocabulary)
    except BadImage:
        pass  # it will be counted as failed
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="san-fps-") as temporary:
        start = time.perf_counter()
        for stages in folder.predict(segmenter, setup, Path(temporary)):
            outcomes.append(stages)
            step(len(outcomes), len(folder.images))
        seconds = time.perf_counter() - start
    done = [stages for stages in outcomes if stages is not None]
    medians = {
        stage: statistics.median(stages[stage] for stages in done) for stage in (done[0] if done else ())
    }
    return FolderRate(
        len(outcomes),
        len(outcomes) - len(done),
        len(done) / seconds,
        medians,
        len(folder.vocabulary),
        "random" if weights is None else weights.name,
    )
