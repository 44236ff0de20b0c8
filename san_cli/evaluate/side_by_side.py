"""Prediction and truth of one image beside each other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from san_cli.outputs.legend import PAPER, font
from san_cli.outputs.overlay import render_overlay, write_overlay

_GAP = 8


def write_side_by_side(
    path: Path,
    image: NDArray[np.uint8],
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    names: Sequence[str],
    title: str,
) -> None:
    """Two overlays of `image` [H, W, 3], left under `prediction`, right under `truth` (ids, -1: no class).

    OSError where the file can't be written, ValueError for maps of another size.
    """
    halves = [render_overlay(image, labels, names) for labels in (prediction, truth)]
    letters = max(12, min(24, halves[0].width // 30))
    top = 2 * letters
    width = sum(half.width for half in halves) + _GAP
    canvas = Image.new("RGB", (width, top + max(half.height for half in halves)), PAPER)
    draw, left = ImageDraw.Draw(canvas), 0
    for half, heading in zip(halves, (f"prediction, {title}", "truth"), strict=True):
        draw.text((left + _GAP, letters), heading, fill=(236, 237, 239), font=font(letters), anchor="lm")
        canvas.paste(half, (left, top))
        left += half.width + _GAP
    write_overlay(path, canvas)
