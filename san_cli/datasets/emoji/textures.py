"""The backgrounds: procedural textures, a handful of variants each, drawn once per process."""

import colorsys
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating]
SIDE = 512  # pixels of a variant
VARIANTS = 8
_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


@cache
def texture(name: str, variant: int) -> Image.Image:
    """Variant number 0 … VARIANTS-1 of the background `name`, RGB, SIDE pixels square."""
    rng = np.random.default_rng((zlib.crc32(name.encode()), variant))
    pixels = np.clip(_PAINTERS[name](rng), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def _noise(rng: Generator, power: float, stretch: tuple[float, float] = (1, 1)) -> Array:
    """Noise [SIDE, SIDE] with mean 0 and deviation 1 whose amplitude falls with frequency to the `power`.

    `stretch` (y, x) draws the pattern out along an axis.
    """
    fy = np.fft.fftfreq(SIDE)[:, None] * stretch[0]
    fx = np.fft.rfftfreq(SIDE)[None] * stretch[1]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * frequency**-power
    field = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    return (field / field.std()).astype(np.float32)


def _blend(amount: Array, low: tuple[int, int, int], high: tuple[int, int, int]) -> Array:
    """Colours [SIDE, SIDE, 3] from `low` (amount 0) to `high` (amount 1)."""
    share = np.clip(amount, 0, 1).astype(np.float32)[..., None]
    return np.asarray(low, np.float32) * (1 - share) + np.asarray(high, np.float32) * share


def _colour(
    rng: Generator,
    saturation: tuple[float, float],
    value: tuple[float, float],
    hue: tuple[float, float] = (0, 1),
) -> tuple[int, int, int]:
    """A random colour, 0 … 255, from ranges of hue, saturation and value 0 … 1."""
    colour = colorsys.hsv_to_rgb(rng.uniform(*hue) % 1, rng.uniform(*saturation), rng.uniform(*value))
    red, green, blue = colour
    return round(255 * red), round(255 * green), round(255 * blue)


def _turned(rng: Generator) -> tuple[Array, Array]:
    """Coordinates in pixels, turned by any angle."""
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * _X + sin * _Y, cos * _Y - sin * _X


def _grass(rng: Generator) -> Array:
    blades = 0.6 * _noise(rng, 0.6, (1, 5)) + 0.4 * _noise(rng, 1.2)
    return _blend(0.45 + 0.28 * blades, (38, 84, 20), (146, 196, 66))


def _water(rng: Generator) -> Array:
    swell = _noise(rng, 1.6, (4, 1))
    ripples = np.sin(_Y / rng.uniform(6, 11) + 2.6 * swell)
    crests = np.clip(ripples - 0.75, 0, 1) * 2.2
    return _blend(0.4 + 0.22 * ripples, (14, 92, 150), (72, 172, 214)) + 60 * crests[..., None]


def _wood(rng: Generator) -> Array:
    height = rng.integers(56, 100)
    board = (_Y // height).astype(int)
    shade = rng.uniform(-0.2, 0.2, board.max() + 1).astype(np.float32)[board]
    shift = rng.uniform(0, 90, board.max() + 1).astype(np.float32)[board]
    grain = np.sin((_Y + shift) / 3.2 + 3.0 * _noise(rng, 1.8, (5, 0.6)))
    seam = (_Y % height < 3) * np.float32(0.6)
    fibre = 0.06 * _noise(rng, 0.5, (1, 8))
    return _blend(0.5 + shade + 0.13 * grain + fibre - seam, (84, 48, 20), (206, 150, 92))


def _brick_wall(rng: Generator) -> Array:
    height, width = rng.integers(30, 44), rng.integers(76, 104)
    row = (_Y // height).astype(int)
    shifted = _X + (row % 2) * (width / 2)
    column = (shifted // width).astype(int)
    shades = rng.uniform(0.25, 0.85, (row.max() + 1, column.max() + 1)).astype(np.float32)
    bricks = _blend(shades[row, column] + 0.12 * _noise(rng, 0.7), (112, 40, 28), (190, 92, 66))
    mortar = (_Y % height < 5) | (shifted % width < 5)
    return np.where(mortar[..., None], 196 + 10 * _noise(rng, 0.4)[..., None], bricks)


def _sand(rng: Generator) -> Array:
    dunes = np.sin(_Y / rng.uniform(14, 26) + 1.6 * _noise(rng, 2.0, (2, 1)))
    return _blend(0.5 + 0.1 * dunes + 0.14 * _noise(rng, 0.1), (196, 158, 98), (244, 218, 164))


def _sky(rng: Generator) -> Array:
    clouds = np.clip(0.6 * _noise(rng, 1.9, (2, 1)) - 0.35, 0, 0.8)
    blue = _blend(_Y / SIDE, (58, 134, 222), (168, 214, 248))
    return blue + (250 - blue) * clouds[..., None]


def _night_sky(rng: Generator) -> Array:
    dark = _blend(_Y / SIDE + 0.15 * _noise(rng, 1.8), (6, 8, 30), (34, 40, 92))
    for y, x in rng.integers(4, SIDE - 4, (260, 2)):
        reach = int(rng.integers(1, 4))  # pixels
        star = (slice(y - reach // 2, y + (reach + 1) // 2), slice(x - reach // 2, x + (reach + 1) // 2))
        dark[star] = rng.uniform(170, 255)
    return dark


def _cells(rng: Generator, pitch: int) -> tuple[Array, Array]:
    """A jittered grid's cells: distance to the border in pixels, and a random shade 0 … 1 of each cell."""
    count = SIDE // pitch + 3
    corners = np.mgrid[0:count, 0:count].transpose(1, 2, 0) - 1
    points = ((corners + rng.uniform(0.15, 0.85, (count, count, 2))) * pitch).astype(np.float32)
    shades = rng.random((count, count)).astype(np.float32)
    near = second = np.full((SIDE, SIDE), np.inf, np.float32)
    shade = np.zeros((SIDE, SIDE), np.float32)
    for dy, dx in np.ndindex(3, 3):
        row, column = (_Y // pitch).astype(int) + dy, (_X // pitch).astype(int) + dx
        distance = np.hypot(_Y - points[row, column, 0], _X - points[row, column, 1])
        closer = distance < near
        second = np.where(closer, near, np.minimum(second, distance))
        near, shade = np.where(closer, distance, near), np.where(closer, shades[row, column], shade)
    return (second - near) / 2, shade


def _cobblestones(rng: Generator) -> Array:
    border, shade = _cells(rng, int(rng.integers(40, 62)))
    bump = np.clip(border / 12, 0, 1)
    return _blend(0.1 + bump * (0.45 + 0.4 * shade) + 0.07 * _noise(rng, 0.6), (48, 46, 44), (178, 172, 164))


def _marble(rng: Generator) -> Array:
    veins = np.exp(-np.abs(_noise(rng, 2.0)) * 16) * 0.75 + np.exp(-np.abs(_noise(rng, 1.7)) * 14) * 0.35
    return _blend(veins * 0.9 + 0.05 * _noise(rng, 1.4), (240, 238, 234), (116, 118, 128))


def _tiled_wall(rng: Generator) -> Array:
    pitch = int(rng.integers(52, 88))
    row, column = (_Y // pitch).astype(int), (_X // pitch).astype(int)
    shade = rng.uniform(-14, 14, (row.max() + 1, column.max() + 1)).astype(np.float32)[row, column]
    gloss = 18 * np.clip(1 - (_Y % pitch + _X % pitch) / pitch, 0, 1)
    tiles = np.asarray(_colour(rng, (0.08, 0.4), (0.75, 0.92)), np.float32) + (shade + gloss)[..., None]
    grout = (_Y % pitch < 5) | (_X % pitch < 5)
    return np.where(grout[..., None], np.float32(rng.uniform(225, 250)), tiles)


def _striped_wallpaper(rng: Generator) -> Array:
    across, _ = _turned(rng)
    stripe = (across % rng.uniform(44, 80)) / rng.uniform(44, 80)
    first, second = _colour(rng, (0.3, 0.7), (0.55, 0.9)), _colour(rng, (0.02, 0.3), (0.85, 1))
    return _blend((stripe > 0.5).astype(np.float32), first, second)


def _polka_dots(rng: Generator) -> Array:
    pitch = rng.uniform(48, 76)
    row = _Y // pitch
    y, x = _Y % pitch - pitch / 2, (_X + (row % 2) * pitch / 2) % pitch - pitch / 2
    inside = np.clip(rng.uniform(0.2, 0.3) * pitch - np.hypot(y, x) + 0.5, 0, 1)
    return _blend(inside, _colour(rng, (0.3, 0.8), (0.5, 0.95)), _colour(rng, (0, 0.15), (0.92, 1)))


def _checkerboard(rng: Generator) -> Array:
    pitch = rng.uniform(34, 60)
    odd = ((_Y // pitch + _X // pitch) % 2).astype(np.float32)
    return _blend(odd, _colour(rng, (0, 0.6), (0.1, 0.35)), _colour(rng, (0, 0.12), (0.86, 1)))


def _lava(rng: Generator) -> Array:
    glow = np.exp(-np.abs(_noise(rng, 1.6)) * 5)
    hot = _blend(glow * 1.2, (50, 14, 10), (255, 96, 10))
    return hot + _blend(np.clip(glow * 3 - 2, 0, 1), (0, 0, 0), (0, 120, 60))


def _soil(rng: Generator) -> Array:
    clods = 0.5 * _noise(rng, 1.1) + 0.5 * _noise(rng, 0.4)
    return _blend(0.45 + 0.3 * clods, (40, 26, 16), (124, 88, 58))


def _plain_wall(rng: Generator) -> Array:
    across, _ = _turned(rng)
    amount = (across - across.min()) / (across.max() - across.min())
    # No blue: that would be a sky without clouds.
    first = np.asarray(_colour(rng, (0.05, 0.55), (0.45, 1), (-0.25, 0.45)), np.float32)
    second = np.clip(first + rng.uniform(-70, 70), 0, 255)
    return first * (1 - amount[..., None]) + second * amount[..., None]


_PAINTERS: dict[str, Callable[[Generator], Array]] = {
    "grass": _grass,
    "water": _water,
    "wood": _wood,
    "brick wall": _brick_wall,
    "sand": _sand,
    "sky": _sky,
    "night sky": _night_sky,
    "cobblestones": _cobblestones,
    "marble": _marble,
    "tiled wall": _tiled_wall,
    "striped wallpaper": _striped_wallpaper,
    "polka dots": _polka_dots,
    "checkerboard": _checkerboard,
    "lava": _lava,
    "soil": _soil,
    "plain wall": _plain_wall,
}
