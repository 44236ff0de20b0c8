"""Label maps as GeoTIFFs: rasterio and Pillow read the ids, the palette, the names and the place."""

import re
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.transform import Affine

from san_cli.errors import SanError
from san_cli.outputs import label_tiff
from san_cli.outputs.colours import colour_of
from san_cli.outputs.label_tiff import write_label_tiff

UTM = {
    33550: (10.0, 10.0, 0.0),
    33922: (0.0, 0.0, 0.0, 5e5, 5e6, 0.0),
    34735: (1, 1, 0, 3, 1024, 0, 1, 1, 1026, 34737, 8, 0, 3072, 0, 1, 32633),
    34737: "naïve €|".encode().decode("latin-1"),
}


def vocabulary(size: int) -> list[str]:
    return [f"class number {i}" for i in range(size)]


def random_map(size: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(-1, size, shape).astype(np.int16)


def stored(label_map: np.ndarray, size: int) -> np.ndarray:
    return np.where(label_map < 0, 255 if size <= 255 else 65535, label_map.astype(np.int64))


@pytest.mark.parametrize("size", [1, 3, 255, 256, 300])
@pytest.mark.parametrize("shape", [(1, 1), (512, 512), (1, 513), (511, 3), (700, 1100), (1025, 1)])
def test_rasterio_and_pillow_read_the_ids(tmp_path: Path, size: int, shape: tuple[int, int]) -> None:
    path, label_map = tmp_path / "labels.tif", random_map(size, shape)
    write_label_tiff(path, label_map, vocabulary(size), UTM)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), stored(label_map, size))
        assert file.dtypes == ("uint8" if size <= 255 else "uint16",)
        assert file.nodata == (255 if size <= 255 else 65535)
        assert np.array_equal(file.dataset_mask() > 0, label_map >= 0)
        assert file.block_shapes == [(512, 512)] and file.profile["compress"] == "deflate"
        assert file.profile["tiled"] or shape == (512, 512)  # to rasterio tiles are narrower than the picture
        assert file.crs.to_epsg() == 32633 and file.transform == Affine(10, 0, 5e5, 0, -10, 5e6)
    with Image.open(path) as image:
        assert image.mode == ("P" if size <= 255 else "I;16")
        assert np.array_equal(np.asarray(image), stored(label_map, size))


@settings(max_examples=30)
@given(
    hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(-1, 4)),
    st.booleans(),
)
def test_any_strides_and_types(
    tmp_path_factory: pytest.TempPathFactory, label_map: np.ndarray, flipped: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "strides.tif"
    view = label_map.T[::-1] if flipped else label_map.astype(np.int64)
    write_label_tiff(path, view, vocabulary(5), UTM)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), stored(view, 5))


def test_the_palette_holds_the_colours_of_the_classes(tmp_path: Path) -> None:
    names = ["sky", "tree", "road"]
    write_label_tiff(tmp_path / "labels.tif", random_map(3, (4, 5)), names, UTM)
    with rasterio.open(tmp_path / "labels.tif") as file:
        colours = file.colormap(1)
    assert [colours[i] for i in range(3)] == [(*colour_of(name), 255) for name in names]
    assert colours[255][:3] == (0, 0, 0)


def test_names_are_items_of_the_band(tmp_path: Path) -> None:
    names = [
        "sky", "a <b> & 'c' \"d\"", "naïve 🌍 日本", "&amp; &lt;", "]]>", "line\nbreak", "a=b", "</Item>",
        "escape \x1b[31m", "byte \udcff", "next\x85line",
    ]  # fmt: skip
    write_label_tiff(tmp_path / "labels.tif", np.zeros((1, 1), np.int16), names, UTM)
    with rasterio.open(tmp_path / "labels.tif") as file:
        items = file.tags(1)
    spelled = ["escape \\x1b[31m", "byte \\udcff", "next\\x85line"]
    assert [items[f"CLASS_{i}"] for i in range(len(names))] == [*names[:8], *spelled]


def test_text_tags_keep_their_bytes(tmp_path: Path) -> None:
    write_label_tiff(tmp_path / "labels.tif", np.zeros((1, 1), np.int16), ["a"], UTM)
    with Image.open(tmp_path / "labels.tif") as image:
        assert image.tag_v2[34737].encode("latin-1") == "naïve €|".encode()
        assert image.tag_v2[34735] == UTM[34735]


def test_equal_maps_give_equal_bytes_and_no_place_is_no_georeference(tmp_path: Path) -> None:
    for name in "ab":
        write_label_tiff(tmp_path / name, random_map(9, (600, 50)), vocabulary(9), None)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with Image.open(tmp_path / "a") as image:
        assert not set(image.tag_v2) & {33550, 33922, 34264, 34735, 34736, 34737}


def test_what_4_gigabytes_do_not_hold_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, label_map = tmp_path / "labels.tif", random_map(300, (700, 600))
    write_label_tiff(path, label_map, vocabulary(300), UTM)
    classic = path.read_bytes()
    for limit, magic in ((len(classic), b"II*\0"), (len(classic) - 1, b"II+\0")):
        monkeypatch.setattr(label_tiff, "_MOST_BYTES", limit)
        write_label_tiff(path, label_map, vocabulary(300), UTM)
        assert path.read_bytes()[:4] == magic
        with rasterio.open(path) as file:
            assert np.array_equal(file.read(1), stored(label_map, 300))
            assert file.crs.to_epsg() == 32633 and file.tags(1)["CLASS_299"] == "class number 299"


def test_ids_and_numbers_of_classes_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outside"):
        write_label_tiff(tmp_path / "labels.tif", np.array([[0, 3]]), vocabulary(3), UTM)
    with pytest.raises(SanError, match=re.escape("65535")):
        write_label_tiff(tmp_path / "labels.tif", np.zeros((1, 1), int), [""] * 65536, UTM)
    assert list(tmp_path.iterdir()) == []
