"""Pictures with a place on earth, as a user runs them: what comes out lies where the picture lies."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from geo_files import DEGREES, ROTATED, reference_of, write_geotiff
from PIL import Image
from program import San, subprocess_environment, tree
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from recipe import image

HEIGHT, WIDTH = 60, 84
SAVE = ("--save", "labels,geojson,json")
TURNED_DEGREES = Affine(6e-5, 8e-5, 13.25, 8e-5, -6e-5, 52.5)
WORLD_FILE = "0.5\n0\n0\n-0.5\n100.25\n199.75\n"  # of a pixel of 0.5, whose corner is at 100, 200


def values(bands: int, dtype: str) -> np.ndarray:
    """A picture [C, H, W] of so many bands."""
    found = np.concatenate([image(9 + i, HEIGHT, WIDTH).transpose(2, 0, 1) for i in range(3)])[:bands]
    return found if dtype == "uint8" else found.astype(np.uint16) * 40


def labels_of(out: Path, stem: str) -> np.ndarray:
    """The label PNG [H, W], 255 where unlabelled."""
    with Image.open(out / f"{stem}.labels.png") as file:
        return np.asarray(file)


def rasterised(path: Path, like: Path) -> np.ndarray:
    """The label map that polygons describe, burnt into the raster of a GeoTIFF."""
    with rasterio.open(like) as file:
        crs, back, size = file.crs, ~file.transform, file.shape
    shapes = []
    for feature in json.loads(path.read_text())["features"]:
        geometry = feature["geometry"]
        if crs is not None:
            geometry = transform_geom("EPSG:4326", crs, geometry)
        rings = [
            [(back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f) for x, y in ring]
            for ring in geometry["coordinates"]
        ]
        shapes.append(({"type": "Polygon", "coordinates": rings}, feature["properties"]["label"]))
    return rasterize(shapes, size, fill=255, dtype="uint8")


def check_maps(out: Path, stem: str, source: Path, no_data: np.ndarray | None = None) -> None:
    """Hold all results of a picture to its georeference and to one another."""
    labels, tiff = labels_of(out, stem), out / f"{stem}.labels.tif"
    assert reference_of(tiff) == reference_of(source)
    names = [entry["name"] for entry in json.loads((out / "classes.json").read_text())]
    with rasterio.open(tiff) as file:
        assert np.array_equal(file.read(1), labels)
        assert file.nodata == 255
        assert np.array_equal(file.read_masks(1) == 0, labels == 255)
        assert [file.tags(1)[f"CLASS_{i}"] for i in range(len(names))] == names
        assert file.block_shapes == [(512, 512)]
        assert file.compression is not None and file.compression.name == "deflate"
        assert file.colormap(1)[0][3] == 255
    assert np.array_equal(labels == 255, np.zeros_like(labels, bool) if no_data is None else no_data)
    assert np.array_equal(rasterised(out / f"{stem}.geojson", tiff), labels)


CASES = {
    "one band": {"bands": 1},
    "three bands, rotated": {"bands": 3, "transform": ROTATED},
    "four bands": {"bands": 4},
    "eight bands, degrees": {"bands": 8, "crs": "EPSG:4326", "transform": DEGREES},
    "16 bits": {"bands": 3, "dtype": "uint16"},
    "16 bits, eight bands, rotated": {"bands": 8, "dtype": "uint16", "transform": ROTATED},
    "16 bits, one band, degrees, rotated": {
        "bands": 1,
        "dtype": "uint16",
        "crs": "EPSG:4326",
        "transform": TURNED_DEGREES,
    },
    "tiles": {"bands": 3, "tiled": True, "blockxsize": 32, "blockysize": 32},
    "strips, deflate": {"bands": 3, "blockysize": 7, "compress": "deflate", "predictor": 2},
    "planes": {"bands": 4, "interleave": "band", "compress": "lzw"},
    "BigTIFF": {"bands": 3, "BIGTIFF": "YES", "tiled": True, "blockxsize": 64, "blockysize": 64},
    "pixel is point": {"bands": 3, "point": True},
    "JPEG": {
        "bands": 3,
        "compress": "jpeg",
        "photometric": "ycbcr",
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    },
}
READ_AS = {1: (), 3: (), 4: ("--bands", "3,2,1"), 8: ("--bands", "7,5,2")}


@pytest.mark.parametrize("case", CASES)
def test_results_lie_where_the_picture_lies(predict: San, tmp_path: Path, case: str) -> None:
    profile = dict(CASES[case])
    bands, dtype = int(profile.pop("bands")), str(profile.pop("dtype", "uint8"))  # type: ignore[call-overload]
    source, out = tmp_path / "scene.tif", tmp_path / "out"
    write_geotiff(source, values(bands, dtype), **profile)  # type: ignore[arg-type]
    deep = () if dtype == "uint8" else ("--range", "0,10000")
    ended = predict(source, "-o", out, *SAVE, *READ_AS[bands], *deep, "--tile", "64")
    assert (ended.code, "no GeoJSON" in ended.err) == (0, False)
    check_maps(out, "scene", source)
    assert len(np.unique(labels_of(out, "scene"))) > 1 or case == "JPEG"


@pytest.mark.parametrize("tile", ["off", "64"])
@pytest.mark.parametrize("bands", [1, 4])
def test_no_data_has_no_polygon(predict: San, tmp_path: Path, bands: int, tile: str) -> None:
    found = values(bands, "uint16") + 1
    found[:, :20, :70], found[:, 40:44, 50:60] = 0, 0
    source, out = tmp_path / "scene.tif", tmp_path / "out"
    write_geotiff(source, found, nodata=0)
    ended = predict(source, "-o", out, *SAVE, "--range", "auto", *READ_AS[bands], "--tile", tile)
    assert ended.code == 0
    check_maps(out, "scene", source, found[0] == 0)
    document = json.loads((out / "predictions.json").read_text())
    areas = {
        feature["properties"]["class"]: 0
        for feature in json.loads((out / "scene.geojson").read_text())["features"]
    }
    for feature in json.loads((out / "scene.geojson").read_text())["features"]:
        properties = feature["properties"]
        areas[properties["class"]] += properties["pixels"]
        assert properties["area_m2"] == properties["pixels"] * 100
    names = {row["id"]: row["name"] for row in document["categories"]}
    assert areas == {names[row["category_id"]]: row["area"] for row in document["annotations"]}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with a GeoTIFF, a picture with a world file, and two that lie nowhere."""
    folder = tmp_path / "maps"
    (folder / "sub").mkdir(parents=True)
    write_geotiff(folder / "geo.tif", values(3, "uint8"))
    for name in ("world.png", "sub/plain.png", "nowhere.tif"):
        Image.fromarray(image(3, HEIGHT, WIDTH)).save(folder / name)
    (folder / "world.pgw").write_text(WORLD_FILE)
    return folder


