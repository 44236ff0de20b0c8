"""The legend of an overlay, and text in pictures: the font, and class names as it can draw them."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

PAPER, _INK, _FAINT = (27, 29, 33), (236, 237, 239), (158, 162, 170)
_LONGEST_NAME_EM = 13
_LEAST_PLACES = 6
_BEYOND_ASCII = "©«°±´·»‘’“”…‹›⁄™"


@dataclass(frozen=True)
class Entry:
    """A line of the legend; `share` is of the image's pixels, a colour of None draws an empty box."""

    text: str
    share: float
    colour: tuple[int, int, int] | None


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Load Pillow's own Aileron at `size` pixels: the same letters on every machine, no font file to find."""
    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return loaded


def drawable(name: str, class_id: int) -> str:
    """Return `name` as the font can draw it, on one line.

    The font holds ASCII and some punctuation. Accents are dropped (café → cafe); a name with letters of
    another script becomes "class 7", its id in the label map and in classes.json, where it stands in full.
    """
    decomposed = unicodedata.normalize("NFKD", " ".join(name.split()))
    text = "".join(character for character in decomposed if not unicodedata.combining(character))
    if text and all(" " <= character <= "~" or character in _BEYOND_ASCII for character in text):
        return text
    return f"class {class_id}"


@lru_cache(maxsize=8192)  # the names of a vocabulary come again with every picture
def text_width(text: str, size: int) -> float:
    """Measure the pixels that `text` takes in letters of `size` pixels."""
    return font(size).getlength(text)


@lru_cache(maxsize=8192)
def elided(text: str, size: int, width: float) -> str:
    """Return `text`, cut short with an ellipsis where it is longer than `width` pixels in letters of `size`."""
    if text_width(text, size) <= width:
        return text
    while text and font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def percent(share: float) -> str:
    """Format a share of 1 in percent, with as many places as one wants to read."""
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"


def legend_below(entries: Sequence[Entry], *, em: int, width: int, height: int) -> Image.Image:
    """Draw a strip in letters of `em` pixels: `width` wide, or one column if that is more; about `height` at most,
    but with room for six classes."""
    grid = _Grid(entries, em)
    columns = grid.columns_within(width)
    most = max((height - 2 * grid.margin) // grid.line, -(-_LEAST_PLACES // columns))
    rows = min(-(-len(entries) // columns), most)
    return grid.drawn(rows, columns, width=width, height=0)


def legend_beside(entries: Sequence[Entry], *, em: int, width: int, height: int) -> Image.Image:
    """Draw a panel in letters of `em` pixels: at least `height` high, and about `width` wide at most."""
    grid = _Grid(entries, em)
    rows = max((height - 2 * grid.margin) // grid.line, _LEAST_PLACES)
    columns = min(-(-len(entries) // rows), grid.columns_within(width))
    return grid.drawn(rows, columns, width=0, height=height)


class _Grid:
    """Measures of the legend in pixels, and its drawing."""

    def __init__(self, entries: Sequence[Entry], em: int) -> None:
        self.font = font(em)
        longest = _LONGEST_NAME_EM * em
        self.entries = [Entry(elided(e.text, em, longest), e.share, e.colour) for e in entries]
        self.em = em
        self.line = round(1.55 * em)
        self.margin = round(0.9 * em)
        self.gutter = round(1.8 * em)
        self.indent = round(1.5 * em)
        names = max(text_width(entry.text, em) for entry in self.entries)
        self.column = round(self.indent + names + 3.4 * em)

    def columns_within(self, width: int) -> int:
        return max(1, (width - 2 * self.margin + self.gutter) // (self.column + self.gutter))

    def drawn(self, rows: int, columns: int, *, width: int, height: int) -> Image.Image:
        """Draw the entries down the columns; what doesn't fit is summed up in the last place."""
        count = min(len(self.entries), rows * columns)
        rows = min(rows, count)
        columns = -(-count // rows)
        least_width = 2 * self.margin + columns * (self.column + self.gutter) - self.gutter
        least_height = 2 * self.margin + rows * self.line
        picture = Image.new("RGB", (max(width, least_width), max(height, least_height)), PAPER)
        draw = ImageDraw.Draw(picture)
        hidden = len(self.entries) - count
        for i, entry in enumerate(self.entries[:count]):
            x = self.margin + i // rows * (self.column + self.gutter)
            middle = self.margin + i % rows * self.line + self.line // 2
            if hidden and i == count - 1:
                share = sum(e.share for e in self.entries[i:])
                self._draw_text(draw, f"+ {hidden + 1} more", share, x, middle)
            else:
                self._draw_swatch(draw, entry.colour, x, middle)
                self._draw_text(draw, entry.text, entry.share, x, middle)
        return picture

    def _draw_swatch(
        self, draw: ImageDraw.ImageDraw, colour: tuple[int, int, int] | None, x: int, middle: int
    ) -> None:
        half = round(0.42 * self.em)
        box = (x, middle - half, x + 2 * half, middle + half)
        draw.rounded_rectangle(box, half // 2, fill=colour, outline=_FAINT if colour is None else None)

    def _draw_text(self, draw: ImageDraw.ImageDraw, text: str, share: float, x: int, middle: int) -> None:
        draw.text((x + self.indent, middle), text, fill=_INK, font=self.font, anchor="lm")
        draw.text((x + self.column, middle), percent(share), fill=_FAINT, font=self.font, anchor="rm")
