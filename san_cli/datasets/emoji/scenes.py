"""Scenes of emoji on textures, with pixel-exact labels: a pure function of seed and index."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from san_cli.datasets.emoji.sprites import sprite
from san_cli.datasets.emoji.textures import SIDE, VARIANTS, texture
from san_cli.vocabulary.emoji_concepts import concepts

VISIBLE = 0.2  # of an emoji's pixels; one that shows less is left out
_Jitter = tuple[float, ...]  # 3 × 4 colour matrix, row by row


@dataclass(frozen=True)
class Layout:
    """The rules of drawing: how many emoji, how large, how far over the border."""

    count: tuple[int, int] = (1, 8)  # emoji, both ends included
    scale: tuple[float, float] = (0.15, 0.7)  # an emoji's longer side relative to the picture's
    margin: float = 0.05  # emoji centres stay so far inside the picture, relative to its side
    two_backgrounds: float = 0.3  # probability


@dataclass(frozen=True)
class Scene:
    """A picture and its labels."""

    image: NDArray[np.uint8]  # [size, size, 3], RGB
    labels: NDArray[np.uint16]  # [size, size]


@dataclass(frozen=True)
class _Placed:
    label: int
    picture: Image.Image  # RGB
    alpha: Image.Image  # L
    left: int
    top: int


class EmojiScenes:
    """An endless sequence of scenes that hold nothing but `wanted` concepts (ids of `concepts()`).

    Labels are places in `wanted`: with all ids these are the ids themselves, with `seen_ids()` places in the
    list of seen names. `wanted` needs a background; `size` is the side in pixels. The same seed, index and
    arguments give the same pixels.
    """

    def __init__(self, seed: int, wanted: Sequence[int], size: int, layout: Layout | None = None) -> None:
        world = concepts()
        self.seed, self.size, self.layout = seed, size, layout or Layout()
        self.things = [(label, world[i].emoji) for label, i in enumerate(wanted) if world[i].emoji]
        self.grounds = [(label, world[i].name) for label, i in enumerate(wanted) if not world[i].emoji]
        if not self.grounds or (self.layout.count[1] and not self.things):
            raise ValueError("scenes need a background, and an emoji to put on it")

    def __getitem__(self, index: int) -> Scene:
        """Scene number `index` >= 0. SanError where the font is missing."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, index))))
        canvas, labels = self._background(rng)
        placed = self._placed(rng)
        owner = np.zeros((self.size, self.size), np.uint8)
        spots = [_spot(piece, self.size) for piece in placed]
        for number, (window, mask) in enumerate(spots, start=1):
            owner[window][mask] = number
        shown = np.bincount(owner.ravel(), minlength=len(placed) + 1)[1:]
        for piece, (window, mask), pixels in zip(placed, spots, shown, strict=True):
            if pixels and pixels >= VISIBLE * np.count_nonzero(np.asarray(piece.alpha) >= 128):
                canvas.paste(piece.picture, (piece.left, piece.top), piece.alpha)
                labels[window][mask] = piece.label
        return Scene(np.array(canvas), labels)

    def _background(self, rng: Generator) -> tuple[Image.Image, NDArray[np.uint16]]:
        """One texture, or two that meet in a straight line."""
        label, name = self.grounds[rng.integers(len(self.grounds))]
        canvas = _ground(rng, name, self.size)
        labels = np.full((self.size, self.size), label, np.uint16)
        if rng.random() < self.layout.two_backgrounds:
            label, name = self.grounds[rng.integers(len(self.grounds))]
            angle = rng.normal(0, 0.15) + (np.pi / 2 if rng.random() < 0.25 else 0)
            along = (np.arange(self.size, dtype=np.float32) / self.size - 0.5)[:, None]
            beyond = along * np.cos(angle) + along.T * np.sin(angle) > rng.uniform(-0.3, 0.3)
            canvas.paste(_ground(rng, name, self.size), (0, 0), Image.fromarray(beyond))
            labels[beyond] = label
        return canvas, labels

    def _placed(self, rng: Generator) -> list[_Placed]:
        low, high = self.layout.count
        count = int(rng.integers(low, high + 1))
        smallest, largest = self.layout.scale
        largest = max(smallest, largest * min(1, 1.5 / math.sqrt(max(count, 1))))  # a crowd has room
        placed = []
        for choice in rng.integers(len(self.things), size=count):
            label, emoji = self.things[choice]
            side = self.size * math.exp(rng.uniform(math.log(smallest), math.log(largest)))
            picture, alpha = _turned_sprite(rng, emoji, side)
            x, y = self.size * rng.uniform(self.layout.margin, 1 - self.layout.margin, 2)
            left, top = round(x - alpha.width / 2), round(y - alpha.height / 2)
            placed.append(_Placed(label, picture, alpha, left, top))
        return placed


