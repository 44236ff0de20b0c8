"""More than 8 bits, more than three bands, NoData, thumbnails: right pixels, and a word where it is needed."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiff_files import LZW, PACKBITS, write_tiff

from san_cli.datasets.images import BadImage, LoadedImage, as_rgb_array, displayed_size, load_image_bytes
from san_cli.datasets.reading import Reading, parse_bands, parse_range
from san_cli.errors import ExitCode, SanError

H, W = 24, 40
Y, X = np.mgrid[:H, :W]
RGB = np.stack([X * 255 // (W - 1), Y * 255 // (H - 1), (X // 5 + Y // 5) % 2 * 255], 2).astype(np.uint8)
GREY = np.repeat(RGB[:, :, :1], 3, axis=2)
WIDE = RGB.astype(np.uint16)
HALF = np.full((H, W), 128, np.uint8)


def read(data: bytes, **reading: object) -> LoadedImage:
    return load_image_bytes(data, reading=Reading(**reading))  # type: ignore[arg-type]


def cause(data: bytes, suffix: str = "", **reading: object) -> str:
    with pytest.raises(BadImage) as caught:
        load_image_bytes(data, suffix=suffix, reading=Reading(**reading))  # type: ignore[arg-type]
    return caught.value.cause


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def png16(values: np.ndarray, colour_type: int, key: bytes = b"") -> bytes:
    """A 16-bit PNG [H, W, C] by its specification; `key` is its colour of transparency."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        *([(b"tRNS", key)] if key else []),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def netpbm(values: np.ndarray, highest: int, kind: str = "P6") -> bytes:
    return f"{kind}\n# made\n{W} {H}\n{highest}\n".encode() + values.astype(">u2").tobytes()


DEEP = {  # the picture in 16 bits, its values multiplied
    "png": lambda by: png16(WIDE * by, 2),
    "tiff": lambda by: write_tiff(WIDE * by),
    "planar tiff": lambda by: write_tiff(WIDE * by, planar=True),
    "ppm": lambda by: netpbm(WIDE * by, 65535),
}


@pytest.mark.parametrize("kind", DEEP)
def test_16_bit_colour(kind: str) -> None:
    whole = read(DEEP[kind](257))
    assert np.array_equal(whole.pixels, RGB)
    assert whole.notes == ()
    dark = read(DEEP[kind](12))
    assert dark.pixels.max() == 11
    assert any("dark" in note and "--range 0,3060" in note for note in dark.notes)
    assert np.array_equal(read(DEEP[kind](12), range=(0, 3060)).pixels, RGB)
    stretched = read(DEEP[kind](12), range="auto")
    assert np.abs(stretched.pixels.astype(int) - RGB).max() <= 8  # 1 % at each end is cut
    assert "percentile" in stretched.notes[0]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_grey_of_a_12_bit_camera(kind: str) -> None:
    data = (
        encode((RGB[:, :, 0].astype(np.uint16) * 16), kind)
        if kind != "PPM"
        else netpbm(WIDE[:, :, 0] * 16, 65535, "P5")
    )
    loaded = read(data)
    assert any("dark" in note and "--range" in note for note in loaded.notes)
    assert np.array_equal(read(data, range=(0, 4080)).pixels, GREY)


@pytest.mark.parametrize(("kind", "values"), [("P5", GREY[:, :, 0]), ("P6", RGB)])
def test_netpbm_range_is_the_header_s(kind: str, values: np.ndarray) -> None:
    data = netpbm(np.rint(values / 255 * 4095), 4095, kind)
    assert np.array_equal(read(data).pixels, GREY if kind == "P5" else RGB)
    assert np.array_equal(read(data, range=(0, 4095)).pixels, read(data).pixels)
    assert "truncated" in cause(data[:-1])
    assert "maximum" in cause(netpbm(values.astype(np.uint16) * 257, 4095, kind))


