"""TIFFs that only GDAL reads: through rasterio where it is installed, named with the way to it where it isn't."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tiff_files import write_tiff

from san_cli.datasets import raster, spooled
from san_cli.datasets.images import BadImage, load_image, load_image_bytes, silence_decoders
from san_cli.datasets.reading import Reading

H, W = 60, 90
RNG = np.random.default_rng(2)
RGB = RNG.integers(0, 256, (3, H, W)).astype(np.uint8)
WIDE = RGB.astype(np.uint16) * 257
FLOAT = np.where(np.arange(W) < 9, -9999, RGB[:1] / 3).astype(np.float32)
KINDS = {  # values and how they are stored
    "LERC": (RGB, {"compress": "LERC"}),
    "LERC of 16 bits": (WIDE, {"compress": "LERC", "tiled": True, "blockxsize": 32, "blockysize": 32}),
    "LERC of floats": (FLOAT, {"compress": "LERC_DEFLATE", "nodata": -9999}),
    "8 bands": (np.concatenate([WIDE, WIDE, WIDE[:2]]), {"compress": "LERC", "interleave": "band"}),
    "WebP": (RGB, {"compress": "WEBP", "webp_lossless": True}),
    "24 bits": ((RGB[:1].astype(np.uint32) * 65793), {"nbits": 24}),
}


def write(path: Path, name: str) -> Path:
    rasterio = pytest.importorskip("rasterio")
    values, options = KINDS[name]
    shape = {"count": len(values), "height": H, "width": W, "dtype": values.dtype}
    try:
        with rasterio.open(
            path, "w", driver="GTiff", photometric="RGB" if len(values) == 3 else "MINISBLACK",
            crs="EPSG:32633", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000), **shape, **options,
        ) as dataset:  # fmt: skip
            dataset.write(values)
    except rasterio.errors.RasterioError as error:
        pytest.skip(f"this GDAL doesn't write it: {error}")
    return path


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("is_large", [False, True])
def test_it_is_read_as_if_it_were_of_a_common_kind(
    name: str, is_large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.tif", name)
    values, options = KINDS[name]
    if is_large:
        monkeypatch.setattr(spooled, "MOST_IN_MEMORY", 0)
        monkeypatch.setattr(spooled, "BAND_PIXELS", 700)
    plain = np.moveaxis(values, 0, 2).copy()
    tags = {42113: b"-9999"} if "nodata" in options else {}
    photometric = 2 if len(values) == 3 else 1
    same = load_image_bytes(
        write_tiff(plain, photometric=photometric, planar="interleave" in options, tags=tags)
    )
    loaded = load_image(path)
    if name != "24 bits":  # of 32 bits the range is by the values
        assert loaded.notes == same.notes
    assert np.array_equal(loaded.pixels, same.pixels)
    assert (loaded.no_data is None) == (same.no_data is None)
    assert loaded.no_data is None or np.array_equal(loaded.no_data, same.no_data)
    assert loaded.geo_tags is not None
    if len(values) > 3:
        assert np.array_equal(
            load_image(path, reading=Reading(bands=(6, 5, 4))).pixels, same.pixels[:, :, ::-1]
        )


def test_an_internal_mask_is_obeyed(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    hole = np.arange(W) * np.ones((H, 1)) < 20
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write(tmp_path / "a.tif", "LERC")
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(~hole)
    loaded = load_image(path)
    assert np.array_equal(loaded.no_data, hole)


def test_damage_is_one_sentence_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    silence_decoders()
    for name in ("LERC", "LERC of 16 bits", "WebP"):
        whole = write(tmp_path / "a.tif", name).read_bytes()
        for seed in range(12):
            damaged = bytearray(whole)
            for at in np.random.default_rng(seed).integers(300, len(whole), 40):
                damaged[at] ^= 0x55
            with suppress(BadImage):
                assert load_image_bytes(bytes(damaged)).pixels.shape == (H, W, 3)
        with pytest.raises(BadImage):
            load_image_bytes(whole[: len(whole) * 2 // 3])
    assert capfd.readouterr().err == ""


def test_several_threads_read_at_once(tmp_path: Path) -> None:
    names = ("LERC", "LERC of 16 bits", "8 bands")
    paths = [write(tmp_path / f"{number}.tif", name) for number, name in enumerate(names)]
    alone = [load_image(path).pixels for path in paths]
    with ThreadPoolExecutor(6) as pool:
        for number, loaded in enumerate(pool.map(load_image, paths * 10)):
            assert np.array_equal(loaded.pixels, alone[number % len(paths)])


def test_what_we_read_ourselves_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        pytest.fail(f"asked for {name}")

    monkeypatch.setattr(raster, "find_spec", fail)
    for values in (WIDE, FLOAT, RGB):
        load_image_bytes(write_tiff(np.moveaxis(values, 0, 2).copy(), compression=8, tile=16))


@pytest.mark.parametrize("name", ["LERC", "24 bits", "WebP"])
def test_without_rasterio_its_extra_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.tif", name)
    monkeypatch.setattr(raster, "find_spec", lambda name: None)
    with pytest.raises(BadImage, match=r"pip install rasterio"):
        load_image(path)


def test_complex_numbers_are_no_picture() -> None:
    with pytest.raises(BadImage, match="complex") as caught:
        load_image_bytes(write_tiff(np.zeros((8, 8, 1), np.complex64)))
    assert "geo" not in caught.value.cause
