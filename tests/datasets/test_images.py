"""Every kind of image becomes an upright RGB array, or one sentence: formats, modes, orientations, limits."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from encoded import encode
from PIL import Image

from san_cli.datasets.images import BadImage, as_rgb_array, displayed_size, load_image, load_image_bytes

H, W = 20, 32
PHOTO = np.random.default_rng(0).integers(0, 256, (H, W, 3)).astype(np.uint8)
SMOOTH = np.stack([np.linspace(top, 250, H * W).reshape(H, W) for top in (0, 90, 200)], 2).astype(np.uint8)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # what EXIF says to do with the stored rows
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def cause(data: bytes, **options: object) -> str:
    with pytest.raises(BadImage) as caught:
        load_image_bytes(data, **options)  # type: ignore[arg-type]
    assert caught.value.cause.isprintable()
    return caught.value.cause


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_decodes_to_rgb(kind: str) -> None:
    loaded = load_image_bytes(encode(SMOOTH, kind))
    assert loaded.pixels.shape == (H, W, 3)
    assert loaded.pixels.dtype == np.uint8
    assert np.abs(loaded.pixels.astype(int) - SMOOTH).mean() < 8
    assert loaded.exif_orientation == 1
    assert loaded.notes == ()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_lossless_formats_are_exact(kind: str) -> None:
    assert np.array_equal(load_image_bytes(encode(PHOTO, kind)).pixels, PHOTO)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_and_reported(kind: str, value: int) -> None:
    upright = load_image_bytes(encode(PHOTO, kind)).pixels
    loaded = load_image_bytes(encode(PHOTO, kind, exif=orientation(value)))
    assert np.array_equal(loaded.pixels, TURNS[value](upright))
    assert loaded.exif_orientation == value
    assert loaded.pixels.shape[:2] == ((W, H) if value >= 5 else (H, W))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_header_promises_the_displayed_size(kind: str, value: int, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(encode(PHOTO, kind, exif=orientation(value)))
    assert displayed_size(tmp_path / "photo") == load_image(tmp_path / "photo").pixels.shape[:2]


def test_header_of_what_is_no_image_promises_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_bytes(b"text")
    (tmp_path / "bomb.png").write_bytes(huge_png(40_000, 25_000))
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path, *tmp_path.iterdir(), tmp_path / "missing.jpg", Path("/dev/zero")):
        assert displayed_size(path) is None
    (tmp_path / "cut.jpg").write_bytes(encode(PHOTO, "JPEG")[:-200])
    assert displayed_size(tmp_path / "cut.jpg") == (H, W)


def test_orientation_of_16_bit_grey() -> None:
    values = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 100
    upright = load_image_bytes(encode(values)).pixels
    turned = load_image_bytes(encode(values, exif=orientation(6))).pixels
    assert np.array_equal(turned, TURNS[6](upright))


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage", b"Exif\0\0"])
def test_broken_exif_never_fails_an_image(exif: bytes) -> None:
    assert load_image_bytes(encode(PHOTO, "JPEG", exif=exif)).exif_orientation == 1


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_senseless_orientation_is_upright(value: int) -> None:
    loaded = load_image_bytes(encode(PHOTO, exif=orientation(value)))
    assert np.array_equal(loaded.pixels, PHOTO)
    assert loaded.exif_orientation == 1
    assert bool(loaded.notes) == (value > 8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.linspace(0, 65535, H * W).astype(np.uint16).reshape(H, W)
    loaded = load_image_bytes(encode(values, kind))
    assert np.array_equal(loaded.pixels, np.repeat(np.rint(values / 257).astype(np.uint8)[:, :, None], 3, 2))
    assert "integer" in loaded.notes[0]


def test_16_bit_netpbm() -> None:
    values = np.array([[0, 257, 65535]], ">u2")
    loaded = load_image_bytes(b"P5\n3 1\n65535\n" + values.tobytes())
    assert loaded.pixels[0, :, 0].tolist() == [0, 1, 255]


def test_tiff_range_tag_is_heeded() -> None:
    values = np.array([[0, 2048, 4095]], np.uint16)
    loaded = load_image_bytes(encode(values, "TIFF", tiffinfo={281: 4095}))
    assert loaded.pixels[0, :, 0].tolist() == [0, 128, 255]


def test_16_bit_white_is_zero() -> None:
    tiff = bytearray(encode(np.array([[0, 65535]], np.uint16), "TIFF"))
    entry = tiff.index(struct.pack("<HHI", 262, 3, 1))
    tiff[entry + 8 : entry + 10] = b"\0\0"
    assert load_image_bytes(bytes(tiff)).pixels[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 100, 255], [0, 100, 255]),  # 8 bits in a 32-bit array
        ([0, 65535, 257], [0, 255, 1]),
        ([-100, 0, 100], [0, 128, 255]),
        ([0, 2**31 - 1, 0], [0, 255, 0]),
    ],
)
def test_32_bit_integers(values: list[int], expected: list[int]) -> None:
    assert load_image_bytes(encode(np.array([values], np.int32), "TIFF")).pixels[0, :, 0].tolist() == expected


def test_float_is_stretched_and_nan_is_black() -> None:
    values = np.array([[-1, 0, 1, np.nan, np.inf]], np.float32)
    loaded = load_image_bytes(encode(values, "TIFF"))
    assert loaded.pixels[0, :, 1].tolist() == [0, 128, 255, 0, 0]
    assert any("2 pixels are not finite" in note for note in loaded.notes)
    assert "finite" in cause(encode(np.full((4, 4), np.nan, np.float32), "TIFF"))
    wide = np.array([[-3e38, 3e38]], np.float32)
    assert load_image_bytes(encode(wide, "TIFF")).pixels[0, :, 0].tolist() == [0, 255]


def test_constant_float_image() -> None:
    assert load_image_bytes(encode(np.full((2, 2), 7, np.float32), "TIFF")).pixels.max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_over_white(mode: str) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(200, 200, 200, 255), (0, 0, 0, 0), (0, 0, 0, 128)])
    loaded = load_image_bytes(encode(image.convert(mode)))
    assert loaded.pixels[0, :, 0].tolist() == [200, 255, 127]
    assert "white" in loaded.notes[0]


def test_opaque_alpha_needs_no_note() -> None:
    opaque = Image.fromarray(PHOTO).convert("RGBA")
    loaded = load_image_bytes(encode(opaque))
    assert np.array_equal(loaded.pixels, PHOTO)
    assert loaded.notes == ()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_transparency(kind: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    pixels = load_image_bytes(encode(image, kind, transparency=0)).pixels
    assert pixels[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_colour_key_transparency() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    pixels = load_image_bytes(encode(image, transparency=(1, 2, 3))).pixels
    assert pixels[0].tolist() == [[255, 255, 255], [4, 5, 6]]


def test_one_bit_and_palette() -> None:
    assert load_image_bytes(encode(Image.new("1", (2, 2), 1))).pixels.min() == 255
    palette = Image.fromarray(PHOTO).quantize(16)
    assert np.array_equal(load_image_bytes(encode(palette)).pixels, np.asarray(palette.convert("RGB")))


def test_cmyk_is_not_inverted() -> None:
    """Pillow writes CMYK as Adobe does, inverted and with Adobe's marker."""
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encode(red, "JPEG", quality=95)
    assert b"Adobe" in data
    loaded = load_image_bytes(data)
    assert np.abs(loaded.pixels.astype(int) - [255, 0, 0]).max() <= 4
    assert "CMYK" in loaded.notes[0]


