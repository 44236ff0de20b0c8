"""What each tool's files may hold beside plain outlines, and what is said of what can't be read."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_files import NAMES, coco_of, mask_png, random_map, save_labelme, write_yolo

from san_cli.datasets.annotations.find import find_annotations, read_drawings
from san_cli.datasets.annotations.shapes import label_map_of
from san_cli.datasets.relabelling import class_words
from san_cli.errors import SanError

SIZE = (20, 30)
Y, X = (np.mgrid[:20, :30] + 0.5).astype(float)


def drawn(path: Path, **options: Any) -> np.ndarray:
    """The label map of the only image."""
    drawings = read_drawings(path, **options)
    ((_, one),) = drawings.images.items()
    drawing = one.read()
    assert drawing.size in (SIZE, None)
    return label_map_of(drawing.shapes, SIZE, class_words([[name] for name in NAMES]))


def read_all(path: Path, **options: Any) -> None:
    for one in read_drawings(path, **options).images.values():
        one.read()


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(SanError) as caught:
        read_all(path, **options)
    assert "\n" not in caught.value.message and str(path.name) in caught.value.message
    return f"{caught.value.message} {caught.value.hint}"


# labelme


def labelme(path: Path, *shapes: dict[str, Any]) -> Path:
    save_labelme(path / "a.json", SIZE, [{"label": "sky", **shape} for shape in shapes])
    return path / "a.json"


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ({"points": [[2, 3], [9, 8]], "shape_type": "rectangle"}, (X > 2) & (X < 9) & (Y > 3) & (Y < 8)),
        ({"points": [[9, 8], [2, 3]], "shape_type": "rectangle"}, (X > 2) & (X < 9) & (Y > 3) & (Y < 8)),
        (
            {"points": [[2, 3], [9, 3], [9, 8], [2, 8]], "shape_type": "rectangle"},
            (X > 2) & (X < 9) & (Y > 3) & (Y < 8),
        ),
        ({"points": [[10, 10], [10, 16]], "shape_type": "circle"}, (X - 10) ** 2 + (Y - 10) ** 2 <= 36),
        (
            {"points": [[0, 0], [30, 0], [0, 20]]},
            X / 30 + Y / 20 < 1,
        ),  # without a type, as labelme 3 wrote it
        ({"points": [[-5, -5], [99, -5], [99, 4.2], [-5, 4.2]], "shape_type": "polygon"}, Y < 4.2),
    ],
)
def test_labelme_shapes(tmp_path: Path, shape: dict[str, Any], inside: np.ndarray) -> None:
    np.testing.assert_array_equal(drawn(labelme(tmp_path, shape)) == 0, inside)


def test_labelme_masks(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((6, 9)) > 0.5
    expected = np.zeros(SIZE, bool)
    expected[5:11, 4:13] = pixels
    mask = {"shape_type": "mask", "mask": mask_png(pixels)}
    np.testing.assert_array_equal(
        drawn(labelme(tmp_path, {**mask, "points": [[4, 5], [12, 10]]})) == 0, expected
    )
    np.testing.assert_array_equal(
        drawn(labelme(tmp_path, {**mask, "points": [[-2, -3], [6, 2]]})) == 0,
        np.pad(pixels[3:, 2:], ((0, 17), (0, 23))),
    )
    assert "another box" in refused(labelme(tmp_path, {**mask, "points": [[4, 5], [20, 10]]}))
    broken = base64.b64encode(b"\x89PNG\r\n\x1a\nnothing").decode()
    assert "can't be decoded" in refused(
        labelme(tmp_path, {**mask, "mask": broken, "points": [[4, 5], [12, 10]]})
    )


def test_labelme_points_and_lines(tmp_path: Path) -> None:
    path = labelme(
        tmp_path,
        {"points": [[1, 1]], "shape_type": "point"},
        {"points": [[1, 1], [5, 5]], "shape_type": "line"},
        {"points": [[1, 1], [5, 5], [6, 6]], "shape_type": "linestrip"},
        {"points": [[0, 0], [5, 5]], "shape_type": "rectangle"},
    )
    drawings = read_drawings(path)
    assert (drawings.flat, drawings.found) == ({"point": 1, "line": 2}, {"sky": 1})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"shapes": [{"label": "sky", "points": [[1, 2], [3]]}]}', "no pairs of numbers"),
        ('{"shapes": [{"label": "sky", "points": [[1, 2], [3, NaN], [4, 5]]}]}', "no pairs of numbers"),
        ('{"shapes": [{"points": [[1, 2]]}]}', "shape 1 has no label"),
        ('{"shapes": [7]}', "shape 1 has no label"),
        (
            '{"shapes": [{"label": "sky", "points": [[1, 2]], "shape_type": "circle"}]}',
            "a circle, has 1 points",
        ),
        ('{"shapes": [', "no JSON"),
        ('{"type": "FeatureCollection", "features": []}', "GeoJSON"),
        ('[{"image_id": 1, "category_id": 2, "segmentation": {}}]', "results in COCO's form"),
        ("{}", "no labels that san reads"),
    ],
)
def test_json_that_is_no_labels(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert told in refused(tmp_path / "a.json")


def test_one_damaged_file_among_good_ones(tmp_path: Path) -> None:
    labelme(tmp_path, {"points": [[0, 0], [5, 5]], "shape_type": "rectangle"})
    (tmp_path / "b.json").write_text('{"version": "5.5.0", "shapes": [{"label": 3}]}')
    drawings = read_drawings(tmp_path)
    assert len(drawings.faults) == 1 and "b.json" in drawings.faults[0].message


# YOLO


def test_yolo_without_names_and_with_boxes(tmp_path: Path) -> None:
    maps = {"a": random_map(1, *SIZE)}
    folder = write_yolo(tmp_path, maps)
    (folder / "data.yaml").unlink()
    with pytest.raises(SanError) as caught:
        read_drawings(folder / "labels")
    assert "no data.yaml" in str(caught.value)
    np.testing.assert_array_equal(drawn(folder / "labels", names=NAMES), maps["a"])
    (folder / "labels/classes.txt").write_text("\n".join(NAMES))
    np.testing.assert_array_equal(drawn(folder / "labels"), maps["a"])
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.1 0.2 0.3 0.97\n\n")
    drawings = read_drawings(folder / "labels")
    assert (drawings.flat, drawings.found) == ({"box of detection": 1}, {"tall building": 1})
    (folder / "labels/a.txt").write_text("")  # nothing in the image
    assert read_drawings(folder / "labels").found == {}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("9 0 0 0 1 1 1", "class 9, but there are names for 0 to 3"),
        ("0 0 0 0 20 20 20", "no shares"),
        ("0 0 0 0 nan 1 1", "no shares"),
        ("0 0 0 0 one 1 1", "line 2"),
        ("0 0.5 0.5", "2 numbers"),
        ("cat 0 0 0 1 1 1", "number of a class"),
    ],
)
def test_yolo_lines_that_are_none(tmp_path: Path, line: str, told: str) -> None:
    folder = write_yolo(tmp_path, {"a": random_map(1)})
    (folder / "labels/a.txt").write_text(f"0 0 0 0 1 1 1\n{line}\n")
    with pytest.raises(SanError) as caught:
        read_drawings(folder)
    assert told in str(caught.value)


# COCO


def test_coco_parts_are_one_object_wherever_they_overlap(tmp_path: Path) -> None:
    whole = coco_of({"a": np.zeros(SIZE, int)}, "polygons")
    one = whole["annotations"][0]
    one["segmentation"] = [[0, 0, 10, 0, 10, 10, 0, 10], [5, 5, 15, 5, 15, 15, 5, 15]]
    (tmp_path / "a.json").write_text(json.dumps(whole))
    expected = (X < 10) & (Y < 10) | (X > 5) & (X < 15) & (Y > 5) & (Y < 15)
    np.testing.assert_array_equal(drawn(tmp_path / "a.json") == 0, expected)


def changed(change: Any) -> Any:
    whole = coco_of({"a": random_map(1, *SIZE)}, "rle")
    change(whole)
    return whole


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["annotations"][0].update(category_id=999), "category 999"),
        (lambda c: c["annotations"][0].update(image_id=999), "1 image that it doesn't list"),
        (lambda c: c["annotations"][0].pop("category_id"), "lacks 'category_id'"),
        (lambda c: c["images"][0].pop("file_name"), "lacks 'file_name'"),
        (lambda c: c["images"].append({**c["images"][0], "id": 7}), "twice"),
        (lambda c: c["annotations"][0]["segmentation"].update(counts="abc"), "can't be read"),
        (lambda c: c["annotations"][0]["segmentation"].update(counts=[5, 10**12]), "run lengths"),
        (lambda c: c["annotations"][0]["segmentation"].update(size=[3, 3]), "3×3 pixels"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3]]), "odd number"),
        (lambda c: c["annotations"][0].update(segmentation=[["a", "b"] * 3]), "can't be read"),
    ],
)
def test_coco_that_can_not_be_used(tmp_path: Path, change: Any, told: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(changed(change)))
    assert told in refused(tmp_path / "a.json")


def test_coco_boxes_alone(tmp_path: Path) -> None:
    def without(whole: Any) -> None:
        for one in whole["annotations"]:
            one["segmentation"] = []

    (tmp_path / "a.json").write_text(json.dumps(changed(without)))
    drawings = read_drawings(tmp_path / "a.json")
    assert (
        not drawings.found
        and set(drawings.flat) == {"box of detection"}
        and "no segmentation" in drawings.way_out
    )


def test_coco_cut_short(tmp_path: Path) -> None:
    text = json.dumps(coco_of({"a": random_map(1, *SIZE)}, "rle"))
    (tmp_path / "a.json").write_text(text[: len(text) // 2])
    assert "damaged" in refused(tmp_path / "a.json")


# CVAT


def cvat(path: Path, inside: str, head: str = "") -> Path:
    labels = "".join(f"<label><name>{name.replace('&', '&amp;')}</name></label>" for name in NAMES)
    text = f"<meta><job><labels>{labels}</labels></job></meta>"
    image = f'<image id="0" name="a.jpg" width="{SIZE[1]}" height="{SIZE[0]}">{inside}</image>'
    (path / "a.xml").write_text(f"{head}<annotations>{text}{image}</annotations>")
    return path / "a.xml"


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ('<box label="sky" xtl="2" ytl="3" xbr="9" ybr="8"/>', (X > 2) & (X < 9) & (Y > 3) & (Y < 8)),
        (
            '<box label="sky" xtl="2" ytl="3" xbr="8" ybr="7" rotation="90"/>',
            (X > 3) & (X < 7) & (Y > 2) & (Y < 8),
        ),
        (
            '<ellipse label="sky" cx="10" cy="10" rx="6" ry="4"/>',
            ((X - 10) / 6) ** 2 + ((Y - 10) / 4) ** 2 <= 1,
        ),
        (
            '<mask label="sky" rle="1, 3, 2" left="5" top="4" width="3" height="2"/>',
            ((X > 6) & (X < 8) & (Y > 4) & (Y < 5)) | ((X > 5) & (X < 6) & (Y > 5) & (Y < 6)),
        ),
    ],
)
def test_cvat_shapes(tmp_path: Path, shape: str, inside: np.ndarray) -> None:
    path = cvat(tmp_path, f'{shape}<polyline label="tree" points="1,2;3,4"/><tag label="sky"/>')
    np.testing.assert_array_equal(drawn(path) == 0, inside)
    assert read_drawings(path).flat == {"line": 1}
    assert read_drawings(path).classes == NAMES


@pytest.mark.parametrize(
    ("inside", "head", "told"),
    [
        ('<polygon label="sky" points="1,2;3"/>', "", "line 1"),
        ('<polygon points="1,2;3,4;5,6"/>', "", "lacks 'label'"),
        ('<polygon label="sky" points="1,2;3,4"/>', "", "fewer than 3"),
        ('<box label="sky" xtl="nan" ytl="3" xbr="9" ybr="8"/>', "", "nan"),
        ('<mask label="sky" rle="9, 9" left="0" top="0" width="2" height="2"/>', "", "don't fit its box"),
        (
            '<mask label="sky" rle="9" left="0" top="0" width="99999999" height="999999"/>',
            "",
            "don't fit its box",
        ),
        ("<polygon", "", "damaged or no XML"),
        ("", '<!DOCTYPE a [<!ENTITY b "c">]>', "entities"),
        ('</image><track label="sky"/><image name="b" width="1" height="1">', "", "CVAT for images 1.1"),
        ('</image><image name="a.jpg" width="1" height="1">', "", "twice"),
    ],
)
def test_cvat_that_can_not_be_used(tmp_path: Path, inside: str, head: str, told: str) -> None:
    assert told in refused(cvat(tmp_path, inside, head))


def test_pascal_voc(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    assert "Pascal VOC" in refused(tmp_path / "a.xml")
    with pytest.raises(SanError) as caught:
        find_annotations(tmp_path)
    assert "no segmentation" in str(caught.value)


# Label Studio


def studio(path: Path, *tasks: Any) -> Path:
    (path / "s.json").write_text(json.dumps(tasks))
    return path / "s.json"


def result(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": kind, "original_width": 30, "original_height": 20, "value": value, **more}


BOX = {"x": 10, "y": 10, "width": 50, "height": 40}
INSIDE = (X > 3) & (X < 18) & (Y > 2) & (Y < 10)


def task(*annotations: Any, image: str = "s3://bucket/a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": list(annotations), **more}


@pytest.mark.parametrize(
    ("results", "inside"),
    [
        ([result("rectanglelabels", {**BOX, "rectanglelabels": ["sky"]})], INSIDE),
        ([result("labels", {**BOX, "labels": ["sky"]}, id="r")], INSIDE),
        ([result("rectangle", BOX, id="r"), result("labels", {**BOX, "labels": ["sky"]}, id="r")], INSIDE),
        (
            [
                result(
                    "ellipselabels",
                    {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "ellipselabels": ["sky"]},
                )
            ],
            ((X - 15) / 6) ** 2 + ((Y - 10) / 4) ** 2 <= 1,
        ),
        (
            [result("rectanglelabels", {**BOX, "rotation": 90, "x": 80, "rectanglelabels": ["sky"]})],
            (X > 16) & (X < 24) & (Y > 2) & (Y < 17),
        ),
    ],
)
def test_label_studio_shapes(tmp_path: Path, results: list[Any], inside: np.ndarray) -> None:
    path = studio(tmp_path, task({"result": results}))
    np.testing.assert_array_equal(drawn(path) == 0, inside)
    assert sum(read_drawings(path).found.values()) == 1


def test_label_studio_takes_the_last_annotation_that_was_not_cancelled(tmp_path: Path) -> None:
    first, last = (
        {"result": [result("rectanglelabels", {**BOX, "rectanglelabels": [name]})]}
        for name in ("tree", "sky")
    )
    cancelled = {"result": [], "was_cancelled": True}
    np.testing.assert_array_equal(drawn(studio(tmp_path, task(first, last, cancelled))) == 0, INSIDE)
    drawings = read_drawings(
        studio(
            tmp_path,
            task(predictions=[last], image="/data/upload/1/0123abcd-b.jpg"),
            task(cancelled, image="c.jpg", predictions=[last]),
            task(image="http://host/d.jpg"),
            task({"result": []}, image="e.jpg"),
        )
    )
    assert set(drawings.images) == {"b.jpg", "e.jpg"}
    assert [note.split(" in ")[0].split(" of ")[0] for note in drawings.notes] == ["1 task"] * 3


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (
            task({"result": [result("brushlabels", {"format": "rle", "rle": [1], "brushlabels": ["sky"]})]}),
            "COCO",
        ),
        (
            task(
                {
                    "result": [
                        result("rectanglelabels", {**BOX, "rectanglelabels": ["sky"]}, image_rotation=90)
                    ]
                }
            ),
            "turned",
        ),
        ({"image": "a.jpg", "annotation_id": 3, "data": {"image": "a.jpg"}}, "JSON-MIN"),
        (task({"result": []}, data={"text": "hello"}), "address of an image"),
        (
            task({"result": [result("polygonlabels", {"points": [[1], [2]], "polygonlabels": ["a"]})]}),
            "points",
        ),
    ],
)
def test_label_studio_that_can_not_be_used(tmp_path: Path, one: Any, told: str) -> None:
    assert told in refused(studio(tmp_path, one))
