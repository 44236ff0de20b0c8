"""Labels as annotation tools write them: the label maps they come to, and what is said where they can't."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_files import (
    NAMES,
    coco_of,
    cvat_of,
    label_studio_of,
    random_map,
    save_labelme,
    write_images,
    write_labelme,
    write_yolo,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from san_cli.datasets.annotations.find import read_drawings
from san_cli.datasets.annotations.shapes import label_map_of
from san_cli.datasets.relabelling import class_words, read_relabelling
from san_cli.datasets.task import OwnData, Task, own_task
from san_cli.errors import SanError

Maps = dict[str, np.ndarray]


def dump(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def zipped(path: Path, text: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", text)
    return path


def with_classes(folder: Path, names: tuple[str, ...] = NAMES) -> str:
    path = folder / "classes.txt"
    path.write_text("\n".join(names) + "\n")
    return str(path)


WRITERS: dict[str, Callable[[Path, Maps], Path]] = {
    "labelme": lambda folder, maps: write_labelme(folder / "l", maps),
    "labelme beside the images": lambda folder, maps: write_labelme(folder / "i", maps),
    "yolo": lambda folder, maps: write_yolo(folder / "y", maps),
    "yolo labels": lambda folder, maps: write_yolo(folder / "y", maps) / "labels",
    "coco polygons": lambda folder, maps: dump(folder / "c.json", coco_of(maps, "polygons")),
    "coco rle": lambda folder, maps: dump(folder / "c.json", coco_of(maps, "rle")),
    "coco counts": lambda folder, maps: dump(folder / "c.json", coco_of(maps, "counts")),
    "coco unpacked": lambda folder, maps: dump(
        folder / "x/annotations/instances_default.json", coco_of(maps, "rle")
    ).parents[1],
    "cvat": lambda folder, maps: dump(folder / "c.xml", cvat_of(maps)),
    "cvat zip": lambda folder, maps: zipped(folder / "c.zip", cvat_of(maps)),
    "label studio": lambda folder, maps: dump(folder / "s.json", label_studio_of(maps)),
    "label studio predictions": lambda folder, maps: dump(
        folder / "s.json", label_studio_of(maps, "predictions")
    ),
}


def task_of(folder: Path, labels: Path, classes: str | None, *label_map: str, **options: Any) -> Task:
    data = OwnData(
        folder / "i",
        labels,
        classes,
        options.pop("ignored", None),
        options.pop("image_name", None),
        options.pop("label_name", None),
        read_relabelling(label_map),
    )
    return own_task(data, **options)


def refused(*given: Any, **options: Any) -> SanError:
    with pytest.raises(SanError) as caught:
        task_of(*given, **options)
    assert "\n" not in caught.value.message
    return caught.value


def assert_read(task: Task, maps: Maps, names: tuple[str, ...] = NAMES) -> None:
    assert task.classes == names
    assert [pair.stem for pair in task.pairs] == sorted(maps)
    for pair in task.pairs:
        found = pair.read_labels(len(task.classes), task.ignore_label)
        expected = np.where(maps[pair.stem] < 0, task.ignore_label, maps[pair.stem])
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8
        assert pair.read_image().shape[:2] == found.shape


@pytest.mark.parametrize("kind", WRITERS)
def test_a_label_map_comes_back(tmp_path: Path, kind: str) -> None:
    maps = {"a": random_map(1), "sub/b": random_map(2, 20, 91), "sub/c d": random_map(3, 64, 64)}
    write_images(tmp_path / "i", maps)
    labels = WRITERS[kind](tmp_path, maps)
    assert_read(task_of(tmp_path, labels, with_classes(tmp_path)), maps)
    if "labelme" in kind:
        fault = refused(tmp_path, labels, None)
        assert "--classes FILE is missing" in fault.message and "'tall building'" in fault.hint
    elif "studio" not in kind:  # which tells no order
        assert_read(task_of(tmp_path, labels, None), maps)


@pytest.mark.parametrize("kind", ["labelme", "coco rle", "coco counts", "cvat", "label studio"])
def test_what_nothing_covers_is_ignored(tmp_path: Path, kind: str) -> None:
    maps = {"a": random_map(1, whole=False), "b": random_map(2, 20, 91, whole=False)}
    write_images(tmp_path / "i", maps)
    task = task_of(tmp_path, WRITERS[kind](tmp_path, maps), with_classes(tmp_path))
    assert_read(task, maps)
    if kind.startswith("coco"):
        assert any(
            "are in no shape and don't count; --label-map uncovered=NAME" in note for note in task.notes
        )


def test_names_decide_and_not_numbers(tmp_path: Path) -> None:
    maps = {"a": random_map(1)}
    write_images(tmp_path / "i", maps)
    for number, kind in enumerate(["yolo", "coco rle"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        labels = WRITERS[kind](folder, maps)
        other = ("tree", "house|Tall  Building", "road & path", "sky")
        task = task_of(tmp_path, labels, with_classes(folder, other))
        order = np.array([3, 1, 0, 2])
        assert_read(task, {"a": order[maps["a"]]}, ("tree", "house", "road & path", "sky"))


def test_unknown_names_are_listed_all(tmp_path: Path) -> None:
    maps = {"a": random_map(1), "b": random_map(2)}
    write_images(tmp_path / "i", maps)
    labels = WRITERS["labelme"](tmp_path, maps)
    classes = with_classes(tmp_path, ("sky", "trees"))
    fault = refused(tmp_path, labels, classes)
    assert fault.code == 4
    assert all(f"{name} (" in fault.message for name in NAMES[1:]) and "sky (" not in fault.message
    assert "--label-map" in fault.hint and "=ignore" in fault.hint
    entries = ("tree=trees", "Tall Building=ignore", "road & path=0")
    task = task_of(tmp_path, labels, classes, *entries)
    order = np.array([0, -1, 1, 0])
    assert_read(task, {name: order[labels] for name, labels in maps.items()}, ("sky", "trees"))
    assert task.relabelled == ("Tall Building=ignore", "road & path=0", "tree=trees")


def test_what_no_shape_covers_can_be_a_class(tmp_path: Path) -> None:
    maps = {"a": random_map(1, whole=False)}
    write_images(tmp_path / "i", maps)
    labels = WRITERS["coco rle"](tmp_path, maps)
    task = task_of(tmp_path, labels, None, "uncovered=sky")
    assert_read(task, {"a": np.maximum(maps["a"], 0)})


def test_classes_of_the_file_without_those_that_become_others(tmp_path: Path) -> None:
    maps = {"a": random_map(1)}
    write_images(tmp_path / "i", maps)
    task = task_of(tmp_path, WRITERS["cvat"](tmp_path, maps), None, "tree=sky")
    assert_read(task, {"a": np.array([0, 1, 0, 2])[maps["a"]]}, ("sky", "tall building", "road & path"))


def test_ignore_is_for_label_maps(tmp_path: Path) -> None:
    maps = {"a": random_map(1)}
    write_images(tmp_path / "i", maps)
    labels = WRITERS["cvat"](tmp_path, maps)
    assert "'NAME=ignore'" in refused(tmp_path, labels, None, ignored=(0,)).hint
    assert "drawn labels have names" in refused(tmp_path, labels, None, "0=ignore").message
    assert any(
        "no label is called 'car'" in note for note in task_of(tmp_path, labels, None, "car=ignore").notes
    )


def test_lone_images_and_lone_labels(tmp_path: Path) -> None:
    maps = {"a": random_map(1), "b": random_map(2)}
    for number, kind in enumerate(["labelme", "yolo", "coco rle", "cvat", "label studio"]):
        folder = tmp_path / str(number)
        write_images(folder / "i", {"a": maps["a"], "other": maps["b"]})
        labels = WRITERS[kind](folder, maps)
        classes = with_classes(folder)
        fault = refused(folder, labels, classes)
        assert fault.code == 4 and "has no image" in fault.message and "has no label" in fault.message
        task = task_of(folder, labels, classes, keep_going=True)
        whole = [pair for pair in task.pairs if pair.stem == "a"]
        np.testing.assert_array_equal(whole[0].read_labels(4, 255), maps["a"])
        for pair in task.pairs:
            if pair.stem != "a":
                with pytest.raises(SanError, match="has no (image|label)"):
                    pair.read_labels(4, 255)


def test_labels_of_another_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    maps = {"a": random_map(1, 36, 60)}
    for number, kind in enumerate(["labelme", "coco rle", "cvat", "label studio"]):
        folder = tmp_path / str(number)
        write_images(folder / "i", {"a": maps["a"][:18, :30]})
        labels = WRITERS[kind](folder, maps)
        fault = refused(folder, labels, with_classes(folder))
        assert fault.code == 4 and "30×18 pixels (upright)" in fault.message and "60×36" in fault.message
        write_images(folder / "i", maps, exif=exif)
        assert "EXIF orientation" in refused(folder, labels, with_classes(folder)).hint


def test_the_later_shape_is_on_top_and_it_is_said(tmp_path: Path) -> None:
    write_images(tmp_path / "i", {"a": np.zeros((10, 10), int)})
    shapes = [
        {"label": "sky", "points": [[0, 0], [10, 10]], "shape_type": "rectangle"},
        {"label": "tree", "points": [[0, 0], [5, 0], [5, 10], [0, 10]], "shape_type": "rectangle"},
    ]
    save_labelme(tmp_path / "i/a.json", (10, 10), shapes)
    task = task_of(tmp_path, tmp_path / "i", with_classes(tmp_path))
    assert task.pairs[0].read_labels(4, 255)[0].tolist() == [2] * 5 + [0] * 5
    assert any("50 % of the labelled pixels are in shapes of several classes" in note for note in task.notes)


def test_labels_and_images_of_one_name_in_a_folder_are_asked_about(tmp_path: Path) -> None:
    maps = {"a": random_map(1)}
    write_images(tmp_path / "i", maps)
    labels = write_labelme(tmp_path / "l", maps)
    Image.fromarray(maps["a"].astype(np.uint8)).save(labels / "a.png")
    fault = refused(tmp_path, labels, with_classes(tmp_path))
    assert "--label-name '{stem}.json'" in fault.hint and "'{stem}.png'" in fault.hint
    for name in ("{stem}.json", "{stem}.png"):
        assert_read(task_of(tmp_path, labels, with_classes(tmp_path), label_name=name), maps)
    (labels / "a.png").rename(labels / "z.png")  # as before there were drawn labels
    assert "no image" in refused(tmp_path, labels, with_classes(tmp_path)).message


def test_several_kinds_in_a_folder(tmp_path: Path) -> None:
    maps = {"a": random_map(1)}
    write_images(tmp_path / "i", maps)
    labels = write_labelme(tmp_path / "l", maps)
    dump(labels / "coco.json", coco_of(maps, "rle"))
    dump(labels / "cvat.xml", cvat_of(maps))
    fault = refused(tmp_path, labels, with_classes(tmp_path))
    assert (
        "1 file of labelme" in fault.message
        and "'coco.json'" in fault.message
        and "'cvat.xml'" in fault.message
    )


def test_names_that_are_numbers(tmp_path: Path) -> None:
    maps = {"a": random_map(1)}
    write_images(tmp_path / "i", maps)
    labels = write_yolo(tmp_path / "y", maps, names=("0", "1", "2", "sky"))
    classes = with_classes(tmp_path, ("sky", "tree"))
    assert "0 (" in refused(tmp_path, labels, classes).message
    task = task_of(tmp_path, labels, classes, "0=tree", "1=ignore", "2=1")
    assert_read(task, {"a": np.array([1, -1, 1, 0])[maps["a"]]}, ("sky", "tree"))


def test_the_folder_of_a_whole_run(tmp_path: Path) -> None:
    """`san predict --save yolo` puts its files deeper than the folder that was named."""
    maps = {"a": random_map(1), "b": random_map(2)}
    write_images(tmp_path / "i", maps)
    write_yolo(tmp_path / "out/yolo", maps)
    write_images(tmp_path / "out/yolo/images", maps, ".png")
    assert_read(task_of(tmp_path, tmp_path / "out", None), maps)
    write_labelme(tmp_path / "out/labelme", maps)
    fault = refused(tmp_path, tmp_path / "out", None)
    assert "2 files of labelme" in fault.message and "2 files of YOLO" in fault.message


def test_tasks_that_nobody_has_labelled_yet_are_left_out(tmp_path: Path) -> None:
    maps = {"a": random_map(1), "b": random_map(2)}
    write_images(tmp_path / "i", maps)
    tasks = label_studio_of(maps)
    tasks[0]["annotations"] = []
    labels = dump(tmp_path / "s.json", tasks)
    task = task_of(tmp_path, labels, with_classes(tmp_path))
    assert_read(task, {"b": maps["b"]})
    assert any("1 task in Label Studio's file" in note for note in task.notes)


def test_names_in_one_file_are_paths_or_the_most_alike(tmp_path: Path) -> None:
    maps = {"x/a": random_map(1), "y/a": random_map(2), "y/b": random_map(3)}
    write_images(tmp_path / "i", maps, ".png")
    labels = dump(tmp_path / "c.json", coco_of({f"data/{name}": one for name, one in maps.items()}, "rle"))
    assert_read(task_of(tmp_path, labels, None), maps)
    labels = dump(
        tmp_path / "c.json", coco_of({"x\\a": maps["x/a"], "q/y/a": maps["y/a"], "b": maps["y/b"]}, "rle")
    )
    assert_read(task_of(tmp_path, labels, None), maps)
    labels = dump(tmp_path / "c.json", coco_of({"z/a": maps["x/a"], "b": maps["y/b"]}, "rle"))
    assert "could be the image" in refused(tmp_path, labels, None).message


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-1, 3)))
def test_any_label_map_comes_back(tmp_path: Path, label_map: np.ndarray) -> None:
    ids = {**class_words([[one] for one in NAMES]), "__ignore__": -1}
    size = label_map.shape
    for kind in ("labelme", "yolo", "coco polygons", "coco rle", "coco counts", "cvat", "label studio"):
        whole = (
            label_map
            if kind in ("labelme", "coco rle", "coco counts", "cvat", "label studio")
            else abs(label_map)
        )
        ((_, drawn),) = read_drawings(
            WRITERS[kind](tmp_path / kind.replace(" ", ""), {"a": whole})
        ).images.items()
        np.testing.assert_array_equal(label_map_of(drawn.read().shapes, size, ids), whole)


def test_what_can_be_read_for_a_conversion(tmp_path: Path) -> None:
    maps = {"a": random_map(1), "b": random_map(2)}
    for number, kind in enumerate(["labelme", "coco polygons", "cvat", "label studio"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        drawings = read_drawings(WRITERS[kind](folder, maps))
        assert {Path(name).stem for name in drawings.images} == {"a", "b"}
        assert set(drawings.found) == set(NAMES)
        for name, drawn in drawings.images.items():
            drawing = drawn.read()
            assert drawing.size == (37, 53)
            found = label_map_of(drawing.shapes, drawing.size, class_words([[one] for one in NAMES]))
            assert found.dtype == np.int16
            np.testing.assert_array_equal(found, maps[Path(name).stem])
    with pytest.raises(SanError, match="is not there"):
        read_drawings(tmp_path / "nowhere")


def test_drawn_labels_among_label_maps_are_told(tmp_path: Path) -> None:
    maps = {"a": random_map(1)}
    write_images(tmp_path / "i", maps)
    write_images(tmp_path / "l", {"other": maps["a"]}, ".png")
    dump(tmp_path / "l/coco.json", coco_of(maps, "rle"))
    fault = refused(tmp_path, tmp_path / "l", with_classes(tmp_path))
    assert "has no image" in fault.message and "COCO's 'coco.json'" in fault.hint
