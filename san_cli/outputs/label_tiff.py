"""Label maps as GeoTIFFs: what a label PNG holds, on the place on earth where the picture lies.

One page of tiles of 512 × 512 pixels, Deflate. Written here, as Pillow (13.0) writes strips alone, and holds the
whole picture for that. Tiles come first and the directory last (TIFF 6.0), so that a row of tiles is all that is in
memory, and the size is known before the file has to be a BigTIFF.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from san_cli.files import atomic_write
from san_cli.outputs.colours import palette
from san_cli.outputs.label_map import UNLABELLED_8, UNLABELLED_16, check_ids
from san_cli.text import printable

GeoTags = Mapping[int, tuple[float, ...] | tuple[int, ...] | str]  # of GeoTIFF: tag → its values

_SIDE = 512  # of a tile
_LEVEL = 6  # 30 to 70 % fewer bytes than level 1, for 0.3 s instead of 0.1 s at 17 megapixels; a predictor adds some
_FIRST_TILE = 16  # the header of a BigTIFF takes so much
_MOST_BYTES = 2**32  # of a TIFF whose offsets have 32 bits
_SHORT, _LONG, _DOUBLE, _TEXT, _LONG8 = 3, 4, 12, 2, 16
_CODES = {_SHORT: "H", _LONG: "I", _DOUBLE: "d", _TEXT: "s", _LONG8: "Q"}
_GEO_KEYS = 34735  # the only tag of whole numbers among those of GeoTIFF
_NOT_XML = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_Values = Sequence[int] | Sequence[float] | bytes


def write_label_tiff(
    path: Path, label_map: NDArray[np.integer], names: Sequence[str], geo_tags: GeoTags | None
) -> None:
    """Write `label_map` [H, W] of ids in `names`, -1 where unlabelled, as a GeoTIFF with these tags.

    Up to 255 classes: 8-bit indices, the palette holds the class colours, 255 (black) is unlabelled.
    Above: 16-bit gray, 65535 is unlabelled, as palettes of 16 bits take 384 kB and Pillow opens none. What is
    unlabelled is NoData to GDAL, and band 1 has the names: `CLASS_0`, `CLASS_1` … are items of its metadata.
    ValueError for an id outside `names`, SanError above 65535 classes.
    """
    with atomic_write(path) as stream:
        write_label_tiff_to(stream, label_map, names, geo_tags)


def write_label_tiff_to(
    stream: BinaryIO, label_map: NDArray[np.integer], names: Sequence[str], geo_tags: GeoTags | None
) -> None:
    """Write what `write_label_tiff` writes to an empty stream that can go back to its start."""
    check_ids(label_map, names)
    stream.write(bytes(_FIRST_TILE))
    starts, sizes = [], []
    at = _FIRST_TILE
    for tile in _tiles(label_map, np.dtype("<u2" if len(names) > UNLABELLED_8 else "u1")):
        stream.write(tile)
        starts.append(at)
        sizes.append(len(tile))
        at += len(tile)
    stream.write(bytes(at % 2))
    tags = {**_picture_tags(label_map.shape, names), **_geo_entries(geo_tags or {})}
    _write_directory(stream, at + at % 2, tags, starts, sizes)


def _tiles(label_map: NDArray[np.integer], stored: np.dtype[np.unsignedinteger]) -> Iterator[bytes]:
    """Yield the compressed tiles from left to right and top to bottom, filled up with unlabelled pixels."""
    height, width = label_map.shape
    for top in range(0, height, _SIDE):
        for left in range(0, width, _SIDE):
            part = label_map[top : top + _SIDE, left : left + _SIDE]
            # In two's complement -1 has every bit set: the narrowing cast itself makes it 255 or 65535.
            tile = np.full((_SIDE, _SIDE), np.iinfo(stored).max, stored)
            tile[: part.shape[0], : part.shape[1]] = part.astype(stored)
            yield zlib.compress(tile.tobytes(), _LEVEL)


def _picture_tags(shape: tuple[int, int], names: Sequence[str]) -> dict[int, tuple[int, _Values]]:
    """Return the tags of the picture but its tiles: tag → (type, values)."""
    deep = len(names) > UNLABELLED_8
    tags: dict[int, tuple[int, _Values]] = {
        256: (_LONG, shape[1:]),
        257: (_LONG, shape[:1]),
        258: (_SHORT, (16 if deep else 8,)),
        259: (_SHORT, (8,)),  # Deflate
        262: (_SHORT, (1 if deep else 3,)),  # gray, palette
        277: (_SHORT, (1,)),  # one sample a pixel
        284: (_SHORT, (1,)),
        322: (_LONG, (_SIDE,)),
        323: (_LONG, (_SIDE,)),
        339: (_SHORT, (1,)),  # without sign
        42112: (_TEXT, _metadata(names)),
        42113: (_TEXT, b"%d" % (UNLABELLED_16 if deep else UNLABELLED_8)),
    }
    if not deep:
        colours = np.zeros((256, 3), np.uint16)
        colours[: len(names)] = palette(names)
        tags[320] = (_SHORT, (colours * 257).T.ravel().tolist())
    return tags


def _metadata(names: Sequence[str]) -> bytes:
    """Return GDAL's XML with the name of every class, as items of the band."""
    items = [
        f'<Item name="CLASS_{class_id}" sample="0">{_xml_text(name)}</Item>'
        for class_id, name in enumerate(names)
    ]
    return "\n".join(["<GDALMetadata>", *items, "</GDALMetadata>"]).encode()


