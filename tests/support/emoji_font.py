"""Whether the emoji font is here."""

import pytest

from san_cli.datasets.emoji.sprites import sprite
from san_cli.errors import SanError


def _font_is_missing() -> bool:
    try:
        sprite("🐕")
    except SanError:
        return True
    return False


needs_font = pytest.mark.skipif(_font_is_missing(), reason="no Noto Color Emoji here")
