"""The files that a run has made: known by size and content, so that nobody else's is ever taken for one.

The journal keeps a mark of every result. By its size a rerun notices what was cut short; what belongs to an input
that is gone is removed only while it is, to the byte, what we wrote.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Mark(NamedTuple):
    """By what we know a file that we made."""

    size: int
    digest: str


def mark_of(path: Path) -> Mark:
    """The mark of a file as it is now; OSError where it can't be read."""
    data = path.read_bytes()
    return Mark(len(data), hashlib.blake2b(data, digest_size=8).hexdigest())


def has_size(path: str | os.PathLike[str], mark: Mark | None) -> bool:
    """Whether a file is there and as long as its mark says, which costs no reading."""
    try:
        return mark is not None and os.stat(path).st_size == mark.size  # noqa: PTH116 (once an image and kind)
    except (OSError, ValueError):
        return False


def marks_text(marks: Mapping[str, Mark]) -> str:
    """Marks by kind on one line, short, as a journal of 100,000 images is held in memory."""
    return " ".join(f"{kind}:{mark.size}:{mark.digest}" for kind, mark in marks.items())


def marks_from(text: str) -> dict[str, Mark]:
    """What `marks_text` wrote."""
    parts = (part.split(":") for part in text.split())
    return {kind: Mark(int(size), digest) for kind, size, digest in parts}


def remove_made(output: Path, relative: str, mark: Mark) -> None:
    """Remove a result and the folders below `output` that this leaves empty; OSError where that fails.

    Nothing happens where the file is not, to the byte, what was marked, or where a link leads to it.
    """
    path = output / relative
    inside = os.path.join(os.path.realpath(output), "")  # noqa: PTH118
    if not os.path.join(os.path.realpath(path.parent), "").startswith(inside):  # noqa: PTH118
        return
    try:
        status = path.lstat()
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_size != mark.size or mark_of(path) != mark:
        return
    path.unlink()
    for folder in path.relative_to(output).parents[:-1]:
        with suppress(OSError):  # not empty
            (output / folder).rmdir()
