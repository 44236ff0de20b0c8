"""Polygons lie where the label map's regions lie: rasterised back, not a pixel differs."""

import json
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform
from scipy import ndimage

from san_cli.errors import SanError
from san_cli.outputs import geojson
from san_cli.outputs.geojson import read_place, refuse_without_rasterio, write_geojson
from san_cli.outputs.label_tiff import GeoTags
from san_cli.outputs.record import Found
from san_cli.regions.rle import Region

NAMES = ["sky", "tree\n\x1b[31m \udcff", "road"]


def keys(code: int, *, model: int = 1, point: bool = False) -> dict[int, tuple[int, ...]]:
    return {
        34735: (
            1,
            1,
            0,
            3,
            1024,
            0,
            1,
            model,
            1025,
            0,
            1,
            1 + point,
            3072 if model == 1 else 2048,
            0,
            1,
            code,
        )
    }


def north_up(x: float, y: float, pixel: float) -> GeoTags:
    return {33550: (pixel, pixel, 0.0), 33922: (0.0, 0.0, 0.0, x, y, 0.0)}


def turned(a: float, b: float, c: float, d: float, e: float, f: float) -> GeoTags:
    return {34264: (a, b, 0.0, c, d, e, 0.0, f, *(0.0,) * 7, 1.0)}


UTM = {**north_up(5e5, 5e6, 10), **keys(32633)}
PLACES = {
    "UTM": UTM,
    "UTM, 1 cm, rotated": {**turned(0.006, 0.008, 5e5, 0.008, -0.006, 5e6), **keys(32633)},
    "UTM, mirrored": {**turned(10, 1, 5e5, 2, 10, 5e6), **keys(32633)},
    "UTM, points": {**north_up(5e5, 5e6, 10), **keys(32633, point=True)},
    "degrees": {**north_up(13.25, 52.5, 1e-4), **keys(4326, model=2)},
    "New York in feet": {**north_up(9.8e5, 2e5, 3), **keys(2263)},
    "the Fiji islands": {**north_up(790_000, 8_100_000, 1000), **keys(32760)},
    "world file": turned(0.5, 0.1, 100, 0.1, -0.5, 200),
    "world file, tiny": turned(2e-7, 0, 1.5, 0, -2e-7, 1),
}


def written(folder: Path, label_map: np.ndarray, tags: GeoTags, found: list[Found] | None = None) -> dict:
    assert write_geojson(folder / "a.geojson", label_map, NAMES, found or [], tags) is None
    return json.loads((folder / "a.geojson").read_bytes())


def rasterised(collection: dict, tags: GeoTags, shape: tuple[int, int]) -> np.ndarray:
    """The label map that the polygons describe, burnt in the picture's own raster."""
    place = read_place(tags)
    back = ~Affine(*place.affine.ravel())
    shapes = []
    for feature in collection["features"]:
        rings = []
        for ring in feature["geometry"]["coordinates"]:
            xs, ys = zip(*ring, strict=True)
            if place.crs is not None:
                xs, ys = transform("EPSG:4326", place.crs, xs, ys)
            pixels = [
                (back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f)
                for x, y in zip(xs, ys, strict=True)
            ]
            assert np.abs(np.array(pixels) - np.round(pixels)).max() < 0.05
            rings.append(pixels)
        shapes.append(({"type": "Polygon", "coordinates": rings}, feature["properties"]["label"] + 1))
    if not shapes:
        return np.full(shape, -1)
    return rasterize(shapes, shape, dtype=np.int32) - 1


def signed_area(ring: list[list[float]]) -> float:
    points = np.array(ring) - ring[0]
    return float((points[:-1, 0] * points[1:, 1] - points[1:, 0] * points[:-1, 1]).sum())


MAPS = hnp.arrays(
    np.int16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-1, 2)
)


@settings(max_examples=80)
@given(MAPS, st.sampled_from(sorted(PLACES)))
def test_polygons_burn_back_to_the_label_map(
    tmp_path_factory: pytest.TempPathFactory, label_map: np.ndarray, name: str
) -> None:
    label_map.flags.writeable = False
    collection = written(tmp_path_factory.getbasetemp(), label_map, PLACES[name])
    assert np.array_equal(rasterised(collection, PLACES[name], label_map.shape), label_map)
    features = collection["features"]
    parts = [ndimage.label(label_map == class_id) for class_id in range(3)]
    assert len(features) == sum(count for _, count in parts)
    sizes = sorted(size for part, _ in parts for size in np.bincount(part.ravel())[1:].tolist())
    assert sorted(feature["properties"]["pixels"] for feature in features) == sizes
    for feature in features:
        outline, *holes = feature["geometry"]["coordinates"]
        assert signed_area(outline) > 0 and all(signed_area(hole) < 0 for hole in holes)
        assert all(ring[0] == ring[-1] and len(ring) >= 5 for ring in (outline, *holes))


def test_holes_and_regions_that_touch_at_corners(tmp_path: Path) -> None:
    label_map = np.zeros((5, 5), np.int16)
    label_map[1, 1] = label_map[2, 2] = label_map[3, 1] = 1
    collection = written(tmp_path, label_map, UTM)
    assert [len(one["geometry"]["coordinates"]) for one in collection["features"]] == [1, 1, 1, 4]
    assert [one["properties"]["pixels"] for one in collection["features"]] == [1, 1, 1, 22]


