"""Results of pictures too large to copy: the same contents as an ordinary one's, made piece by piece."""

import hashlib
import io
import mmap
import tracemalloc
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from san_cli.outputs import large, overlay
from san_cli.outputs.gallery import write_photo
from san_cli.outputs.label_map import (
    read_label_map,
    write_confidence,
    write_gray_label_map,
    write_label_map,
)
from san_cli.outputs.large import averaged, bands, drop_pages, nearest
from san_cli.outputs.overlay import overlay_note, overlay_size, render_overlay
from san_cli.outputs.png import write_png
from san_cli.predict.made_files import mark_of
from san_cli.regions import parts, rle
from san_cli.regions.parts import count_parts
from san_cli.regions.rle import encode_label_map

label_maps = hnp.arrays(
    np.int16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(-1, 3)
)


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LARGE", 0)
    monkeypatch.setattr(large, "_BAND_PIXELS", 2000)


def names(count: int) -> list[str]:
    return [f"class number {i}" for i in range(count)]


def blobs(height: int, width: int, classes: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / (19 + 5 * c) + c) + np.cos(y / (21 + 3 * c) - c) for c in range(classes)]
    return np.argmax(waves, axis=0).astype(np.int16) - np.int16(1)


def photo(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    channels = 128 + 100 * np.sin(x / 17), 128 + 90 * np.cos(y / 23), (x + y) % 256
    return np.stack(channels, axis=2).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pillow_reads_a_png_of_any_bands(dtype: type, data: st.DataObject) -> None:
    pixels = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30)))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(pixels) - 1)), max_size=4)) - {len(pixels)})
    stream = io.BytesIO()
    write_png(stream, np.split(pixels, cuts), size=pixels.shape, bits=8 * pixels.itemsize)
    with Image.open(stream) as image:
        image.verify()  # the checksums
    with Image.open(stream) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_a_png_of_many_chunks() -> None:
    noise = np.random.default_rng(0).integers(0, 2**16, (1000, 900), np.uint16)
    stream = io.BytesIO()
    write_png(stream, (noise[band] for band in np.split(np.arange(1000), 20)), size=noise.shape, bits=16)
    assert stream.getvalue().count(b"IDAT") > 3
    with Image.open(stream) as image:
        assert np.array_equal(np.asarray(image), noise)


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize(("classes", "mode", "gray"), [(7, "P", "L"), (255, "P", "L"), (300, "I;16", "I;16")])
def test_large_label_maps_hold_what_ordinary_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int, mode: str, gray: str
) -> None:
    label_map = blobs(301, 407, 7)
    label_map[0, 0] = classes - 1
    path, gray_path = tmp_path / "labels.png", tmp_path / "labels-gray.png"
    write_label_map(path, label_map, names(classes))
    write_gray_label_map(gray_path, label_map, names(classes))
    assert np.array_equal(read_label_map(path), label_map)
    monkeypatch.setattr(large, "LARGE", 10**9)
    write_label_map(tmp_path / "ordinary.png", label_map, names(classes))
    with Image.open(path) as image, Image.open(tmp_path / "ordinary.png") as ordinary:
        assert image.mode == ordinary.mode == mode
        assert image.getpalette() == ordinary.getpalette()
        values = np.asarray(image)
        assert np.array_equal(values, np.asarray(ordinary))
    with Image.open(gray_path) as image:
        assert image.mode == gray
        assert np.array_equal(np.asarray(image), values)


@pytest.mark.usefixtures("everything_is_large")
def test_large_confidences_hold_what_ordinary_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confidence = np.random.default_rng(0).random((90, 130), np.float32)
    write_confidence(tmp_path / "large.png", confidence)
    monkeypatch.setattr(large, "LARGE", 10**9)
    write_confidence(tmp_path / "ordinary.png", confidence)
    with Image.open(tmp_path / "large.png") as image, Image.open(tmp_path / "ordinary.png") as ordinary:
        assert image.mode == "I;16"
        values = np.asarray(image)
        assert np.array_equal(values, np.asarray(ordinary))
        assert image.info == ordinary.info
        assert image.info["san:scale"] == "confidence = value / 65535"
    write_confidence(tmp_path / "values.png", values)
    assert (tmp_path / "values.png").read_bytes() == (tmp_path / "ordinary.png").read_bytes()


