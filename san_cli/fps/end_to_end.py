"""The other number: how fast `san predict` gets through a folder, from files to files."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from san_cli.datasets.images import BadImage
from san_cli.engine.segmenter import Segmenter
from san_cli.vocabulary.grammar import Vocabulary

# Segments the images into a folder; for each the milliseconds of its stages, None for one that failed.
Predict = Callable[[Segmenter, Path], Iterable[Mapping[str, float] | None]]


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
    images: Sequence[Path],
    segmenter: Segmenter,
    vocabulary: Vocabulary,
    weights: str,
    predict: Predict,
    step: Callable[[int, int], None],
) -> FolderRate:
    """Time `predict` over images, into a folder that is thrown away.

    Loading, text and one image to warm up are not timed.
    """
    segmenter.embed(vocabulary)
    try:
        segmenter.segment(images[0], vocabulary)
    except BadImage:
        pass  # it will be counted as failed
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="san-fps-") as temporary:
        start = time.perf_counter()
        for stages in predict(segmenter, Path(temporary)):
            outcomes.append(stages)
            step(len(outcomes), len(images))
        seconds = time.perf_counter() - start
    done = [stages for stages in outcomes if stages is not None]
    medians = {
        stage: statistics.median(stages[stage] for stages in done) for stage in (done[0] if done else ())
    }
    return FolderRate(
        len(outcomes), len(outcomes) - len(done), len(done) / seconds, medians, len(vocabulary), weights
    )
