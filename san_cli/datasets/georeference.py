"""Where on earth a picture lies: the tags of its GeoTIFF, or a world file beside it.

What is found stays the tags of a GeoTIFF (OGC 19-008r4), as they describe the upright picture: results that have
these tags lie where GDAL puts the picture. GDAL takes TIFF's and EXIF's orientation for nothing: of a picture that
has to be turned, the tags say where the stored pixels are, and are replaced by those of the upright ones.

Not read: RPCs, `.aux.xml`, `.prj` and MapInfo's `.tab`.
"""

import errno
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from san_cli.datasets.archives import Member
from san_cli.datasets.image_names import IMAGE_SUFFIXES
from san_cli.datasets.tiff import Page, Tag
from san_cli.files import read_regular
from san_cli.text import quoted

_Values = tuple[float, ...] | tuple[int, ...] | str
GeoTags = Mapping[int, _Values]  # of GeoTIFF: tag → its values

_Affine = tuple[float, float, float, float, float, float]  # a … f of x = a·i + b·j + c, y = d·i + e·j + f

_RASTER_TYPE, _POINT = 1025, 2  # the key that says what whole raster coordinates are, and: centres of pixels
_FARTHEST, _SMALLEST = 1e12, 1e-30  # what no place and no pixel's area passes, in metres or degrees
_LONGEST = 2**16  # bytes of a world file
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def geo_tags_of(
    path: str | os.PathLike[str] | None, page: Page | None, size: tuple[int, int], orientation: int
) -> tuple[GeoTags | None, tuple[str, ...]]:
    """Return the tags that say where an image lies, None if nothing does, and a note on each that makes no sense.

    `path` is where a world file may be beside, `page` the picture of a TIFF, `size` (height, width) of the upright
    image. A world file counts where the TIFF has no transform of its own, as for GDAL; it knows no coordinate
    system. Ground control points are kept where the image isn't turned. Raises nothing, whatever the files hold, but
    OSError where the process has too many open.
    """
    notes: list[str] = []
    system = {} if page is None else _coordinate_system(page, notes)
    place = {} if page is None else _place(page, size, notes)
    is_point = page is not None and bool(system) and _is_point(page)
    if _affine(place) is None:
        found = None if path is None else _world_file(path, size, notes)
        if found is not None:
            place = {int(Tag.TRANSFORM): _matrix(found if is_point else _moved(found, -0.5))}
    affine = _affine(place)
    if orientation != 1 and affine is not None:
        place = {int(Tag.TRANSFORM): _matrix(_upright(affine, size, orientation, is_point))}
    elif orientation != 1 and place:
        notes.append("ground control points are dropped, as the image is turned upright")
        place = {}
    return ({**system, **place} if place else None), tuple(notes)


def _place(page: Page, size: tuple[int, int], notes: list[str]) -> dict[int, tuple[float, ...]]:
    """Return the tags that fix the raster's place: pixel size and tie point, a matrix, or control points; or none."""
    tags = (Tag.PIXEL_SCALE, Tag.TIE_POINTS, Tag.TRANSFORM)
    given = {int(tag): page.reals[tag] for tag in tags if tag in page.reals}
    usable = {tag: values for tag, values in given.items() if _is_sensible(tag, values)}
    ties = usable.get(Tag.TIE_POINTS, ())
    if not ties:  # GDAL would take 0, 0 for the place of the first pixel
        usable.pop(Tag.PIXEL_SCALE, None)
    affine = _affine(usable)
    if not (_is_map(affine, size) if affine is not None else len(ties) > 6):
        usable = {}
    if len(usable) < len(given):
        notes.append("GeoTIFF tags that make no sense are ignored: they don't say where the image lies")
    return usable