@pytest.mark.parametrize(("columns", "group"), [(1, 1), (2, 3), (7, 1000), (1000, 2)])
@settings(max_examples=60, deadline=None, suppress_health_check=[])
@given(label_map=label_maps)
def test_run_lengths_by_blocks_are_those_of_the_whole(
    columns: int, group: int, label_map: np.ndarray
) -> None:
    whole = encode_label_map(label_map)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_BLOCK_PIXELS", columns * len(label_map))
        patch.setattr(rle, "_GROUP_RUNS", group)
        assert encode_label_map(label_map) == whole


@pytest.mark.parametrize("rows", [1, 2, 7])
@settings(max_examples=60, deadline=None)
@given(label_map=label_maps)
def test_parts_by_stretches_are_those_of_the_whole(rows: int, label_map: np.ndarray) -> None:
    regions = encode_label_map(label_map)
    whole = count_parts(label_map, regions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_STRETCH_PIXELS", rows * label_map.shape[1])
        assert count_parts(label_map, regions) == whole


def test_parts_that_meet_far_below() -> None:
    """Two arms, joined in the last row alone, are one part; so is a ring whose arms part and meet again."""
    arms = np.zeros((400, 5), np.int16)
    arms[:-1, [1, 3]] = 1
    arms[-1] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_STRETCH_PIXELS", 35)
        assert count_parts(arms, encode_label_map(arms)) == {0: 3, 1: 1}
        assert count_parts(arms[::-1], encode_label_map(arms[::-1])) == {0: 3, 1: 1}


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((6336, 9504), (6336, 9504)),
        ((8000, 8000), (8000, 8000)),
        ((20_000, 20_000), (8000, 8000)),
        ((2000, 16_384), (2000, 16_384)),
        ((2000, 64_000), (512, 16_384)),
        ((1, 40_000), (1, 16_384)),
    ],
)
def test_how_large_an_overlay_is(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert overlay_size(*size) == small
    assert overlay_size(*size[::-1]) == small[::-1]
    assert (overlay_note(*size) is None) == (size == small)


def test_the_note_of_an_overlay() -> None:
    assert overlay_note(15_000, 20_000) == "overlay at 9237 × 6928 of 20000 × 15000 pixels"


@pytest.mark.parametrize(("height", "width"), [(450, 600), (600, 450), (90, 2800)])
def test_the_overlay_of_a_large_picture_is_that_of_a_smaller_one(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    monkeypatch.setattr(overlay, "LARGE", 60_000)
    size = overlay_size(height, width)
    image, label_map = photo(height, width), blobs(height, width, 3)
    shown = render_overlay(image, label_map, names(4))
    expected = render_overlay(np.asarray(averaged(image, size)), nearest(label_map, size), names(4))
    box = (0, 0, *size[::-1])
    assert shown.crop(box).tobytes() == expected.crop(box).tobytes()
    # A class that lies between all the centres has no place in the picture, but its line in the legend.
    seen = nearest(np.arange(label_map.size).reshape(label_map.shape), size)
    unseen = np.setdiff1d(np.arange(label_map.size // 4), seen)
    label_map.ravel()[unseen] = 3
    other = render_overlay(image, label_map, names(4))
    assert other.size != shown.size or other.tobytes() != shown.tobytes()


@pytest.mark.parametrize("size", [(123, 211), (300, 401), (301, 402), (20, 27)])
def test_averaging_by_bands_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(large, "_BAND_PIXELS", 5000)
    image = photo(301, 402)
    image[100:200, 100:200] = np.random.default_rng(0).integers(0, 256, (100, 100, 3))
    whole = Image.fromarray(image).resize(size[::-1], Image.Resampling.HAMMING)
    off = np.abs(np.asarray(averaged(image, size)).astype(int) - np.asarray(whole))
    assert off.mean() < 1
    assert off.max() <= 8  # fewer, averaged before, where the picture is far smaller


def test_the_thumbnail_of_a_large_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo(900, 1500)
    write_photo(tmp_path / "ordinary.jpg", image)
    monkeypatch.setattr(large, "LARGE", 10**6)
    write_photo(tmp_path / "large.jpg", image)
    with Image.open(tmp_path / "ordinary.jpg") as ordinary, Image.open(tmp_path / "large.jpg") as shown:
        assert shown.size == ordinary.size == (640, 384)
        assert np.abs(np.asarray(shown).astype(int) - np.asarray(ordinary)).mean() < 4


def test_bands_cover_every_row_once() -> None:
    for height, width in ((1, 1), (1000, 20_000), (7, 3_000_000), (20_000, 1)):
        assert [row for band in bands(height, width) for row in range(height)[band]] == list(range(height))


def test_pages_of_a_read_only_map_are_dropped(tmp_path: Path) -> None:
    """As the pixels of a large picture lie in memory; /proc tells only on Linux."""
    (tmp_path / "pixels").write_bytes(bytes(range(256)) * 40_000)
    with (tmp_path / "pixels").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    pixels = np.frombuffer(mapped, np.uint8).reshape(1000, -1, 16)
    total = int(pixels.sum())
    status = Path("/proc/self/status")
    read = resident_files(status) if status.exists() else 0.0
    drop_pages(pixels[5:])
    if status.exists():
        assert resident_files(status) < read - 9
    assert int(pixels.sum()) == total


def resident_files(status: Path) -> float:
    """Megabytes of mapped files in this process's memory."""
    return next(
        int(line.split()[1]) / 1000 for line in status.read_text().splitlines() if line.startswith("RssFile")
    )


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_dropped_pages_come_back(tmp_path: Path, mode: str) -> None:
    content = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    (tmp_path / "pixels").write_bytes(content.tobytes())
    pixels = np.memmap(tmp_path / "pixels", np.uint8, mode, shape=content.shape)
    if mode != "r":
        content[0] = pixels[0] = 7
    assert np.array_equal(pixels, content)
    drop_pages(pixels)
    drop_pages(np.asarray(pixels)[10:])
    assert np.array_equal(pixels, content)
    drop_pages(content)  # nothing to drop


@pytest.mark.usefixtures("everything_is_large")
def test_no_second_label_map_is_made(tmp_path: Path) -> None:
    """Beside 50 MB of label map: bands for the PNG; blocks and 30 bytes a run for the run lengths."""
    label_map = np.tile(blobs(1000, 1000, 5), (5, 5))
    peaks = {}
    tracemalloc.start()
    try:
        for work, make in {
            "png": lambda: write_label_map(tmp_path / "labels.png", label_map, names(300)),
            "runs": lambda: encode_label_map(label_map),
            "parts": lambda: count_parts(
                label_map, {0: next(iter(encode_label_map(label_map[:9]).values()))}
            ),
        }.items():
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            make()
            peaks[work] = (tracemalloc.get_traced_memory()[1] - before) / 1e6
    finally:
        tracemalloc.stop()
    assert peaks["png"] < 5, peaks
    assert peaks["runs"] < 40, peaks
    assert peaks["parts"] < 40, peaks


def test_a_mark_is_of_the_whole_file(tmp_path: Path) -> None:
    for size in (0, 1, 2**20, 3 * 2**20 + 5):
        content = np.random.default_rng(size).bytes(size)
        (tmp_path / "file").write_bytes(content)
        assert mark_of(tmp_path / "file") == (size, hashlib.blake2b(content, digest_size=8).hexdigest())
