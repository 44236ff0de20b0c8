"""A sheet of samples, a row each: image, truth, prediction. How a training comes along, at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from san_cli.outputs.legend import PAPER, font
from san_cli.outputs.overlay import render_overlay, write_overlay

_WIDEST = 900  # pixels, of a picture
_HEIGHT = 300  # pixels, of a row
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
    widths = [max(line[column].width for line in pictures) for column in range(3)]
    lefts = [_GAP, 2 * _GAP + widths[0], 3 * _GAP + widths[0] + widths[1]]
    size = (lefts[2] + widths[2] + _GAP, 2 * _HEAD + _GAP + len(rows) * (_HEIGHT + _GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _HEAD // 2), title, fill=_INK, font=font(16), anchor="lm")
    for left, heading in zip(lefts, ("image", "truth", "prediction"), strict=True):
        draw.text((left, _HEAD + _HEAD // 2), heading, fill=_INK, font=font(14), anchor="lm")
    for row, line in enumerate(pictures):
        top = 2 * _HEAD + _GAP + row * (_HEIGHT + _GAP)
        for left, picture in zip(lefts, line, strict=True):
            sheet.paste(picture, (left, top))
    write_overlay(path, sheet)


def _fitted(picture: Image.Image) -> Image.Image:
    """Return the picture at the height of a row, or lower if it is a panorama; overlays are wider by their legend."""
    scale = min(_HEIGHT / picture.height, _WIDEST / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BILINEAR)
