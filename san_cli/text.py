"""Text of unknown origin, made harmless: for a line on a terminal, a log, a message."""


def inert(text: str) -> str:
    """`text` on one line, with everything unprintable spelled out as in a Python string.

    That covers control characters, escape sequences, line breaks, marks that turn the direction of writing,
    and the lone surrogates that stand for bytes which are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def counted(number: int, one: str, many: str = "") -> str:
    """`number` with thousands separated and the word for as many: "1 class", "1,203 classes".

    `many` is `one` with an s where it isn't given, and with es after an s, x or sh.
    """
    plural = many or one + ("es" if one.endswith(("s", "x", "sh")) else "s")
    return f"{number:,} {one if number == 1 else plural}"
