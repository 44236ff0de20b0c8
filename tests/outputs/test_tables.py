"""`areas.csv`, `summary.csv`, their Parquet twins, and the count of connected regions."""

import csv
import io
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from san_cli.errors import SanError
from san_cli.outputs import tables
from san_cli.outputs.record import Found, ImageRecord
from san_cli.outputs.tables import (
    refuse_without_pyarrow,
    write_areas,
    write_areas_parquet,
    write_summary,
    write_summary_parquet,
)
from san_cli.regions.parts import count_parts
from san_cli.regions.rle import Region, encode_label_map

NAMES = [
    "sky",
    "=cmd|' /C calc'!A0",
    "-1",
    "@x",
    'a "quoted", name',
    "two\nlines",
    "猫 ＝",
    " =1",
    "never seen",
]
FILES = [
    "a.jpg",
    "sub/ä, b.png",
    "=cmd|' /C calc'!A0.jpg",
    "-1.jpg",
    "@x/y.jpg",
    '"q".jpg',
    "li\r\nne.jpg",
    "\t1.jpg",
    "＝1.jpg",
    "'=1.jpg",
    "'80s.jpg",
    " blank ",
]

Write = Callable[..., None]
label_maps = arrays(np.int16, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-1, 3))


def record_of(name: str, label_map: NDArray[np.integer], *, known: bool = True) -> ImageRecord:
    """Make the record of a label map, with a score and a confidence that are easily told from each other."""
    regions = encode_label_map(label_map)
    parts = count_parts(label_map, regions)
    found = tuple(
        Found(class_id, region, 1 / (3 + class_id), 1 / (1 + region.area), parts[class_id])
        if known
        else Found(class_id, region)
        for class_id, region in regions.items()
    )
    return ImageRecord(name, *label_map.shape, found)


def records_of(shapes: Sequence[tuple[str, int, int]], classes: int = len(NAMES) - 1) -> list[ImageRecord]:
    random = np.random.default_rng(0)
    return [record_of(name, random.integers(-1, classes, (h, w))) for name, h, w in shapes]


RECORDS = [
    *records_of([(name, 5 + i, 7) for i, name in enumerate(FILES)]),
    ImageRecord("broken.jpg", 0, 0, error="truncated"),
    record_of("full.png", np.zeros((3, 4), np.int16)),
    record_of("empty.png", np.full((4, 5), -1)),
]


def written(write: Write, records: Sequence[ImageRecord], classes: Sequence[str] = NAMES) -> bytes:
    stream = io.BytesIO()
    write(stream, classes=classes, records=iter(records))
    return stream.getvalue()


def rows_of(content: bytes) -> list[dict[str, str]]:
    """Read a table by Python's csv, and strictly."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))


def true_name(cell: str) -> str:
    """Take off the apostrophe as the module's docstring says that one can."""
    return cell[1:] if tables._FORMULA.match(cell) else cell


def parts_by_flooding(label_map: NDArray[np.integer]) -> dict[int, int]:
    todo = {(int(y), int(x)) for y, x in np.argwhere(label_map >= 0)}
    counts: dict[int, int] = {}
    while todo:
        pixels = [todo.pop()]
        label = int(label_map[pixels[0]])
        counts[label] = counts.get(label, 0) + 1
        while pixels:
            y, x = pixels.pop()
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            same = {place for place in around if label_map[place] == label}
            todo -= same
            pixels += same
    return counts


@given(label_maps)
def test_parts_are_those_that_flooding_finds(label_map):
    assert count_parts(label_map, encode_label_map(label_map)) == parts_by_flooding(label_map)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("classes", [2, 20])
def test_parts_of_a_larger_noisy_map(dtype, classes):
    label_map = np.random.default_rng(1).integers(0, classes, (80, 97)).astype(dtype)
    assert count_parts(label_map, encode_label_map(label_map)) == parts_by_flooding(label_map)


@pytest.mark.parametrize("rows", [127, 128, 129, 256, 257, 300])
def test_parts_go_on_across_bands_of_rows(rows):
    label_map = np.random.default_rng(rows).integers(-1, 2, (rows, 9))
    assert count_parts(label_map, encode_label_map(label_map)) == parts_by_flooding(label_map)
    column = np.zeros((rows, 1), np.int16)
    assert count_parts(column, encode_label_map(column)) == {0: 1}


def test_pixels_that_touch_at_corners_are_one_part():
    label_map = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    assert count_parts(label_map, encode_label_map(label_map)) == {0: 1, 1: 1}


def test_no_class_has_no_parts():
    assert count_parts(np.full((3, 4), -1), {}) == {}


@given(st.lists(label_maps, max_size=4))
def test_rows_of_an_image_add_up_to_its_pixels(maps):
    records = [record_of(f"{i}.png", label_map) for i, label_map in enumerate(maps)]
    rows = rows_of(written(write_areas, records))
    for record in records:
        own = [row for row in rows if row["image"] == record.file_name]
        assert sum(int(row["pixels"]) for row in own) == record.width * record.height
        assert {(int(row["width"]), int(row["height"])) for row in own} == {(record.width, record.height)}
        assert sum(row["label"] == "255" for row in own) == (record.unlabelled > 0)
    total = sum(record.width * record.height for record in records)
    assert sum(int(row["pixels"]) for row in rows_of(written(write_summary, records))) == total


