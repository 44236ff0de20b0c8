"""`san convert`: from what `san predict` wrote, through every tool's form, to the very same label maps."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from program import San, tree

from san_cli.outputs.label_map import read_label_map

FORMS = {
    "json": "predictions.json",
    "coco-polygons": "coco-polygons.json",
    "yolo": "yolo",
    "labelme": "labelme",
    "label-studio": "label-studio.json",
    "cvat": "cvat.xml",
    "labels": "",
}


@pytest.fixture
def found(predict: San, photos: Path, tmp_path: Path) -> Path:
    """A folder of results in every form."""
    ended = predict(photos, "-o", tmp_path / "found", "--save", ",".join(FORMS))
    assert ended.code == 0, ended.err
    return tmp_path / "found"


def maps(folder: Path) -> dict[str, NDArray[np.integer]]:
    """Label maps by stem, as names: the numbers may be others."""
    names = np.array([row["name"] for row in json.loads((folder / "classes.json").read_text())] + [""])
    return {
        str(path.relative_to(folder)): names[read_label_map(path)]
        for path in sorted(folder.rglob("*.labels.png"))
    }


def same(one: dict[str, NDArray[np.integer]], other: dict[str, NDArray[np.integer]]) -> bool:
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize("form", FORMS)
def test_round_trip_through_every_form(
    san: San, photos: Path, found: Path, tmp_path: Path, form: str
) -> None:
    labels = found / FORMS[form]
    options = ["--images", photos, "--classes", found / "classes.json"]
    if form == "labels":
        options += ["--label-name", "{stem}.labels.png"]
    ended = san("convert", labels, *options, "--save", "labels", "-o", tmp_path / "again")
    assert ended.code == 0, ended.err
    assert same(maps(tmp_path / "again"), maps(found))


@pytest.mark.parametrize("form", ["json", "coco-polygons", "label-studio", "cvat"])
def test_files_that_know_sizes_need_no_images(san: San, found: Path, tmp_path: Path, form: str) -> None:
    ended = san("convert", found / FORMS[form], "--save", "labels", "-o", tmp_path / "again")
    assert ended.code == 0, ended.err
    assert same(maps(tmp_path / "again"), maps(found))


def test_a_run_is_converted_as_predict_would_have_written_it(
    san: San, predict: San, photos: Path, found: Path, tmp_path: Path
) -> None:
    ended = san(
        "convert", found, "--images", photos, "--save", "yolo,labelme,masks", "-o", tmp_path / "converted"
    )
    assert ended.code == 0, ended.err
    predict(photos, "-o", tmp_path / "predicted", "--save", "yolo,labelme,masks")
    one, other = tree(tmp_path / "converted"), tree(tmp_path / "predicted")
    other = {name: data for name, data in other.items() if not name.startswith(".san")}
    assert one.keys() == other.keys()
    for name in one:
        if not name.startswith("labelme"):  # there are no scores to tell
            assert one[name] == other[name], name


def test_a_run_without_json_has_its_label_maps(san: San, predict: San, photos: Path, tmp_path: Path) -> None:
    predict(photos, "-o", tmp_path / "found", "--save", "labels")
    ended = san(
        "convert", tmp_path / "found", "--images", photos, "--save", "coco-polygons", "-o", tmp_path / "to"
    )
    assert ended.code == 0, ended.err
    again = san(
        "convert", tmp_path / "to" / "coco-polygons.json", "--save", "labels", "-o", tmp_path / "again"
    )
    assert again.code == 0, again.err
    assert same(maps(tmp_path / "again"), maps(tmp_path / "found"))


def test_regions_specks_and_tables(san: San, found: Path, tmp_path: Path) -> None:
    out = tmp_path / "to"
    ended = san("convert", found, "--save", "labels,json,table", "--regions", "--min-area", 60, "-o", out)
    assert ended.code == 0, ended.err
    dataset = json.loads((out / "predictions.json").read_text())
    assert min(one["area"] for one in dataset["annotations"]) >= 60
    assert (out / "areas.csv").read_text().count("\n") > len(dataset["images"])


def test_masks_of_one_thing_become_polygons(san: San, tmp_path: Path) -> None:
    """0 and 255 are what people have: `--label-map` says what 255 is."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((40, 50), np.uint8)
    mask[5:20, 10:30] = 255
    mask[8:12, 15:20] = 0
    Image.fromarray(mask).convert("RGB").save(tmp_path / "images" / "a.jpg")
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    (tmp_path / "names.txt").write_text("background\nthing\n")
    command = [
        "convert", tmp_path / "masks", "--images", tmp_path / "images", "--classes", tmp_path / "names.txt",
        "--save", "labelme,labels", "-o", tmp_path / "to",
    ]  # fmt: skip
    asked = san(*command)
    assert asked.code == 2
    assert "--label-map 255=1" in asked.err
    ended = san(*command, "--label-map", "255=1")
    assert ended.code == 0, ended.err
    np.testing.assert_array_equal(read_label_map(tmp_path / "to" / "a.labels.png"), mask == 255)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--save", "yolo"], "needs the images"),
        (["--save", "overlay"], "needs the images"),
        (["--save", "polygons"], "--save knows no 'polygons'"),
        ([], "--save"),
    ],
)
def test_what_is_missing_is_told(
    san: San, found: Path, tmp_path: Path, options: list[str], told: str
) -> None:
    ended = san("convert", found, "-o", tmp_path / "to", *options)
    assert ended.code == 2
    assert told in ended.err
    assert not (tmp_path / "to").exists()


