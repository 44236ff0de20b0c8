"""Areas as tables, for spreadsheets and data frames: `areas.csv`, `summary.csv`, and the same as Parquet.

`areas` has a row for each image and class found, images in input order, classes ascending by id, and after them a row
for the image's unlabelled pixels where it has any. The pixels of an image's rows add up to width × height exactly.

    image          path relative to the input root, with `/`, as `file_name` in predictions.json
    width, height  of the displayed image (EXIF orientation applied)
    uncertain      share of its pixels with data whose confidence is below 0.5, to 6 digits
    label          value in the label maps; of unlabelled pixels 255, with more than 255 classes 65535
    category_id    id in predictions.json, label + 1            empty in rows of unlabelled pixels
    class          name of the class                            the same
    pixels         how many
    fraction       of the image, to 6 digits: `pixels` is what is exact
    score          mean over the pixels, to 6 digits            empty where unlabelled or unknown
    confidence     the same, 0 to 1                             the same
    regions        connected regions (8-connected)              the same

An input that failed has no pixels, so it has no row; predictions.json and --jsonl name it with its cause.

`summary` has a row for every class that was asked for, found or not, and one for unlabelled pixels, whatever their
number: label, category_id, class, images (in which it was found), pixels, fraction (of all pixels of all images),
score and confidence (means over all its pixels), regions (sum). A mean or a sum that isn't known for all of them is
empty.

CSV is that of RFC 4180: UTF-8, commas, lines end in CR LF, quotes are doubled, the decimal sign is a point. It has no
byte order mark: Python's csv, base R and awk take that for a part of the first column's name, and so does LibreOffice
where it isn't told that the file is UTF-8. Excel wants one only where a file with names that aren't ASCII is opened
by a double click; Data > From Text/CSV asks. A name that looks like a number or a date is one to a spreadsheet.

Names in CSV files are true except for two things. A spreadsheet takes a cell that begins with = + - or @ (full-width
and small ones too, also behind white space), a tab or a line break for a formula that it may execute: such names get
an apostrophe in front; so do those that begin with apostrophes and go on like that, so that taking one off gives
the true name back. What a text file can't hold or a terminal would execute, control characters and bytes of file
names that aren't UTF-8, is spelled as in a Python string (`\\x1b`, `\\udcff`). Parquet has the true names, but for
those bytes, which are spelled the same there and in predictions.json.

Rows are streamed: memory doesn't grow with the images. Equal records give equal bytes (Parquet: with one pyarrow).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from san_cli.errors import SanError
from san_cli.outputs.record import Found, ImageRecord
from san_cli.text import printable

if TYPE_CHECKING:
    from pyarrow import Schema

AREAS, SUMMARY = "areas.csv", "summary.csv"
AREAS_PARQUET, SUMMARY_PARQUET = "areas.parquet", "summary.parquet"

_Row = tuple[str | int | float | None, ...]

_GROUP_ROWS = 65_536  # of a Parquet file's row group: all that is held in memory


class _Column(NamedTuple):
    name: str
    type: str  # in pyarrow's words
    nullable: bool = False


_CLASS_COLUMNS = (
    _Column("label", "int32", nullable=True),
    _Column("category_id", "int32", nullable=True),
    _Column("class", "string", nullable=True),
)
_MEAN_COLUMNS = (
    _Column("score", "float64", nullable=True),
    _Column("confidence", "float64", nullable=True),
    _Column("regions", "int64", nullable=True),
)
_AREA_COLUMNS = (
    _Column("image", "string"),
    _Column("width", "int32"),
    _Column("height", "int32"),
    _Column("uncertain", "float64", nullable=True),
    *_CLASS_COLUMNS,
    _Column("pixels", "int64"),
    _Column("fraction", "float64"),
    *_MEAN_COLUMNS,
)
_SUMMARY_COLUMNS = (
    *_CLASS_COLUMNS,
    _Column("images", "int64"),
    _Column("pixels", "int64"),
    _Column("fraction", "float64", nullable=True),  # of no image at all
    *_MEAN_COLUMNS,
)


def write_areas(stream: BinaryIO, *, classes: Sequence[str], records: Iterable[ImageRecord]) -> None:
    """Write `areas.csv`; `records` are all inputs in order, `classes` the names by id."""
    _write_csv(stream, _AREA_COLUMNS, _area_rows(classes, records))


def write_summary(stream: BinaryIO, *, classes: Sequence[str], records: Iterable[ImageRecord]) -> None:
    """Write `summary.csv`; `records` are all inputs in order, `classes` the names by id."""
    _write_csv(stream, _SUMMARY_COLUMNS, _summary_rows(classes, records))


def write_areas_parquet(stream: BinaryIO, *, classes: Sequence[str], records: Iterable[ImageRecord]) -> None:
    """Write `areas.parquet`: the rows of `areas.csv`, typed. Needs pyarrow."""
    _write_parquet(stream, _AREA_COLUMNS, _area_rows(classes, records))


def write_summary_parquet(
    stream: BinaryIO, *, classes: Sequence[str], records: Iterable[ImageRecord]
) -> None:
    """Write `summary.parquet`: the rows of `summary.csv`, typed. Needs pyarrow."""
    _write_parquet(stream, _SUMMARY_COLUMNS, _summary_rows(classes, records))


# Files of each kind of results that is a table, with what writes them.
TABLES = {
    "table": {AREAS: write_areas, SUMMARY: write_summary},
    "parquet": {AREAS_PARQUET: write_areas_parquet, SUMMARY_PARQUET: write_summary_parquet},
}


def refuse_without_pyarrow() -> None:
    """SanError where pyarrow, of the extra `table`, is missing."""
    if find_spec("pyarrow") is None:
        raise SanError("Parquet files need pyarrow", hint="Install it: pip install pyarrow")


def _area_rows(classes: Sequence[str], records: Iterable[ImageRecord]) -> Iterator[_Row]:
    unlabelled = _unlabelled_label(classes)
    for record in records:
        if record.error is not None:
            continue
        image = (record.file_name, record.width, record.height, _rounded(record.uncertain))
        pixels = record.width * record.height
        for class_id, region, score, confidence, parts in record.found:
            yield (
                *image,
                class_id,
                class_id + 1,
                classes[class_id],
                region.area,
                round(region.area / pixels, 6),
                _rounded(score),
                _rounded(confidence),
                parts,
            )
        if rest := record.unlabelled:
            yield (*image, unlabelled, None, None, rest, round(rest / pixels, 6), None, None, None)


def _summary_rows(classes: Sequence[str], records: Iterable[ImageRecord]) -> Iterator[_Row]:
    sums = [_ClassSum() for _ in classes]
    rest = _ClassSum()
    pixels, all_counted = 0, True
    for record in records:
        if record.error is not None:
            continue
        pixels += record.width * record.height
        for found in record.found:
            sums[found.class_id].add(found)
            all_counted = all_counted and found.parts is not None
        if record.unlabelled:
            rest.images += 1
            rest.pixels += record.unlabelled
    for class_id, (name, one) in enumerate(zip(classes, sums, strict=True)):
        yield (
            class_id,
            class_id + 1,
            name,
            one.images,
            one.pixels,
            _share(one.pixels, pixels),
            _rounded(one.mean(one.score)),
            _rounded(one.mean(one.confidence)),
            one.parts if all_counted else None,
        )
    label = _unlabelled_label(classes)
    yield (label, None, None, rest.images, rest.pixels, _share(rest.pixels, pixels), None, None, None)


class _ClassSum:
    """Sums over the images that have a class; None from the first one on that lacks the value."""

    __slots__ = ("confidence", "images", "parts", "pixels", "score")

    def __init__(self) -> None:
        self.images = self.pixels = self.parts = 0
        self.score: float | None = 0.0
        self.confidence: float | None = 0.0

    def add(self, found: Found) -> None:
        area = found.region.area
        self.images += 1
        self.pixels += area
        self.score = _plus(self.score, found.score, area)
        self.confidence = _plus(self.confidence, found.confidence, area)
        self.parts += found.parts or 0

    def mean(self, weighted: float | None) -> float | None:
        """Divide a sum over pixels by their number; None where there are none, or not all have the value."""
        return None if weighted is None or not self.pixels else weighted / self.pixels


def _plus(total: float | None, value: float | None, weight: int) -> float | None:
    return None if total is None or value is None else total + value * weight


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _unlabelled_label(classes: Sequence[str]) -> int | None:
    """Return what label maps hold where no class is; above 65535 classes there are no label maps."""
    return 255 if len(classes) <= 255 else 65535 if len(classes) <= 65535 else None


def _write_csv(stream: BinaryIO, columns: Sequence[_Column], rows: Iterable[_Row]) -> None:
    stream.write((",".join(column.name for column in columns) + "\r\n").encode())
    for row in rows:
        stream.write((",".join(map(_csv_cell, row)) + "\r\n").encode())


def _csv_cell(value: str | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"  # 0.000005: not every reader knows 5e-06
    return _csv_text(value) if isinstance(value, str) else str(value)


def _csv_text(name: str) -> str:
    # Always in quotes: a program that takes ; or tabs for separators would find new cells in a name otherwise.
    return '"' + _inert(name).replace('"', '""') + '"'


_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# White space, and what has no width and is skipped by some programs just so: joiners, direction marks, a BOM.
_BLANK = r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
_FORMULA = re.compile(rf"'*(?:[\t\r\n]|{_BLANK}*[=+\-@＝＋－＠﹦﹢﹣﹫−])")


def _inert(name: str) -> str:
    """Return a name that spreadsheets take for text, and that UTF-8 can hold; other names as they are."""
    text = _UNWRITABLE.sub(lambda found: printable(found[0]), name)
    return "'" + text if _FORMULA.match(text) else text


def _write_parquet(stream: BinaryIO, columns: Sequence[_Column], rows: Iterable[_Row]) -> None:
    from pyarrow import RecordBatch, array
    from pyarrow.parquet import ParquetWriter

    schema = _schema(columns)
    with ParquetWriter(stream, schema) as writer:
        remaining = iter(rows)
        while group := list(islice(remaining, _GROUP_ROWS)):
            values = zip(*group, strict=True)
            arrays = [
                array(map(_utf8, cells) if column.type == "string" else cells, field.type)
                for column, field, cells in zip(columns, schema, values, strict=True)
            ]
            writer.write_batch(RecordBatch.from_arrays(arrays, schema=schema), row_group_size=_GROUP_ROWS)


def _schema(columns: Sequence[_Column]) -> "Schema":
    import pyarrow

    return pyarrow.schema(
        [
            pyarrow.field(column.name, getattr(pyarrow, column.type)(), nullable=column.nullable)
            for column in columns
        ]
    )


def _utf8(text: object) -> object:
    """Spell lone surrogates, which UTF-8 can't hold, as `json_text` does."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text
