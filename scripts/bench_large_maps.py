"""The label map of large pictures: made by blocks, as it is, beside one where every pixel is compared.

    python scripts/bench_large_maps.py [--rounds 5] [--megapixels 1.5,6,12,24]

Both are made alternately in one process, of the same masks and class probabilities: what `tiny` sees in a scene of
`examples/scenes`, with its 380 names; and 171 classes with blobs for masks, "peaked" as trained models are, or
"flat", where no class is likelier than others. Printed are medians (with ranges), their ratio, and how many pixels
differ: those where two classes' scores are equal but for the rounding of float32.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_postprocess import masks_and_probabilities
from PIL import Image

from san_cli import Segmenter, parse_vocabulary
from san_cli.engine.device import reuse_freed_memory
from san_cli.engine.mask_blocks import Frame, frame_of, resized_masks
from san_cli.engine.segmentation_map import SegmentationMap, map_of_blocks, pixel_blocks, segmentation_map
from san_cli.fps.context import processor_name

SCENE = Path(__file__).parent.parent / "examples" / "scenes" / "scene-018.jpg"
Factors = tuple[torch.Tensor, torch.Tensor]  # mask logits [N, h, w], class probabilities [N, C]


def every_pixel(masks: torch.Tensor, probabilities: torch.Tensor, frame: Frame) -> SegmentationMap:
    """Make the map as a small one is made."""
    blocks = pixel_blocks(resized_masks(masks, frame), probabilities.contiguous())
    return map_of_blocks(blocks, frame.output, probabilities.shape[1])


def seen_by_tiny() -> tuple[Factors, np.ndarray]:
    """Return what `tiny` says of the scene, and the scene at the network's size."""
    segmenter = Segmenter.load("tiny", device="cpu")
    resized = segmenter.resize(np.asarray(Image.open(SCENE).convert("RGB")))
    masks, probabilities = segmenter.map_factors([resized], parse_vocabulary("emoji"))
    return (masks[0], probabilities[0]), resized


def timed(make: Callable[[], SegmentationMap]) -> tuple[float, SegmentationMap]:
    """Return the seconds that it took, and what was made."""
    start = time.perf_counter()
    made = make()
    return time.perf_counter() - start, made


def spread(seconds: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megapixels", default="1.5,6,12,24")
    options = parser.parse_args()
    reuse_freed_memory()
    tiny, scene = seen_by_tiny()
    print(
        f"{processor_name()}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}, median of {options.rounds} rounds (range)\n\n"
        "| megapixels | masks | every pixel, s | by blocks, s | faster | pixels that differ |\n"
        "|---:|---|---:|---:|---:|---:|"
    )
    for megapixels in map(float, options.megapixels.split(",")):
        height = round((megapixels * 1e6 / 1.5) ** 0.5)
        output = (height, round(1.5 * height))
        wide = Frame((640, 960), (640, 960), output)
        cases: dict[str, tuple[Factors, Frame]] = {
            "tiny, 380 names": (tiny, frame_of(scene, output)),
            "peaked, 171 classes": (masks_and_probabilities(wide, 171, True), wide),
            "flat, 171 classes": (masks_and_probabilities(wide, 171, False), wide),
        }
        for name, (factors, frame) in cases.items():
            pixels: list[float] = []
            blocks: list[float] = []
            for number in range(options.rounds + 1):
                before, plain = timed(lambda factors=factors, frame=frame: every_pixel(*factors, frame))
                after, made = timed(lambda factors=factors, frame=frame: segmentation_map(*factors, frame))
                if number:  # the first round warms up
                    pixels.append(before)
                    blocks.append(after)
            differ = int((plain.label_map != made.label_map).sum())
            ratio = statistics.median(pixels) / statistics.median(blocks)
            print(
                f"| {megapixels:g} | {name} | {spread(pixels)} | {spread(blocks)} | {ratio:.1f}× | {differ} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
