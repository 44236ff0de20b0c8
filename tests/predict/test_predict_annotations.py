"""`san predict --save` for annotation tools: all of it there, exact, and kept up like every other result."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from program import San, tree

from san_cli.outputs.label_map import read_label_map
from san_cli.regions.fill import fill
from san_cli.regions.rle import decode

TOOLS = "labels,json,coco-polygons,yolo,labelme,label-studio,cvat,masks,cutouts"


def filled(outlines: list[tuple[int, NDArray[np.floating]]], size: tuple[int, int]) -> NDArray[np.int64]:
    """The label map of outlines with their classes."""
    label_map = np.full(size, -1)
    for class_id, ring in outlines:
        window, inside = fill([ring], size)
        label_map[window][inside] = class_id
    return label_map


def names_of(out: Path) -> list[str]:
    """The classes' names by id."""
    return [row["name"] for row in json.loads((out / "classes.json").read_text())]


def test_every_file_holds_the_label_map(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = predict(photos, "-o", out, "--save", TOOLS, "--regions")
    assert ended.code == 0, ended.err
    names = names_of(out)
    by_name = {name: number for number, name in enumerate(names)}
    dataset = json.loads((out / "predictions.json").read_text())
    polygons = json.loads((out / "coco-polygons.json").read_text())
    assert len(dataset["annotations"]) == len(polygons["annotations"]) > len(dataset["images"])
    for image in dataset["images"]:
        stem = image["file_name"].removesuffix(".jpg")
        label_map = read_label_map(out / f"{stem}.labels.png")
        size = label_map.shape[0], label_map.shape[1]

        regions = [one for one in dataset["annotations"] if one["image_id"] == image["id"]]
        again = np.full(size, -1)
        for one in regions:
            mask = decode(one["segmentation"]["counts"], size)
            assert mask.sum() == one["area"]
            again[mask] = one["category_id"] - 1
        np.testing.assert_array_equal(again, label_map)

        own = [one for one in polygons["annotations"] if one["image_id"] == image["id"]]
        assert [one["area"] for one in own] == [one["area"] for one in regions]
        found = [
            (one["category_id"] - 1, np.array(ring).reshape(-1, 2))
            for one in own
            for ring in one["segmentation"]
        ]
        np.testing.assert_array_equal(filled(found, size), label_map)

        shapes = json.loads((out / "labelme" / f"{stem}.json").read_text())
        found = [(by_name[shape["label"]], np.array(shape["points"])) for shape in shapes["shapes"]]
        np.testing.assert_array_equal(filled(found, size), label_map)
        assert ((out / "labelme" / stem).parent / shapes["imagePath"]).samefile(photos / image["file_name"])

        lines = [line.split() for line in (out / "yolo" / "labels" / f"{stem}.txt").read_text().splitlines()]
        scale = np.array([size[1], size[0]])
        found = [(int(line[0]), np.array(line[1:], float).reshape(-1, 2) * scale) for line in lines]
        np.testing.assert_array_equal(filled(found, size), label_map)
        assert (out / "yolo" / "images" / image["file_name"]).samefile(photos / image["file_name"])

        masks = {path.stem: np.asarray(Image.open(path)) for path in (out / "masks" / stem).iterdir()}
        assert {by_name[name] for name in masks} == set(np.unique(label_map).tolist()) - {-1}
        for name, mask in masks.items():
            np.testing.assert_array_equal(mask == 255, label_map == by_name[name])
        pixels = np.asarray(Image.open(photos / image["file_name"]))
        for path in (out / "cutouts" / stem).iterdir():
            cutout = np.asarray(Image.open(path))
            np.testing.assert_array_equal(cutout[..., 3] == 255, label_map == by_name[path.stem])
            np.testing.assert_array_equal(cutout[cutout[..., 3] == 255, :3], pixels[cutout[..., 3] == 255])


def test_files_are_kept_up(predict: San, photos: Path, tmp_path: Path) -> None:
    """A second run does nothing; what is missing comes back; what belongs to an image that is gone goes."""
    out = tmp_path / "out"
    run = (photos, "-o", out, "--save", TOOLS)
    predict(*run)
    undisturbed = tree(out)
    assert "nothing new" in predict(*run).err
    mask = next((out / "masks" / "p00").iterdir())
    mask.unlink()
    (out / "labelme" / "p02.json").unlink()
    (out / "yolo" / "images" / "p04.jpg").unlink()
    (out / "cvat.xml").unlink()
    assert "2 done, 4 done before" in predict(*run).err
    again = tree(out)
    again[".san/links"] = undisturbed[".san/links"]  # which tells when they were made
    assert again == undisturbed

    (photos / "p00.jpg").unlink()
    assert "removed" in predict(*run).err
    left = {name for name in tree(out) if "p00" in name}
    assert left == set()
    assert not (out / "masks" / "p00").exists()
    assert not (out / "yolo" / "images" / "p00.jpg").is_symlink()


def test_a_class_that_is_gone_leaves_no_mask(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = (photos, "-o", out, "--save", "masks")
    predict(*run)
    Image.new("RGB", (96, 72), "grey").save(photos / "p00.jpg")
    predict(*run)
    alone = tmp_path / "alone"
    predict(photos / "p00.jpg", "-o", alone, "--save", "masks")
    assert {path.name for path in (out / "masks" / "p00").iterdir()} == {
        path.name for path in (alone / "masks" / "p00").iterdir()
    }


def test_what_somebody_corrected_is_left_alone(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = (photos, "-o", out, "--save", "labels,labelme,yolo")
    predict(*run)
    file = out / "labelme" / "p00.json"
    corrected = json.loads(file.read_text())
    corrected["shapes"] = corrected["shapes"][:1]
    file.write_text(json.dumps(corrected, indent=2))
    ended = predict(*run)
    assert "left alone: 1 result" in ended.err
    assert json.loads(file.read_text()) == corrected

    (out / "p00.labels.png").unlink()
    ended = predict(*run)
    assert "1 done, 5 done before" in ended.err
    assert "labelme/p00.json stays, as somebody has changed it" in ended.err
    assert json.loads(file.read_text()) == corrected
    assert (out / "p00.labels.png").exists()

    same_size = (out / "yolo" / "labels" / "p02.txt").read_bytes().replace(b"0", b"1", 1)
    (out / "yolo" / "labels" / "p02.txt").write_bytes(same_size)
    (out / "p02.labels.png").unlink()
    predict(*run)
    assert (out / "yolo" / "labels" / "p02.txt").read_bytes() == same_size
    assert "nothing new" in predict(*run).err


def test_specks_are_gone_from_every_file(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--save", "labels,json,table", "--regions", "--min-area", "60")
    dataset = json.loads((out / "predictions.json").read_text())
    assert min(one["area"] for one in dataset["annotations"]) >= 60
    for image in dataset["images"]:
        label_map = read_label_map(out / image["file_name"].replace(".jpg", ".labels.png"))
        assert (label_map >= 0).all()
    plain = tmp_path / "plain"
    predict(photos, "-o", plain, "--save", "json", "--regions")
    assert (
        min(one["area"] for one in json.loads((plain / "predictions.json").read_text())["annotations"]) < 60
    )


def test_simplified_outlines_are_shorter_and_nothing_else_changes(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    exact, simple = tmp_path / "exact", tmp_path / "simple"
    predict(photos, "-o", exact, "--save", "labels,coco-polygons")
    predict(photos, "-o", simple, "--save", "labels,coco-polygons", "--simplify", "1.5")
    assert tree(exact)["p00.labels.png"] == tree(simple)["p00.labels.png"]
    one, other = (
        json.loads((out / "coco-polygons.json").read_text())["annotations"] for out in (exact, simple)
    )
    assert [row["area"] for row in one] == [row["area"] for row in other]
    corners = [sum(len(ring) for row in rows for ring in row["segmentation"]) for rows in (one, other)]
    assert corners[1] < 0.6 * corners[0]


def test_jsonl_gives_regions(predict: San, photos: Path, tmp_path: Path) -> None:
    ended = predict(photos, "-o", tmp_path / "out", "--save", "json", "--regions", "--jsonl")
    for line in map(json.loads, ended.out.splitlines()):
        areas = {one["id"]: one["area"] for one in line["classes"]}
        for class_id, area in areas.items():
            own = [one for one in line["regions"] if one["id"] == class_id]
            assert sum(one["area"] for one in own) == area
            assert all(set(one["segmentation"]) == {"size", "counts"} for one in own)


def test_shards_write_the_same_bytes(predict: San, photos: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    predict(photos, "-o", whole, "--save", TOOLS, "--regions")
    for shard in ("1/2", "2/2"):
        predict(photos, "-o", parts, "--save", TOOLS, "--regions", "--shard", shard)
    one, other = tree(whole), tree(parts)
    assert {name: data for name, data in one.items() if ".san" not in name} == {
        name: data for name, data in other.items() if ".san" not in name
    }


def test_names_that_no_file_can_have(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["and/or", "CON", "cat: wild", "..", "Cat", "naïve <b>"]
    ended = predict(
        photos, "-o", out, "--save", TOOLS, *(part for word in words for part in ("--vocab", f'"{word}"'))
    )
    assert ended.code == 0, ended.err
    assert names_of(out) == words
    assert all(
        path.parent.parent == out / "masks" for path in out.glob("masks/*/*.png") if "sub" not in str(path)
    )
    assert (
        "nothing new"
        in predict(
            photos, "-o", out, "--save", TOOLS, *(part for word in words for part in ("--vocab", f'"{word}"'))
        ).err
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--save", "labels", "--regions"], "--regions changes nothing"),
        (["--save", "labels,json", "--simplify", "1"], "--simplify changes nothing"),
    ],
)
def test_options_without_effect_are_told(
    predict: San, photos: Path, tmp_path: Path, options: list[str], told: str
) -> None:
    ended = predict(photos, "-o", tmp_path / "out", *options)
    assert ended.code == 0
    assert told in ended.err


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "2px"])
@pytest.mark.parametrize("option", ["--simplify", "--min-area"])
def test_lengths_that_are_none(predict: San, photos: Path, tmp_path: Path, option: str, value: str) -> None:
    ended = predict(photos, "-o", tmp_path / "out", "--save", "yolo", option, value)
    assert ended.code == 2
    assert option in ended.err


def test_images_that_yolo_passes_over_are_told(predict: San, photos: Path, tmp_path: Path) -> None:
    Image.open(photos / "p00.jpg").save(photos / "moving.gif")
    ended = predict(photos, "-o", tmp_path / "out", "--save", "yolo")
    assert ended.code == 0
    assert "ultralytics will pass over 1 image, such as moving.gif" in ended.err


def test_results_are_not_taken_for_photographs(predict: San, photos: Path, tmp_path: Path) -> None:
    """A run whose results lie among the inputs finds the same inputs again."""
    shutil.copytree(photos, tmp_path / "in")
    out = tmp_path / "in" / "out"
    predict(tmp_path / "in", "-o", out, "--save", "masks,cutouts,yolo")
    ended = predict(tmp_path / "in", "-o", out, "--save", "masks,cutouts,yolo")
    assert "nothing new, 6 done before" in ended.err
    ended = predict(tmp_path / "in", "-o", tmp_path / "other", "--save", "none")
    assert "6 done" in ended.err


def drawn(file: Path) -> bytes:
    """What somebody has drawn with a tool, in the place where predict would write."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"version": "5.5.0", "shapes": [], "imagePath": "x.jpg"}')
    return file.read_bytes()


def test_what_somebody_drew_is_never_replaced(predict: San, photos: Path, tmp_path: Path) -> None:
    """Of a new photo, of one that went and came back, and with --overwrite."""
    out = tmp_path / "out"
    run = (photos, "-o", out, "--save", "labelme,yolo")
    predict(*run)
    shutil.copy(photos / "p00.jpg", photos / "new.jpg")
    mine = drawn(out / "labelme" / "new.json")
    ended = predict(*run)
    assert "labelme/new.json stays" in ended.err
    assert (out / "labelme" / "new.json").read_bytes() == mine
    assert "nothing new" in predict(*run).err

    mine = drawn(out / "labelme" / "p00.json")
    (photos / "p00.jpg").rename(tmp_path / "p00.jpg")
    predict(*run)
    (tmp_path / "p00.jpg").rename(photos / "p00.jpg")
    predict(*run)
    assert (out / "labelme" / "p00.json").read_bytes() == mine

    (out / "yolo" / "labels" / "p02.txt").write_bytes(b"")  # nothing is in the image
    predict(*run)
    predict(*run, "--overwrite")
    assert (out / "labelme" / "p00.json").read_bytes() == mine
    assert (out / "yolo" / "labels" / "p02.txt").read_bytes() == b""


def test_only_links_of_ours_are_touched(predict: San, photos: Path, tmp_path: Path) -> None:
    out, images = tmp_path / "out", tmp_path / "out" / "yolo" / "images"
    images.mkdir(parents=True)
    (images / "p00.jpg").write_bytes(b"somebody's own photograph")
    (images / "other.jpg").symlink_to("/etc/hostname")
    run = (photos, "-o", out, "--save", "yolo")
    ended = predict(*run)
    assert ended.code == 0, ended.err
    assert "left alone: 1 file" in ended.err
    assert (images / "p00.jpg").read_bytes() == b"somebody's own photograph"
    assert (images / "other.jpg").is_symlink()

    (images / "p02.jpg").unlink()
    predict(*run)
    assert (images / "p02.jpg").samefile(photos / "p02.jpg")
    (photos / "p02.jpg").rename(tmp_path / "gone.jpg")
    predict(*run)
    assert not (images / "p02.jpg").is_symlink()
    assert (images / "other.jpg").is_symlink()
    predict(photos, "-o", out, "--save", "labels", "--overwrite")
    assert not (images / "p04.jpg").is_symlink()


def test_a_photo_that_fails_is_no_training_image(predict: San, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes((photos / "p00.jpg").read_bytes()[:300])
    out = tmp_path / "out"
    assert predict(photos, "-o", out, "--save", "yolo").code == 3
    assert not (out / "yolo" / "images" / "broken.jpg").is_symlink()


def test_another_list_into_the_folder_keeps_the_links_of_the_first(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(photos / "p00.jpg", "-o", out, "--save", "yolo")
    predict(photos / "p02.jpg", "-o", out, "--save", "yolo")
    assert {path.name for path in (out / "yolo" / "images").iterdir()} == {"p00.jpg", "p02.jpg"}


def test_an_edited_data_yaml_stays(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = (photos, "-o", out, "--save", "yolo")
    predict(*run)
    file = out / "yolo" / "data.yaml"
    edited = file.read_text().replace("val: images", "val: val.txt")
    file.write_text(edited)
    shutil.copy(photos / "p00.jpg", photos / "new.jpg")
    for _ in range(2):
        predict(*run)
        assert file.read_text() == edited


def test_labelme_finds_the_image_from_behind_a_link(predict: San, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "big" / "deep" / "disk").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "big" / "deep" / "disk")
    predict(photos, "-o", tmp_path / "link", "--save", "labelme")
    shapes = json.loads((tmp_path / "link" / "labelme" / "p00.json").read_text())
    assert (tmp_path / "link" / "labelme" / shapes["imagePath"]).samefile(photos / "p00.jpg")


def test_folders_above_may_be_called_anything(predict: San, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "masks" / "in")
    run = (tmp_path / "masks" / "in", "-o", tmp_path / "masks", "--save", "labels")
    assert predict(*run).code == 0
    assert "nothing new" in predict(*run).err


def test_corrected_numbers_do_not_outlive_their_classes(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--save", "yolo")
    file = out / "yolo" / "labels" / "p00.txt"
    file.write_text("3 0 0 1 0 1 1\n")
    ended = predict(photos, "-o", out, "--save", "yolo", "--vocab", "cat,dog,sky,road", "--overwrite")
    assert ended.code == 2
    assert "corrected 1 YOLO file" in ended.err
    assert file.read_text() == "3 0 0 1 0 1 1\n"
    file.unlink()
    assert (
        predict(photos, "-o", out, "--save", "yolo", "--vocab", "cat,dog,sky,road", "--overwrite").code == 0
    )
    assert "cat" in (out / "yolo" / "data.yaml").read_text()


def test_photos_that_lie_where_links_would_are_never_removed(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    """They lead to themselves, which makes them no links of ours."""
    out = tmp_path / "out"
    shutil.copytree(photos, out / "yolo" / "images")
    before = tree(out / "yolo" / "images")
    assert predict(out / "yolo" / "images", "-o", out, "--save", "yolo").code == 0
    assert predict(photos, "-o", out, "--save", "labels", "--overwrite").code == 0
    assert tree(out / "yolo" / "images") == before
