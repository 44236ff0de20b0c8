"""Emoji as small pictures with transparency, taken from the Noto Color Emoji font."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from san_cli.errors import SanError
from san_cli.text import printable, quoted

FONT_FILE = "NotoColorEmoji.ttf"
BITMAP_SIZE = 109  # the only size at which the font holds bitmaps (136 × 128 px each)
_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
)
_HINT = (
    "Install the Debian package `fonts-noto-color-emoji`, or set $SAN_EMOJI_FONT to the path of that file "
    "(github.com/googlefonts/noto-emoji, SIL Open Font License)."
)


@cache
def sprite(emoji: str) -> tuple[Image.Image, ...]:
    """The emoji in RGBA, cut to what is drawn: full size (about 128 px), then halves down to about 16 px.

    SanError where the font is missing, can't be read or lacks the character.
    """
    font = _font(os.environ.get("SAN_EMOJI_FONT", ""))
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), emoji, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise SanError(f"the font {FONT_FILE} has no picture for {emoji!r}", hint=_HINT)
    full = canvas.crop(box)
    return (full, *(full.reduce(factor) for factor in (2, 4, 8)))


@cache
def _font(named: str) -> ImageFont.FreeTypeFont:
    path = Path(named) if named else next(_candidates(), None)
    if path is None:
        raise SanError(f"The font {FONT_FILE} is not installed; the emoji are drawn from it.", hint=_HINT)
    try:
        return ImageFont.truetype(str(path), BITMAP_SIZE, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise SanError(
            f"{quoted(path)} can't be used as emoji font ({printable(str(error))}).", hint=_HINT
        ) from None


def _candidates() -> Iterator[Path]:
    for folder in _FONT_FOLDERS:
        yield from sorted(Path(os.path.expanduser(folder)).rglob(FONT_FILE))  # noqa: PTH111 (never raises)
