"""No fault of a file escapes as anything but BadImage: not a file, damaged, odd, from any thread."""

import io
import os
import random
import socket
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from san_cli.datasets.images import BadImage, LoadedImage, load_image, load_image_bytes
from san_cli.errors import ExitCode, SanError

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 32, 3)).astype(np.uint8)
SMOOTH = np.stack([np.linspace(top, 250, 5400).reshape(60, 90) for top in (0, 90, 200)], 2).astype(np.uint8)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")


def encode(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def outcome(data: bytes) -> LoadedImage | str:
    """The image or the cause; anything else is what these tests look for."""
    try:
        return load_image_bytes(data, max_pixels=4_000_000)
    except BadImage as error:
        return error.cause


def fault(path: Path | str) -> str:
    with pytest.raises(BadImage) as caught:
        load_image(path)
    assert caught.value.code == ExitCode.SOME_FAILED
    assert caught.value.message.isprintable()
    return caught.value.cause


def test_things_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        assert "socket" in fault("socket.jpg")
    Path("gone.jpg").symlink_to("nowhere")
    Path("loop.jpg").symlink_to("loop.jpg")
    Path("empty.jpg").touch()
    assert "pipe" in fault("pipe.jpg")
    assert "device" in fault("/dev/zero")
    assert "folder" in fault(tmp_path)
    assert "broken link" in fault("gone.jpg")
    assert "link" in fault("loop.jpg")
    assert "no such file" in fault("missing.jpg")
    assert "empty" in fault("empty.jpg")
    assert "name" in fault("a" * 300)
    assert "name" in fault("nul\0inside")


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encode(PHOTO))
    (tmp_path / "link.png").symlink_to("photo.png")
    assert np.array_equal(load_image(tmp_path / "link.png").pixels, PHOTO)


def test_absurdly_large_file_is_not_read(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse.jpg"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    assert "bytes" in fault(sparse)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encode(PHOTO))
    (tmp_path / "secret.png").chmod(0)
    assert "permission denied" in fault(tmp_path / "secret.png")


def test_error_names_the_path_harmlessly(tmp_path: Path) -> None:
    evil = tmp_path / "a\n\x1b[31m[red]\udcff.jpg"
    evil.write_bytes(b"text")
    with pytest.raises(SanError) as caught:
        load_image(evil)
    assert caught.value.message.isprintable()
    assert r"a\n\x1b[31m[red]\udcff.jpg: not an image" in caught.value.message


def test_loading_changes_nothing(tmp_path: Path) -> None:
    photo = tmp_path / "photo.tif"
    photo.write_bytes(encode(PHOTO, "TIFF", exif=turned()))
    before = photo.read_bytes(), photo.stat().st_mtime_ns
    load_image(photo)
    assert (photo.read_bytes(), photo.stat().st_mtime_ns) == before


def damages(data: bytes, count: int, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    cuts = [data[: max(1, len(data) * percent // 100)] for percent in (1, 10, 50, 90, 99)]
    cuts += [data[:1], data[:16], data[16:], data + data]
    while len(cuts) < count:
        damaged = bytearray(data)
        if chance.random() < 0.3:
            start = chance.randrange(len(damaged))
            damaged[start : start + 64] = bytes(len(damaged[start : start + 64]))
        else:
            end = chance.choice((64, len(damaged)))
            for _ in range(chance.choice((1, 4, 32))):
                damaged[chance.randrange(min(end, len(damaged)))] ^= 1 << chance.randrange(8)
        cuts.append(bytes(damaged))
    return cuts


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_is_an_image_or_one_sentence(kind: str) -> None:
    options: dict[str, object] = {"exif": turned()} if kind in ("JPEG", "PNG", "TIFF", "WEBP") else {}
    if kind == "TIFF":
        options["compression"] = "tiff_lzw"
    whole = encode(SMOOTH, kind, **options)
    upright = load_image_bytes(whole).pixels
    outcomes = [outcome(data) for data in damages(whole, 40, FORMATS.index(kind))]
    causes = [found for found in outcomes if isinstance(found, str)]
    assert len(causes) >= 5
    assert all(cause and cause.isprintable() for cause in causes)
    for found in outcomes:
        assert isinstance(found, str) or (found.pixels.dtype == np.uint8 and found.pixels.shape[2:] == (3,))
    assert np.array_equal(load_image_bytes(whole).pixels, upright)  # a good one afterwards is still good


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    found = outcome(data)
    assert isinstance(found, LoadedImage) or found.isprintable()


@pytest.mark.parametrize("part", [0.5, 0.99])
def test_truncated_is_called_so(part: float) -> None:
    data = encode(np.tile(PHOTO, (5, 5, 1)), "JPEG")
    found = outcome(data[: int(len(data) * part)])
    assert isinstance(found, str)
    assert "truncated" in found


ODD_EXIF = b"Exif\0\0II*\0\xff\xff\xff\xff"  # Pillow warns of it


def test_pillow_warnings_become_notes_whatever_the_filters() -> None:
    data = encode(PHOTO, "JPEG", exif=ODD_EXIF)
    for action in ("error", "always", "default", "ignore"):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter(action)  # type: ignore[arg-type]
            notes = load_image_bytes(data).notes
        assert notes[0].startswith("Pillow: Corrupt EXIF data")
        assert seen == []


def test_warnings_of_others_are_left_alone() -> None:
    load_image_bytes(encode(PHOTO))
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_threads_get_their_own_images_and_notes() -> None:
    odd, plain = encode(PHOTO, "JPEG", exif=ODD_EXIF), encode(PHOTO, "JPEG")
    upright = load_image_bytes(plain).pixels
    start = threading.Barrier(8)

    def work(number: int) -> bool:
        if number < 8:
            start.wait()
        loaded = load_image_bytes(odd if number % 2 else plain)
        return len(loaded.notes) == number % 2 and np.array_equal(loaded.pixels, upright)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))