def test_a_row_says_what_was_found():
    record = replace(record_of("a.jpg", np.array([[0, 1, 0], [-1, 1, 1]])), uncertain=0.25)
    assert written(write_areas, [record], ["sky", "x,y"]).decode() == (
        "image,width,height,uncertain,label,category_id,class,pixels,fraction,score,confidence,regions\r\n"
        '"a.jpg",3,2,0.250000,0,1,"sky",2,0.333333,0.333333,0.333333,2\r\n'
        '"a.jpg",3,2,0.250000,1,2,"x,y",3,0.500000,0.250000,0.250000,1\r\n'
        '"a.jpg",3,2,0.250000,255,,,1,0.166667,,,\r\n'
    )
    assert written(write_summary, [record, record], ["sky", "x,y", "sea"]).decode() == (
        "label,category_id,class,images,pixels,fraction,score,confidence,regions\r\n"
        '0,1,"sky",2,4,0.333333,0.333333,0.333333,4\r\n'
        '1,2,"x,y",2,6,0.500000,0.250000,0.250000,2\r\n'
        '2,3,"sea",0,0,0.000000,,,0\r\n'
        "255,,,2,2,0.166667,,,\r\n"
    )


def test_what_was_not_measured_is_empty():
    known = record_of("a.jpg", np.array([[0, 0, 1]]))
    unknown = record_of("b.jpg", np.array([[0, 0, 2]]), known=False)
    values = [
        (row["score"], row["confidence"], row["regions"]) for row in rows_of(written(write_areas, [unknown]))
    ]
    assert values == [("", "", "")] * 2
    summary = rows_of(written(write_summary, [known, unknown], list("abcd")))
    assert [row["score"] for row in summary] == ["", "0.250000", "", "", ""]
    assert [row["confidence"] for row in summary] == ["", "0.500000", "", "", ""]
    assert [row["regions"] for row in summary] == [""] * 5  # a sum over some images is no sum over all


@pytest.mark.parametrize(
    ("classes", "label"), [(1, "255"), (255, "255"), (256, "65535"), (65535, "65535"), (65536, "")]
)
def test_unlabelled_pixels_have_the_label_maps_value(classes, label):
    names = [str(i) for i in range(classes)]
    record = record_of("a.png", np.array([[-1, 0]]))
    assert rows_of(written(write_areas, [record], names))[-1]["label"] == label
    assert rows_of(written(write_summary, [record], names))[-1]["label"] == label


def test_failed_inputs_have_no_row():
    failed = [
        ImageRecord("a.jpg", 0, 0, error="truncated"),
        ImageRecord("b.jpg", 4, 3, error="no space left"),
    ]
    assert rows_of(written(write_areas, failed)) == []
    summary = rows_of(written(write_summary, failed))
    assert [row["class"] for row in summary] == [*map(tables._inert, NAMES), ""]
    assert {(row["images"], row["pixels"], row["fraction"]) for row in summary} == {("0", "0", "")}


def test_names_are_read_back():
    rows = rows_of(written(write_areas, RECORDS))
    images = [record.file_name for record in RECORDS if record.error is None]
    assert list(dict.fromkeys(true_name(row["image"]) for row in rows)) == images
    for row in rows:
        name = NAMES[int(row["label"])] if row["category_id"] else ""
        assert true_name(row["class"]) == name
    assert [true_name(row["class"]) for row in rows_of(written(write_summary, RECORDS))] == [*NAMES, ""]


@given(
    st.text(min_size=1, max_size=8)
    | st.text("='’\"+-@＝ \t\r\n\u200b\ufeffa,\x00\x1b\udcff", min_size=1, max_size=5)
)
def test_any_name_is_inert_and_read_back(name):
    content = written(write_areas, [record_of(name, np.zeros((1, 1), int))], [name])
    (row,) = rows_of(content)
    assert row["image"] == row["class"]
    spelled = tables._UNWRITABLE.sub(lambda found: repr(found[0])[1:-1], name)
    assert true_name(row["image"]) == spelled
    assert row["image"].strip()[:1] not in set("=+-@＝＋－＠")
    assert row["image"][:1] not in set("\t\r\n")


@pytest.mark.parametrize(
    "name",
    [
        "=1",
        "+1",
        "-1",
        "@x",
        "\tx",
        "\rx",
        "\nx",
        " =1",
        "\u3000=1",
        "\ufeff=1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        "﹢1",
        "'=1",
    ],
)
def test_formulas_get_an_apostrophe(name):
    assert tables._inert(name) == "'" + name


@pytest.mark.parametrize("name", ["sky", "a=1", "'80s car", "x-ray", "_x", "#1", "(=1)", "猫"])
def test_other_names_stay_as_they_are(name):
    assert tables._inert(name) == name


