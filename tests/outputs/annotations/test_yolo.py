"""YOLO's labels hold the label map, data.yaml the names; ultralytics' ways from an image to its labels are ours."""

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from painted import NAMES, any_text, label_maps, nested, painted, record_of

from san_cli.outputs.annotations.yolo import link_suffix, tree_name, write_data_yaml, write_yolo_labels


def labels_of(folder: Path, label_map: np.ndarray) -> str:
    write_yolo_labels(folder / "a.txt", label_map.shape, record_of("a.jpg", label_map).regions)
    return (folder / "a.txt").read_bytes().decode("ascii")


def shapes_in(text: str, size: tuple[int, int]) -> list[tuple[int, np.ndarray]]:
    shapes = []
    for line in text.splitlines():
        class_id, *numbers = line.split(" ")
        shapes.append((int(class_id), np.array(numbers, float).reshape(-1, 2) * size[::-1]))
    return shapes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_maps)
def test_the_lines_are_the_label_map(tmp_path: Path, label_map: np.ndarray) -> None:
    shapes = shapes_in(labels_of(tmp_path, label_map), label_map.shape)
    assert np.array_equal(painted(shapes, label_map.shape), label_map)


@pytest.mark.parametrize("size", [(3, 65_500), (65_500, 3), (1079, 1921)])
def test_the_longest_sides(tmp_path: Path, size: tuple[int, int]) -> None:
    label_map = np.add.outer(np.arange(size[0]), np.arange(size[1])) // 97 % 3 - 1
    record = record_of("a.jpg", label_map)
    shapes = shapes_in(labels_of(tmp_path, label_map), size)
    corners = [value for region in record.regions for outline in region.outlines for value in outline]
    assert [round(value) for _, shape in shapes for value in shape.ravel()] == corners
    assert np.array_equal(painted(shapes, size), label_map)


def test_a_line_is_a_number_and_corners(tmp_path: Path) -> None:
    label_map = np.full((4, 8), -1)
    label_map[1:3, 2:4] = 3
    assert labels_of(tmp_path, label_map) == "3 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75\n"


def test_an_image_without_regions_has_an_empty_file(tmp_path: Path) -> None:
    assert labels_of(tmp_path, np.full((3, 4), -1)) == ""


def yaml_of(names: list[str]) -> tuple[bytes, dict]:
    stream = io.BytesIO()
    write_data_yaml(stream, names)
    return stream.getvalue(), yaml.safe_load(stream.getvalue())


def test_data_yaml() -> None:
    content, read = yaml_of([*NAMES, "yes", "1.5", "no: # yes", "- [x]", "~"])
    assert read == {
        "train": "images",
        "val": "images",
        "names": dict(enumerate([*NAMES, "yes", "1.5", "no: # yes", "- [x]", "~"])),
    }
    assert "猫: yes" in content.decode()


@given(st.lists(any_text, max_size=4))
def test_any_names_in_data_yaml(names: list[str]) -> None:
    content, read = yaml_of(names)
    assert content.decode().replace("\n", "").isprintable()  # ultralytics drops what isn't
    for number, name in enumerate(names):
        as_text = "".join(repr(one)[1:-1] if "\ud800" <= one <= "\udfff" else one for one in name)
        assert read["names"][number] == as_text


@given(st.lists(st.sampled_from(["a", "images", "images_", "images__", "x images", "labels"]), min_size=1))
def test_ultralytics_finds_the_labels_of_every_image(parts: list[str]) -> None:
    stem = tree_name("/".join([*parts, "photo.v2"]))
    image = f"/data/images/out/yolo/images/{stem}.jpg"
    found = "/labels/".join(image.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
    assert found == f"/data/images/out/yolo/labels/{stem}.txt"


def test_each_tree_has_a_name_of_its_own() -> None:
    names = ["images/a", "images_/a", "images__/a", "b/images/a", "b/a", "images", "xs/images"]
    assert len({tree_name(name) for name in names}) == len(names)
    assert tree_name("b/images/images") == "b/images_/images"
    assert tree_name("b/a") == "b/a"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.jpg", ".jpg"),
        ("sub.d/A.JPEG", ".jpeg"),
        ("a.jfif", ".jpg"),
        ("a.apng", ".png"),
        ("a.tif", ".tif"),
        ("a.gif", None),
        ("a.ppm", None),
        ("folder.jpg/a", None),
        ("data.v2", None),
    ],
)
def test_the_suffix_of_a_link(name: str, suffix: str | None) -> None:
    assert link_suffix(name) == suffix


def test_outlines_of_one_region_are_lines_of_their_own(tmp_path: Path) -> None:
    lines = labels_of(tmp_path, nested()).splitlines()
    assert sorted(int(line.split(" ")[0]) for line in lines) == [0, 0, 1, 2, 2, 3, 3]
