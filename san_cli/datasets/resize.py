"""The benchmark's resize: shortest edge to 640, longest to at most 2560, by Pillow on 8-bit pixels."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from san_cli.datasets.images import BadImage

SHORT_SIDE = 640
LONGEST_SIDE = 2560


def benchmark_size(h: int, w: int, short: int = SHORT_SIDE, longest: int = LONGEST_SIDE) -> tuple[int, int]:
    """(height, width) in pixels that an image of h × w is resized to, as by detectron2's ResizeShortestEdge.

    Each product is taken in double precision and in this order: another order may round to another pixel.
    Raises BadImage where nothing would be left of the shorter side.
    """
    if h < 1 or w < 1:
        raise BadImage(f"image without pixels ({w} × {h})")
    scale = short / min(h, w)
    new_h, new_w = (short, scale * w) if h < w else (scale * h, short)
    if max(new_h, new_w) > longest:
        shrink = longest / max(new_h, new_w)
        new_h, new_w = new_h * shrink, new_w * shrink
    rounded = int(new_h + 0.5), int(new_w + 0.5)
    if min(rounded) < 1:
        raise BadImage(f"{w} × {h} is too long and thin to be resized to at most {longest} pixels")
    return rounded


def resize_for_network(
    pixels: npt.NDArray[np.uint8], short: int = SHORT_SIDE, longest: int = LONGEST_SIDE
) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] to a writable uint8 [nh, nw, 3] of `benchmark_size`.

    Pillow's bilinear filter averages when it shrinks, which `F.interpolate` does not.
    """
    new_h, new_w = benchmark_size(pixels.shape[0], pixels.shape[1], short, longest)
    return np.array(Image.fromarray(pixels).resize((new_w, new_h), Image.Resampling.BILINEAR))
