"""The time of outlines of a large label map, beside other programs' and the network's.

    python scripts/bench_outlines.py [--width 4000] [--height 3000] [--classes 60] [--repeat 5]

The map is the argmax of smooth noise, as a network's is. Beside ours stand OpenCV's `findContours`, by class, and
rasterio's `shapes`, where they are installed, and the network `vit-b-16` on a picture of this size, as it sees it;
then how many pixels differ once outlines are filled again. All take turns, in one process with PyTorch's number of
threads; the ratio is that of the medians. The table is Markdown.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from san_cli import Segmenter
from san_cli.engine.device import reuse_freed_memory
from san_cli.regions.bridges import joined
from san_cli.regions.fill import fill
from san_cli.regions.outlines import polygons
from san_cli.vocabulary.grammar import vocabulary_of_names

LabelMap = NDArray[np.int16]


def smooth_map(height: int, width: int, classes: int) -> LabelMap:
    """The argmax of noise [classes, H, W] that is smooth over some 125 pixels."""
    noise = np.random.default_rng(0).normal(size=(classes, height // 125, width // 125)).astype(np.float32)
    label_map, best = np.zeros((height, width), np.int16), np.full((height, width), -np.inf, np.float32)
    for class_id, coarse in enumerate(noise):
        score = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        wins = score > best
        best[wins], label_map[wins] = score[wins], class_id
    return label_map


def ours(label_map: LabelMap, simplify: float = 0.0) -> LabelMap:
    """Trace, join holes, and fill again."""
    found = polygons(label_map, simplify=simplify)
    rings = [(polygon.class_id, np.array(joined(polygon)).reshape(-1, 2)) for polygon in found]
    again = np.full_like(label_map, -1)
    for class_id, ring in rings:
        window, inside = fill([ring], label_map.shape)
        again[window][inside] = class_id
    return again


def of_opencv(label_map: LabelMap) -> list[tuple[int, object]]:
    """The contours of each class, with their holes, every point of them."""
    import cv2

    found = []
    for class_id in range(int(label_map.max()) + 1):
        mask = (label_map == class_id).view(np.uint8)
        found.append((class_id, cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]))
    return found


def filled_by_opencv(label_map: LabelMap) -> LabelMap:
    """What OpenCV's contours come to, filled by OpenCV."""
    import cv2

    again = np.full_like(label_map, -1)
    for class_id, contours in of_opencv(label_map):
        mask = np.zeros(label_map.shape, np.uint8)
        cv2.drawContours(mask, contours, -1, 1, cv2.FILLED)
        again[mask == 1] = class_id
    return again


def of_rasterio(label_map: LabelMap) -> list[object]:
    """The polygons that GDAL makes."""
    from rasterio.features import shapes

    return list(shapes(label_map, connectivity=4))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--classes", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    reuse_freed_memory()
    label_map = smooth_map(options.height, options.width, options.classes)
    segmenter = Segmenter.load("vit-b-16", "random")
    words = vocabulary_of_names([f"thing {number}" for number in range(options.classes)])
    picture = np.random.default_rng(1).integers(0, 255, (options.height, options.width, 3), np.uint8)
    seen = segmenter.resize(picture)

    work: dict[str, Callable[[], object]] = {
        "vit-b-16, the network alone": lambda: segmenter.raw(seen, words),
        "outlines": lambda: polygons(label_map),
        "outlines, holes joined": lambda: [joined(polygon) for polygon in polygons(label_map)],
        "outlines, simplified by 1 pixel": lambda: polygons(label_map, simplify=1.0),
    }
    if find_spec("cv2"):
        work["OpenCV, findContours by class"] = lambda: of_opencv(label_map)
    if find_spec("rasterio"):
        work["rasterio, shapes"] = lambda: of_rasterio(label_map)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(options.repeat + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}

    found = polygons(label_map)
    corners = sum(len(ring) for polygon in found for ring in polygon.rings)
    print(
        f"{options.width} × {options.height}, {options.classes} classes: {len(found):,} polygons, {corners:,} corners"
    )
    print(f"{torch.get_num_threads()} threads, median of {options.repeat}\n")
    print("| | s | of the network |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / next(iter(medians.values())):.2f} |")
    print(f"\nfilled again, pixels that differ: ours {(ours(label_map) != label_map).sum():,}", end="")
    print(f", simplified {(ours(label_map, 1.0) != label_map).sum():,}", end="")
    if find_spec("cv2"):
        print(f", OpenCV's {(filled_by_opencv(label_map) != label_map).sum():,}", end="")
    print()


if __name__ == "__main__":
    main()
