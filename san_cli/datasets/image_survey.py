"""Before anything is loaded: what reading some of the user's own images has to say."""

import re
from collections.abc import Sequence

from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.catalogue import Pair
from san_cli.datasets.images import load_image
from san_cli.text import printable

_LOOKED_AT = 8  # images read: one in a folder of a kind is like the others
_AN_OPTION_OF_PREDICT = re.compile(r"; --(range|bands)\b.*")


def survey_images(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Read a few of the images, evenly spread, and return what was noted, each kind once with one image's name.

    Evaluation and training read images as they are stored, so a note that names an option of `san predict` leads
    to converting them instead. An image that can't be read is left to whoever needs it.
    """
    places = sorted({place * len(pairs) // _LOOKED_AT for place in range(_LOOKED_AT)}) if pairs else []
    notes: dict[str, str] = {}
    for place in places:
        image = pairs[place].image
        try:
            found = load_image(image).notes
        except BadImage:
            continue
        for note in found:
            text = _AN_OPTION_OF_PREDICT.sub("; save the images as 8-bit RGB to choose otherwise", note)
            kind = re.sub(r"[\d., ]+", " ", text)
            notes.setdefault(kind, f"{printable(image.name)}: {text}")
    return tuple(notes.values())
