"""Tiles: what they find on mosaics, whether their seams show, and what a window costs.

    python scripts/bench_tiles.py accuracy seams [--mosaics 3]
    python scripts/bench_tiles.py cost [--rounds 5]

accuracy: `tiny` on mosaics of 5 × 5 held-out emoji scenes (`san eval emoji --split mosaics`), with all names. Rows
differ in the windows, or in how the scores of the same windows are put together. seams: the same picture without a
margin, so that all windows lie elsewhere; counted are pixels whose class is another one, and neighbours torn apart.
cost: the windows of one picture beside as many single pictures of a window's size. Memory is another script's
(bench_tile_memory.py).

Tables are Markdown.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from san_cli import Segmenter, Vocabulary
from san_cli.datasets.emoji.pairs import MOSAIC_SIDE, SIZE, scene_pairs
from san_cli.datasets.pillow_image import LoadedImage
from san_cli.engine.metrics import confusion_of, empty_confusion, metrics_of
from san_cli.engine.segmentation_map import Block, SegmentationMap, map_of_blocks
from san_cli.engine.tiles import Window, see_windows, tiled_blocks
from san_cli.engine.tiling import OVERLAP, Axis, Tiling, auto_side, axis, tiling_of
from san_cli.vocabulary.emoji_concepts import all_ids, seen_ids, unseen_ids
from san_cli.vocabulary.grammar import parse_vocabulary

ROOT = Path(__file__).resolve().parent.parent
CLASSES = len(all_ids())
SIDES = (240, 320, 400, 480)  # pixels
CONTEXT = (0.1, 0.25)  # weights of the whole picture's pass
BUMPS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {  # of the place in a window, 0…1
    "even": lambda x: np.ones_like(x),
    "triangle": lambda x: 1 - np.abs(2 * x - 1),
    "sin²": lambda x: np.sin(np.pi * x) ** 2,
    "sin⁴": lambda x: np.sin(np.pi * x) ** 4,
}

Pixels = NDArray[np.uint8]
Rows = list[list[Window | None]]


@dataclass
class Seen:
    """A picture through windows, whose scores can be put together in several ways."""

    tiling: Tiling
    windows: Rows
    seconds: float  # of the network

    def blended(self, tiling: Tiling | None = None) -> Iterator[Block]:
        """Yield the blocks by the weights of the `tiling`, or its own."""
        return tiled_blocks(tiling or self.tiling, lambda row: self.windows[row])


@dataclass
class Way:
    """A row of the table: one way to make label maps of mosaics."""

    windows: int = 0
    seconds: float = 0.0
    confusion: NDArray[np.int64] = field(default_factory=lambda: empty_confusion(CLASSES))

    def count(
        self, made: NDArray[np.integer], truth: NDArray[np.integer], windows: int, seconds: float
    ) -> None:
        """Add a picture."""
        self.confusion += confusion_of(made, truth, CLASSES, 65535)
        self.windows += windows
        self.seconds += seconds


def look(model: Segmenter, words: Vocabulary, pixels: Pixels, tiling: Tiling) -> Seen:
    """See a picture [H, W, 3] through all windows, one at a time."""
    start = time.perf_counter()
    image = LoadedImage(pixels)
    windows_of = see_windows(image, tiling, model.resize, lambda one: model.map_factors(one, words), 1)
    windows = [windows_of(row) for row in range(len(tiling.rows.starts))]
    return Seen(tiling, windows, time.perf_counter() - start)


def made_of(blocks: Iterator[Block], size: tuple[int, int]) -> tuple[SegmentationMap, float]:
    """Make a map [H, W], and the seconds that took."""
    start = time.perf_counter()
    made = map_of_blocks(blocks, size, CLASSES)
    return made, time.perf_counter() - start


def weighed(tiling: Tiling, bump: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Tiling:
    """Give the windows of a tiling other weights."""

    def of(axis: Axis) -> Axis:
        one = bump((np.arange(axis.window) + 0.5) / axis.window)
        total = np.zeros(axis.starts[-1] + axis.window)
        for start in axis.starts:
            total[start : start + axis.window] += one
        return replace(
            axis,
            weights=np.stack([one / total[s : s + axis.window] for s in axis.starts]).astype(np.float32),
        )

    return Tiling(of(tiling.rows), of(tiling.columns))


def hard_cut(tiling: Tiling) -> Tiling:
    """Let each pixel have the window whose centre is nearest."""

    def of(axis: Axis) -> Axis:
        pixels = np.arange(axis.starts[-1] + axis.window)
        centres = np.array(axis.starts)[:, None] + (axis.window - 1) / 2
        nearest = np.abs(pixels - centres).argmin(axis=0)
        own = [nearest[start : start + axis.window] == i for i, start in enumerate(axis.starts)]
        return replace(axis, weights=np.stack(own).astype(np.float32))

    return Tiling(of(tiling.rows), of(tiling.columns))


def with_context(blocks: Iterator[Block], whole: Window, share: float) -> Iterator[Block]:
    """Mix the whole picture's own scores in: (1 - share) · tiled + share · whole, for every class and pixel."""
    for (rows, columns), masks, probabilities, _ in blocks:
        ((_, context),) = whole.masks.blocks(rows, columns, rows.stop - rows.start)
        together = torch.cat([probabilities, whole.probabilities])
        yield Block(
            (rows, columns),
            torch.cat([(1 - share) * masks, share * context], dim=1),
            together,
            together.sum(dim=1),
        )


