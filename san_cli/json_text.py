"""JSON as we write it: one spelling of every value, plain ASCII, valid for the strictest reader."""

import json
import re

_NOT_PLAIN = re.compile(r"[^\x00-\x7e]")


def json_text(value: object) -> str:
    """`value` on one line: no spaces, keys in their given order; ValueError for NaN and infinities.

    Plain ASCII, so it is inert on a terminal and prints under every locale. A lone surrogate, which stands
    for a byte of a file name that isn't UTF-8, has no spelling that strict readers accept: it becomes the six
    characters `\\udcXX` of text instead.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text if text.isascii() and "\x7f" not in text else _NOT_PLAIN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if "\ud800" <= character <= "\udfff":
        return rf"\\u{ord(character):04x}"
    return json.dumps(character)[1:-1] if character != "\x7f" else r"\u007f"
