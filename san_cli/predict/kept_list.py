"""The list of a run's inputs, kept beside its journal, so that `san status` knows what is missing.

    DIR/.san/inputs     the names of the images, a "/", then name and cause of each input that came to no image;
                        each ends with a NUL, all packed by zlib

Whoever begins a run writes it; it is replaced where the list is another one.
"""

import hashlib
import zlib
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from san_cli.files import atomic_write, read_regular
from san_cli.predict.inputs import Listing
from san_cli.predict.journal import STATE_FOLDER
from san_cli.text import json_text

_LONGEST = 2**30  # bytes, packed


class KeptList(NamedTuple):
    """Names of a run's images in their order, and of inputs that came to none, with the cause."""

    names: list[str]
    failures: list[tuple[str, str]]
    text: bytes


def keep_list(output: Path, listing: Listing) -> None:
    """Keep the list of a run in its folder; OSError where that can't be written."""
    path = output / STATE_FOLDER / "inputs"
    packed = zlib.compress(_text(listing), 1)
    try:
        if read_regular(path, _LONGEST) == packed:
            return
    except OSError:
        pass
    with atomic_write(path) as stream:
        stream.write(packed)


def kept_list(output: Path) -> KeptList | None:
    """Read the list that a folder of results keeps; None where there is none, as of an older san, or no whole one."""
    try:
        text = zlib.decompress(read_regular(output / STATE_FOLDER / "inputs", _LONGEST))
    except (OSError, zlib.error):
        return None
    names, slash, rest = text.decode("utf-8", "surrogateescape").rpartition("/\0")
    parts = rest.split("\0")[:-1]
    if not slash or (names and not names.endswith("\0")) or len(parts) % 2:
        return None
    return KeptList(names.split("\0")[:-1], list(zip(parts[::2], parts[1::2], strict=True)), text)


def list_digest(listing: Listing, info: Mapping[str, object] = MappingProxyType({})) -> str:
    """Hash a list of inputs, to tell it from others, and what else the files that concern all images say."""
    return digest_of(_text(listing), info)


def digest_of(text: bytes, info: Mapping[str, object]) -> str:
    """Hash a list as it is kept; see `list_digest`."""
    digest = hashlib.sha256(json_text(dict(info)).encode())
    digest.update(text)
    return digest.hexdigest()


def _text(listing: Listing) -> bytes:
    failures = ((failure.name, failure.cause) for failure in listing.failures)
    parts = chain((image.name for image in listing.images), ["/"], chain.from_iterable(failures))
    return b"".join(part.encode("utf-8", "surrogateescape") + b"\0" for part in parts)
