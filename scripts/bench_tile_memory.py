"""The memory of one `san predict` of a large picture through windows.

    python scripts/bench_tile_memory.py [--side 4000] [--formats tif png jpg] [--tile auto] [--array-side 1000]

Every line is a process of its own, with the bundled model `tiny` and 847 words; its peak is the system's figure
(ru_maxrss), PyTorch's own libraries included. A picture repeats a mosaic of emoji scenes. Beside it stand the picture
seen whole, and an array [C, H, W] in which the windows' scores are added up, as in mmsegmentation's slide mode, at a
size where that fits. `--tile 2000` makes 1/40 of the windows of `auto`, for a picture of 20,000 × 20,000 pixels.
Tables are Markdown.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from san_cli import Segmenter
from san_cli.datasets.emoji.pairs import scene_pairs
from san_cli.engine.mask_blocks import frame_of
from san_cli.engine.segmentation_map import segmentation_scores
from san_cli.engine.tiling import tiling_of
from san_cli.vocabulary.grammar import parse_vocabulary

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = "ade847"


def memory(side: int, formats: Sequence[str], tile: str, array_side: int) -> None:
    """Print peak memory and time of whole processes."""
    print("\n| picture, 847 words | peak memory MB | s |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for suffix in formats:
            picture = make_picture(Path(scratch) / f"picture.{suffix}", side)
            for way in ("off", tile):
                print_peak(f"{side:,} × {side:,} {suffix}, `--tile {way}`", predict(picture, way))
            picture.unlink()
        picture = make_picture(Path(scratch) / "small.png", array_side)
        name = f"{array_side:,} × {array_side:,} png"
        print_peak(f"{name}, `--tile auto`", predict(picture, "auto"))
        print_peak(
            f"{name}, scores added up in [847, {array_side}, {array_side}]",
            [sys.executable, __file__, "--added", str(picture)],
        )


def make_picture(path: Path, side: int) -> Path:
    """Write the first mosaic as often as it takes."""
    mosaic = scene_pairs("mosaics")[0].read_image()
    times = -(-side // len(mosaic))
    pixels = np.tile(mosaic, (times, times, 1))[:side, :side]
    Image.fromarray(pixels).save(path, **({"compress_level": 1} if path.suffix == ".png" else {}))
    return path


def predict(picture: Path, tile: str) -> list[str]:
    """Write the command that segments a picture."""
    command = [sys.executable, "-m", "san_cli", "predict", str(picture), "-o", str(picture.parent / "out")]
    command += ["--model", "tiny", "--vocab", VOCABULARY, "--tile", tile, "--save", "labels", "--overwrite"]
    return [*command, "--max-pixels", str(10**9), "--device", "cpu", "-q"]


def print_peak(name: str, command: Sequence[str]) -> None:
    """Run a command and print the peak of its resident memory, and the seconds it took."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    print(f"| {name} | {usage.ru_maxrss / 1024:.0f} | {time.perf_counter() - start:.0f} |", flush=True)


def add_up(picture: Path) -> None:
    """Segment a picture by an array of all classes' scores, float32 [C, H, W], and how many windows see a pixel."""
    model, words = Segmenter.load("tiny", device="cpu"), parse_vocabulary([VOCABULARY])
    pixels = np.array(Image.open(picture))
    tiling = tiling_of(*pixels.shape[:2], "auto", model.preset)
    assert tiling is not None
    total = torch.zeros(len(words), *pixels.shape[:2])
    count = torch.zeros(pixels.shape[:2])
    for row in range(len(tiling.rows.starts)):
        for place in tiling.places(row):
            resized = model.resize(pixels[place])
            masks, classes = model.map_factors([resized], words)
            rows, columns = place
            total[:, rows, columns] += segmentation_scores(
                masks[0], classes[0], frame_of(resized, tiling.size)
            )
            count[rows, columns] += 1
    total.div_(count).argmax(dim=0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=4000, help="of the picture, pixels")
    parser.add_argument("--formats", nargs="*", default=["tif", "png", "jpg"])
    parser.add_argument("--tile", default="auto")
    parser.add_argument("--array-side", type=int, default=1000, help="of the picture with all scores, pixels")
    parser.add_argument("--added", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.added:
        with torch.inference_mode():
            add_up(options.added)
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    )
    memory(options.side, options.formats, options.tile, options.array_side)


if __name__ == "__main__":
    main()
