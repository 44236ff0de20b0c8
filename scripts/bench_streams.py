"""Images a second of `san predict` on a CPU: in streams, beside one image at a time with all threads.

    python scripts/bench_streams.py [--weights random] [--count 8] [--rounds 5] [--images FOLDER] [--side 640]

Both do the same folder in one process, a round each in turn, with every output written. Without --images the
photographs in examples/photos/ are taken, cut to squares of `--side`, each as often as needed. The two folders'
label maps must be the same to the byte.
"""

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the program does

import torch
from PIL import Image, ImageOps

from san_cli import MapOptions, Segmenter
from san_cli.engine.device import peak_memory_mb
from san_cli.engine.streams import streams_for
from san_cli.predict import segmenting
from san_cli.predict.inputs import discover
from san_cli.predict.request import Job
from san_cli.predict.run import predict_folder
from san_cli.runs.voice import Voice
from san_cli.vocabulary.grammar import parse_vocabulary

EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"


def main() -> None:
    """Print images a second of both, their ratio round by round, and the peak of memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="a folder of images, taken as they are")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--model", default=None)
    parser.add_argument("--weights", default=None)
    parser.add_argument("--vocab", default="voc")
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()

    segmenter = Segmenter.load(options.model, options.weights, device="cpu")
    several = streams_for(segmenter, options.batch)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}: {segmenter.preset.name}, {several} streams"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = options.images or _squares(folder / "in", options.count, options.side)
        listing = discover([str(images)], say=print)
        job = Job(
            parse_vocabulary([options.vocab]), MapOptions(), ("overlay", "labels", "json"), options.batch
        )
        seconds: dict[int, list[float]] = {1: [], several: []}
        for number in range(-1, options.rounds):  # the first only warms up
            for streams in seconds if number % 2 else reversed(seconds):
                segmenting.streams_for = lambda *asked, streams=streams: streams
                output = folder / f"out{streams}"
                shutil.rmtree(output, ignore_errors=True)
                start = time.perf_counter()
                done = list(predict_folder(listing, output, job, segmenter, compile=False, voice=Voice()))
                took = time.perf_counter() - start
                if number >= 0:
                    seconds[streams].append(took)
                    print(f"round {number}, {streams} at once: {took:.2f} s", flush=True)
            if number < 0:
                print(f"peak of memory after one round of each: {peak_memory_mb(segmenter.device):,.0f} MB")
        _refuse_difference(folder / "out1", folder / f"out{several}")
    for streams, times in seconds.items():
        rates = sorted(len(done) / one for one in times)
        print(
            f"{streams} at once: {statistics.median(rates):.3f} images/s ({rates[0]:.3f} to {rates[-1]:.3f})"
        )
    ratios = sorted(one / two for one, two in zip(*seconds.values(), strict=True))
    print(
        f"in streams {statistics.median(ratios):.2f}× as fast ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
        f"{options.rounds} rounds of {len(done)} images, load then {os.getloadavg()[0]:.1f}"
    )


def _squares(target: Path, count: int, side: int) -> Path:
    target.mkdir()
    photos = sorted(EXAMPLES.glob("*.jpg"))
    for number in range(count):
        with Image.open(photos[number % len(photos)]) as photo:
            ImageOps.fit(photo.convert("RGB"), (side, side)).save(target / f"{number:03d}.jpg", quality=90)
    return target


def _refuse_difference(one: Path, other: Path) -> None:
    files = [path for path in sorted(one.rglob("*")) if path.is_file() and ".san" not in path.parts]
    for path in files:
        if path.read_bytes() != (other / path.relative_to(one)).read_bytes():
            raise SystemExit(f"{path.relative_to(one)} differs")
    print(f"{len(files)} files are the same to the byte")


if __name__ == "__main__":
    main()