def test_labels_that_name_no_classes(san: San, photos: Path, found: Path, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    Image.fromarray(np.zeros((72, 96), np.uint8)).save(tmp_path / "maps" / "p00.png")
    ended = san("convert", tmp_path / "maps", "--images", photos, "--save", "yolo", "-o", tmp_path / "to")
    assert ended.code == 2
    assert "--classes" in ended.err
    ended = san("convert", tmp_path / "maps", "--save", "cvat", "-o", tmp_path / "to")
    assert ended.code == 2
    assert "--images DIR" in ended.err
    ended = san("convert", tmp_path / "nowhere", "--images", photos, "--save", "yolo", "-o", tmp_path / "to")
    assert ended.code == 4
    ended = san("convert", found / "labelme", "--images", photos, "--save", "cvat", "-o", tmp_path / "to")
    assert ended.code == 0, ended.err
    assert "classes, in the order of the alphabet: " in ended.err


def test_what_is_there_stays(san: San, found: Path, tmp_path: Path) -> None:
    before = tree(found)
    ended = san("convert", found, "--save", "cvat", "-o", found)
    assert ended.code == 2
    assert "files in" in ended.err
    assert tree(found) == before
    out = tmp_path / "to"
    assert san("convert", found, "--save", "cvat", "-o", out).code == 0
    assert san("convert", found, "--save", "cvat", "-o", out).code == 2
    assert tree(found) == before


def test_a_file_that_cannot_be_read_costs_itself(san: San, photos: Path, found: Path, tmp_path: Path) -> None:
    (found / "p00.labels.png").write_bytes(b"no picture")
    command = [
        "convert", found, "--images", photos, "--classes", found / "classes.json",
        "--label-name", "{stem}.labels.png", "--save", "cvat", "-o", tmp_path / "to",
    ]  # fmt: skip
    (found / "predictions.json").unlink()
    ended = san(*command)
    assert ended.code == 3
    assert "p00" in ended.err
    assert (tmp_path / "to" / "cvat.xml").read_text().count("<image ") == 5


@pytest.mark.parametrize("name", ["../../evil.jpg", "", "/", "a/../../b.jpg"])
def test_no_name_leads_out_of_the_folder(san: San, tmp_path: Path, name: str) -> None:
    dataset = {
        "images": [{"id": 1, "file_name": name, "width": 4, "height": 4}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]], "area": 16,
             "bbox": [0, 0, 4, 4], "iscrowd": 0}
        ],
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "coco.json").write_text(json.dumps(dataset))
    ended = san("convert", tmp_path / "in" / "coco.json", "--save", "labels", "-o", tmp_path / "in" / "to")
    assert ended.code == 4
    assert not list(tmp_path.rglob("*.png"))


