"""TIFF: which page is the picture, and who reads it.

Pillow finds a page by its number alone, and opens nothing whose samples it doesn't know; hence directories are read
here. `tiff_samples` reads what `is_for_pillow` doesn't leave to Pillow.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import BinaryIO, Literal

from san_cli.datasets.reading import Reading

_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Types of tags, and struct's letters for them.
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_REALS = {11: "f", 12: "d"}  # of tags that say where on earth
_TEXT = 2
_THUMBNAIL, _MASK = 1, 4  # bits of the subfile type
COLOURS = {0: 1, 1: 1, 2: 3, 5: 4}  # photometric → samples that are colour
ALPHA = {1: True, 2: False}  # kind of extra sample → whether colours are multiplied by it
NONE, DEFLATE, PACKBITS = 1, (8, 32946), 32773
BY_LIBTIFF = (5, PACKBITS, 34925, 50000)  # LZW, LZMA, Zstandard
_COMPRESSIONS = {
    6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC",
    50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_MOST_PAGES, _MOST_TAGS = 1000, 4096
_MOST_VALUES = 2**23  # of a file's tags in all: many pages may point at one table
_MOST_SAMPLES = 65535  # what the tag's own type holds; damage may give it another
_MOST_TEXT = 2**16  # bytes; what matters stands at the beginning
_MOST_GEO = 2**16  # values of a tag; more than 10,000 ground control points


class Tag(IntEnum):
    """The tags that are read here."""

    SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DESCRIPTION = 270
    STRIPS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS = 278
    STRIP_SIZES = 279
    MAX_VALUE = 281
    PLANAR = 284
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILES = 324
    TILE_SIZES = 325
    SUB_PAGES = 330
    EXTRA = 338
    FORMAT = 339
    PIXEL_SCALE = 33550
    TIE_POINTS = 33922
    TRANSFORM = 34264
    GEO_KEYS = 34735
    GEO_DOUBLES = 34736
    GEO_TEXT = 34737
    NODATA = 42113
    DNG = 50706


_WANTED = frozenset(Tag)
_GEO_REALS = frozenset({Tag.PIXEL_SCALE, Tag.TIE_POINTS, Tag.TRANSFORM, Tag.GEO_DOUBLES})
GEO_TAGS = _GEO_REALS | {Tag.GEO_KEYS, Tag.GEO_TEXT}  # where on earth the picture lies


@dataclass(frozen=True)
class Page:
    """One page (IFD) of a TIFF: its tags, as far as they matter here."""

    start: int  # where the page's directory is in the file
    order: Literal["<", ">"]
    tags: dict[int, tuple[int, ...] | bytes]
    reals: dict[int, tuple[float, ...]] = field(default_factory=dict)  # tags that hold such

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag."""
        values = self.numbers(tag)
        return values[0] if values else default

    def numbers(self, tag: int) -> tuple[int, ...]:
        """All values of a tag; none if it is missing or text."""
        values = self.tags.get(tag, ())
        return () if isinstance(values, bytes) else values

    @property
    def width(self) -> int:
        """In pixels, as stored."""
        return self.number(Tag.WIDTH)

    @property
    def height(self) -> int:
        """In pixels, as stored."""
        return self.number(Tag.HEIGHT)

    @property
    def samples(self) -> int:
        """Numbers a pixel."""
        return self.number(Tag.SAMPLES, 1)

    @property
    def bits(self) -> tuple[int, ...]:
        """Of each sample."""
        bits = self.numbers(Tag.BITS) or (1,)
        return bits * self.samples if len(bits) == 1 and self.samples <= 65535 else bits

    @property
    def orientation(self) -> int:
        """1 to 8, as in EXIF; 1 for anything else."""
        value = self.number(Tag.ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1

    @property
    def nodata(self) -> float | None:
        """The value that stands for no data (GDAL's tag)."""
        text = self.tags.get(Tag.NODATA)
        try:
            return float(text.strip(b"\0 \r\n")) if isinstance(text, bytes) else None
        except ValueError:
            return None

    @property
    def is_camera_raw(self) -> bool:
        """Tell whether this is a Tag.DNG: what could be decoded is a preview."""
        return Tag.DNG in self.tags

    @property
    def extras(self) -> tuple[int, ...]:
        """Return the kinds of the samples that aren't colour; 0, unspecified, where the file doesn't say."""
        count = self.samples - COLOURS.get(self.number(Tag.PHOTOMETRIC), self.samples)
        given = self.numbers(Tag.EXTRA)
        return tuple(given[i] if i < len(given) else 0 for i in range(max(0, count)))


@dataclass(frozen=True)
class TiffPicture:
    """Find the page of a TIFF that is the picture: the first that is neither thumbnail nor mask."""

    page: Page
    is_first: bool
    mask: Page | None  # of the same size: 0 where there is no data
    others: int  # further pictures of their own (pages of a document, slices of a stack)
    largest: tuple[int, int]  # width and height of the largest page

    @property
    def displayed_size(self) -> tuple[int, int]:
        """(height, width), upright."""
        size = (self.page.height, self.page.width)
        return size[::-1] if self.page.orientation >= 5 else size

    def as_first_page(self, data: bytes) -> bytes:
        """Return the file with the picture in front, where Pillow looks for it."""
        if self.is_first:
            return data
        if data[2:4] in (b"+\0", b"\0+"):
            return data[:8] + struct.pack(self.page.order + "Q", self.page.start) + data[16:]
        return data[:4] + struct.pack(self.page.order + "I", self.page.start) + data[8:]

    def is_for_pillow(self, reading: Reading) -> bool:
        """Tell whether Pillow reads the picture rightly and nothing is lost by its 8 bits."""
        page = self.page
        if page.number(Tag.COMPRESSION, 1) not in (NONE, *DEFLATE, *BY_LIBTIFF):
            return True
        if page.number(Tag.PHOTOMETRIC) not in COLOURS:
            return True
        plain = set(page.bits) <= {1, 2, 4, 8} and len(page.bits) == page.samples and len(set(page.bits)) == 1
        signed = set(page.numbers(Tag.FORMAT)) - {1, 4}
        bands = reading.bands is not None or any(kind not in ALPHA for kind in page.extras)
        separate = page.number(Tag.PLANAR, 1) == 2
        sparse = 0 in page.numbers(Tag.STRIP_SIZES) + page.numbers(Tag.TILE_SIZES)
        packed = page.bits[0] < 8 and (page.samples > 1 or bool(page.numbers(Tag.TILES)))
        few = page.samples >= COLOURS[page.number(Tag.PHOTOMETRIC)]
        return (
            plain and few and not (signed or bands or separate or sparse or packed or page.nodata is not None)
        )


def is_tiff(data: bytes) -> bool:
    """Tell whether a file of these first bytes is a TIFF."""
    return data[:4] in _HEADS


def find_picture(file: BinaryIO) -> TiffPicture | None:
    """Find the page that is the picture; None where the directories make no sense."""
    pages = list(_pages(file))
    if not pages:
        return None
    largest = max(pages, key=lambda page: page.width * page.height)  # of equal ones the first
    pictures = [page for page in pages if not page.number(Tag.SUBFILE) & (_THUMBNAIL | _MASK)]
    chosen = pictures[0] if pictures else largest
    size = (chosen.width, chosen.height)
    masks = [page for page in pages if page.number(Tag.SUBFILE) & _MASK and (page.width, page.height) == size]
    others = max(0, len(pictures) - 1)
    text = chosen.tags.get(Tag.DESCRIPTION, b"")
    if (
        isinstance(text, bytes) and text.startswith(b"ImageJ=") and not others
    ):  # a stack may have one directory
        counts = [line[7:] for line in text.splitlines() if line.startswith(b"images=")]
        others = max(0, int(counts[0]) - 1) if counts and counts[0].isdigit() else 0
    mask = next((page for page in masks if page is not chosen), None)
    return TiffPicture(chosen, chosen is pages[0], mask, others, (largest.width, largest.height))


def describe(page: Page) -> str:
    """Describe the kind of TIFF in a few words."""
    bits = "/".join(map(str, sorted(set(page.bits))))
    kind = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}.get(page.number(Tag.FORMAT, 1), "")
    code = page.number(Tag.COMPRESSION, 1)
    packed = "" if code == NONE else f", {_COMPRESSIONS.get(code, f'compression {code}')}"
    count = f"{page.samples} band{'s' * (page.samples != 1)}"
    return f"TIFF of {count} of {bits} {kind + ' ' if kind else ''}bits{packed}"


