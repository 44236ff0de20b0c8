"""Does reading and augmenting keep up with training? Images a second by workers, and where a sample's time goes.

    python scripts/bench_loader.py [--workers 0,1,2,4] [--samples 200] [--crop 640] [--step-time 0.9 --batch 32]

Images are synthetic JPEGs of 640 × 480 with the detail of a photograph (about 130 KB), labels PNGs of a few
hundred regions. `--step-time` is a training step's in seconds for `--batch` images, as `bench_train.py` measures
it; `--images FOLDER --labels FOLDER` take other files (of at most 256 classes).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from san_cli.datasets.catalogue import Pair
from san_cli.datasets.images import load_image
from san_cli.datasets.labels import read_label, write_label
from san_cli.datasets.own_pairs import list_own_pairs
from san_cli.datasets.source import PairSource
from san_cli.train.augment import OFFICIAL, augment
from san_cli.train.loader import batches
from san_cli.train.training_set import TrainingSet

CLASSES, IGNORE = 256, 255


def make_pairs(folder: Path, count: int = 16, height: int = 480, width: int = 640) -> None:
    """Smooth shapes with some noise, and labels of a few hundred regions."""
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (height // 8, width // 8, 3), np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = np.clip(smooth + generator.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"images/{number}.jpg", quality=90)
        regions = Image.fromarray(generator.integers(0, 171, (height // 32, width // 32), np.uint8))
        labels = np.asarray(regions.resize((width, height), Image.Resampling.NEAREST))
        write_label(folder / f"labels/{number}.png", labels)


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time, so that what else the machine does counts less."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def stage_times(training_set: TrainingSet, pair: Pair, number: int) -> list[float]:
    """The whole sample; image, label, augmentation without and with colour."""
    image, labels = load_image(pair.image).pixels, read_label(pair.label, CLASSES, IGNORE)

    def augmented(*, colour: bool) -> object:
        how = replace(training_set.augmentation, colour=colour)
        return augment(image, labels, how, IGNORE, np.random.default_rng(number))

    stages: tuple[Callable[[], object], ...] = (
        lambda: training_set[number],
        lambda: load_image(pair.image),
        lambda: read_label(pair.label, CLASSES, IGNORE),
        lambda: augmented(colour=False),
        lambda: augmented(colour=True),
    )
    return [milliseconds(stage) for stage in stages]


def print_stages(training_set: TrainingSet, pairs: tuple[Pair, ...], samples: int) -> None:
    """Means over samples in one thread; colour is the difference that it makes."""
    times = [stage_times(training_set, pairs[number % len(pairs)], number) for number in range(samples + 1)]
    whole, image, label, plain, coloured = map(statistics.mean, zip(*times[1:], strict=True))
    print(
        f"one sample: {whole:.1f} ms of CPU; image {image:.1f}, label {label:.1f}, resize and crop {plain:.1f}, "
        f"colour {coloured - plain:.1f}"
    )


def images_per_second(training_set: TrainingSet, batch: int, samples: int, workers: int) -> float:
    """Of an unhindered loader, once its workers have started and given a first batch."""
    steps = batches(training_set, range(1 + -(-samples // batch)), batch, workers=workers)
    next(steps)
    start = time.perf_counter()
    count = sum(len(micro_batch) for step in steps for micro_batch in step)
    return count / (time.perf_counter() - start)


def measure(pairs: tuple[Pair, ...], options: argparse.Namespace) -> None:
    """Print the stages, and images a second by number of workers beside what the training takes."""
    augmentation = OFFICIAL.scaled_to(options.crop)
    height, width = load_image(pairs[0].image).pixels.shape[:2]
    size = sum(pair.image.stat().st_size for pair in pairs) / len(pairs) / 1000
    print(f"{len(pairs)} images, the first {width} × {height}, mean {size:.0f} KB; crop {options.crop}")
    training_set = TrainingSet(PairSource(pairs, CLASSES, IGNORE), augmentation, 0, IGNORE)
    print_stages(training_set, pairs, min(options.samples, 100))
    needed = options.batch / options.step_time if options.step_time else None
    if needed:
        print(f"training takes {needed:.1f} images/s ({options.batch} in {options.step_time} s)")
    for workers in options.workers:
        rate = images_per_second(training_set, options.batch, options.samples, workers)
        verdict = f", {rate / needed:.1f} × what training takes" if needed else ""
        print(f"{workers} workers: {rate:.1f} images/s{verdict}")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workers", type=lambda text: [int(one) for one in text.split(",")], default=[0, 1, 2]
    )
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--crop", type=int, default=640)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--step-time", type=float)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--labels", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.images is None:
            make_pairs(Path(folder))
        images = options.images or Path(folder, "images")
        measure(list_own_pairs(images, options.labels or Path(folder, "labels")).pairs, options)


if __name__ == "__main__":
    main()