def test_whole_paths_are_written_below_the_folder(san: San, tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"/data/photos/{n}/a.jpg", "width": 4, "height": 4} for n in (1, 2)]
    outline = {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]], "area": 16, "bbox": [0, 0, 4, 4], "iscrowd": 0}
    annotations = [{"id": n, "image_id": n, "category_id": 1, **outline} for n in (1, 2)]
    dataset = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": annotations}
    (tmp_path / "coco.json").write_text(json.dumps(dataset))
    ended = san("convert", tmp_path / "coco.json", "--save", "labels", "-o", tmp_path / "to")
    assert ended.code == 0, ended.err
    assert {str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*.png")} == {
        "1/a.labels.png",
        "2/a.labels.png",
    }


def test_what_was_corrected_is_said_to_be_elsewhere(
    san: San, predict: San, photos: Path, found: Path, tmp_path: Path
) -> None:
    ended = san("convert", found, "--images", photos, "--save", "cvat", "-o", tmp_path / "to")
    assert "what was corrected in" in ended.err
    predict(photos, "-o", tmp_path / "only", "--save", "labelme")
    ended = san("convert", tmp_path / "only", "--images", photos, "--save", "yolo", "-o", tmp_path / "yolo")
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "yolo").rglob("*.txt"))) == 6


def test_the_layout_of_roboflow(san: San, photos: Path, found: Path, tmp_path: Path) -> None:
    """`train/labels` and `valid/labels` below one folder: the part is to be named, or converted as it is."""
    for part, name in (("train", "p00"), ("valid", "p02")):
        for folder in ("images", "labels"):
            (tmp_path / "rf" / part / folder).mkdir(parents=True)
        shutil.copy(photos / f"{name}.jpg", tmp_path / "rf" / part / "images")
        shutil.copy(found / "yolo" / "labels" / f"{name}.txt", tmp_path / "rf" / part / "labels")
    shutil.copy(found / "yolo" / "data.yaml", tmp_path / "rf")
    ended = san(
        "convert", tmp_path / "rf", "--images", tmp_path / "rf", "--save", "cvat", "-o", tmp_path / "no"
    )
    assert ended.code == 4
    assert "--label-name" in ended.err
    rf = tmp_path / "rf" / "train"
    ended = san("convert", rf, "--images", rf / "images", "--save", "labels", "-o", tmp_path / "to")
    assert ended.code == 0, ended.err


def test_images_without_labels_are_told_and_the_others_done(
    san: San, photos: Path, found: Path, tmp_path: Path
) -> None:
    (found / "labelme" / "p00.json").unlink()
    ended = san("convert", found / "labelme", "--images", photos, "--save", "cvat", "-o", tmp_path / "to")
    assert ended.code == 3
    assert "p00" in ended.err
    assert (tmp_path / "to" / "cvat.xml").read_text().count("<image ") == 5


def test_a_damaged_file_is_named(san: San, photos: Path, found: Path, tmp_path: Path) -> None:
    file = found / "labelme" / "p00.json"
    file.write_bytes(file.read_bytes()[:100])
    ended = san("convert", found / "labelme", "--images", photos, "--save", "cvat", "-o", tmp_path / "to")
    assert ended.code == 3
    assert "p00.json" in ended.err
    assert "damaged" in ended.err


def test_nothing_that_could_be_labels(san: San, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "data.yaml").write_text("names: [a]")
    for labels in (tmp_path / "empty", tmp_path / "data.yaml"):
        ended = san("convert", labels, "--images", photos, "--save", "cvat", "-o", tmp_path / "to")
        assert ended.code == 4
        assert "no labels in" in ended.err


@pytest.mark.parametrize("option", [["--regions"], ["--simplify", "1"]])
def test_options_without_effect_are_told(san: San, found: Path, tmp_path: Path, option: list[str]) -> None:
    ended = san("convert", found, "--save", "labels", "-o", tmp_path / "to", *option)
    assert f"{option[0]} changes nothing" in ended.err


def test_a_label_of_another_size_fails_alone(san: San, photos: Path, found: Path, tmp_path: Path) -> None:
    with Image.open(found / "p00.labels.png") as label:
        label.resize((10, 10)).save(found / "p00.labels.png")
    command = ["convert", found, "--images", photos, "--classes", found / "classes.json"]
    ended = san(
        *command, "--label-name", "{stem}.labels.png", "--save", "overlay,yolo", "-o", tmp_path / "to"
    )
    assert ended.code == 3
    assert "p00" in ended.err
    assert not (tmp_path / "to" / "yolo" / "images" / "p00.jpg").exists()
    assert len(list((tmp_path / "to").rglob("*.overlay.jpg"))) == 5