def placed(out: Path) -> set[str]:
    """The results that only pictures with a place have."""
    return {name for name in tree(out) if name.endswith((".labels.tif", ".geojson"))}


ALL_PLACED = {"geo.labels.tif", "geo.geojson", "world.labels.tif", "world.geojson"}


def test_only_what_has_a_place_gets_maps(predict: San, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = predict(mixed, "-o", out, *SAVE, "--jsonl")
    assert ended.code == 0
    assert placed(out) == ALL_PLACED
    assert sorted(line.split(": ")[1] for line in ended.err.splitlines() if "no GeoJSON" in line) == [
        "nowhere.tif", "sub/plain.png",
    ]  # fmt: skip
    lines = {line["path"]: line for line in map(json.loads, ended.out.splitlines())}
    assert len(lines) == 4
    for path, line in lines.items():
        assert all(Path(file).is_file() for file in line["outputs"].values())
        assert ("labels-tiff" in line["outputs"]) == (path in ("geo.tif", "world.png"))
        assert any("no GeoJSON" in note for note in line["notes"]) == (path not in ("geo.tif", "world.png"))
    check_maps(out, "geo", mixed / "geo.tif")
    assert reference_of(out / "world.labels.tif") == reference_of(mixed / "world.png")
    collection = json.loads((out / "world.geojson").read_text())
    assert collection["crs"] is None
    assert np.array_equal(
        rasterised(out / "world.geojson", out / "world.labels.tif"), labels_of(out, "world")
    )
    corners = np.concatenate(
        [ring for one in collection["features"] for ring in one["geometry"]["coordinates"]]
    )
    assert corners.min(axis=0).tolist() == [100, 200 - HEIGHT / 2]
    assert corners.max(axis=0).tolist() == [100 + WIDTH / 2, 200]

    before = tree(out)
    again = predict(mixed, "-o", out, *SAVE, "--jsonl")
    assert "nothing new, 4 done before" in again.err
    assert [json.loads(line)["outputs"] for line in again.out.splitlines()] == [
        json.loads(line)["outputs"] for line in ended.out.splitlines()
    ]
    assert tree(out) == before
    (out / "geo.labels.tif").unlink()
    assert "1 done, 3 done before" in predict(mixed, "-o", out, *SAVE).err
    assert tree(out) == before
    predict(mixed, "-o", tmp_path / "shards", *SAVE, "--shard", "2/2")
    predict(mixed, "-o", tmp_path / "shards", *SAVE, "--shard", "1/2")
    assert tree(tmp_path / "shards") == before


def test_labels_alone_say_nothing_of_places(predict: San, mixed: Path, tmp_path: Path) -> None:
    ended = predict(mixed, "-o", tmp_path / "out", "--save", "labels")
    assert placed(tmp_path / "out") == {"geo.labels.tif", "world.labels.tif"}
    assert "note" not in ended.err
    predict(mixed, "-o", tmp_path / "polygons", "--save", "geojson")
    assert placed(tmp_path / "polygons") == {"geo.geojson", "world.geojson"}
    predict(mixed, "-o", tmp_path / "gray", "--save", "labels-gray,overlay,table")
    assert placed(tmp_path / "gray") == set()


def test_a_picture_that_loses_its_place_loses_its_maps(predict: San, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(mixed, "-o", out, *SAVE)
    shutil.copyfile(mixed / "nowhere.tif", mixed / "geo.tif")
    (mixed / "world.png").unlink()
    ended = predict(mixed, "-o", out, *SAVE)
    assert (ended.code, "1 done, 2 done before" in ended.err) == (0, True)
    assert placed(out) == set()
    predict(mixed, "-o", tmp_path / "fresh", *SAVE)
    assert tree(out) == tree(tmp_path / "fresh")


def test_a_world_file_that_comes_later_counts(predict: San, mixed: Path, tmp_path: Path) -> None:
    """The note on what lies nowhere is read, the world file fetched, and the same command given again."""
    out = tmp_path / "out"
    (mixed / "world.pgw").rename(tmp_path / "world.pgw")
    predict(mixed, "-o", out, *SAVE)
    assert placed(out) == {"geo.labels.tif", "geo.geojson"}
    shutil.copyfile(tmp_path / "world.pgw", mixed / "world.pgw")
    assert "1 done, 3 done before" in predict(mixed, "-o", out, *SAVE).err
    assert placed(out) == ALL_PLACED
    (mixed / "world.pgw").write_text(WORLD_FILE.replace("100.25", "700.25"))
    assert "1 done, 3 done before" in predict(mixed, "-o", out, *SAVE).err
    (mixed / "world.pgw").unlink()
    assert "1 done, 3 done before" in predict(mixed, "-o", out, *SAVE).err
    predict(mixed, "-o", tmp_path / "fresh", *SAVE)
    assert tree(out) == tree(tmp_path / "fresh")


def test_maps_that_were_edited_are_left_alone(predict: San, mixed: Path, tmp_path: Path) -> None:
    """A label map corrected in QGIS, or its polygons: hours of work. What was cut short is made again."""
    out = tmp_path / "out"
    predict(mixed, "-o", out, *SAVE)
    whole = tree(out)
    for name, cut in (
        ("geo.labels.tif", -9),
        ("geo.labels.tif", 2000),
        ("geo.geojson", 3000),
        ("geo.geojson", -3),
    ):
        (out / name).write_bytes(whole[name][:cut])
        assert "1 done, 3 done before" in predict(mixed, "-o", out, *SAVE).err
        assert tree(out) == whole
    with rasterio.open(out / "geo.labels.tif") as file:
        write_geotiff(out / "edited.tif", file.read() * 0, crs=file.crs, transform=file.transform)
    (out / "edited.tif").replace(out / "geo.labels.tif")
    polygons = json.loads(whole["geo.geojson"])
    (out / "geo.geojson").write_text(json.dumps(polygons, indent=1) + "\n")
    edited = tree(out)
    ended = predict(mixed, "-o", out, *SAVE)
    assert "left alone: 2 results that somebody has changed" in ended.err
    assert tree(out) == edited


def test_inputs_that_are_gone_take_their_maps_along(predict: San, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(mixed, "-o", out, *SAVE)
    (mixed / "geo.tif").unlink()
    (mixed / "world.png").write_bytes(b"damaged")
    assert predict(mixed, "-o", out, *SAVE).code == 3
    assert placed(out) == set()
    predict(mixed, "-o", out, "--save", "overlay", "--overwrite")
    assert not [name for name in tree(out) if name.endswith((".png", ".tif"))]


def test_label_maps_in_the_folder_of_the_pictures_are_no_pictures(
    predict: San, mixed: Path, tmp_path: Path
) -> None:
    out = mixed / "results"
    predict(mixed, "-o", out, *SAVE)
    before = tree(out)
    assert "nothing new, 4 done before" in predict(mixed, "-o", out, *SAVE).err
    assert tree(out) == before
    ended = predict(mixed, "-o", tmp_path / "elsewhere", *SAVE)
    assert "4 done" in ended.err and placed(tmp_path / "elsewhere") == ALL_PLACED


def test_names_that_would_meet(predict: San, mixed: Path, tmp_path: Path) -> None:
    """A picture called like a label map is a picture; in the folder of the results it would be overwritten."""
    shutil.copyfile(mixed / "geo.tif", mixed / "geo.labels.tif")
    ended = predict(mixed, "-o", tmp_path / "out", *SAVE)
    assert (ended.code, "5 done" in ended.err) == (0, True)
    check_maps(tmp_path / "out", "geo", mixed / "geo.tif")
    check_maps(tmp_path / "out", "geo.labels", mixed / "geo.tif")
    (tmp_path / "lists").mkdir()
    for name in ("geo.tif", "geo.labels.tif"):
        shutil.copyfile(mixed / "geo.tif", tmp_path / "lists" / name)
    before = tree(tmp_path / "lists")
    inputs = [tmp_path / "lists" / name for name in ("geo.tif", "geo.labels.tif")]
    ended = predict(*inputs, "-o", tmp_path / "lists", *SAVE)
    assert (ended.code, tree(tmp_path / "lists")) == (2, before)


def test_a_place_that_projections_do_not_know_leaves_the_rest(predict: San, tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    write_geotiff(tmp_path / "site.tif", values(3, "uint8"), crs=local)
    ended = predict(tmp_path / "site.tif", "-o", tmp_path / "out", *SAVE)
    assert ended.code == 0
    assert "no GeoJSON" in ended.err and "Traceback" not in ended.err
    assert placed(tmp_path / "out") == {"site.labels.tif"}
    assert "nothing new" in predict(tmp_path / "site.tif", "-o", tmp_path / "out", *SAVE).err


def run_without_rasterio(san_home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program where rasterio isn't installed."""
    program = (
        "import sys, importlib.util as u; found = u.find_spec; "
        "u.find_spec = lambda name, *rest: None if name == 'rasterio' else found(name, *rest); "
        "sys.modules['rasterio'] = None; from san_cli.cli.main import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "predict", *map(str, arguments), "--vocab", "voc", "--device", "cpu"],
        env=subprocess_environment(san_home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_polygons_alone_need_rasterio(
    predict: San, mixed: Path, tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    ended = run_without_rasterio(
        san_home, mixed, "-o", tmp_path / "none", "--save", "geojson", "--weights", "x"
    )
    assert ended.returncode == 2
    assert "GeoJSON needs rasterio" in ended.stderr and "pip install" in ended.stderr
    assert "Traceback" not in ended.stderr and not (tmp_path / "none").exists()
    save = ("--save", "labels,json,overlay")
    ended = run_without_rasterio(san_home, mixed, "-o", tmp_path / "out", *save, "--weights", tiny_weights)
    assert ended.returncode == 0, ended.stderr
    predict(mixed, "-o", tmp_path / "with", *save)
    assert tree(tmp_path / "out") == tree(tmp_path / "with")
