"""Pictures larger than the small model's view, and windows to see them through."""

from pathlib import Path

import numpy as np
from PIL import Image
from program import make_photos
from recipe import image

SIDE = 96  # pixels of a window, which the small model sees at 64


def mosaic(seed: int, rows: int, columns: int) -> np.ndarray:
    """Make a picture of `rows` × `columns` scenes of 80 × 80 pixels."""
    scenes = [
        np.concatenate([image(100 * seed + 10 * y + x, 80, 80) for x in range(columns)], axis=1)
        for y in range(rows)
    ]
    return np.concatenate(scenes)


def make_mosaics(folder: Path) -> None:
    """Make three large pictures of 12 windows each, two of one size, and three small ones."""
    make_photos(folder, 3)
    for number, (rows, columns) in enumerate([(2, 3), (2, 3), (3, 2)]):
        Image.fromarray(mosaic(number, rows, columns)).save(folder / f"m{number}.png")