def accuracy(model: Segmenter, words: Vocabulary, mosaics: int) -> None:
    """Print the table of the metrics."""
    ways: dict[str, Way] = {}
    for pair in scene_pairs("mosaics")[:mosaics]:
        pixels, truth = pair.read_image(), pair.read_labels(CLASSES, 65535)
        start = time.perf_counter()
        scenes = map_of_scenes(model, words, pixels)
        seconds = time.perf_counter() - start
        ways.setdefault("single scenes", Way()).count(scenes, truth, MOSAIC_SIDE**2, seconds)
        for name, seen, blocks in ways_of(model, words, pixels):
            made, seconds = made_of(blocks, truth.shape)
            way = ways.setdefault(name, Way())
            way.count(made.label_map, truth, len(seen.tiling), seen.seconds + seconds)
        print_ways(ways)


def ways_of(
    model: Segmenter, words: Vocabulary, pixels: Pixels
) -> Iterator[tuple[str, Seen, Iterator[Block]]]:
    """Yield the names of the ways, the windows that they have, and the blocks of a square mosaic."""
    length, best = len(pixels), auto(pixels, model).size[0]
    whole = look(model, words, pixels, square(axis(length, length)))
    yield "mosaics, whole", whole, whole.blended()
    for side in SIDES:
        seen = look(model, words, pixels, square(axis(length, side)))
        name = f"windows of {side}"
        if side != best:
            yield name, seen, seen.blended()
            continue
        name += ", `--tile auto`"
        yield name, seen, seen.blended()
        yield f"{name}: hard cut", seen, seen.blended(hard_cut(seen.tiling))
        (context,) = whole.windows[0]
        assert context is not None
        for share in CONTEXT:
            yield f"{name}: {share} of the whole", seen, with_context(seen.blended(), context, share)
    seen = look(model, words, pixels, square(off_the_scenes(length, best)))
    yield f"windows of {best}, a quarter of a window off the scenes' grid", seen, seen.blended()
    seen = look(model, words, pixels, square(axis(length, best, 0.25)))
    yield f"windows of {best}, a quarter overlapping", seen, seen.blended()


def square(windows: Axis) -> Tiling:
    """Lay the same windows along rows and columns."""
    return Tiling(windows, windows)


