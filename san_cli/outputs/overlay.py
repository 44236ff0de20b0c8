"""The overlay: a photograph under translucent class colours, with outlines, names and a legend."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from san_cli.files import atomic_write
from san_cli.outputs.colours import palette
from san_cli.outputs.large import LARGE, averaged_bands, drop_pages, nearest
from san_cli.outputs.legend import (
    PAPER,
    Entry,
    drawable,
    elided,
    font,
    legend_below,
    legend_beside,
    text_width,
)
from san_cli.outputs.placement import place_names

_TINT_OPACITY, _OUTLINE_OPACITY = 0.5, 0.75
_BAND = 64  # rows tinted at a time: what a core's cache holds
_LONGEST = 16_384
_JPEG_LONGEST = 65500


def render_overlay(
    image: NDArray[np.uint8], label_map: NDArray[np.integer], names: Sequence[str]
) -> Image.Image:
    """Draw `image` [H, W, 3] under the colours of `label_map` [H, W], ids in `names`, -1 where unlabelled.

    The photograph stays at the top left in its own size, a huge one in `overlay_size`; the legend is below it, or
    beside it if it is higher than wide. Unlabelled pixels keep the photograph's colours, but for outlines.
    Legend and names are of the classes present; a name stands only where it fits.
    ValueError if the two sizes differ.
    """
    if image.shape != (*label_map.shape, 3):
        raise ValueError(f"an image of shape {image.shape} can't lie under a label map of {label_map.shape}")
    drop_pages(image)  # what was read of it before is not needed along with the canvas
    area = _areas(label_map, len(names) + 1)
    height, width = overlay_size(*label_map.shape)
    # Ids from 1, 0 being unlabelled, in the narrowest unsigned type that leaves one value over for the placement.
    small = nearest(label_map, (height, width))
    labels = np.add(small, 1, dtype=np.min_scalar_type(len(names) + 1), casting="unsafe")
    del small
    # Say in a legend what stands nowhere else, and how much of the picture everything takes.
    em = _letter_size(width, height)
    colours = np.concatenate([np.zeros((1, 3), np.uint8), palette(names)])
    present = [label for label in np.argsort(-area, kind="stable").tolist() if area[label] and label]
    texts = {label: drawable(names[label - 1], label - 1) for label in present}
    entries = [Entry(texts[i], area[i] / label_map.size, tuple(colours[i].tolist())) for i in present]
    if area[0]:
        entries.append(Entry("unlabelled", area[0] / label_map.size, None))
    legend = _legend(entries, em, width, height)
    # Tint and outline the photograph where it is to stay: a copy of a large one would be of several 100 MB.
    canvas = _canvas(legend, width, height)
    for top, band in averaged_bands(image, (height, width)):
        canvas.paste(band, (0, top))
    _tint(canvas, labels, colours, line=max(1, round(em / 14)))
    # Write the names of the classes present, the largest first: where room is short, it is theirs.
    _write_names(canvas, labels, texts, colours, em)
    _finish_canvas(canvas, legend, width, height)
    return canvas


def write_overlay(path: Path, picture: Image.Image) -> None:
    """Write `picture` as JPEG or PNG, as the extension of `path` says.

    JPEG at quality 90 takes a thirtieth of a PNG's time at level 1; sides over 65,500 pixels, which JPEG
    can't hold, are scaled down to that.
    """
    with atomic_write(path) as stream:
        if path.suffix.lower() == ".png":
            picture.save(stream, "PNG", compress_level=1)
        else:
            if max(picture.size) > _JPEG_LONGEST:
                picture = picture.copy()
                picture.thumbnail((_JPEG_LONGEST, _JPEG_LONGEST))
            picture.save(stream, "JPEG", quality=90)


def overlay_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the photograph in the overlay of a picture: at most `LARGE` pixels, sides to 16,384.

    That is the longest side which graphics cards, and so browsers and viewers, hold in one piece; as many pixels take
    256 MB on a screen.
    """
    scale = min(1.0, math.sqrt(LARGE / (height * width)), _LONGEST / max(height, width))
    return max(1, int(height * scale)), max(1, int(width * scale))


def overlay_note(height: int, width: int) -> str | None:
    """Say that the overlay of a picture of `height` × `width` pixels is smaller than it; None where it isn't."""
    small = overlay_size(height, width)
    if small == (height, width):
        return None
    return f"overlay at {small[1]} × {small[0]} of {width} × {height} pixels"


