"""Images known by their first bytes, as a suffix may lie or lack."""

import os
import stat

from san_cli.datasets.archives import Member
from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.foreign_formats import is_foreign_photograph

_STARTS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"II+\0",  # BigTIFF
    b"MM\0+",
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xffO\xffQ",
)
HEAD = 1024  # bytes of a file that tell what it is


def looks_like_image(head: bytes) -> bool:
    """Tell whether a file that begins so is meant as an image, be it one that we can't read."""
    if head.startswith(_STARTS) or is_foreign_photograph(head):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return True
    if (
        head[:2] == b"BM" and len(head) > 26
    ):  # two letters are few: its reserved bytes are 0, its header is short
        return head[6:10] == bytes(4) and head[15:18] == bytes(3)
    # Netpbm: a letter and a digit, then numbers, with comments between
    return (
        head[:1] == b"P"
        and head[1:2] in b"123456fF"
        and head[2:3] in b" \t\r\n"
        and head[3:4] in b"0123456789#"
    )


def read_head(path: str | Member) -> bytes:
    """Read the first bytes of a file; none of what is no regular file or can't be read. Never waits."""
    try:
        if isinstance(path, Member):
            return path.start(HEAD)
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (100,000 of them)
            return b""
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            return file.read(HEAD)
    except (OSError, ValueError, BadImage):
        return b""
