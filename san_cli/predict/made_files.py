"""The files that a run has made: known by size and content, so that nobody else's is ever taken for one.

The journal keeps a mark of every result. By its size a rerun notices what was cut short, or what somebody has changed
and is left alone; what belongs to an input that is gone is removed only while it is, to the byte, what we wrote.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_ENDS = (b"IEND\xaeB`\x82", b"\xff\xd9")  # of a whole PNG or JPEG


class Mark(NamedTuple):
    """Size and hash of a file, by which we know one that we made."""

    size: int
    digest: str


def mark_of(path: Path) -> Mark:
    """Return the mark of a file as it is now; OSError where it can't be read."""
    data = path.read_bytes()
    return Mark(len(data), hashlib.blake2b(data, digest_size=8).hexdigest())


def has_size(path: str | os.PathLike[str], mark: Mark | None) -> bool:
    """Tell whether a file is there and as long as its mark says, which costs no reading."""
    try:
        return mark is not None and os.stat(path).st_size == mark.size  # noqa: PTH116 (once an image and kind)
    except (OSError, ValueError):
        return False


def was_edited(path: str | os.PathLike[str], mark: Mark | None) -> bool:
    """Tell whether a picture is there, up to its last bytes, and of another length than its mark says."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (as has_size)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 12))
            return mark is not None and size != mark.size and file.read().endswith(_ENDS)
    except (OSError, ValueError):
        return False


def marks_text(marks: Mapping[str, Mark]) -> str:
    """Write marks by kind on one line, short, as a journal of 100,000 images is held in memory."""
    return " ".join(f"{kind}:{mark.size}:{mark.digest}" for kind, mark in marks.items())


def marks_from(text: str) -> dict[str, Mark]:
    """Read what `marks_text` wrote."""
    parts = (part.split(":") for part in text.split())
    return {kind: Mark(int(size), digest) for kind, size, digest in parts}


def remove_made(output: Path, relative: str, mark: Mark) -> bool:
    """Remove a result and the folders below `output` that this leaves empty; whether. OSError where that fails.

    Nothing happens where the file is not, to the byte, what was marked, or where a link leads to it.
    """
    path = output / relative
    inside = os.path.join(os.path.realpath(output), "")  # noqa: PTH118
    if not os.path.join(os.path.realpath(path.parent), "").startswith(inside):  # noqa: PTH118
        return False
    try:
        status = path.lstat()
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_size != mark.size or mark_of(path) != mark:
        return False
    path.unlink()
    for folder in path.relative_to(output).parents[:-1]:
        with suppress(OSError):  # not empty
            (output / folder).rmdir()
    return True
