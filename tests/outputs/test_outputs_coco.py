"""`predictions.json`, the journal it is made from, and the lines of --jsonl."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from san_cli.errors import SanError
from san_cli.outputs.coco import dataset_info, write_coco
from san_cli.outputs.jsonl import image_line
from san_cli.outputs.record import Found, ImageRecord
from san_cli.regions.rle import Region, decode, encode_label_map
from san_cli.text import json_text

NAMES = ["sky", "tree", "never seen", "golden retriever", "[b]猫[/b]"]
LABEL_MAPS = {
    "a.jpg": np.array([[0, 0, 1], [-1, 3, 3]]),
    "sub/ä.png": np.random.default_rng(0).integers(-1, 5, (37, 21)),
    "empty.png": np.full((4, 5), -1),
}


def record_of(name: str) -> ImageRecord:
    label_map = LABEL_MAPS[name]
    regions = encode_label_map(label_map)
    found = tuple(
        Found(class_id, region, 1 / (3 + class_id), 1 / (2 + class_id))
        for class_id, region in regions.items()
    )
    notes = ("of 16 bits",) if name == "sub/ä.png" else ()
    return ImageRecord(name, *label_map.shape, found, uncertain=0.25, notes=notes)


RECORDS = (
    record_of("a.jpg"),
    ImageRecord("broken.jpg", 0, 0, error="truncated"),
    record_of("sub/ä.png"),
    record_of("empty.png"),
)


def written(records: tuple[ImageRecord, ...], info: dict[str, object] | None = None) -> bytes:
    stream = io.BytesIO()
    info = dataset_info({"model": "vit-b-16"}) if info is None else info
    write_coco(stream, info=info, categories=NAMES, records=lambda: iter(records))
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, numpy 2
def test_pycocotools_reads_it_and_its_masks_are_the_label_map(tmp_path: Path) -> None:
    (tmp_path / "predictions.json").write_bytes(written(RECORDS))
    coco = COCO(tmp_path / "predictions.json")
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == NAMES
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == list(LABEL_MAPS)
    for image in coco.loadImgs(coco.getImgIds()):
        label_map = np.full((image["height"], image["width"]), -1)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(annotation) == 1
            assert mask.sum() == annotation["area"]
            label_map[mask] = annotation["category_id"] - 1
        assert np.array_equal(label_map, LABEL_MAPS[image["file_name"]])


def test_every_field_that_some_reader_needs() -> None:
    dataset = json.loads(written(RECORDS))
    assert list(dataset) == ["info", "licenses", "categories", "images", "annotations", "failures"]
    assert list(dataset["info"]) == ["description", "version", "date_created", "san"]
    assert dataset["licenses"] == []
    assert dataset["categories"][0] == {"id": 1, "name": "sky", "supercategory": ""}
    # Ids are places among all inputs: a failure that is mended later moves no other image.
    assert dataset["images"][:2] == [
        {"id": 1, "file_name": "a.jpg", "height": 2, "width": 3, "uncertain": 0.25},
        {
            "id": 3,
            "file_name": "sub/ä.png",
            "height": 37,
            "width": 21,
            "uncertain": 0.25,
            "notes": ["of 16 bits"],
        },
    ]
    assert dataset["failures"] == [{"file_name": "broken.jpg", "error": "truncated"}]
    annotations = dataset["annotations"]
    assert [annotation["id"] for annotation in annotations] == list(range(1, len(annotations) + 1))
    assert annotations[0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": {"size": [2, 3], "counts": "01102"},
        "area": 2,
        "bbox": [0.0, 0.0, 2.0, 1.0],
        "iscrowd": 0,
        "score": 0.333333,
        "mean_confidence": 0.5,
    }
    for annotation in annotations:
        assert [type(side) for side in annotation["bbox"]] == [float] * 4
        assert type(annotation["area"]) is int
        assert type(annotation["score"]) is float


def test_a_region_without_a_score_has_no_score() -> None:
    record = ImageRecord("a.jpg", 1, 1, (Found(0, Region("01", 1, (0.0, 0.0, 1.0, 1.0))),))
    dataset = json.loads(written((record,)))
    assert not {"score", "mean_confidence"} & dataset["annotations"][0].keys()
    assert "uncertain" not in dataset["images"][0]


def test_a_run_without_any_image(tmp_path: Path) -> None:
    (tmp_path / "predictions.json").write_bytes(written(()))
    assert COCO(tmp_path / "predictions.json").getImgIds() == []


def test_records_are_not_kept() -> None:
    alive = 0

    class Counted(ImageRecord):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def many() -> Iterator[ImageRecord]:
        nonlocal alive
        for i in range(50):
            alive += 1
            yield Counted(f"{i}.jpg", 2, 3, RECORDS[0].found)
            assert alive <= 2

    write_coco(io.BytesIO(), info={}, categories=NAMES, records=many)


def test_the_date_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert dataset_info({})["date_created"] == ""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert dataset_info({})["date_created"] == "1970-01-02"
    for nonsense in ("yesterday", "1" * 40):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", nonsense)
        with pytest.raises(SanError, match="SOURCE_DATE_EPOCH"):
            dataset_info({})


regions = st.builds(
    Region,
    st.text(st.characters(min_codepoint=48, max_codepoint=111)),
    st.integers(1, 10**9),
    st.tuples(*[st.floats(0, 10**5)] * 4),
)
records = st.builds(
    ImageRecord,
    st.text(st.characters()) | st.just("caf\udce9\n.jpg"),
    st.integers(0, 10**5),
    st.integers(0, 10**5),
    st.lists(
        st.builds(
            Found,
            st.integers(0, 900),
            regions,
            *[st.none() | st.floats(0, 1)] * 2,
            st.none() | st.integers(1, 9),
        ),
        max_size=3,
    ).map(tuple),
    st.none() | st.text(),
    st.none() | st.floats(0, 1),
    st.lists(st.text(), max_size=2).map(tuple),
)


@given(records)
def test_the_journal_gives_equal_records_back(record: ImageRecord) -> None:
    line = record.to_json_line()
    assert line.isascii()
    assert "\n" not in line
    assert ImageRecord.from_json_line(line) == record


@given(records, st.data())
def test_a_torn_line_is_an_error(record: ImageRecord, data: st.DataObject) -> None:
    line = record.to_json_line()
    torn = line[: data.draw(st.integers(0, len(line) - 1))]
    with pytest.raises(ValueError, match="not the record of an image"):
        ImageRecord.from_json_line(torn)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[]",
        "[1,2]",
        '["a",1,2,[[1]],null]',
        '["a",1,2,3,null]',
        '["a",1,2,[[1]],null,null,[]]',
        "null",
    ],
)
def test_other_json_is_not_a_record(line: str) -> None:
    with pytest.raises(ValueError, match="not the record of an image"):
        ImageRecord.from_json_line(line)


@given(
    st.recursive(st.text(st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_text_is_inert_and_strictly_valid(value: object) -> None:
    text = json_text(value)
    assert all(32 <= ord(character) < 127 for character in text)
    back = json.loads(text)
    json.dumps(back, ensure_ascii=False).encode("utf-8")  # no lone surrogates: orjson and Rust would refuse
    if "\\ud" not in text:
        assert back == value


def test_json_text_of_names_that_are_not_text() -> None:
    assert json_text({"a": "caf\udce9", "b": "\x1b[31m\x9b\x7f", "c": "é𝄞"}) == (
        '{"a":"caf\\\\udce9","b":"\\u001b[31m\\u009b\\u007f","c":"\\u00e9\\ud834\\udd1e"}'
    )
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"))


def test_a_line_for_an_image() -> None:
    line = image_line(
        RECORDS[0],
        NAMES,
        input="../in/a.jpg",
        exif_orientation=6,
        outputs={"overlay": "san-out/a.jpg"},
        ms={"decode": 1.234, "model": 1000},
        by_region=False,
    )
    assert "\n" not in line
    found = json.loads(line)
    assert list(found) == [
        "path", "input", "width", "height", "exif_orientation", "uncertain", "classes", "notes", "outputs", "ms",
    ]  # fmt: skip
    assert found["input"] == "../in/a.jpg"
    assert (found["path"], found["width"], found["height"]) == ("a.jpg", 3, 2)
    assert found["exif_orientation"] == 6
    assert found["ms"] == {"decode": 1.2, "model": 1000}
    sky, retriever, tree = found["classes"]
    assert (sky["name"], retriever["name"], tree["name"]) == ("sky", "golden retriever", "tree")
    mask = decode(retriever["segmentation"]["counts"], tuple(retriever["segmentation"]["size"]))
    assert np.array_equal(mask, LABEL_MAPS["a.jpg"] == 3)
    del retriever["segmentation"]
    assert retriever == {
        "id": 3,
        "category_id": 4,
        "name": "golden retriever",
        "score": 0.166667,
        "confidence": 0.2,
        "area": 2,
        "fraction": 0.333333,
        "bbox": [1.0, 1.0, 2.0, 1.0],
    }


def test_a_line_for_a_failure() -> None:
    line = image_line(
        RECORDS[1], NAMES, input="in/x.jpg", exif_orientation=1, outputs={}, ms={}, by_region=False
    )
    assert json.loads(line) == {
        "path": "broken.jpg",
        "input": "in/x.jpg",
        "width": None,
        "height": None,
        "exif_orientation": None,
        "uncertain": None,
        "classes": [],
        "notes": [],
        "outputs": {},
        "ms": {},
        "error": "truncated",
    }
