"""Text in pictures: the font, and class names as it can draw them."""

import unicodedata
from functools import lru_cache

from PIL import ImageFont

_BEYOND_ASCII = "©«°±´·»‘’“”…‹›⁄™"


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own Aileron at `size` pixels: the same letters on every machine, no font file to find."""
    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return loaded


def drawable(name: str, class_id: int) -> str:
    """`name` as the font can draw it, on one line.

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
    """Pixels that `text` takes in letters of `size` pixels."""
    return font(size).getlength(text)


@lru_cache(maxsize=8192)
def elided(text: str, size: int, width: float) -> str:
    """`text`, cut short with an ellipsis where it is longer than `width` pixels in letters of `size`."""
    if text_width(text, size) <= width:
        return text
    while text and font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
