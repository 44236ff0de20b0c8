"""Names of images: their suffixes, what results are called after, and which are equal for a file system."""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH122

import hashlib
import os
import unicodedata

from san_cli.datasets.foreign_formats import PHOTO_SUFFIXES

_JPEG, _PNG, _TIFF = (".jpg", ".jpeg", ".jpe", ".jfif"), (".png", ".apng"), (".tif", ".tiff")
_NETPBM, _JPEG_2000 = (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), (".jp2", ".j2k", ".jpx")
_OTHERS = (".webp", ".avif", ".avifs", ".gif", ".bmp")
IMAGE_SUFFIXES = frozenset(_JPEG + _PNG + _TIFF + _NETPBM + _JPEG_2000 + _OTHERS)
LONGEST_STEM = 200  # bytes: file systems allow 255, of which the suffix and a temporary file's mark take some


def output_stem(name: str) -> str:
    """Return an input's name without an image's suffix: `sub/photo.jpg` → `sub/photo`, but `data.v2` → `data.v2`.

    A last part that is too long for its results is cut, with a hash of the whole at its end.
    """
    folder, slash, last = name.rpartition("/")
    stem, suffix = os.path.splitext(last)
    if suffix.lower() not in IMAGE_SUFFIXES and suffix.lower() not in PHOTO_SUFFIXES:
        stem = last
    return folder + slash + (stem if len(stem) * 4 <= LONGEST_STEM else _cut(stem))


def _cut(stem: str) -> str:
    if len(os.fsencode(stem)) <= LONGEST_STEM:
        return stem
    mark = "~" + hashlib.sha256(os.fsencode(stem)).hexdigest()[:16]
    while len(os.fsencode(stem)) > LONGEST_STEM - len(mark):
        stem = stem[:-1]
    return stem + mark


def name_key(name: str) -> str:
    """Equal for names that some file system takes for one."""
    folder, slash, last = name.rpartition("/")
    if folder and (" " in folder or "." in folder):
        folder = "/".join(part.rstrip(" .") or part for part in folder.split("/"))
    name = folder + slash + last
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
