"""Numbers of things in words, so that one class isn't "1 classes"."""


def counted(number: int, one: str, many: str = "") -> str:
    """`number` with thousands separated and the word for as many: "1 class", "1,203 classes".

    `many` is `one` with an s where it isn't given, and with es after an s, x or sh.
    """
    plural = many or one + ("es" if one.endswith(("s", "x", "sh")) else "s")
    return f"{number:,} {one if number == 1 else plural}"