def test_lab_keeps_its_lightness() -> None:
    loaded = load_image_bytes(encode(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF"))
    assert loaded.pixels.min() > 240


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_first_frame_and_a_note(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    loaded = load_image_bytes(encode(first, kind, save_all=True, append_images=[second]))
    assert loaded.pixels[4, 4, 0] > 240
    assert loaded.pixels[4, 4, 2] < 16
    assert "first" in loaded.notes[-1]


@pytest.mark.parametrize("size", [(1, 1), (1, 32), (32, 1), (17_000, 600)])
def test_narrow_and_wide_images(size: tuple[int, int]) -> None:
    loaded = load_image_bytes(encode(Image.new("1", size)))
    assert loaded.pixels.shape == (size[1], size[0], 3)


def test_too_narrow() -> None:
    assert "too narrow" in cause(encode(Image.new("L", (33, 1))))
    assert "too narrow" in cause(encode(Image.new("L", (10, 1000))))


def huge_png(width: int, height: int) -> bytes:
    """A PNG that declares more than it holds."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + end


def test_pixel_limit() -> None:
    assert "limit" in cause(huge_png(40_000, 25_000))
    assert "10,000 × 10,000" not in cause(huge_png(10_000, 10_000))  # below the limit, above Pillow's warning
    assert "limit" in cause(encode(PHOTO), max_pixels=H * W - 1)
    assert load_image_bytes(encode(PHOTO), max_pixels=H * W).pixels.shape == (H, W, 3)
    for kind in ("PNG", "TIFF"):  # the way out is exactly right
        told = cause(encode(PHOTO, kind), max_pixels=100)
        assert f"more than the limit of 100; --max-pixels {H * W} reads it" in told


@pytest.mark.parametrize(
    ("data", "suffix", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", ".jpg", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", ".heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", ".mp4", "video"),
        (b"\xff\x0a\xfa\x7f\x01", ".jxl", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "", "JPEG XL"),
        (b"FUJIFILMCCD-RAW 0201", ".raf", "camera raw"),
        (b"<?xml version='1.0'?>\n<svg>", ".png", "SVG"),
        (b" <svg xmlns=''>", "", "SVG"),
        (b"nothing known", ".SVG", "SVG"),
        (b"8BPS\0\1", "", "Photoshop"),
        (b"%PDF-1.7", "", "PDF"),
        (b"\n<!DOCTYPE HTML><html>404", ".jpg", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", ".jpg", "Git LFS"),
        (b"just text", ".jpg", "not an image"),
        (b"P", ".ppm", "not an image"),
        (b"\xff\xd8\xff", ".jpg", "JPEG"),
        (b"", ".jpg", "empty"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, suffix: str, said: str) -> None:
    assert said in cause(data, suffix=suffix)


def test_camera_raw_in_a_tiff_coat_is_refused() -> None:
    tiff = encode(PHOTO, "TIFF")
    assert "camera raw" in cause(tiff, suffix=".NEF")
    assert "camera raw" in cause(encode(PHOTO, "TIFF", tiffinfo={50706: b"\1\4\0\0"}), suffix=".tif")
    assert np.array_equal(load_image_bytes(encode(PHOTO), suffix=".nef").pixels, PHOTO)  # only misnamed


def test_wrong_extension_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encode(PHOTO))
    assert np.array_equal(load_image(tmp_path / "photo.jpg").pixels, PHOTO)


def test_formats_outside_the_list_are_not_opened() -> None:
    """Pillow would run Ghostscript on one and its oddest parsers on the others."""
    for kind in ("EPS", "ICO", "TGA", "PCX"):
        cause(encode(Image.new("RGB", (16, 16)), kind))


def test_paths_pillow_images_and_arrays_agree(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encode(PHOTO))
    for source in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(PHOTO), PHOTO):
        assert np.array_equal(as_rgb_array(source).pixels, PHOTO)
    assert as_rgb_array(PHOTO).pixels is PHOTO


def test_pillow_images_get_the_same_treatment() -> None:
    turned = Image.open(io.BytesIO(encode(PHOTO, "TIFF", exif=orientation(8))))
    assert as_rgb_array(turned).exif_orientation == 8
    assert np.array_equal(as_rgb_array(turned).pixels, TURNS[8](PHOTO))
    assert as_rgb_array(Image.new("RGBA", (4, 4))).pixels.min() == 255


@pytest.mark.parametrize(
    "source",
    [
        PHOTO.astype(np.float32),
        PHOTO[:, :, 0],
        PHOTO[None],
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 100, 3), np.uint8),
        Image.new("RGB", (0, 4)),
        Image.open(io.BytesIO(encode(np.tile(PHOTO, (9, 9, 1)))[:2000])),
        None,
        b"bytes",
        [[1]],
    ],
)
def test_everything_else_is_refused(source: object) -> None:
    with pytest.raises(BadImage):
        as_rgb_array(source)
