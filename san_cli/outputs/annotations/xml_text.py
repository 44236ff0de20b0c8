"""Any text in XML 1.0, which has no control characters."""

import re
from xml.sax.saxutils import escape

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: str) -> str:
    """Escape `text` for the content of an element or an attribute in double quotes.

    What XML can't say, control characters and bytes of file names that aren't UTF-8, is spelled as in a Python
    string. Tabs and line breaks are written as numbers: readers make spaces of them in an attribute.
    """
    text = _NOT_XML.sub(lambda found: repr(found[0])[1:-1], text)
    return escape(text, {'"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})
