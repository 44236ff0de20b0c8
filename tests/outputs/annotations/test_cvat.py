"""CVAT's XML holds the label maps of a run, whatever the names are."""

import io
import json
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import NAMES, any_text, label_maps, nested, painted, record_of

from san_cli.outputs.annotations.cvat import write_cvat, write_cvat_labels
from san_cli.outputs.record import ImageRecord
from san_cli.regions.rle import Region
from san_cli.regions.split import FoundRegion


def written(records: list[ImageRecord], names: list[str] = NAMES) -> ElementTree.Element:
    stream = io.BytesIO()
    write_cvat(stream, names, records)
    return ElementTree.fromstring(stream.getvalue())


def label_map_in(image: ElementTree.Element) -> np.ndarray:
    shapes = [
        (
            NAMES.index(polygon.attrib["label"]),
            [float(value) for pair in polygon.attrib["points"].split(";") for value in pair.split(",")],
        )
        for polygon in image.iter("polygon")
    ]
    return painted(shapes, (int(image.attrib["height"]), int(image.attrib["width"])))


@settings(max_examples=60, deadline=None)
@given(st.lists(label_maps, max_size=3))
def test_the_polygons_are_the_label_maps(maps: list[np.ndarray]) -> None:
    records = [record_of(f"sub/{number}.jpg", label_map) for number, label_map in enumerate(maps)]
    images = written([ImageRecord("broken.jpg", 0, 0, error="truncated"), *records]).findall("image")
    assert [image.attrib["name"] for image in images] == [record.file_name for record in records]
    assert [image.attrib["id"] for image in images] == [str(number) for number in range(len(maps))]
    for image, label_map in zip(images, maps, strict=True):
        assert np.array_equal(label_map_in(image), label_map)


def test_what_cvat_wants_of_a_polygon() -> None:
    root = written([record_of("a.jpg", nested())])
    assert root.tag == "annotations"
    assert root.findtext("version") == "1.1"
    assert [label.findtext("name") for label in root.iter("label")] == NAMES
    assert all(label.findtext("color", "").startswith("#") for label in root.iter("label"))
    polygons = list(root.iter("polygon"))
    for polygon in polygons:
        assert (polygon.attrib["occluded"], polygon.attrib["z_order"], polygon.attrib["source"]) == (
            "0",
            "0",
            "auto",
        )
    groups = [(polygon.attrib["label"], polygon.attrib.get("group_id")) for polygon in polygons]
    assert groups.count((NAMES[2], "1")) == groups.count((NAMES[3], "2")) == 2
    assert groups.count(("sky", None)) == 2


def test_regions_without_outlines_are_left_out() -> None:
    lost = FoundRegion(0, Region("", 1, (0.0, 0.0, 1.0, 1.0)), ())
    [image] = written([ImageRecord("a.jpg", 2, 2, regions=(lost,))]).findall("image")
    assert list(image) == []


def spelled(text: str) -> str:
    """As XML may say it."""
    allowed = "\t\n\r"
    return "".join(
        repr(one)[1:-1]
        if (one < " " and one not in allowed) or "\ud800" <= one <= "\udfff" or one in "\ufffe\uffff"
        else one
        for one in text
    )


@given(any_text, any_text)
def test_any_names(image: str, name: str) -> None:
    root = written([record_of(image, np.zeros((2, 3), int))], [name])
    [found] = root.iter("image")
    [polygon] = root.iter("polygon")
    assert found.attrib["name"] == spelled(image)
    assert polygon.attrib["label"] == spelled(name)
    assert root.findtext("meta/task/labels/label/name") == spelled(name)


def test_records_are_not_kept() -> None:
    alive = 0

    class Counted(ImageRecord):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def many() -> Iterator[ImageRecord]:
        nonlocal alive
        for number in range(20):
            alive += 1
            yield Counted(f"{number}.jpg", 2, 3)
            assert alive <= 2

    write_cvat(io.BytesIO(), NAMES, many())


def test_labels_for_the_constructor_of_a_task() -> None:
    stream = io.BytesIO()
    write_cvat_labels(stream, NAMES)
    labels = json.loads(stream.getvalue())
    assert [label["name"] for label in labels] == NAMES
    colours = [label.findtext("color") for label in written([]).iter("label")]
    assert [label["color"] for label in labels] == colours
