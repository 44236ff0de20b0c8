"""How long a run would take, and how much it would write: one of its pictures is done to know that.

That goes into a folder of the cache, which is then thrown away.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from san_cli.engine.device import peak_memory_mb
from san_cli.engine.segmenter import Segmenter
from san_cli.engine.tiling import tiling_of
from san_cli.predict.ahead import Ahead
from san_cli.predict.inputs import Listing
from san_cli.predict.request import Job
from san_cli.predict.run import predict_folder
from san_cli.predict.search import InputImage
from san_cli.predict.states import Ms, Outcome
from san_cli.runs.voice import Voice
from san_cli.text import printable
from san_cli.weights.cache_dir import cache_dir

_LONG = 5.0  # seconds: a first picture that takes them is not done again, warm
_DAY = 86_400  # seconds
_TRIED = 5  # pictures, where some can't be read
_MOST_WINDOWS, _MOST_PIXELS = 20, 60_000_000  # of a picture that is tried


@dataclass(frozen=True)
class Forecast:
    """What the images of a run would take."""

    seconds: float
    size: float | None  # bytes of the results; None where nothing tells
    memory_mb: float  # peak of the process, or on the GPU, of one picture
    basis: str  # what was measured


@dataclass(frozen=True)
class _Trial:
    """What one picture took."""

    basis: str
    pixels: int
    windows: int
    ms: Ms  # by stage
    size: int | None = None  # bytes of its results
    constant: int = 0  # bytes of results that are the same however many pictures there are


def forecast(segmenter: Segmenter, job: Job, ahead: Ahead, workers: int) -> Forecast | None:
    """Try one of the images, and reckon from it and from their sizes; None where none of those tried can be read."""
    windows = [_windows(size, job, segmenter) for size in ahead.sizes]
    pixels = [height * width for height, width in ahead.sizes]
    usual = median(pixels)
    order = sorted(range(len(pixels)), key=lambda i: (windows[i], abs(pixels[i] - usual)))
    with _scratch() as folder:
        first = order[0]
        if windows[first] > _MOST_WINDOWS or pixels[first] > _MOST_PIXELS:
            trial: _Trial | None = _noise_tried(segmenter, job, ahead.sizes[first], folder)
        else:
            trial = _tried(segmenter, job, [ahead.todo[i] for i in order[:_TRIED]], folder)
    if trial is None:
        return None
    # The network's time is by windows, all other by pixels; threads decode and write meanwhile, on a CPU's own cores.
    scale = sum(pixels) / trial.pixels
    network = trial.ms["model"] * sum(windows) / trial.windows + trial.ms["post"] * scale
    threads = (trial.ms["decode"] + trial.ms["write"]) * scale / workers
    ms = network + threads if segmenter.device.type == "cpu" else max(network, threads)
    size = None if trial.size is None else trial.constant + trial.size * scale
    return Forecast(ms / 1000, size, peak_memory_mb(segmenter.device), trial.basis)


def _windows(size: tuple[int, int], job: Job, segmenter: Segmenter) -> int:
    tiling = tiling_of(*size, job.tile, segmenter.preset)
    return 1 if tiling is None else len(tiling)


def _tried(segmenter: Segmenter, job: Job, images: Sequence[InputImage], folder: Path) -> _Trial | None:
    """Do the first of `images` that can be done."""
    _, constant = _done(folder / "none", (), job, segmenter)
    for number, image in enumerate(images):
        (outcome,), size = _done(folder / f"{number}", (image,), job, segmenter)
        if outcome.record.error is None:
            pixels = outcome.record.height * outcome.record.width
            ms = _warm(outcome, image, job, segmenter, folder)
            basis = f"{printable(image.name)} was done for it"
            return _Trial(basis, pixels, outcome.windows, ms, max(0, size - constant), constant)
    return None


def _noise_tried(segmenter: Segmenter, job: Job, size: tuple[int, int], folder: Path) -> _Trial:
    """Do a window of noise, where all pictures are too large to try one."""
    tiling = tiling_of(*size, job.tile, segmenter.preset)
    height, width = (1024, 1024) if tiling is None else tiling.size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = InputImage(folder / "noise.png", "noise.png")
    Image.fromarray(noise).save(image.path)
    (outcome,), _ = _done(folder / "0", (image,), job, segmenter)
    ms = _warm(outcome, image, job, segmenter, folder)
    # Windows overlap by half: each adds a quarter of its pixels.
    pixels = height * width if tiling is None else height * width // 4
    return _Trial("a window of noise was done for it, as all pictures are large", pixels, outcome.windows, ms)


def _warm(outcome: Outcome, image: InputImage, job: Job, segmenter: Segmenter, folder: Path) -> Ms:
    """Return the times of a picture by stage: of a second pass, as in the first one all memory is new."""
    if sum(outcome.ms.values()) > 1000 * _LONG:
        return outcome.ms
    twice = (image, InputImage(image.path, f"again/{image.name}"))
    return _done(folder / "again", twice, job, segmenter)[0][-1].ms


def _done(
    output: Path, images: tuple[InputImage, ...], job: Job, segmenter: Segmenter
) -> tuple[list[Outcome], int]:
    """Do images into a folder; returns their outcomes, and how many bytes there are then."""
    found = predict_folder(Listing(images, ()), output, job, segmenter, compile=False, voice=Voice())
    outcomes = list(found)
    sizes = (path.stat().st_size for path in output.rglob("*") if path.is_file() and not path.is_symlink())
    return outcomes, sum(sizes)


@contextmanager
def _scratch() -> Iterator[Path]:
    """Make a folder in the cache, or where temporary files are if that can't be written to; removed afterwards."""
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        for old in cache_dir().glob("dry-run-*"):  # of one that was killed
            if time.time() - old.stat().st_mtime > _DAY:
                shutil.rmtree(old, ignore_errors=True)
        made = tempfile.TemporaryDirectory(prefix="dry-run-", dir=cache_dir())
    except OSError:
        made = tempfile.TemporaryDirectory(prefix="san-dry-run-")
    with made as folder:
        yield Path(folder)
