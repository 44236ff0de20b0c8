"""A picture for each class: 0 and 255, and the photograph cut out."""

from pathlib import Path

import numpy as np
import pytest
from painted import nested
from PIL import Image

from san_cli.outputs import large
from san_cli.outputs.annotations import masks
from san_cli.outputs.annotations.masks import write_cutout, write_mask

LABEL_MAP = nested()
PHOTO = np.random.default_rng(0).integers(0, 256, (*LABEL_MAP.shape, 3), dtype=np.uint8)


@pytest.fixture(params=["whole", "in bands"])
def _size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in bands":
        monkeypatch.setattr(large, "LARGE", 100)
        monkeypatch.setattr(large, "_BAND_PIXELS", 43 * 4)


@pytest.mark.usefixtures("_size")
@pytest.mark.parametrize("class_id", [0, 3, 7])
@pytest.mark.parametrize("dtype", [np.int16, np.int64])
def test_a_mask(tmp_path: Path, class_id: int, dtype: type) -> None:
    write_mask(tmp_path / "a.png", LABEL_MAP.astype(dtype), class_id)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), np.where(class_id == LABEL_MAP, 255, 0))


@pytest.mark.usefixtures("_size")
@pytest.mark.parametrize("class_id", [0, 3, 7])
def test_a_cutout(tmp_path: Path, class_id: int) -> None:
    write_cutout(tmp_path / "a.png", PHOTO, LABEL_MAP, class_id)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "RGBA"
        pixels = np.asarray(picture)
    inside = class_id == LABEL_MAP
    assert np.array_equal(pixels[inside], np.pad(PHOTO[inside], ((0, 0), (0, 1)), constant_values=255))
    assert not pixels[~inside].any()


def test_the_photograph_is_not_changed(tmp_path: Path) -> None:
    before = PHOTO.copy()
    read_only = PHOTO.view()
    read_only.flags.writeable = False
    write_cutout(tmp_path / "a.png", read_only, LABEL_MAP, 1)
    assert np.array_equal(PHOTO, before)


def test_equal_pixels_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_mask(tmp_path / name, LABEL_MAP, 1)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert masks.is_large(8001, 8000)