def _is_sensible(tag: int, values: tuple[float, ...]) -> bool:
    """Tell whether the values of a tag are as many as they must be, and those of the plane are numbers."""
    if tag == Tag.PIXEL_SCALE:
        return len(values) in (2, 3) and all(math.isfinite(value) and value for value in values[:2])
    if tag == Tag.TRANSFORM:
        return len(values) == 16 and all(math.isfinite(values[i]) for i in (0, 1, 3, 4, 5, 7))
    plane = [value for i, value in enumerate(values) if i % 6 not in (2, 5)]
    return len(values) >= 6 and len(values) % 6 == 0 and all(map(math.isfinite, plane))


def _affine(place: Mapping[int, tuple[float, ...]]) -> _Affine | None:
    """Return what maps raster coordinates by these tags, by GDAL's order of precedence; None for control points."""
    ties, matrix = place.get(Tag.TIE_POINTS), place.get(Tag.TRANSFORM)
    if Tag.PIXEL_SCALE in place and ties is not None:
        wide, high = place[Tag.PIXEL_SCALE][:2]
        high = abs(high)  # below 0 north is up all the same
        return wide, 0.0, ties[3] - ties[0] * wide, 0.0, -high, ties[4] + ties[1] * high
    if matrix is not None:
        return matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7]
    return None


def _is_map(affine: _Affine, size: tuple[int, int]) -> bool:
    """Tell whether every pixel has a place of its own, given in numbers."""
    a, b, c, d, e, f = affine
    height, width = size
    reach = (*affine, a * width + b * height + c, d * width + e * height + f)
    return all(abs(value) < _FARTHEST for value in reach) and abs(a * e - b * d) > _SMALLEST


def _matrix(affine: _Affine) -> tuple[float, ...]:
    a, b, c, d, e, f = affine
    return a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0


def _moved(affine: _Affine, by: float) -> _Affine:
    """Return the map of coordinates that are counted from `by` pixels further, in both directions."""
    a, b, c, d, e, f = affine
    return a, b, c + by * a + by * b, d, e, f + by * d + by * e


def _upright(affine: _Affine, size: tuple[int, int], orientation: int, is_point: bool) -> _Affine:
    """Return the map of the upright image's raster coordinates, where `affine` is that of the stored ones.

    `size` is the upright (height, width), `orientation` 2 to 8 as in EXIF.
    """
    a, b, c, d, e, f = affine
    if orientation >= 5:  # its rows are stored as columns
        a, b, d, e = b, a, e, d
    last = 1 if is_point else 0  # the first and last coordinate are then those of centres
    if orientation in (2, 3, 6, 7):
        wide = size[1] - last
        a, c, d, f = -a, c + a * wide, -d, f + d * wide
    if orientation in (3, 4, 7, 8):
        high = size[0] - last
        b, c, e, f = -b, c + b * high, -e, f + e * high
    return a, b, c, d, e, f


def _coordinate_system(page: Page, notes: list[str]) -> dict[int, _Values]:
    """Return the tags of the keys that name the coordinate system, if they are whole."""
    keys, doubles = page.numbers(Tag.GEO_KEYS), page.reals.get(Tag.GEO_DOUBLES, ())
    stored = page.tags.get(Tag.GEO_TEXT, b"")
    text = stored if isinstance(stored, bytes) else b""
    if Tag.GEO_KEYS not in page.tags:
        return {}
    if not (_are_whole(keys, doubles, text) and all(map(math.isfinite, doubles))):
        notes.append("the TIFF's coordinate system is ignored: its keys are damaged")
        return {}
    tags: dict[int, _Values] = {int(Tag.GEO_KEYS): keys}
    if doubles:
        tags[int(Tag.GEO_DOUBLES)] = doubles
    if text.rstrip(b"\0"):
        tags[int(Tag.GEO_TEXT)] = text.rstrip(b"\0").decode("latin-1")  # any byte has a letter there
    return tags


