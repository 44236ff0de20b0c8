"""The files that a run has made: known by size and content, so that nobody else's is ever taken for one.

The journal keeps a mark of every result. By its size a rerun notices what was cut short, or what somebody has changed
and is left alone; what belongs to an input that is gone is removed only while it is, to the byte, what we wrote.
"""

import hashlib
import json
import os
import stat
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

_ENDS = (b"IEND\xaeB`\x82", b"\xff\xd9")  # of a whole PNG or JPEG
_TIFF = {  # by the first bytes: byte order, and struct's letters for the number of tags and for an offset
    b"II*\0": ("<", "H", "I"),
    b"MM\0*": (">", "H", "I"),
    b"II+\0": ("<", "Q", "Q"),
    b"MM\0+": (">", "Q", "Q"),
}
_MOST_TAGS = 1000
_BYTES = dict(
    zip((3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17, 18), (2, 4, 8, 2, 4, 8, 4, 8, 4, 8, 8, 8), strict=True)
)
_PIECE = 2**20  # bytes hashed at a time: the results of a huge picture have hundreds of millions


class Mark(NamedTuple):
    """Size and hash of a file, by which we know one that we made."""

    size: int
    digest: str


NEVER_MADE = Mark(-1, "0")  # of a file that isn't ours: no file has it


def mark_of(path: Path) -> Mark:
    """Return the mark of a file as it is now; OSError where it can't be read."""
    digest, size = hashlib.blake2b(digest_size=8), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return Mark(size, digest.hexdigest())


def has_size(path: str | os.PathLike[str], mark: Mark | None) -> bool:
    """Tell whether a file is there and as long as its mark says, which costs no reading."""
    try:
        return mark is not None and os.stat(path).st_size == mark.size  # noqa: PTH116 (once an image and kind)
    except (OSError, ValueError):
        return False


def was_edited(path: str | os.PathLike[str], mark: Mark | None) -> bool:
    """Tell whether a picture, a JSON or YOLO's labels are there as a whole, and of another length than marked."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (as has_size)
            size = file.seek(0, os.SEEK_END)
            if mark is None or size == mark.size:
                return False
            if os.fspath(path).endswith((".json", ".geojson", ".txt")):
                file.seek(0)
                text = file.read()
                return _is_json(text) if not os.fspath(path).endswith(".txt") else _is_yolo(text)
            return _is_whole(file, size)
    except (OSError, ValueError):
        return False


def was_changed(path: Path, mark: Mark) -> bool:
    """Tell whether a file is there that is not, to the byte, what was marked, and isn't cut down to nothing."""
    try:
        size = path.stat().st_size
        return (size > 0 or path.suffix == ".txt") and mark_of(path) != mark
    except OSError:
        return False


def _is_whole(file: BinaryIO, size: int) -> bool:
    """Tell whether a PNG, JPEG or TIFF is there up to its end, as far as a few bytes tell."""
    file.seek(0)
    head = file.read(16)
    if head[:4] in _TIFF:
        return _ends_within(file, size, *_TIFF[head[:4]])
    file.seek(max(0, size - 64))
    return file.read().endswith(_ENDS)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_yolo(text: bytes) -> bool:
    """Tell whether every line is a class and pairs of numbers; no line is an image without anything."""
    try:
        lines = [[float(number) for number in line.split()] for line in text.splitlines() if line.strip()]
    except ValueError:
        return False
    return all(len(line) % 2 == 1 and len(line) >= 5 for line in lines)


def _ends_within(file: BinaryIO, size: int, order: str, count: str, offset: str) -> bool:
    """Tell whether the first directory of a TIFF, which is last in ours, and all its values lie before `size`."""
    room = struct.calcsize(order + offset)
    try:
        file.seek(room)  # 4, or 8 of a BigTIFF
        (at,) = struct.unpack(order + offset, file.read(room))
        file.seek(at)
        (entries,) = struct.unpack(order + count, file.read(struct.calcsize(order + count)))
        if entries > _MOST_TAGS:
            return False
        for _ in range(entries):
            _, kind, number, place = struct.unpack(order + "HH" + 2 * offset, file.read(4 + 2 * room))
            length = number * _BYTES.get(kind, 1)
            if length > room and place + length > size:
                return False
    except struct.error:  # cut short
        return False
    return True


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