def test_bytes_that_are_not_utf8_are_spelled():
    name = b"\xff\x1b[1m.jpg".decode("utf-8", "surrogateescape")
    (row,) = rows_of(written(write_areas, [record_of(name, np.zeros((1, 1), int))]))
    assert row["image"] == r"\udcff\x1b[1m.jpg"


@pytest.mark.parametrize("write", [write_areas, write_summary])
def test_equal_records_give_equal_bytes(write):
    again = [ImageRecord.from_json_line(record.to_json_line()) for record in RECORDS]
    content = written(write, RECORDS)
    assert content == written(write, RECORDS) == written(write, again)
    assert not content.startswith(b"\xef\xbb\xbf")
    assert content.endswith(b"\r\n")


def recomputed(
    rows: list[dict[str, str]],
) -> dict[str, tuple[int, int, float | None, float | None, int | None]]:
    """The summary by label, from the rows of areas.csv."""
    result = {}
    for label in {row["label"] for row in rows}:
        own = [row for row in rows if row["label"] == label]
        pixels = sum(int(row["pixels"]) for row in own)
        if own[0]["category_id"]:
            score, confidence = (
                sum(float(row[key]) * int(row["pixels"]) for row in own) / pixels
                for key in ("score", "confidence")
            )
            result[label] = (len(own), pixels, score, confidence, sum(int(row["regions"]) for row in own))
        else:
            result[label] = (len(own), pixels, None, None, None)
    return result


def test_the_summary_is_that_of_the_areas():
    areas = rows_of(written(write_areas, RECORDS))
    summary = rows_of(written(write_summary, RECORDS))
    expected = recomputed(areas)
    total = sum(record.width * record.height for record in RECORDS)
    assert [row["label"] for row in summary] == [*map(str, range(len(NAMES))), "255"]
    for row in summary:
        images, pixels, score, confidence, parts = expected.get(row["label"], (0, 0, None, None, 0))
        assert (int(row["images"]), int(row["pixels"])) == (images, pixels)
        assert float(row["fraction"]) == round(pixels / total, 6)
        for cell, mean in ((row["score"], score), (row["confidence"], confidence)):
            assert cell == "" if mean is None else float(cell) == pytest.approx(mean, abs=2e-6)
        assert row["regions"] == ("" if parts is None else str(parts))


class Null(io.RawIOBase, BinaryIO):  # type: ignore[misc]
    """A stream that keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        return len(content)


def many(images: int) -> Iterator[ImageRecord]:
    found = tuple(Found(i, Region("", 10, (0, 0, 1, 1)), 0.5, 0.5, 1) for i in range(4))
    return (ImageRecord(f"folder/{i:09}.jpg", 6, 7, found) for i in range(images))


def peak(write: Write, images: int) -> int:
    tracemalloc.start()
    try:
        write(Null(), classes=NAMES, records=many(images))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("write", [write_areas, write_summary])
def test_memory_is_flat(write):
    peak(write, 10)
    few, lots = peak(write, 2_000), peak(write, 20_000)  # 10,000 and 100,000 rows
    assert lots < few + 50_000


def test_without_pyarrow_there_is_a_way_out(monkeypatch):
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(SanError) as refusal:
        refuse_without_pyarrow()
    assert "pip install pyarrow" in str(refusal.value.hint)


@pytest.mark.parametrize(
    ("write_text", "write_typed"),
    [(write_areas, write_areas_parquet), (write_summary, write_summary_parquet)],
)
@pytest.mark.parametrize("records", [RECORDS, []])
def test_parquet_has_the_rows_of_csv(write_text, write_typed, records):
    parquet = pytest.importorskip("pyarrow.parquet")
    content = written(write_typed, records)
    assert content == written(write_typed, records)
    table = parquet.read_table(io.BytesIO(content))
    expected = rows_of(written(write_text, records))
    assert table.column_names == next(csv.reader([written(write_text, records).split(b"\r\n")[0].decode()]))
    for row, text in zip(table.to_pylist(), expected, strict=True):
        for key, value in row.items():
            if isinstance(value, str):
                assert tables._inert(value) == text[key]
            else:
                assert (value is None) == (text[key] == "")
                assert value is None or value == float(text[key])


def test_parquet_names_are_true():
    parquet = pytest.importorskip("pyarrow.parquet")
    record = record_of("=\x1b\udcff", np.zeros((1, 1), int))
    table = parquet.read_table(io.BytesIO(written(write_areas_parquet, [record], ["=x"])))
    assert table["image"].to_pylist() == ["=\x1b\\udcff"]
    assert table["class"].to_pylist() == ["=x"]
    assert str(table.schema.field("category_id").type) == "int32"
    assert str(table.schema.field("score").type) == "double"


def test_parquet_is_written_in_groups(monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "_GROUP_ROWS", 7)
    file = parquet.ParquetFile(io.BytesIO(written(write_areas_parquet, list(many(4)))))  # 5 rows each
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [7, 7, 6]
