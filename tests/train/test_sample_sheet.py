"""The sheet of samples: what is on it, and where."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from train_data import CLASSES, picture

from san_cli.outputs.overlay import render_overlay
from san_cli.train.sample_sheet import SheetRow, write_sample_sheet

HEIGHT, WIDTH, HEAD, GAP = 300, 400, 28, 6  # of a row, of a picture of 96 × 128, of a line of text, between


def row_of(number: int) -> SheetRow:
    pixels, labels = picture(number)
    truth = np.where(labels == 255, -1, labels.astype(np.int32))
    return SheetRow(pixels, truth, np.zeros_like(labels))


def opened(path: Path) -> Image.Image:
    with Image.open(path) as sheet:
        sheet.load()
        assert (sheet.format, sheet.mode) == ("JPEG", "RGB")
        return sheet


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_row_for_each_sample(tmp_path: Path, count: int) -> None:
    write_sample_sheet(tmp_path / "a.jpg", [row_of(n) for n in range(count)], CLASSES, "iteration 7")
    sheet = opened(tmp_path / "a.jpg")
    assert sheet.height == 2 * HEAD + GAP + count * (HEIGHT + GAP)
    assert sheet.width > WIDTH


def test_image_truth_and_prediction_stand_side_by_side(tmp_path: Path) -> None:
    row = row_of(0)
    write_sample_sheet(tmp_path / "a.jpg", [row], CLASSES, "")
    sheet = np.asarray(opened(tmp_path / "a.jpg")).astype(int)
    top = 2 * HEAD + GAP
    image = sheet[top : top + HEIGHT, GAP : GAP + WIDTH]
    resized = Image.fromarray(row.image).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    assert np.abs(image - np.asarray(resized)).mean() < 4  # JPEG
    left = GAP + WIDTH + GAP
    for ids in (row.truth, row.prediction):  # the very overlays of `san predict`, at that height
        overlay = render_overlay(row.image, ids, CLASSES)
        width = round(overlay.width * HEIGHT / overlay.height)
        expected = np.asarray(overlay.resize((width, HEIGHT), Image.Resampling.BILINEAR))
        assert np.abs(sheet[top : top + HEIGHT, left : left + width] - expected).mean() < 6
        left += width + GAP
    assert left == sheet.shape[1]


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        write_sample_sheet(tmp_path / name, [row_of(1), row_of(2)], CLASSES, "iteration 7")
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()
    write_sample_sheet(tmp_path / "c.jpg", [row_of(1), row_of(2)], CLASSES, "iteration 8")
    assert (tmp_path / "a.jpg").read_bytes() != (tmp_path / "c.jpg").read_bytes()


@pytest.mark.parametrize("size", [(1, 1), (2, 30), (300, 2), (97, 64)])
def test_odd_sizes_and_names(tmp_path: Path, size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (*size, 3), np.uint8)
    ids = generator.integers(-1, 3, size)
    names = ("木", "\x1b[31mred", "a name that goes on and on " * 4)
    write_sample_sheet(tmp_path / "a.jpg", [SheetRow(pixels, ids, ids)], names, "Ünïcode \x1b[0m 木")
    assert opened(tmp_path / "a.jpg").height == 2 * HEAD + HEIGHT + 2 * GAP


def test_no_class_anywhere(tmp_path: Path) -> None:
    nothing = np.full((20, 30), -1)
    row = SheetRow(np.full((20, 30, 3), 99, np.uint8), nothing, nothing)
    write_sample_sheet(tmp_path / "a.jpg", [row], ("sky",), "")
    assert opened(tmp_path / "a.jpg").height == 2 * HEAD + HEIGHT + 2 * GAP


def test_a_sheet_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample_sheet(tmp_path / "a.jpg", [row_of(1)], CLASSES, "old")
    before = (tmp_path / "a.jpg").read_bytes()

    def full(self: Image.Image, stream: io.BytesIO, *_: object, **__: object) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_sample_sheet(tmp_path / "a.jpg", [row_of(1)], CLASSES, "new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.jpg": before}