def off_the_scenes(length: int, side: int) -> Axis:
    """Lay windows as `axis` does, but half a stride further: else every fourth would see a scene and nothing else."""
    starts = (0, *range(side // 4, length - side, side // 2), length - side)
    plain = Axis(starts, side, np.empty((len(starts), side), np.float32))
    return weighed(square(plain), BUMPS["sin²"]).rows


def auto(pixels: Pixels, model: Segmenter) -> Tiling:
    """Lay the windows of `--tile auto`."""
    tiling = tiling_of(*pixels.shape[:2], "auto", model.preset)
    assert tiling is not None
    return tiling


def map_of_scenes(model: Segmenter, words: Vocabulary, mosaic: Pixels) -> NDArray[np.integer]:
    """Make the label map of a mosaic from those of its scenes, each seen alone."""
    made = np.empty(mosaic.shape[:2], np.int16)
    for top in range(0, made.shape[0], SIZE):
        for left in range(0, made.shape[1], SIZE):
            place = slice(top, top + SIZE), slice(left, left + SIZE)
            (one,) = model.segment_resized([model.resize(mosaic[place])], [(SIZE, SIZE)], words)
            assert one is not None
            made[place] = one.label_map
    return made


def print_ways(ways: dict[str, Way]) -> None:
    """Print the metrics of all ways so far."""
    print("\n| | windows | mIoU seen % | mIoU unseen % | pixels right % | s |\n|---|---|---|---|---|---|")
    for name, way in ways.items():
        metrics = metrics_of(way.confusion)
        seen, unseen = (np.nanmean(metrics.class_iou[list(ids)]) for ids in (seen_ids(), unseen_ids()))
        print(
            f"| {name} | {way.windows} | {seen:.1f} | {unseen:.1f} | {metrics.pACC:.1f} | {way.seconds:.0f} |",
            flush=True,
        )


def seams(model: Segmenter, words: Vocabulary, mosaics: int, overlaps: Sequence[float]) -> None:
    """Print how many pixels change when all windows lie elsewhere, and how many change class along windows' edges."""
    shifts = [(0.0, 0.5), (OVERLAP, 0.5), *((overlap, (1 - overlap) / 2) for overlap in (OVERLAP, *overlaps))]
    found: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for pair in scene_pairs("mosaics")[:mosaics]:
        pixels, truth = pair.read_image(), pair.read_labels(CLASSES, 65535)
        side = auto(pixels, model).size[0]
        looks: dict[tuple[float, int], Seen] = {}
        for overlap, shift in shifts:
            stride, margin = round(side * (1 - overlap)), round(side * shift)
            for start in (0, margin):
                if (overlap, start) not in looks:
                    length = side + (len(pixels) - start - side) // stride * stride  # a regular grid
                    one = pixels[start : start + length, start : start + length]
                    looks[overlap, start] = look(model, words, one, square(axis(length, side, overlap)))
            for name in ("hard cut", *BUMPS) if overlap else ("hard cut",):
                maps = [label_map(looks[overlap, start], name) for start in (0, margin)]
                way = (f"{overlap:.0%}", name, f"{shift:.0%}")
                found.setdefault(way, []).append(change(maps, truth, margin, looks[overlap, 0].tiling.rows))
        print_changes(found)


def label_map(seen: Seen, name: str) -> NDArray[np.integer]:
    """Make the label map by the name of the weights."""
    tiling = hard_cut(seen.tiling) if name == "hard cut" else weighed(seen.tiling, BUMPS[name])
    length = tiling.rows.starts[-1] + tiling.rows.window
    return made_of(seen.blended(tiling), (length, length))[0].label_map


def change(
    maps: Sequence[NDArray[np.integer]], truth: NDArray[np.integer], margin: int, windows: Axis
) -> dict[str, float]:
    """Compare two maps, of which the second begins `margin` pixels further in, away from the borders; in percent.

    Seams are counted in the second map: neighbours of one class in truth that have two, across the edges of windows
    and the lines midway between their centres, and everywhere.
    """
    side, stride = windows.window, windows.starts[1]
    inner = slice(side, len(maps[1]) - side)
    place = slice(inner.start + margin, inner.stop + margin)
    before, after, right = maps[0][place, place], maps[1][inner, inner], truth[place, place]
    changed = before != after
    torn = np.concatenate(
        [
            ((labels[:, 1:] != labels[:, :-1]) & (true[:, 1:] == true[:, :-1])).mean(axis=0, keepdims=True)
            for labels, true in ((after, right), (after.T, right.T))
        ]
    ).mean(axis=0)
    lines = np.arange(inner.start + 1, inner.stop) % stride  # of the right one of two neighbours
    centres = (side + stride) // 2 % stride
    numbers = {
        "changed": changed.mean(),
        "right before": (before == right).mean(),
        "right after": (after == right).mean(),
        "of them near an edge": (changed & near_an_edge(before, 4)).sum() / max(1, changed.sum()),
        "torn at windows' edges": torn[lines == 0].mean(),
        "torn midway": torn[lines == centres].mean(),
        "torn anywhere": torn.mean(),
    }
    return {name: 100 * float(value) for name, value in numbers.items()}


def near_an_edge(labels: NDArray[np.integer], distance: int) -> NDArray[np.bool_]:
    """Tell which pixels [H, W] are within a distance (in rows and columns) of another class."""
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    for direction in (0, 1):
        edge = np.any([np.roll(edge, step, direction) for step in range(-distance, distance + 1)], axis=0)
    return edge


def print_changes(found: dict[tuple[str, ...], list[dict[str, float]]]) -> None:
    """Print the means over the mosaics so far."""
    columns = list(next(iter(found.values()))[0])
    print(f"\n| overlap | weights | shift | {' | '.join(f'{name} %' for name in columns)} |")
    print("|---|---|---|" + "---|" * len(columns))
    for way, of_mosaics in found.items():
        means = [f"{statistics.fmean(one[column] for one in of_mosaics):.2f}" for column in columns]
        print(f"| {' | '.join((*way, *means))} |", flush=True)


def cost(model: Segmenter, words: Vocabulary, rounds: int) -> None:
    """Print what a window costs in a picture of 3 × 3 scenes, beside a picture of its size alone."""
    pixels = scene_pairs("mosaics")[0].read_image()[: 3 * SIZE, : 3 * SIZE]
    side = auto_side(model.preset)
    tiling = tiling_of(*pixels.shape[:2], side, model.preset)
    assert tiling is not None
    places = [place for row in range(len(tiling.rows.starts)) for place in tiling.places(row)]
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        model.segment_tiled(LoadedImage(pixels), tiling, words)
        between = time.perf_counter()
        for place in places:
            model.segment_resized([model.resize(pixels[place])], [tiling.size], words)
        times.append((between - start, time.perf_counter() - between))
    ratios = [tiled / alone for tiled, alone in times[1:]]  # the first warms up
    tiled, alone = (statistics.median(column) / len(places) for column in zip(*times[1:], strict=True))
    print("\n| words | windows | s a window | s a picture of its size | ratio, median (range) |")
    print("|---|---|---|---|---|")
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    print(f"| {len(words)} | {len(places)} | {tiled:.3f} | {alone:.3f} | {spread} |", flush=True)


def load(vocab: Sequence[str]) -> tuple[Segmenter, Vocabulary]:
    """Load `tiny`, and embed the words."""
    model, words = Segmenter.load("tiny", device="cpu"), parse_vocabulary(vocab)
    model.embed(words)
    return model, words


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=["accuracy", "seams", "cost"])
    parser.add_argument("--mosaics", type=int, default=3)
    parser.add_argument("--overlaps", type=float, nargs="*", default=[], help="for seams, beside one half")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
          f"{torch.get_num_threads()} threads, torch {torch.__version__}")  # fmt: skip
    if "accuracy" in options.parts:
        accuracy(*load(["emoji"]), options.mosaics)
    if "seams" in options.parts:
        seams(*load(["emoji"]), options.mosaics, options.overlaps)
    for vocab in ("emoji", "ade847") if "cost" in options.parts else ():
        cost(*load([vocab]), options.rounds)


if __name__ == "__main__":
    main()