def _spot(piece: _Placed, size: int) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Place a piece in the picture: its rows and columns, and its mask there (alpha of one half or more).

    Its centre lies inside the picture, so that the window is never empty.
    """
    top, left = max(piece.top, 0), max(piece.left, 0)
    bottom = min(piece.top + piece.alpha.height, size)
    right = min(piece.left + piece.alpha.width, size)
    mask = np.asarray(piece.alpha)[
        top - piece.top : bottom - piece.top, left - piece.left : right - piece.left
    ]
    return (slice(top, bottom), slice(left, right)), mask >= 128


def _turned_sprite(rng: Generator, emoji: str, side: float) -> tuple[Image.Image, Image.Image]:
    """The emoji with its longer side `side` pixels, flipped or not, turned, its colours changed a little."""
    levels = sprite(emoji)
    source = next((level for level in reversed(levels) if max(level.size) >= side), levels[0])
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.08 else rng.normal(0, 0.22)
    flip = -1 if rng.random() < 0.5 else 1
    zoom = max(source.size) / side  # source pixels per picture pixel
    cos, sin = math.cos(angle), math.sin(angle)
    width = math.ceil((abs(cos) * source.width + abs(sin) * source.height) / zoom) + 1
    height = math.ceil((abs(sin) * source.width + abs(cos) * source.height) / zoom) + 1
    a, b, d, e = flip * zoom * cos, flip * zoom * sin, -zoom * sin, zoom * cos
    centre_x, centre_y = width / 2, height / 2
    matrix = (
        a, b, source.width / 2 - a * centre_x - b * centre_y,
        d, e, source.height / 2 - d * centre_x - e * centre_y,
    )  # fmt: skip
    turned = source.transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=(0, 0, 0, 0)
    )
    return turned.convert("RGB").convert("RGB", _jitter(rng, 0.15)), turned.getchannel("A")


def _ground(rng: Generator, name: str, size: int) -> Image.Image:
    """A cut-out of the texture, flipped or not, its colours changed a little."""
    whole = texture(name, int(rng.integers(VARIANTS)))
    side = SIDE * rng.uniform(0.3, 0.8)
    left, top = rng.uniform(0, SIDE - side, 2)
    box = (left, top, left + side, top + side)
    ground = whole.resize((size, size), Image.Resampling.BILINEAR, box)
    if rng.random() < 0.5:
        ground = ground.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ground.convert("RGB", _jitter(rng, 0.12))


def _jitter(rng: Generator, strength: float) -> _Jitter:
    """A colour matrix that changes brightness, contrast, saturation and tint by about `strength`."""
    brightness, contrast, saturation, *tint = rng.uniform(-strength, strength, 6)
    grey = (1 - (1 + 1.5 * saturation)) / 3  # what every channel takes from the others
    offset = 128 * (brightness - contrast)
    rows = []
    for row in range(3):
        gain = (1 + contrast) * (1 + tint[row] / 2)
        rows += [gain * (grey + (1 + 1.5 * saturation) * (row == column)) for column in range(3)] + [offset]
    return tuple(float(value) for value in rows)
