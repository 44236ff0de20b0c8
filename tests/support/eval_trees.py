"""Small datasets in the prepared layout, for tests of `san eval`."""

from pathlib import Path

import numpy as np
from PIL import Image
from recipe import image

SIZES = [(72, 96), (96, 72), (80, 80)]


def truth(seed: int, height: int, width: int, classes: int, ignore: int) -> np.ndarray:
    """Blocks of classes under a band of ignored pixels."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, classes, (-(-height // 8), -(-width // 8)))
    labels = np.kron(blocks, np.ones((8, 8), np.int64))[:height, :width]
    labels[:5] = ignore
    return labels.astype(np.uint8 if ignore == 255 else np.uint16)


def make_voc(root: Path, count: int = 7) -> Path:
    """A VOC tree of `count` pairs below `root`, which is returned."""
    images, labels = root / "VOC2012/JPEGImages", root / "VOC2012/annotations_detectron2/val"
    _make(images, labels, count, 20, 255, ".png")
    Image.fromarray(image(99, 40, 40)).save(images / "of_another_split.jpg")
    return root


def make_pc459(root: Path, count: int = 3) -> Path:
    """A PASCAL-Context-459 tree, 16-bit labels, most classes absent."""
    _make(root / "pcontext_full/val/image", root / "pcontext_full/val/label", count, 459, 65535, ".tif")
    return root


def make_coco(root: Path, count: int = 3) -> Path:
    """A COCO-Stuff tree."""
    labels = root / "coco/stuffthingmaps_detectron2/val2017"
    _make(root / "coco/val2017", labels, count, 171, 255, ".png")
    return root


def _make(images: Path, labels: Path, count: int, classes: int, ignore: int, suffix: str) -> None:
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number in range(count):
        height, width = SIZES[number % 3]
        Image.fromarray(image(number, height, width)).save(images / f"p{number:02d}.jpg", quality=90)
        Image.fromarray(truth(number, height, width, classes, ignore)).save(labels / f"p{number:02d}{suffix}")
