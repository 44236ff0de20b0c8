"""A sheet of samples, a row each: image, truth, prediction. How a training comes along, at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from san_cli.outputs.legend import PAPER
from san_cli.outputs.lettering import font
from san_cli.outputs.overlay import render_overlay, write_overlay

_CELL = 320  # pixels wide
_GAP = 6
_HEAD = 28
_INK = (236, 237, 239)


@dataclass(frozen=True)
class SheetRow:
    """One sample; label maps hold class ids, -1 where there is no class."""

    image: NDArray[np.uint8]  # [H, W, 3]
    truth: NDArray[np.integer]  # [H, W]
    prediction: NDArray[np.integer]  # [H, W]


def write_sample_sheet(path: Path, rows: Sequence[SheetRow], names: Sequence[str], title: str) -> None:
    """Write the sheet as a JPEG, `title` above it. OSError where the file can't be written."""
    pictures = [
        [
            _fitted(Image.fromarray(row.image)),
            _fitted(render_overlay(row.image, row.truth, names)),
            _fitted(render_overlay(row.image, row.prediction, names)),
        ]
        for row in rows
    ]
    heights = [max(picture.height for picture in line) for line in pictures]
    width = 3 * _CELL + 4 * _GAP
    sheet = Image.new("RGB", (width, 2 * _HEAD + sum(heights) + _GAP * (len(rows) + 1)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _HEAD // 2), title, fill=_INK, font=font(16), anchor="lm")
    for column, heading in enumerate(("image", "truth", "prediction")):
        left = _GAP + column * (_CELL + _GAP)
        draw.text((left, _HEAD + _HEAD // 2), heading, fill=_INK, font=font(14), anchor="lm")
    top = 2 * _HEAD + _GAP
    for line, height in zip(pictures, heights, strict=True):
        for column, picture in enumerate(line):
            sheet.paste(picture, (_GAP + column * (_CELL + _GAP), top))
        top += height + _GAP
    write_overlay(path, sheet)


def _fitted(picture: Image.Image) -> Image.Image:
    """The picture at the width of a cell."""
    height = max(1, round(picture.height * _CELL / picture.width))
    return picture.resize((_CELL, height), Image.Resampling.BILINEAR)