def _are_whole(keys: tuple[int, ...], doubles: tuple[float, ...], text: bytes) -> bool:
    """Tell whether a directory of keys is as long as it says, and all values are where it says."""
    if len(keys) < 4 or keys[0] != 1 or len(keys) < 4 + 4 * keys[3]:
        return False
    if not all(0 <= value < 2**16 for value in keys):
        return False
    lengths = {int(Tag.GEO_KEYS): len(keys), int(Tag.GEO_DOUBLES): len(doubles), int(Tag.GEO_TEXT): len(text)}
    return all(
        where == 0 or first + count <= lengths.get(where, -1) for _, where, count, first in _entries(keys)
    )


def _entries(keys: tuple[int, ...]) -> Iterator[tuple[int, int, int, int]]:
    """Yield of each key: its number, the tag of its values (0: the last is the value), their count, and the first."""
    for at in range(4, 4 + 4 * keys[3], 4):
        key, where, count, first = keys[at : at + 4]
        yield key, where, count, first


def _is_point(page: Page) -> bool:
    """Tell whether whole raster coordinates are the centres of pixels, by the page's keys, which must be whole."""
    entries = _entries(page.numbers(Tag.GEO_KEYS))
    return any((key, where, value) == (_RASTER_TYPE, 0, _POINT) for key, where, _, value in entries)


def _content(path: str | os.PathLike[str], candidate: Path) -> bytes:
    """Read what may be a world file beside an image; OSError where there is none."""
    if not isinstance(path, Member):
        return read_regular(candidate, _LONGEST)
    content = path.archive.beside.get(candidate.as_posix())
    if content is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(candidate))
    return content


def _world_file(path: str | os.PathLike[str], size: tuple[int, int], notes: list[str]) -> _Affine | None:
    """Return what the first world file beside an image says of the centres of its stored pixels."""
    beside = path.inner if isinstance(path, Member) else os.fspath(path)
    for candidate in map(Path, _world_file_paths(beside)):
        try:
            found = _parsed(_content(path, candidate))
            if not _is_map(found, size):
                raise ValueError("no map of the plane")
            return found
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise  # no fault of the file: with more handles the image may lie somewhere
            if error.errno in _ABSENT:
                continue
            cause = error.strerror or type(error).__name__
            notes.append(
                f"the world file {quoted(candidate.name)} is ignored: {cause[:1].lower()}{cause[1:]}"
            )
        except (ValueError, OverflowError):
            notes.append(
                f"the world file {quoted(candidate.name)} is ignored: it isn't six numbers that make sense"
            )
    return None


def world_files_state(path: str) -> tuple[int, int]:
    """Return the sums of size in bytes and time in ns of what may be a picture's world files; (0, 0) for none."""
    size = time = 0
    for candidate in _world_file_paths(path):
        try:
            status = os.stat(candidate)  # noqa: PTH116 (100,000 pictures must not cost seconds)
        except (OSError, ValueError):
            continue
        size, time = size + status.st_size, time + status.st_mtime_ns
    return size, time


def _world_file_paths(path: str) -> Iterator[str]:
    """Yield where a world file may be, as GDAL looks: of `a.tiff` `a.tfw`, `a.tiffw` or `a.wld`, or in capitals."""
    stem, suffix = os.path.splitext(path)  # noqa: PTH122 (as above)
    for ending in _world_endings(suffix[1:]):
        for spelled in dict.fromkeys((ending.lower(), ending.upper(), ending)):
            yield f"{stem}.{spelled}"


def _world_endings(kind: str) -> tuple[str, ...]:
    return (kind[0] + kind[-1] + "w", kind + "w", "wld") if kind else ("wld",)


WORLD_SUFFIXES = frozenset(f".{ending}" for kind in IMAGE_SUFFIXES for ending in _world_endings(kind[1:]))


def _parsed(content: bytes) -> _Affine:
    """Return a … f, which a world file has as a, d, b, e, c, f; ValueError for anything else.

    One number a line, decimal points or commas; what follows on a line, and behind the six, is no matter.
    """
    lines = [line for line in content.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    a, d, b, e, c, f = (float(line.split()[0].replace(",", ".")) for line in lines[:6])
    return a, b, c, d, e, f
