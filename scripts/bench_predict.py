"""Images a second end to end, beside the model alone, in one run.

    python scripts/bench_predict.py [--images FOLDER] [--count 12] [--rounds 3] [--weights random] [--device auto]

End to end is `san predict` as a user runs it, every output written, less its start (a run over an empty rest of
the same folder). Model alone is network and label map of the same images, decoded and resized beforehand. Rounds
alternate. Without --images the photographs in examples/photos/ are taken, each as often as needed.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from san_cli import Segmenter
from san_cli.datasets.images import load_image
from san_cli.vocabulary.grammar import parse_vocabulary

EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"


def main() -> None:
    """Print images a second of both, and the stages that `san predict` reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, default=EXAMPLES)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--vocab", default="voc")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        photos = _copies(options.images, Path(folder) / "in", options.count)
        vocabulary = parse_vocabulary([options.vocab])
        segmenter = Segmenter.load(weights=options.weights, device=options.device)
        segmenter.embed(vocabulary)
        pixels = [load_image(photo).pixels for photo in photos]
        resized = [segmenter.resize(image) for image in pixels]
        segmenter.segment_resized(resized[:1], [pixels[0].shape[:2]], vocabulary)  # warm up

        alone, whole, stages = [], [], ""
        for number in range(options.rounds):
            start = time.perf_counter()
            for small, image in zip(resized, pixels, strict=True):
                segmenter.segment_resized([small], [image.shape[:2]], vocabulary)
            alone.append(time.perf_counter() - start)
            output = Path(folder) / f"out{number}"
            first, stages = _predict(photos[0].parent, output, options)
            again, _ = _predict(photos[0].parent, output, options)  # everything is done: what starting costs
            whole.append(first - again)

    model, pipeline = (statistics.median(times) / options.count for times in (alone, whole))
    print(f"model alone: {1 / model:.2f} images/s ({model:.3f} s an image)")
    print(f"end to end:  {1 / pipeline:.2f} images/s ({pipeline:.3f} s an image)")
    print(f"the pipeline costs {pipeline / model - 1:+.1%}; {stages}")


def _copies(source: Path, target: Path, count: int) -> list[Path]:
    """`count` photographs in a folder, each of the source's as often as needed."""
    target.mkdir()
    photos = sorted(path for path in source.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [
        Path(shutil.copy(photos[i % len(photos)], target / f"{i:05d}{photos[i % len(photos)].suffix}"))
        for i in range(count)
    ]


def _predict(inputs: Path, output: Path, options: argparse.Namespace) -> tuple[float, str]:
    """Seconds that `san predict` takes, and its line about stages."""
    command = [
        sys.executable,
        "-m",
        "san_cli",
        "predict",
        str(inputs),
        "-o",
        str(output),
        "--vocab",
        options.vocab,
    ]
    command += ["--weights", options.weights, "--device", options.device]
    command += ["--verbose"]  # or a run that has nothing to do would end without starting
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    took = time.perf_counter() - start
    return took, next((line for line in done.stderr.splitlines() if line.startswith("time by stage")), "")


if __name__ == "__main__":
    main()