def test_plain_netpbm() -> None:
    text = " ".join(str(value * 1000 // 255) for value in GREY[:, :, 0].ravel().tolist())
    assert np.abs(read(f"P2\n{W} {H} 1000\n{text}".encode()).pixels.astype(int) - GREY).max() <= 1


def test_plain_netpbm_with_leading_zeros_is_read_in_full() -> None:
    shown = read(b"P2 2 1 65535 0000065535 0000000000").pixels[0, :, 0]
    assert shown.tolist() == [255, 0]
    assert "digits" in cause(b"P2 2 1 65535 00000065535 0")


def test_pfm_is_read_from_the_bottom_up() -> None:
    body = GREY[::-1, :, 0].astype("<f4").tobytes()
    assert np.array_equal(read(f"Pf\n{W} {H}\n-1.0\n".encode() + body).pixels, GREY)


def test_16_bit_png_with_transparency() -> None:
    whole = WIDE * 257
    half = np.rint(RGB * (128 / 255) + 127)
    rgba = np.dstack([whole, HALF.astype(np.uint16) * 257])
    assert np.abs(read(png16(rgba, 6)).pixels - half).max() <= 1
    grey_alpha = read(png16(rgba[:, :, [0, 3]], 4)).pixels
    assert np.abs(grey_alpha - half[:, :, :1]).max() <= 1
    key = struct.pack(">3H", *whole[3, 30].tolist())
    clear = (whole == whole[3, 30]).all(axis=2)
    assert np.array_equal(read(png16(whole, 2, key)).pixels, np.where(clear[:, :, None], 255, RGB))
    assert np.array_equal(read(png16(rgba, 6), bands=(1, 2, 3)).pixels, RGB)


def test_range_leaves_8_bits_alone_and_says_so() -> None:
    for data in (encode(RGB), encode(RGB, "TIFF"), write_tiff(RGB, planar=True)):
        loaded = read(data, range=(0, 100))
        assert np.array_equal(loaded.pixels, RGB)
        assert any("--range changes nothing" in note for note in loaded.notes)


def test_range_that_misses_the_values() -> None:
    loaded = read(write_tiff(WIDE[:, :, :1] * 200 + 500), range=(0, 1))
    assert loaded.pixels.min() == 255
    assert any("lie outside --range 0,1" in note and "from 500 to 51500" in note for note in loaded.notes)


def test_one_hot_pixel_and_a_fill_value_are_noticed() -> None:
    hot = np.tile(GREY[:, :, :1], (4, 4, 1)).astype(np.float32)
    hot[3, 3] = 1e6
    assert any("dark" in note for note in read(write_tiff(hot)).notes)
    filled = np.where(Y < 2, -32768, RGB[:, :, 0] + 300.0).astype(np.int16)[:, :, None]
    assert any("--range 3" in note for note in read(write_tiff(filled)).notes)


@pytest.mark.parametrize("value", [0, 500, 65535])
def test_constant_image(value: int) -> None:
    assert any(
        f"all values are {value}" in note
        for note in read(write_tiff(np.full((H, W, 1), value, np.uint16))).notes
    )


def test_bands_of_a_satellite() -> None:
    bands = np.dstack([WIDE * (10 * number) for number in range(1, 5)] + [WIDE[:, :, 0]])  # 13
    data = write_tiff(bands, photometric=1, tags={338: (3, [0] * 12)}, planar=True, tile=16)
    notes = " ".join(read(data).notes)
    assert "of 13 bands 1,2,3 are shown" in notes
    assert "--bands" in notes
    assert "dark" in notes
    assert np.array_equal(read(data, bands=(10, 11, 12), range=(0, 10200)).pixels, RGB)
    assert np.array_equal(read(data, bands=(13,), range=(0, 255)).pixels, GREY)
    assert "has 13 bands" in cause(data, bands=(14,))


def test_untagged_bands_are_said_to_be_taken_for_colours() -> None:
    loaded = read(write_tiff(WIDE * 257, photometric=1))
    assert np.array_equal(loaded.pixels, RGB)
    assert any("taken for red, green, blue" in note for note in loaded.notes)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_bands_of_8_bits(kind: str) -> None:
    data = encode(
        np.dstack([RGB, HALF]), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})
    )
    assert np.array_equal(read(data, bands=(1, 2, 3)).pixels, RGB)
    assert np.array_equal(read(data, bands=(3, 2, 1)).pixels, RGB[:, :, ::-1])
    assert np.array_equal(read(data, bands=(4,)).pixels, np.full((H, W, 3), 128))
    assert "has 4 bands" in cause(data, bands=(5,))