def _pages(file: BinaryIO) -> Iterator[Page]:
    """All pages in the file's order, each before its sub-pages; ends where the file makes no sense."""
    head = file.read(16)
    order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
    is_big = head[2:4] in (b"+\0", b"\0+")
    try:
        next_page = struct.unpack_from(order + ("Q" if is_big else "I"), head, 8 if is_big else 4)[0]
    except struct.error:
        return
    seen: set[int] = set()
    waiting, left = [next_page], _MOST_VALUES
    while waiting and len(seen) < _MOST_PAGES:
        start = waiting.pop()
        if start == 0 or start in seen:
            continue
        seen.add(start)
        try:
            page, following = _page(file, start, order, is_big, left)
        except (struct.error, OSError, ValueError, OverflowError):
            continue
        left -= sum(map(len, page.tags.values())) + sum(map(len, page.reals.values()))
        waiting.append(following)
        waiting.extend(reversed(page.numbers(Tag.SUB_PAGES)[:_MOST_PAGES]))
        yield page


def _page(
    file: BinaryIO, start: int, order: Literal["<", ">"], is_big: bool, most_values: int
) -> tuple[Page, int]:
    count_size, entry_size, value_size = (8, 20, 8) if is_big else (2, 12, 4)
    offset = order + ("Q" if is_big else "I")
    count = struct.unpack(order + ("Q" if is_big else "H"), _bytes_at(file, start, count_size))[0]
    if count > _MOST_TAGS:
        raise ValueError("no directory")
    rows = _bytes_at(file, start + count_size, count * entry_size + value_size)
    tags: dict[int, tuple[int, ...] | bytes] = {}
    reals: dict[int, tuple[float, ...]] = {}
    for at in range(0, count * entry_size, entry_size):
        tag, kind = struct.unpack_from(order + "HH", rows, at)
        code = _code(tag, kind)
        if code is None or tag in tags or tag in reals:
            continue
        number = struct.unpack_from(offset, rows, at + 4)[0]
        most = _MOST_GEO if tag in GEO_TAGS else _MOST_TEXT if kind == _TEXT else number
        number = min(number, most)
        most_values -= number
        if most_values < 0:
            raise ValueError("too much")
        place = rows[at + 4 + value_size : at + 4 + 2 * value_size]
        try:
            raw = _bytes_of(file, place, number * struct.calcsize(order + code), offset)
        except (OSError, ValueError, OverflowError):
            if tag not in GEO_TAGS:
                raise
            number, raw = 0, b""  # damage that is no matter of the picture
        if kind in _REALS:
            reals[tag] = struct.unpack(f"{order}{number}{code}", raw)
        else:
            tags[tag] = raw if code == "s" else struct.unpack(f"{order}{number}{code}", raw)
    page = Page(start, order, tags, reals)
    if not 0 <= page.samples <= _MOST_SAMPLES:
        raise ValueError("no number of bands")
    return page, struct.unpack_from(offset, rows, count * entry_size)[0]


def _code(tag: int, kind: int) -> str | None:
    """Return struct's letter for the values of a tag, s for text; None for those that aren't read."""
    if tag not in _WANTED:
        return None
    if kind == _TEXT:
        return "s"
    return _REALS.get(kind) if tag in _GEO_REALS else _INTEGERS.get(kind)


def _bytes_of(file: BinaryIO, place: bytes, size: int, offset: str) -> bytes:
    """Return the bytes of a tag's values: its `place` in the directory holds them, or says where they are."""
    return place[:size] if size <= len(place) else _bytes_at(file, struct.unpack(offset, place)[0], size)


def _bytes_at(file: BinaryIO, start: int, size: int) -> bytes:
    if size > 64 * 1024 * 1024:  # no table of offsets is as long
        raise ValueError("too much")
    file.seek(start)
    found = file.read(size)
    if len(found) < size:
        raise ValueError("cut short")
    return found
