"""`san eval` and `san train` on drawn labels and with --label-map: the commands, and what a resume refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_files import NAMES, coco_of, cvat_of, random_map, write_images, write_labelme, write_yolo
from PIL import Image
from program import Ended, San
from train_data import write_preset

MAPS = {"a": random_map(1, 36, 60), "b": random_map(2, 48, 40), "sub/c": random_map(3, 36, 60)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, and their labels in every form."""
    write_images(tmp_path / "i", MAPS)
    for name, labels in MAPS.items():
        path = tmp_path / f"l/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels.astype(np.uint8)).save(path)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    write_labelme(tmp_path / "labelme", MAPS)
    write_yolo(tmp_path / "yolo", MAPS)
    (tmp_path / "coco.json").write_text(json.dumps(coco_of(MAPS, "rle")))
    (tmp_path / "cvat.xml").write_text(cvat_of(MAPS))
    return tmp_path


@pytest.fixture
def evaluate(san: San, tiny_weights: Path, folder: Path) -> Callable[..., Ended]:
    def run(labels: str, *options: object) -> Ended:
        data = ("--images", folder / "i", "--labels", folder / labels)
        return san("eval", *data, "--weights", tiny_weights, "--device", "cpu", *options)

    return run


@pytest.fixture
def train(san: San, folder: Path) -> Callable[..., Ended]:
    preset = write_preset(folder / "micro.json")

    def run(labels: str, *options: object) -> Ended:
        data = ("--images", folder / "i", "--labels", folder / labels, "-o", folder / "out")
        model = ("--model", preset, "--clip-weights", "random", "--device", "cpu")
        short = ("--iterations", 1, "--batch", 1, "--set", "points=64", "--workers", 1, "--eval-every", 0)
        return san("train", *data, *model, *short, *options)

    return run


def test_the_numbers_are_those_of_the_label_maps(evaluate: Any, folder: Path) -> None:
    classes = ("--classes", folder / "classes.txt", "--json")
    expected = json.loads(evaluate("l", *classes).out)["results"][0]
    for labels, more in (
        ("labelme", classes),
        ("yolo", ("--json",)),
        ("coco.json", ("--json",)),
        ("cvat.xml", ("--json",)),
    ):
        ended = evaluate(labels, *more)
        assert ended.code == 0, ended.err
        found = json.loads(ended.out)["results"][0]
        assert found["mIoU"] == expected["mIoU"] and found["per_class"] == expected["per_class"]
    ended = evaluate("l")
    assert (ended.code, "belong together" in ended.err) == (2, True)


def test_a_resumed_evaluation_has_the_same_labels(evaluate: Any, folder: Path) -> None:
    out = ("-o", folder / "report", "--json")
    assert evaluate("coco.json", *out).code == 0
    assert evaluate("coco.json", *out, "--resume").code == 0
    ended = evaluate("coco.json", *out, "--resume", "--label-map", "uncovered=sky")
    assert (ended.code, "label_map" in ended.err) == (2, True)
    other = coco_of({**MAPS, "a": random_map(7, 36, 60)}, "rle")
    (folder / "coco.json").write_text(json.dumps(other))
    ended = evaluate("coco.json", *out, "--resume")
    assert (ended.code, "other settings: drawn_labels" in ended.err) == (2, True)


def test_a_resumed_evaluation_has_the_same_label_map(evaluate: Any, folder: Path) -> None:
    out = ("--classes", folder / "classes.txt", "-o", folder / "report", "--json")
    assert evaluate("l", *out, "--label-map", "2=sky").code == 0
    ended = evaluate("l", *out, "--resume")
    assert (ended.code, "label_map" in ended.err) == (2, True)
    assert evaluate("l", *out, "--resume", "--label-map", "2=sky").code == 0


def test_training_on_drawn_labels(train: Any, folder: Path) -> None:
    ended = train("cvat.xml", "--val-images", folder / "i", "--val-labels", folder / "labelme", "--dry-run")
    assert ended.code == 0, ended.err
    assert "4 of 4 classes occur" in ended.err and "4 classes, as the CVAT labels list them" in ended.err
    ended = train("yolo")
    assert ended.code == 0, ended.err
    ended = train("yolo", "--resume", "--label-map", "tree=ignore", "--classes", folder / "classes.txt")
    assert (ended.code, "data.label_map" in ended.err) == (2, True)
    ended = train("coco.json", "--resume")
    assert (ended.code, "data.drawn_labels" in ended.err) == (2, True)


def test_label_map_is_for_labels_of_your_own(san: San) -> None:
    ended = san("eval", "voc", "--label-map", "1=0")
    assert (ended.code, "--label-map is for labels of your own" in ended.err) == (2, True)


def test_a_label_map_in_a_file(evaluate: Any, train: Any, folder: Path) -> None:
    for path in (folder / "l").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) + np.uint8(1)).save(path)
    classes = ("--classes", folder / "classes.txt")
    told = evaluate("l", *classes).err
    assert "--label-map 1-4=0-3" in told
    (folder / "map.txt").write_text("# ids from 1\n1-4 = 0-3\n")
    for command, more in ((evaluate, ("--json",)), (train, ("--dry-run",))):
        ended = command("l", *classes, "--label-map", folder / "map.txt", *more)
        assert ended.code == 0, ended.err
