"""Faults that the first bytes of a file show, before a model is loaded for it."""

import os
from pathlib import Path

from PIL import Image

from san_cli.datasets.archives import Member
from san_cli.datasets.foreign_formats import RAW_SUFFIXES, name_foreign_format
from san_cli.datasets.image_magic import is_foreign_photograph, looks_like_image, read_head
from san_cli.datasets.images import BadImage, displayed_size, load_image


def header_fault(path: str | os.PathLike[str], max_pixels: int) -> str:
    """Why a file certainly can't be used, in one line; "" if decoding it has to show that.

    Looks at the start of a regular file alone. To be called before threads decode.
    """
    file = path if isinstance(path, Member) else Path(path)
    head = read_head(file if isinstance(file, Member) else os.fspath(file))
    if not head:
        return _cause_of_loader(file, max_pixels)
    if not looks_like_image(head):
        return name_foreign_format(head, file.suffix) or "not an image that san can read"
    if is_foreign_photograph(head):
        return name_foreign_format(head, file.suffix)
    if head[:4] in (
        b"II*\0",
        b"MM\0*",
    ):  # as many cameras write; of others the size is that of one of the pages
        return name_foreign_format(b"", ".raw") if file.suffix.lower() in RAW_SUFFIXES else ""
    size = _promised_size(file)
    if size is not None and size[0] * size[1] > max_pixels:
        height, width = size
        limit = f"{width} × {height} pixels are more than the limit of {max_pixels:,}"
        return f"{limit}; --max-pixels {width * height} takes them"
    return ""


def _cause_of_loader(file: Path | Member, max_pixels: int) -> str:
    """Say what loading would to nothing at all: no file, not a regular one, empty, not to be read."""
    try:
        load_image(file, max_pixels=max_pixels)
    except BadImage as fault:
        return fault.cause
    return ""


def _promised_size(file: Path | Member) -> tuple[int, int] | None:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # a header alone fills no memory
    try:
        return displayed_size(file)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