def test_properties(tmp_path: Path) -> None:
    label_map = np.array([[0, 0, -1], [1, 1, 1]], np.int16)
    found = [Found(0, Region("", 2, (0, 0, 2, 1)), 1.23456789, 0.5)]
    first, second = written(tmp_path, label_map, UTM, found)["features"]
    assert first["properties"] == {
        "class": "sky", "label": 0, "score": 1.234568, "confidence": 0.5, "pixels": 2, "area_m2": 200.0,
    }  # fmt: skip
    assert second["properties"]["class"] == "tree\n\x1b[31m \\udcff" and second["properties"]["score"] is None
    content = (tmp_path / "a.geojson").read_bytes()
    assert all(byte == 10 or 32 <= byte < 127 for byte in content), "inert on a terminal"
    written(tmp_path, label_map, UTM, found)
    assert (tmp_path / "a.geojson").read_bytes() == content


@pytest.mark.parametrize(
    ("tags", "area"),
    [
        (UTM, 100.0),
        ({**turned(3, 4, 5e5, 4, -3, 5e6), **keys(32633)}, 25.0),
        ({**north_up(9.8e5, 2e5, 1), **keys(2263)}, round((1200 / 3937) ** 2, 6)),  # US survey feet
        ({**north_up(13, 52, 1e-4), **keys(4326, model=2)}, None),
        ({**north_up(1.5e6, 6e6, 10), **keys(3857)}, None),
        ({**north_up(1.5e6, 6e6, 10), **keys(3395)}, None),
        ({**north_up(4e6, 3e6, 10), **keys(3035)}, 100.0),
        (north_up(5e5, 5e6, 10), None),
    ],
)
def test_areas_are_those_of_a_plane_that_has_some(tmp_path: Path, tags: GeoTags, area: float | None) -> None:
    (feature,) = written(tmp_path, np.zeros((1, 1), np.int16), tags)["features"]
    assert feature["properties"]["area_m2"] == area


def test_coordinates_are_longitude_and_latitude(tmp_path: Path) -> None:
    tags = {**north_up(13.25, 52.5, 0.5), **keys(4326, model=2)}
    collection = written(tmp_path, np.zeros((1, 2), np.int16), tags)
    assert "crs" not in collection
    ring = [[13.25, 52.5], [13.25, 52.0], [14.25, 52.0], [14.25, 52.5], [13.25, 52.5]]
    assert collection["features"][0]["geometry"] == {"type": "Polygon", "coordinates": [ring]}
    collection = written(tmp_path, np.zeros((1, 2), np.int16), turned(-0.5, 0, 100, 0, -0.5, 200))
    assert collection["crs"] is None, "a world file's plane has no name"
    assert sorted(collection["features"][0]["geometry"]["coordinates"][0][:4]) == [
        [99.0, 199.5], [99.0, 200.0], [100.0, 199.5], [100.0, 200.0],
    ]  # fmt: skip


def test_a_region_across_the_antimeridian_goes_on_beyond_it(tmp_path: Path) -> None:
    label_map = np.array([[0] * 40, [1] * 5 + [2] * 35], np.int16)
    collection = written(tmp_path, label_map, PLACES["the Fiji islands"])
    longitudes = {
        one["properties"]["label"]: [x for x, _ in one["geometry"]["coordinates"][0]]
        for one in collection["features"]
    }
    assert 179 < min(longitudes[0]) < 180 < max(longitudes[0]) < 181 and max(longitudes[1]) < 180
    globe = {**north_up(-180, 90, 90), **keys(4326, model=2)}
    collection = written(tmp_path, np.zeros((2, 4), np.int16), globe)
    assert {x for x, _ in collection["features"][0]["geometry"]["coordinates"][0]} == {-180.0, 180.0}


def test_many_batches_are_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label_map = np.random.default_rng(0).integers(-1, 3, (40, 50)).astype(np.int16)
    whole = written(tmp_path, label_map, UTM)
    monkeypatch.setattr(geojson, "_BATCH", 7)
    assert written(tmp_path, label_map, UTM) == whole


def test_nothing_labelled_is_an_empty_collection(tmp_path: Path) -> None:
    assert written(tmp_path, np.full((3, 4), -1, np.int16), UTM) == {
        "type": "FeatureCollection",
        "features": [],
    }


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (None, "nothing says where"),
        ({33922: tuple(map(float, range(24))), **keys(32633)}, "control points"),
    ],
)
def test_pictures_without_a_transform_have_none(tmp_path: Path, tags: GeoTags | None, reason: str) -> None:
    found = write_geojson(tmp_path / "a.geojson", np.zeros((1, 1), np.int16), NAMES, [], tags)
    assert found is not None and reason in found and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "tags",
    [
        {**north_up(5e5, 5e6, 10), **keys(32767)},  # a system of its own that nobody describes
        {**north_up(1e15, 5e6, 10), **keys(32633)},
        {**north_up(1e15, 5e6, 10), **keys(4326, model=2)},
    ],
)
def test_no_way_to_wgs_84(tmp_path: Path, tags: GeoTags) -> None:
    with pytest.raises(SanError, match="no way from the coordinate system"):
        write_geojson(tmp_path / "a.geojson", np.zeros((1, 1), np.int16), NAMES, [], tags)
    assert list(tmp_path.iterdir()) == []


def test_without_rasterio(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_without_rasterio()
    monkeypatch.setattr(geojson, "find_spec", lambda name: None)
    with pytest.raises(SanError, match=r"pip install rasterio"):
        refuse_without_rasterio()