def test_near_infrared_called_alpha() -> None:
    for infrared in (RGB[:, :, 0] // 4, RGB[:, :, 0] // 2 + 20):
        data = encode(np.dstack([RGB, infrared]), "TIFF")
        assert any("looks like data" in note and "--bands 1,2,3" in note for note in read(data).notes)
        wide = np.dstack([WIDE * 257, infrared.astype(np.uint16) * 257])
        assert any(
            "looks like data" in note
            for note in read(write_tiff(wide, photometric=2, tags={338: (3, [2])})).notes
        )
    for alpha in (
        HALF,
        np.where(X < 9, 0, 255).astype(np.uint8),
        np.where(X < 9, X * 20, 255).astype(np.uint8),
    ):
        assert not any(
            "looks like data" in note for note in read(encode(np.dstack([RGB, alpha]), "TIFF")).notes
        )


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(("kind", "on_white"), [(0, False), (1, True), (2, True)])
def test_extra_samples_are_obeyed(depth: int, planar: bool, kind: int, on_white: bool) -> None:
    colours = RGB // 2 if kind == 1 else RGB
    values = np.dstack([colours, HALF]).astype(np.uint8 if depth == 8 else np.uint16) * (
        1 if depth == 8 else 257
    )
    loaded = read(write_tiff(values, photometric=2, planar=planar, tags={338: (3, [kind])}))
    right = RGB * (128 / 255) + 127 if on_white else RGB
    assert np.abs(loaded.pixels - right).max() <= 1.1


NODATA = {
    "float": (np.float32, -9999, b"-9999"),
    "lowest float": (np.float32, float(np.finfo(np.float32).min), b"-3.40282347e+38"),
    "signed": (np.int16, -32768, b"-32768"),
    "unsigned": (np.uint16, 0, b"0"),
    "bytes": (np.uint8, 7, b"7"),
}


@pytest.mark.parametrize("kind", NODATA)
def test_nodata_neither_counts_nor_gets_a_label(kind: str) -> None:
    dtype, value, tag = NODATA[kind]
    heights = np.where(Y < 4, value, GREY[:, :, 0] // 2 + (100.0 if dtype is np.uint8 else 300.0)).astype(
        dtype
    )[:, :, None]
    loaded = read(write_tiff(heights, tags={42113: tag}))
    assert loaded.no_data is not None
    assert np.array_equal(loaded.no_data, Y < 4)
    assert any(f"{4 * W} pixels are NoData" in note for note in loaded.notes)
    if kind not in ("unsigned", "bytes"):  # stretched over what is there
        assert loaded.pixels[4:].min() == 0
        assert loaded.pixels.max() == 255
    turned = read(write_tiff(heights, tags={42113: tag, 274: (3, [6])}))
    assert np.array_equal(turned.no_data, np.rot90(Y < 4, -1))
    assert np.array_equal(turned.pixels, np.rot90(loaded.pixels, -1))
    assert "no data" in cause(write_tiff(np.full_like(heights, value), tags={42113: tag}))


def test_nodata_of_a_picture_that_pillow_reads() -> None:
    black = np.where((Y < 16)[:, :, None], 0, 255).astype(np.uint8).repeat(3, axis=2)
    loaded = read(encode(black, "TIFF", compression="jpeg", tiffinfo={42113: "0"}))
    assert np.array_equal(loaded.no_data, Y < 16)
    assert "no data" in cause(
        encode(np.zeros((H, W), np.uint8), "TIFF", compression="jpeg", tiffinfo={42113: "0"})
    )


def test_nan_is_unlabelled() -> None:
    values = np.where(X < 3, np.nan, GREY[:, :, 0]).astype(np.float32)[:, :, None]
    assert np.array_equal(read(write_tiff(values)).no_data, X < 3)
    colours = np.where((X < 3)[:, :, None], np.nan, RGB).astype(np.float32)
    assert np.array_equal(read(write_tiff(colours)).no_data, X < 3)


def test_mask_page_and_overviews() -> None:
    """As a cloud-optimised GeoTIFF has them: picture, smaller ones, and a mask."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(RGB[::2, ::2].copy(), photometric="rgb", subfiletype=1)
        writer.write(X > 9, subfiletype=4, photometric="mask")
    loaded = read(buffer.getvalue())
    assert np.array_equal(loaded.pixels, RGB)
    assert np.array_equal(loaded.no_data, X <= 9)
    assert not any("pages" in note for note in loaded.notes)


@pytest.mark.parametrize("deep", [False, True])
def test_thumbnail_before_the_picture(deep: bool, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture = WIDE * 257 if deep else RGB
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(picture[::4, ::4].copy(), photometric="rgb", subfiletype=1)
        writer.write(picture, photometric="rgb")
    assert np.array_equal(read(buffer.getvalue()).pixels, RGB)
    assert read(buffer.getvalue()).notes == ()
    (tmp_path / "a.tif").write_bytes(buffer.getvalue())
    assert displayed_size(tmp_path / "a.tif") == (H, W)


def test_picture_below_its_thumbnail() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(RGB[::4, ::4].copy(), photometric="rgb", subfiletype=1, subifds=1)
        writer.write(RGB, photometric="rgb")
    assert np.array_equal(read(buffer.getvalue()).pixels, RGB)


def test_stacks_say_that_one_slice_is_taken() -> None:
    stack = np.stack([WIDE[:, :, 0] * 257] * 3)
    for options in (
        {"photometric": "minisblack"},
        {"imagej": True},
        {"ome": True, "photometric": "minisblack"},
    ):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, stack, **options)
        loaded = read(buffer.getvalue())
        assert np.array_equal(loaded.pixels, GREY)
        assert any("several pages (3); the first is used" in note for note in loaded.notes)
    pages = encode(RGB[::2, ::2].copy(), "TIFF", save_all=True, append_images=[Image.fromarray(RGB)])
    assert any(f"the largest has {W} × {H}" in note for note in read(pages).notes)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_cmyk_tiff(depth: int, planar: bool) -> None:
    inks = np.asarray(Image.fromarray(RGB).convert("CMYK")).astype(np.uint8 if depth == 8 else np.uint16)
    loaded = read(
        write_tiff(inks * (1 if depth == 8 else 257), photometric=5, planar=planar, compression=LZW)
    )
    assert np.array_equal(loaded.pixels, RGB)
    assert any("CMYK" in note for note in loaded.notes)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_is_zero(dtype: type) -> None:
    values = ((255 - RGB[:, :, :1]) * np.asarray(257 if dtype is np.uint16 else 1)).astype(dtype)
    for options in ({}, {"tile": 16}, {"compression": LZW}):
        assert np.array_equal(read(write_tiff(values, photometric=0, **options)).pixels, GREY)


def test_sparse_tiff() -> None:
    holes = np.where((Y < 8)[:, :, None], 0, RGB).astype(np.uint8)
    assert np.array_equal(read(write_tiff(holes, rows=4, sparse=True)).pixels, holes)
    assert np.array_equal(
        read(write_tiff(holes, rows=4, sparse=True, tags={42113: b"0"})).no_data, (holes == 0).all(2)
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (write_tiff(WIDE[:, :, :1].astype(np.complex64)), "complex"),
        (write_tiff(WIDE[:, :, :1], photometric=3), "of 16 bits"),
        (write_tiff(WIDE, tags={259: (3, [34887])}), "LERC"),
        (write_tiff(WIDE[:, :, :1], tags={258: (3, [24])}), "24"),
        (write_tiff(WIDE * 257, rows=4)[: 4 * W * 6 * 2], "TIFF"),
    ],
)  # fmt: skip
def test_other_tiffs_are_named(data: bytes, said: str) -> None:
    assert said in cause(data)


@pytest.mark.parametrize("compression", [1, PACKBITS])
def test_predictor_means_nothing_without_a_compression_that_knows_it(compression: int) -> None:
    """As in libtiff, and so in what Pillow reads."""
    tags = {317: (3, [2])}
    for values in (WIDE * 257, RGB):
        assert np.array_equal(read(write_tiff(values, compression=compression, tags=tags)).pixels, RGB)


def test_damaged_strips_fail() -> None:
    """Nothing is made up for bytes that aren't there."""
    whole = write_tiff(WIDE * 257, rows=4, compression=LZW)
    at = whole.index(struct.pack("<HHI", 279, 4, 6))
    table = struct.unpack_from("<I", whole, at + 8)[0]
    for size in (0xFFFFFF, 40):
        assert "damaged" in cause(whole[:table] + struct.pack("<I", size) + whole[table + 4 :])


@pytest.mark.parametrize(
    ("data", "suffix", "said"),
    [
        (bytes(128) + b"DICM", ".dcm", "DICOM"),
        (b"SIMPLE  =                    T", ".fits", "FITS"),
        (b"\x5c\x01\0\0" + bytes(340) + b"n+1\0", ".nii", "NIfTI"),
        (b"\x89HDF\r\n\x1a\n", ".h5", "HDF"),
        (b"CDF\x01", ".nc", "NetCDF"),
        (b"\x93NUMPY\x01", ".npy", "NumPy"),
        (b"P7\nWIDTH 4\n", ".pam", "PAM"),
        (b"PF\n4 4\n-1\n", ".pfm", "colour PFM"),
        (b"RIFF\0\0\0\0AVI LIST", ".avi", "ffmpeg"),
        (b"PK\x03\x04", ".jpg", "unpack it"),
    ],
)
def test_data_of_other_fields_is_named(data: bytes, suffix: str, said: str) -> None:
    assert said in cause(data, suffix)


def test_a_file_that_pillow_has_opened_is_read_as_its_path_is() -> None:
    planar = write_tiff(WIDE * 257, planar=True)
    assert np.array_equal(as_rgb_array(Image.open(io.BytesIO(planar))).pixels, RGB)
    dark = Image.open(io.BytesIO(png16(WIDE * 12, 2)))
    assert np.array_equal(as_rgb_array(dark, Reading(range=(0, 3060))).pixels, RGB)
    loaded = Image.open(io.BytesIO(planar))
    loaded.load()
    with pytest.raises(BadImage, match="path"):
        as_rgb_array(loaded)


@pytest.mark.parametrize(
    ("text", "range"),
    [("auto", "auto"), (" AUTO", "auto"), ("0,4095", (0, 4095)), ("-1.5,1e3", (-1.5, 1000))],
)
def test_ranges(text: str, range: object) -> None:
    assert parse_range(text) == range


@pytest.mark.parametrize(
    "text", ["", "1", "5,5", "9,1", "0,inf", "nan,1", "a,b", "0,1,2", "0;1", "-1e308,1e308", "1e999,2"]
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(SanError, match="--range") as caught:
        parse_range(text)
    assert caught.value.code == ExitCode.USAGE


@pytest.mark.parametrize("text", ["", "0", "1,2", "1,2,3,4", "a", "1.5", "-1,2,3", "1,2,99999999"])
def test_what_are_no_bands(text: str) -> None:
    with pytest.raises(SanError, match="--bands"):
        parse_bands(text)
    assert parse_bands("4, 3,2") == (4, 3, 2)