def _areas(label_map: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Count the pixels [count] of each id from -1 on; by bands, as bincount makes 8 bytes of every pixel."""
    area = np.zeros(count, np.int64)
    for top in range(0, len(label_map), _BAND):
        labels = np.add(label_map[top : top + _BAND], 1, dtype=np.intp, casting="unsafe")
        area += np.bincount(labels.ravel(), minlength=count)
    return area


def _letter_size(width: int, height: int) -> int:
    """Return the letters' size in pixels: 14 for 640×480; grows less than the image, which is zoomed into."""
    return round(min(max(14 * ((width * height) / (640 * 480)) ** 0.375, 11), 72))


def _tint(picture: Image.Image, labels: NDArray[np.integer], colours: NDArray[np.uint8], line: int) -> None:
    """Lay `colours` [C + 1, 3] over `picture` by `labels` [H, W], with outlines of `line` pixels."""
    inks = np.zeros((2, len(colours), 4), np.uint8)  # tint, outline
    inks[:, :, :3] = colours
    inks[0, 1:, 3] = round(255 * _TINT_OPACITY)
    inks[1, :, :3] = 255
    inks[1, :, 3] = round(255 * _OUTLINE_OPACITY)
    packed = inks.view(np.uint32).ravel()
    for top in range(0, len(labels), _BAND):
        band = labels[top : top + _BAND]
        rgba = packed[band + _edges(labels, line, top, len(band)) * np.intp(len(colours))]
        layer = Image.frombuffer("RGBA", rgba.shape[::-1], rgba, "raw", "RGBA", 0, 1)
        picture.paste(layer, (0, top), layer)


def _edges(labels: NDArray[np.integer], line: int, top: int, height: int) -> NDArray[np.bool_]:
    """Mark [height, W] where the outlines between regions run, `line` pixels wide, in a band from `top` on."""
    edges = np.zeros((height, labels.shape[1]), bool)
    before = line // 2
    first, last = max(top, before), min(top + height, before + len(labels) - line)
    if last > first:
        upper = labels[first - before : last - before]
        edges[first - top : last - top] = upper != labels[first - before + line : last - before + line]
    columns = labels.shape[1] - line
    if columns > 0:
        band = labels[top : top + height]
        edges[:, before : before + columns] |= band[:, line:] != band[:, :-line]
    return edges


def _write_names(
    picture: Image.Image,
    labels: NDArray[np.integer],
    texts: dict[int, str],
    colours: NDArray[np.uint8],
    em: int,
) -> None:
    """Write `texts` (label → text, the most important first) into their regions, where they fit."""
    letters = em, max(9, round(0.78 * em))
    texts = {label: elided(text, em, 14 * em) for label, text in texts.items()}
    sizes = [
        (label, [(round(text_width(text, size)) + size, round(1.5 * size)) for size in letters])
        for label, text in texts.items()
    ]
    draw = ImageDraw.Draw(picture)
    for label, place in place_names(labels, sizes, step=max(1, em // 4)).items():
        size = letters[place.choice]
        halo = tuple((colours[label] * 0.28).astype(int).tolist())
        draw.text(
            (place.x, place.y),
            texts[label],
            fill=(255, 255, 255),
            font=font(size),
            anchor="mm",
            stroke_width=max(1, round(size / 8)),
            stroke_fill=halo,
        )


def _legend(entries: Sequence[Entry], em: int, width: int, height: int) -> Image.Image:
    if height > width:
        return legend_beside(entries, em=em, width=width, height=height)
    return legend_below(entries, em=em, width=width, height=round(0.35 * height))


def _canvas(legend: Image.Image, width: int, height: int) -> Image.Image:
    """Make the paper that a photograph of `width` × `height` pixels and its legend lie on."""
    beside = height > width
    size = (width + legend.width, legend.height) if beside else (legend.width, height + legend.height)
    return Image.new("RGB", size, PAPER)


def _finish_canvas(canvas: Image.Image, legend: Image.Image, width: int, height: int) -> None:
    """Lay the legend on, over what letters have drawn beyond the photograph."""
    canvas.paste(PAPER, (width, 0, canvas.width, canvas.height))
    canvas.paste(PAPER, (0, height, canvas.width, canvas.height))
    canvas.paste(legend, (width, 0) if height > width else (0, height))
