"""Text of unknown origin, made harmless: for a line on a terminal, a log, a message."""


def inert(text: str) -> str:
    """`text` on one line, with everything unprintable spelled out as in a Python string.

    That covers control characters, escape sequences, line breaks, marks that turn the direction of writing,
    and the lone surrogates that stand for bytes which are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
