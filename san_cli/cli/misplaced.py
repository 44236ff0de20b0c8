"""Refuse what is given in the wrong place: words behind --vocab, options that would do nothing, parts of a whole.

`--vocab cat dog photos/`: a blank ends the value of an option, and the parser takes `dog` for an input.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

from san_cli.errors import SanError, did_you_mean
from san_cli.vocabulary.terms import shown


def may_be_word(argument: str) -> bool:
    """Tell whether an input is neither there nor looks like the path of anything."""
    return not re.search(r"[./\\*?\[\]~:]|^-", argument) and not os.path.lexists(argument)


def refuse_stray_words(arguments: Sequence[str], is_stray: Callable[[str], bool]) -> None:
    """Refuse `arguments` that stand right behind words of --vocab, --show or --only, with the right way to write it.

    `is_stray` tells those that can't be what the command takes. Where all are, none is taken for a word.
    """
    for place, given in enumerate(sys.argv):
        option, equals, value = given.partition("=")
        if option not in ("--vocab", "--show", "--only"):
            continue
        first = place + (1 if equals else 2)
        strays = list(takewhile(lambda one: one in arguments and is_stray(one), sys.argv[first:]))
        if strays and not all(map(is_stray, arguments)):
            text = " ".join([value if equals else sys.argv[place + 1], *strays])
            listed = re.sub(r"\s*([+,|])\s*", r"\1", text).strip(" ,+|").replace(" ", ",")
            raise SanError(
                f"There is no input called {shown(strays[0])}; it looks like a word for {option}.",
                hint=did_you_mean(
                    f"{option} {shlex.quote(listed)}",
                    f'A name with a blank goes in quotes: {option} "golden retriever".',
                ),
            )


def refuse_idle(options: Mapping[str, object], what: str, *, idle: bool) -> None:
    """Raise SanError for an option that is given although it would silently do nothing: it is for `what`."""
    given = [name for name, value in options.items() if value not in (None, [], "")]
    if idle and given:
        verb = "are" if len(given) > 1 else "is"
        raise SanError(
            f"{' and '.join(given)} {verb} for {what}", hint="It would do nothing here: leave it out."
        )


def own_labels_given(images: object, labels: object, classes: object) -> bool:
    """Tell whether the user gives labelled images; SanError for a part of what belongs together.

    Whether `classes` may be missing is known when the labels have been looked at.
    """
    given = [one is not None for one in (images, labels, classes)]
    if any(given) and not all(given[:2]):
        raise SanError("--images, --labels and --classes belong together", hint="Give all three.")
    return all(given[:2])
