"""Label Studio's tasks hold the label maps of a run, and its interface knows their labels."""

import io
import json
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import NAMES, any_text, label_maps, nested, painted, record_of

from san_cli.outputs.annotations.label_studio import below_root, write_config, write_tasks
from san_cli.outputs.record import Found, ImageRecord
from san_cli.regions.rle import Region

BROKEN = ImageRecord("broken.jpg", 0, 0, error="truncated")


def written(records: list[ImageRecord], names: list[str] = NAMES) -> list[dict]:
    stream = io.BytesIO()
    write_tasks(stream, names, records, model_version="san test")
    return json.loads(stream.getvalue())


def label_map_in(results: list[dict], size: tuple[int, int]) -> np.ndarray:
    shapes = []
    for result in results:
        assert (result["original_height"], result["original_width"]) == size
        points = np.array(result["value"]["points"]) / 100 * size[::-1]
        shapes.append((NAMES.index(result["value"]["polygonlabels"][0]), points))
    return painted(shapes, size)


@settings(max_examples=60, deadline=None)
@given(st.lists(label_maps, max_size=3))
def test_the_results_are_the_label_maps(maps: list[np.ndarray]) -> None:
    records = [record_of(f"sub/{number}.jpg", label_map) for number, label_map in enumerate(maps)]
    tasks = written([BROKEN, *records])
    assert [task["id"] for task in tasks] == [number + 2 for number in range(len(maps))]
    for task, label_map in zip(tasks, maps, strict=True):
        [prediction] = task["predictions"]
        assert np.array_equal(label_map_in(prediction["result"], label_map.shape), label_map)


def test_the_fields_that_label_studio_wants() -> None:
    [task] = written([record_of("sub dir/ä#?.jpg", nested(), score=0.25)])
    [prediction] = task.pop("predictions")
    assert task == {"id": 1, "data": {"image": "/data/local-files/?d=sub%20dir/%C3%A4%23%3F.jpg"}}
    results = prediction.pop("result")
    assert prediction == {"model_version": "san test", "score": 0.25}
    assert [result["id"] for result in results] == [f"r{number + 1}" for number in range(len(results))]
    first = results[0]
    del first["value"]["points"]
    assert first == {
        "id": "r1",
        "type": "polygonlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 43,
        "original_height": 31,
        "image_rotation": 0,
        "value": {"closed": True, "polygonlabels": ["sky"]},
        "score": 0.25,
    }


def test_a_score_is_the_mean_over_the_pixels() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    found = (Found(0, Region("", 30, box), 5.0, 0.2), Found(1, Region("", 10, box), 0.6))
    [task] = written([ImageRecord("a.jpg", 5, 9, found)])
    assert task["predictions"][0]["score"] == pytest.approx((30 * 0.2 + 10 * 0.6) / 40)


def test_no_images_no_regions_no_scores() -> None:
    assert written([]) == written([BROKEN]) == []
    [task] = written([record_of("a.jpg", np.full((2, 3), -1))])
    assert task["predictions"] == [{"model_version": "san test", "result": []}]
    [task] = written([record_of("a.jpg", np.zeros((2, 3), int), score=None)])
    assert "score" not in task["predictions"][0]["result"][0]


@given(any_text, any_text)
def test_any_names(image: str, name: str) -> None:
    [task] = written([record_of(image, np.zeros((2, 3), int))], [name])
    json.dumps(task, ensure_ascii=False).encode()
    address = task["data"]["image"].partition("?d=")[2]
    assert address.isascii()
    assert unquote_to_bytes(address) or not image
    if not any("\ud800" <= one <= "\udfff" for one in image + name):
        assert unquote(address) == image
        assert task["predictions"][0]["result"][0]["value"]["polygonlabels"] == [name]


@pytest.mark.parametrize(("image", "address"), [("caf\udce9.jpg", "caf%E9.jpg"), ("\ud800", "%ED%A0%80")])
def test_bytes_that_are_no_text(image: str, address: str) -> None:
    [task] = written([record_of(image, np.zeros((2, 3), int))])
    assert task["data"]["image"].endswith("?d=" + address)


def test_the_place_of_an_image_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stream = io.BytesIO()
    record = record_of("ä/a.jpg", np.zeros((2, 3), int))
    write_tasks(stream, NAMES, [record], path_of=lambda name: below_root(Path("photos") / name))
    [task] = json.loads(stream.getvalue())
    address = unquote(task["data"]["image"].partition("?d=")[2])
    assert Path("/", address) == tmp_path / "photos" / "ä" / "a.jpg"


def test_the_interface() -> None:
    stream = io.BytesIO()
    write_config(stream, NAMES)
    root = ElementTree.fromstring(stream.getvalue())
    [labels] = root.iter("PolygonLabels")
    [image] = root.iter("Image")
    assert (labels.attrib["name"], labels.attrib["toName"]) == ("label", "image")
    assert (image.attrib["name"], image.attrib["value"]) == ("image", "$image")
    assert [label.attrib["value"] for label in labels] == NAMES
    assert {len(label.attrib["background"]) for label in labels} == {7}
