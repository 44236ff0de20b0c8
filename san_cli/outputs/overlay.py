"""The overlay: a photograph under translucent class colours, with outlines, names and a legend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from san_cli.files import atomic_write
from san_cli.outputs.colours import palette
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
_BAND = 64  # rows tinted at a time: what a core's cache holds, and no second picture in memory
_JPEG_LONGEST = 65500


def render_overlay(
    image: NDArray[np.uint8], label_map: NDArray[np.integer], names: Sequence[str]
) -> Image.Image:
    """Draw `image` [H, W, 3] under the colours of `label_map` [H, W], ids in `names`, -1 where unlabelled.

    The photograph stays at the top left in its own size, the legend is below it, or beside it if it is higher
    than wide. Unlabelled pixels keep the photograph's colours, but for outlines.
    Legend and names are of the classes present; a name stands only where it fits.
    ValueError if the two sizes differ.
    """
    height, width = label_map.shape
    if image.shape != (height, width, 3):
        raise ValueError(f"an image of shape {image.shape} can't lie under a label map of {label_map.shape}")
    # Ids from 1, 0 being unlabelled, in the narrowest unsigned type that leaves one value over for the placement.
    labels = np.add(label_map, 1, dtype=np.min_scalar_type(len(names) + 1), casting="unsafe")
    # Tint and outline the photograph.
    em = _letter_size(width, height)
    picture = Image.fromarray(image)
    colours = np.concatenate([np.zeros((1, 3), np.uint8), palette(names)])
    _tint(picture, labels, colours, line=max(1, round(em / 14)))
    # Write the names of the classes present, the largest first: where room is short, it is theirs.
    area = _areas(labels, len(colours))
    present = [label for label in np.argsort(-area, kind="stable").tolist() if area[label] and label]
    texts = {label: drawable(names[label - 1], label - 1) for label in present}
    _write_names(picture, labels, texts, colours, em)
    # Say in a legend what stands nowhere else, and how much of the picture everything takes.
    entries = [Entry(texts[i], area[i] / labels.size, tuple(colours[i].tolist())) for i in present]
    if area[0]:
        entries.append(Entry("unlabelled", area[0] / labels.size, None))
    return _with_legend(picture, entries, em)


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


def _areas(labels: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Count the pixels [count] of each label; by bands, as bincount makes 8 bytes of every pixel it is given."""
    area = np.zeros(count, np.int64)
    for top in range(0, len(labels), _BAND):
        area += np.bincount(labels[top : top + _BAND].ravel(), minlength=count)
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
    edges = _edges(labels, line)
    for top in range(0, len(labels), _BAND):
        band = slice(top, top + _BAND)
        rgba = packed[labels[band] + edges[band] * np.intp(len(colours))]
        layer = Image.frombuffer("RGBA", rgba.shape[::-1], rgba, "raw", "RGBA", 0, 1)
        picture.paste(layer, (0, top), layer)


def _edges(labels: NDArray[np.integer], line: int) -> NDArray[np.bool_]:
    """Mark [H, W] where the outlines between regions run, `line` pixels wide."""
    edges = np.zeros(labels.shape, bool)
    before = line // 2
    rows, columns = len(labels) - line, labels.shape[1] - line
    if rows > 0:
        edges[before : before + rows] |= labels[line:] != labels[:-line]
    if columns > 0:
        edges[:, before : before + columns] |= labels[:, line:] != labels[:, :-line]
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


def _with_legend(picture: Image.Image, entries: Sequence[Entry], em: int) -> Image.Image:
    width, height = picture.size
    if height > width:
        legend = legend_beside(entries, em=em, width=width, height=height)
        canvas = Image.new("RGB", (width + legend.width, legend.height), PAPER)
        canvas.paste(legend, (width, 0))
    else:
        legend = legend_below(entries, em=em, width=width, height=round(0.35 * height))
        canvas = Image.new("RGB", (legend.width, height + legend.height), PAPER)
        canvas.paste(legend, (0, height))
    canvas.paste(picture, (0, 0))
    return canvas
