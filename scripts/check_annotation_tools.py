"""Open what `san predict --save …` wrote in the annotation tools, and compare what they read with our label maps.

    python scripts/check_annotation_tools.py san-out [--images FOLDER] [--only TOOL]

`san-out` is a folder of `--save labels,coco-polygons`, and any of `yolo,labelme,label-studio,cvat,json`; FOLDER has
the images that were segmented. Asks those of the tools that are installed, each best in an environment of its own:
this script needs only numpy and Pillow besides.

For every file that a tool reads, a line tells

- its outlines: how many it gives, which must be all, and how many pixels differ from the label maps when they are
  filled by our rule (a pixel is inside where its centre is): none may;
- its masks, where it makes some: how many pixels differ. Rasterisers that draw the outline itself, half a pixel
  outwards, may differ, but only in pixels that touch a border of a region.

FiftyOne needs a MongoDB for its datasets; its importers, which are asked here, don't.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from annotation_tools import TOOLS, LabelMap, Mask, Shape, Written, read_written

from san_cli.regions.fill import fill


def compare(ours: Written, reading: Iterator[Shape]) -> tuple[str, bool]:
    """Say what was read, and tell whether it is what we wrote. Shapes are drawn in their order, later ones on top."""
    places = {name: number for number, name in enumerate(ours.names)}
    filled, drawn = (
        {image: np.full(label_map.shape, -1) for image, label_map in ours.maps.items()} for _ in range(2)
    )
    outlines = masks = 0
    classes: set[tuple[str, int]] = set()
    for shape in reading:
        class_id = places[shape.label]
        classes.add((shape.image, class_id))
        for ring in shape.rings or ():
            outlines += 1
            window, inside = fill([ring], filled[shape.image].shape)
            filled[shape.image][window][inside] = class_id
        if shape.mask is not None:
            masks += 1
            drawn[shape.image][shape.mask] = class_id
    said, agrees = [], outlines + masks > 0 and classes == ours.classes
    if outlines:
        differing, _ = _difference(ours, filled)
        said.append(f"{outlines:,} outlines, {differing:,} pixels differ")
        agrees &= not differing and outlines == ours.outlines
    if masks:
        differing, inner = _difference(ours, drawn)
        at_borders = f", {inner:,} not at a border" if inner else ", all at borders" if differing else ""
        said.append(f"{masks:,} masks of its own, {differing:,} pixels differ{at_borders}")
        agrees &= not inner
    return "; ".join(said), agrees


def _difference(ours: Written, found: dict[str, LabelMap]) -> tuple[int, int]:
    """Count the pixels that differ, and those of them that touch no border."""
    differing = inner = 0
    for image, truth in ours.maps.items():
        wrong = found[image] != truth
        differing += int(wrong.sum())
        inner += int((wrong & ~_at_border(truth)).sum())
    return differing, inner


def _at_border(label_map: LabelMap) -> Mask:
    """Mark pixels that have another label beside them or at a corner."""
    padded = np.pad(label_map, 1, mode="edge")
    height, width = label_map.shape
    border = np.zeros(label_map.shape, bool)
    for y in range(3):
        for x in range(3):
            border |= padded[y : y + height, x : x + width] != label_map
    return border


def _told(tool: str) -> str:
    """Name the package that a module is of, with its version."""
    package = next(iter(packages_distributions().get(tool, ())), None)
    return tool if package is None else f"{package} {version(package)}"


def main() -> None:
    """Print a line per file that a tool reads; exits with 1 if one reads something else than we wrote."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--images", type=Path, help="the folder that was segmented; YOLO's links tell it, too"
    )
    parser.add_argument("--only", choices=list(TOOLS), help="this tool, which must be installed")
    options: Any = parser.parse_args()
    ours = read_written(options.folder, options.images)
    pixels = sum(label_map.size for label_map in ours.maps.values())
    print(f"label maps: {len(ours.maps)} images, {pixels:,} pixels, {len(ours.names)} names")
    wrong = 0
    for tool, readings in TOOLS.items():
        if options.only not in (None, tool):
            continue
        if options.only is None and tool != "cvat" and importlib.util.find_spec(tool) is None:
            print(f"{tool}: not installed")
            continue
        for name, reading in readings(ours):
            said, agrees = compare(ours, reading)
            wrong += not agrees
            print(f"{_told(tool)}, {name}: {said}: {'agrees' if agrees else 'DIFFERS'}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
