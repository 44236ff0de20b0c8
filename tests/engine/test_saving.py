"""What a `Segmentation` of the Python API can be made into: overlay, regions, polygons, files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import make_photos

from san_cli import MapOptions, SanError, Segmentation, Segmenter, parse_vocabulary
from san_cli.outputs.label_map import read_label_map
from san_cli.regions.fill import fill
from san_cli.regions.rle import decode

WORDS = parse_vocabulary(["voc"])


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photo")
    make_photos(folder, 4)
    return (folder / "sub" / "p03.jpg").rename(folder / "cat.jpg")


@pytest.fixture(scope="module")
def segmenter(tiny_weights: Path) -> Segmenter:
    return Segmenter.load(weights=tiny_weights, device="cpu")


@pytest.fixture(scope="module")
def made(segmenter: Segmenter, photo: Path) -> Segmentation:
    return segmenter.segment(photo, WORDS, MapOptions(keep_scores=True))


def test_regions_and_polygons_are_the_label_map(made: Segmentation) -> None:
    by_region, by_polygon = np.full((2, *made.label_map.shape), -1)
    for region in made.regions():
        mask = decode(region.region.counts, made.label_map.shape)
        assert mask.sum() == region.region.area
        by_region[mask] = region.class_id
    for polygon in made.polygons():
        window, inside = fill(polygon.rings, made.label_map.shape)
        by_polygon[window][inside] = polygon.class_id
    np.testing.assert_array_equal(by_region, made.label_map)
    np.testing.assert_array_equal(by_polygon, made.label_map)
    simple = made.polygons(simplify=2)
    corners = [sum(len(ring) for one in found for ring in one.rings) for found in (made.polygons(), simple)]
    assert corners[1] < corners[0]


def test_an_overlay_takes_what_segment_takes(made: Segmentation, photo: Path) -> None:
    with Image.open(photo) as image:
        for given in (photo, str(photo), image, np.asarray(image)):
            overlay = made.overlay(given)
            assert overlay.size >= (96, 72)
    with pytest.raises(SanError, match="has 5 × 4 pixels, its label map 96 × 72"):
        made.overlay(np.zeros((4, 5, 3), np.uint8))


def test_files_are_those_of_predict(made: Segmentation, photo: Path, tmp_path: Path) -> None:
    kinds = ["overlay", "labels", "labels-gray", "scores", "labelme", "yolo", "masks", "cutouts"]
    written = made.save(tmp_path / "out" / "cat", kinds, photo)
    assert {kind: str(path.relative_to(tmp_path / "out")) for kind, path in written.items()} == {
        "overlay": "cat.overlay.jpg",
        "labels": "cat.labels.png",
        "labels-gray": "cat.labels-gray.png",
        "scores": "cat.confidence.png",
        "labelme": "labelme/cat.json",
        "yolo": "yolo/labels/cat.txt",
        "masks": "masks/cat",
        "cutouts": "cutouts/cat",
    }
    np.testing.assert_array_equal(read_label_map(written["labels"]), made.label_map)
    shapes = json.loads(written["labelme"].read_text())
    assert (written["labelme"].parent / shapes["imagePath"]).samefile(photo)
    assert {path.stem for path in written["masks"].iterdir()} == {
        WORDS.names[i] for i in np.unique(made.label_map)
    }


def test_without_an_image_there_are_the_labels(made: Segmentation, tmp_path: Path) -> None:
    assert set(made.save(tmp_path / "cat")) == {"labels"}


@pytest.mark.parametrize(
    ("kinds", "with_image", "told"),
    [
        ("labels", True, "list of them"),
        (["json"], True, "can't be saved as 'json'"),
        (["label"], True, "labels"),
        (["overlay"], False, "show the image"),
        (["labelme"], False, "names its image"),
    ],
)
def test_what_cannot_be_saved(
    made: Segmentation, photo: Path, tmp_path: Path, kinds: list[str], with_image: bool, told: str
) -> None:
    with pytest.raises(SanError) as refused:
        made.save(tmp_path / "cat", kinds, photo if with_image else None)
    assert told in f"{refused.value.message} {refused.value.hint}"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("simplify", [-1, float("nan"), float("inf"), "2"])
def test_lengths_that_are_none(made: Segmentation, simplify: float) -> None:
    with pytest.raises(SanError, match="`simplify` is a number of pixels"):
        made.polygons(simplify=simplify)


def test_specks_go(segmenter: Segmenter, photo: Path, made: Segmentation) -> None:
    found = segmenter.segment(photo, WORDS, MapOptions(min_area=80))
    assert min(one.region.area for one in found.regions()) >= 80
    assert min(one.region.area for one in made.regions()) < 80
    for wrong in (-1, 2.5, True):
        with pytest.raises(SanError, match="`min_area` is a number of pixels"):
            MapOptions(min_area=wrong)  # type: ignore[arg-type]
