"""`--range`, `--bands` and `--max-bytes` from the command line and from Python, and files that are mostly filling."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from encoded import encode
from PIL import Image
from program import San
from tiff_files import write_tiff

from san_cli.datasets.images import BadImage, load_image, load_image_bytes
from san_cli.datasets.reading import Reading
from san_cli.engine.segmenter import Segmenter
from san_cli.errors import ExitCode

Y, X = np.mgrid[:48, :64]
HEIGHTS = np.where(Y < 12, -9999, X * 4 + 300.0).astype(np.float32)[:, :, None]
DARK = (np.dstack([X, Y, X + Y]) * 20).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "dark.tif").write_bytes(write_tiff(DARK))
    (tmp_path / "in" / "heights.tif").write_bytes(write_tiff(HEIGHTS, tags={42113: b"-9999"}))
    return tmp_path / "in"


def test_notes_lead_to_the_option_and_nodata_has_no_label(predict: San, folder: Path, tmp_path: Path) -> None:
    ended = predict(folder, "-o", tmp_path / "out", "--save", "labels,json")
    assert ended.code == 0
    assert "dark.tif: nearly all values are below" in ended.err
    assert "--range auto" in ended.err
    with Image.open(tmp_path / "out" / "heights.labels.png") as image:
        assert np.array_equal(np.asarray(image) == 255, Y < 12)
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    heights = next(row["id"] for row in found["images"] if row["file_name"] == "heights.tif")
    areas = [row["area"] for row in found["annotations"] if row["image_id"] == heights]
    assert sum(areas) == int((Y >= 12).sum())


def test_another_range_is_another_run(predict: San, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(folder, "-o", out, "--save", "overlay", "--range", "0,2000").code == 0
    assert predict(folder, "-o", out, "--save", "overlay", "--range", "0,2000").code == 0
    for other in (["--range", "auto"], [], ["--range", "0,2000", "--bands", "1"]):
        ended = predict(folder, "-o", out, "--save", "overlay", *other)
        assert ended.code == ExitCode.USAGE
        assert "range" in ended.err or "bands" in ended.err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--range", "5"), ("--range", "9,1"), ("--range", "automatic"), ("--bands", "0,1,2")],
)
def test_senseless_values_are_usage_errors(predict: San, folder: Path, option: str, value: str) -> None:
    ended = predict(folder, "-o", folder / "out", "--weights", "missing.safetensors", option, value)
    assert ended.code == ExitCode.USAGE
    assert option in ended.err
    assert not (folder / "out").exists()


def test_bands_that_are_not_there_fail_that_image(predict: San, folder: Path, tmp_path: Path) -> None:
    ended = predict(folder, "-o", tmp_path / "out", "--bands", "3,2,1", "--save", "labels")
    assert ended.code == ExitCode.SOME_FAILED
    assert "failed: heights.tif: has 1 band" in ended.err


def test_python_takes_a_reading_and_gives_the_notes(folder: Path, tiny_weights: Path) -> None:
    torch.set_num_threads(1)
    segmenter = Segmenter.load(weights=tiny_weights, device="cpu")
    dark, heights = segmenter.segment_batch([folder / "dark.tif", folder / "heights.tif"], ["cat", "dog"])
    assert any("dark" in note for note in dark.notes)
    assert np.array_equal(heights.label_map == -1, Y < 12)
    assert not segmenter.segment(folder / "dark.tif", ["cat"], reading=Reading(range=(0, 2000))).notes


def filled(kind: str) -> bytes:
    """A small picture whose header is mostly filling that a decoder looks through in steps."""
    picture = np.zeros((8, 8, 3), np.uint8)
    if kind == "JPEG":
        data = encode(picture, "JPEG")
        return data[:2] + b"\xff" * 2_000_000 + data[2:]
    if kind == "JPEG comments":
        data = encode(picture, "JPEG")
        return data[:2] + b"\xff\xfe\0\2" * 500_000 + data[2:]
    if kind == "PNG":
        data = encode(picture)
        return data[:33] + b"\0\0\0\0teXt\xa8\x84\x8e\x3f" * 200_000 + data[33:]
    data = encode(picture, "PPM")
    return data[:3] + b"#" + b"x" * 2_000_000 + b"\n" + data[3:]


@pytest.mark.parametrize("kind", ["JPEG", "JPEG comments", "PNG", "PPM"])
def test_a_header_of_filling_ends_soon(kind: str) -> None:
    with pytest.raises(BadImage):
        load_image_bytes(filled(kind))


def test_large_metadata_is_no_filling() -> None:
    data = encode(np.zeros((8, 8, 3), np.uint8), "JPEG")
    parts = (b"\xff\xe1\xff\xff" + b"x" * 65533) * 300  # 20 MB, as some editors leave it
    assert load_image_bytes(data[:2] + parts + data[2:]).pixels.shape == (8, 8, 3)
    assert load_image_bytes(data + bytes(20_000_000)).pixels.shape == (8, 8, 3)


def test_bytes_need_pixels(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(encode(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    size = photo.stat().st_size
    with photo.open("r+b") as file:
        file.truncate(300 * 2**20)  # sparse: nothing is written
    with pytest.raises(BadImage, match="--max-bytes"):
        load_image(photo)
    with photo.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(BadImage, match="--max-bytes"):
        load_image(photo, max_bytes=size - 1)
    assert load_image(photo, max_bytes=size).pixels.shape == (8, 8, 3)
