"""labelme's JSON holds the label map."""

import json
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from painted import NAMES, any_text, label_maps, nested, painted, record_of

from san_cli.outputs.annotations.labelme import write_labelme
from san_cli.regions.rle import Region
from san_cli.regions.split import FoundRegion

on_disk = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def written(folder: Path, label_map: np.ndarray, **more: object) -> dict:
    record = record_of("a.jpg", label_map)
    write_labelme(folder / "a.json", "../../ä/a.jpg", label_map.shape, NAMES, record.regions, **more)
    return json.loads((folder / "a.json").read_bytes())


@on_disk
@given(label_maps)
def test_the_shapes_are_the_label_map(tmp_path: Path, label_map: np.ndarray) -> None:
    read = written(tmp_path, label_map)
    shapes = [
        (NAMES.index(shape["label"]), [value for point in shape["points"] for value in point])
        for shape in read["shapes"]
    ]
    assert np.array_equal(painted(shapes, label_map.shape), label_map)
    assert np.array_equal(painted(shapes[::-1], label_map.shape), label_map)


def test_the_fields_that_labelme_wants(tmp_path: Path) -> None:
    read = written(tmp_path, nested(), scores={0: 0.25, 1: None, 2: 1 / 3})
    shapes = read.pop("shapes")
    assert read == {
        "version": "5.5.0",
        "flags": {},
        "imagePath": "../../ä/a.jpg",
        "imageData": None,
        "imageHeight": 31,
        "imageWidth": 43,
    }
    for shape in shapes:
        del shape["points"]
    plain = {"description": "", "shape_type": "polygon", "flags": {}, "mask": None}
    assert shapes[0] == {"label": "sky", "group_id": None, "score": 0.25, **plain}
    [retriever] = [shape for shape in shapes if shape["label"] == "golden retriever"]
    assert retriever == {"label": "golden retriever", "group_id": None, **plain}
    assert [shape["group_id"] for shape in shapes if shape["label"] == NAMES[2]] == [1, 1]
    assert [shape["group_id"] for shape in shapes if shape["label"] == NAMES[3]] == [2, 2]


def test_an_image_without_regions_and_a_region_without_outlines(tmp_path: Path) -> None:
    assert written(tmp_path, np.full((3, 4), -1))["shapes"] == []
    lost = FoundRegion(0, Region("", 1, (0.0, 0.0, 1.0, 1.0)), ())
    write_labelme(tmp_path / "a.json", "a.jpg", (3, 4), NAMES, [lost])
    assert json.loads((tmp_path / "a.json").read_bytes())["shapes"] == []


@on_disk
@given(any_text, any_text)
def test_any_names(tmp_path: Path, image: str, name: str) -> None:
    record = record_of("a.jpg", np.zeros((2, 3), int))
    write_labelme(tmp_path / "a.json", image, (2, 3), [name], record.regions)
    content = (tmp_path / "a.json").read_bytes()
    assert content.isascii()
    read = json.loads(content)
    json.dumps(read, ensure_ascii=False).encode()  # what labelme does when it saves
    if not any("\ud800" <= one <= "\udfff" for one in image + name):
        assert (read["imagePath"], read["shapes"][0]["label"]) == (image, name)


def test_equal_regions_give_equal_bytes(tmp_path: Path) -> None:
    written(tmp_path, nested())
    first = (tmp_path / "a.json").read_bytes()
    written(tmp_path, nested())
    assert (tmp_path / "a.json").read_bytes() == first