def _xml_text(name: str) -> str:
    """Escape a name; what XML can't hold, as control characters, is spelled as in a Python string."""
    spelled = _NOT_XML.sub(lambda found: printable(found[0]), name)
    return _escaped(_escaped(spelled))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _geo_entries(geo_tags: GeoTags) -> dict[int, tuple[int, _Values]]:
    return {
        tag: (_TEXT, values.encode("latin-1"))
        if isinstance(values, str)
        else (_SHORT if tag == _GEO_KEYS else _DOUBLE, values)
        for tag, values in geo_tags.items()
    }


def _write_directory(
    stream: BinaryIO, at: int, tags: dict[int, tuple[int, _Values]], starts: list[int], sizes: list[int]
) -> None:
    """Write the directory at the end, `at`, and the header that leads there: 32-bit offsets where they reach."""
    for is_big in (False, True):
        kind = _LONG8 if is_big else _LONG
        directory = _directory(at, {**tags, 324: (kind, starts), 325: (_LONG, sizes)}, is_big)
        if at + len(directory) <= _MOST_BYTES:
            break
    stream.write(directory)
    stream.seek(0)
    stream.write(
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, at) if is_big else struct.pack("<2sHI", b"II", 42, at)
    )


def _directory(at: int, tags: dict[int, tuple[int, _Values]], is_big: bool) -> bytes:
    """Return the directory for the place `at` in the file, and behind it the values that it has no room for."""
    count, offset, room = ("<Q", "Q", 8) if is_big else ("<H", "I", 4)
    entries, rest = b"", b""
    rest_at = at + struct.calcsize(count) + len(tags) * (4 + 2 * room) + room
    for tag, (kind, values) in sorted(tags.items()):
        raw = _packed(kind, values)
        number = len(raw) // struct.calcsize(_CODES[kind])
        if len(raw) > room:
            place = struct.pack("<" + offset, rest_at + len(rest))
            rest += raw + bytes(len(raw) % 2)
        else:
            place = raw.ljust(room, b"\0")
        entries += struct.pack("<HH" + offset, tag, kind, number) + place
    return struct.pack(count, len(tags)) + entries + bytes(room) + rest


def _packed(kind: int, values: _Values) -> bytes:
    if isinstance(values, bytes):
        return values + b"\0"
    return struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
