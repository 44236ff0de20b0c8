"""Large pictures are read in bands and lie in a file: with the very pixels, notes and marks that others get."""

import errno
import gc
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from encoded import encode
from PIL import Image
from tiff_files import DEFLATE, LZW, PACKBITS, assembled, write_tiff

from san_cli.datasets import image_file, spooled
from san_cli.datasets.image_file import Content
from san_cli.datasets.images import BadImage, LoadedImage, load_image
from san_cli.datasets.png_bands import png_bands
from san_cli.datasets.reading import AS_STORED, Reading

H, W = 61, 83
RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (H, W, 3)).astype(np.uint8)
WIDE = RGB.astype(np.uint16) * 200 + RNG.integers(0, 50, (H, W, 3)).astype(np.uint16)
ALPHA = np.where(np.arange(W) < 30, np.arange(W) * 8, 255).astype(np.uint8) * np.ones((H, 1), np.uint8)
RGBA = np.dstack([RGB, ALPHA])
WIDE_RGBA = np.dstack([WIDE, ALPHA.astype(np.uint16) * 257])
FLOAT = (RGB[:, :, :1] / 7 - 12).astype(np.float32)
HOLES = np.where(np.arange(H)[:, None, None] % 9 < 2, -9999, FLOAT).astype(np.float32)
BROKEN = np.where(np.arange(W)[None, :, None] == 3, np.nan, HOLES).astype(np.float32)


@contextmanager
def lowered(monkeypatch: pytest.MonkeyPatch, pixels: int) -> Iterator[None]:
    """Take every picture for a large one, with bands of so many pixels, and every file for a long one."""
    with monkeypatch.context() as patch:
        patch.setattr(spooled, "MOST_IN_MEMORY", 0)
        patch.setattr(spooled, "BAND_PIXELS", pixels)
        patch.setattr(image_file, "_READ_AT_ONCE", 0)
        yield


def palette(**options: object) -> bytes:
    return encode(Image.fromarray(RGB).quantize(16), **options)


def alike(path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, reading: Reading = AS_STORED) -> None:
    plain = load_image(path, reading=reading)
    with lowered(monkeypatch, pixels):
        large = load_image(path, reading=reading)
        assert np.array_equal(large.pixels, plain.pixels)
        assert large.pixels.dtype == np.uint8 and not large.pixels.flags.writeable
        assert (large.notes, large.exif_orientation) == (plain.notes, plain.exif_orientation)
        assert (large.no_data is None) == (plain.no_data is None)
        assert plain.no_data is None or np.array_equal(large.no_data, plain.no_data)


def turned(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = value
    return exif


def write_png(
    values: np.ndarray, colour_type: int, *, key: bytes = b"", late: bytes = b"", interlaced: int = 0
) -> bytes:
    """Values [H, W, C] of 8 or 16 bits as a PNG whose rows have all filters in turn, in chunks of 1,000 bytes."""
    size = values.shape[2] * values.dtype.itemsize  # bytes of a pixel
    rows = values.astype(values.dtype.newbyteorder(">")).reshape(len(values), -1).view(np.uint8).astype(int)
    left, above = np.zeros_like(rows), np.zeros_like(rows)
    left[:, size:], above[1:] = rows[:, :-size], rows[:-1]
    corner = np.zeros_like(rows)
    corner[1:, size:] = rows[:-1, :-size]
    guess = left + above - corner
    far = np.abs(np.stack([guess - left, guess - above, guess - corner]))
    nearest = np.choose(far.argmin(0), [left, above, corner])
    filters = [np.zeros_like(rows), left, above, (left + above) // 2, nearest]
    lines = b"".join(
        bytes([y * 7 % 5]) + ((rows[y] - filters[y * 7 % 5][y]) % 256).astype(np.uint8).tobytes()
        for y in range(len(rows))
    )
    packed = zlib.compress(lines)
    header = struct.pack(
        ">IIBBBBB", values.shape[1], len(values), values.dtype.itemsize * 8, colour_type, 0, 0, interlaced
    )
    chunks = [(b"IHDR", header), *([(b"tRNS", key)] if key else [])]
    chunks += [(b"IDAT", packed[at : at + 1000]) for at in range(0, len(packed), 1000)]
    chunks += [*([(b"eXIf", late)] if late else []), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


LATE = turned(8).tobytes()[6:]
PNGS = {
    "rgb": write_png(RGB, 2), "grey": write_png(RGB[:, :, :1], 0), "la": write_png(RGBA[:, :, 2:], 4),
    "rgba": write_png(RGBA, 6), "turned at the end": write_png(RGBA, 6, late=LATE),
    "key": write_png(RGB, 2, key=struct.pack(">3H", *RGB[5, 5].tolist())),
    "16-bit rgb": write_png(WIDE, 2), "16-bit grey": write_png(WIDE[:, :, :1], 0),
    "16-bit la": write_png(WIDE_RGBA[:, :, 2:], 4), "16-bit rgba": write_png(WIDE_RGBA, 6, late=LATE),
    "16-bit key": write_png(WIDE, 2, key=struct.pack(">3H", *WIDE[5, 5].tolist())),
    "16-bit grey key": write_png(WIDE[:, :, :1], 0, key=struct.pack(">H", WIDE[5, 5, 0])),
}  # fmt: skip
FILES = {
    **{f"png {name}": data for name, data in PNGS.items()},
    "8-bit palette": encode(Image.fromarray(RGB).quantize(200), transparency=3),
    "APNG": encode(Image.fromarray(RGB), save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())]),
    **{f"{kind} turned {value}": encode(RGB, kind, exif=turned(value))
       for kind in ("JPEG", "PNG", "WEBP", "TIFF") for value in (1, 3, 6, 7)},
    **{kind: encode(RGB, kind) for kind in ("BMP", "GIF", "AVIF", "JPEG2000", "PPM")},
    "grey": encode(RGB[:, :, 0]), "bit": encode(Image.fromarray(RGB[:, :, 0]).convert("1")),
    "rgba": encode(RGBA), "opaque": encode(Image.fromarray(RGB).convert("RGBA")),
    "rgba turned": encode(RGBA, exif=turned(5)), "la": encode(Image.fromarray(RGBA).convert("LA")),
    "data as alpha": encode(np.dstack([RGB, RGB[:, :, 0] // 2 + 40])),
    "palette": palette(), "clear palette": palette(transparency=3), "gif": palette(kind="GIF", transparency=2),
    "key": encode(RGB, transparency=tuple(RGB[5, 5].tolist())),
    "cmyk": encode(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "lab": encode(Image.new("LAB", (W, H), (200, 120, 140)), "TIFF"),
    "16-bit grey": encode(WIDE[:, :, 0]), "16-bit jp2": encode(WIDE[:, :, 0], "JPEG2000"),
    "16-bit pgm": encode(WIDE[:, :, 0], "PPM"),
    "16-bit ppm": f"P6 {W} {H} 60000\n".encode() + WIDE.astype(">u2").tobytes(),
    "pfm": f"Pf\n{W} {H}\n-1.0\n".encode() + FLOAT.astype("<f4").tobytes(),
    "jpeg in tiff": encode(RGB, "TIFF", compression="jpeg", tiffinfo={42113: "0"}),
    "palette tiff": encode(Image.fromarray(RGB).quantize(16), "TIFF"),
}  # fmt: skip
TIFFS = {
    "rgb": (RGB, {}), "grey": (RGB[:, :, :1], {}), "white is 0": (RGB[:, :, :1], {"photometric": 0}),
    "rgba": (RGBA, {"photometric": 2, "tags": {338: (3, [2])}}),
    "multiplied": (np.dstack([RGB // 2, ALPHA // 2 + 127]), {"photometric": 2, "tags": {338: (3, [1])}}),
    "la": (RGBA[:, :, 2:], {"photometric": 1, "tags": {338: (3, [2])}}),
    "cmyk": (RGBA, {"photometric": 5}), "1 bit": (RGB[:, :, :1] // 128, {"bits": 1}),
    "4 bits": (RGB[:, :, :1] // 16, {"bits": 4}), "12 bits": (WIDE // 16, {"bits": 12}),
    "16 bits": (WIDE, {}), "16-bit rgba": (WIDE_RGBA, {"photometric": 2, "tags": {338: (3, [2])}}),
    "16-bit data": (np.dstack([WIDE, WIDE[:, :, 0] // 2 + 90]), {"photometric": 2, "tags": {338: (3, [2])}}),
    "5 bands": (np.dstack([WIDE, WIDE[:, :, :2]]), {"photometric": 1}),
    "16-bit nodata": (np.where(WIDE % 5 < 4, 0, WIDE).astype(np.uint16), {"tags": {42113: b"0"}}),
    "8-bit nodata": (np.where(RGB < 200, 7, RGB).astype(np.uint8), {"tags": {42113: b"7"}}),
    "signed": (WIDE.astype(np.int16), {}), "float": (FLOAT, {}), "holes": (HOLES, {"tags": {42113: b"-9999"}}),
    "broken": (BROKEN, {"tags": {42113: b"-9999"}}), "nan": (np.where(FLOAT > 15, np.nan, FLOAT), {}),
    "float alpha": (np.dstack([FLOAT, FLOAT, FLOAT, ALPHA / 255.0]).astype(np.float32),
                    {"photometric": 2, "tags": {338: (3, [2])}}),
    "sparse": (np.where(np.arange(H)[:, None, None] < 32, 0, RGB).astype(np.uint8), {"sparse": True}),
}  # fmt: skip
LAYOUTS = {
    "strip": {}, "strips": {"rows": 7}, "tiles": {"tile": 16}, "deflate": {"compression": DEFLATE},
    "lzw": {"compression": LZW}, "lzw tiles": {"compression": LZW, "tile": 32},
    "deflate tiles": {"compression": DEFLATE, "tile": 32}, "packbits": {"compression": PACKBITS, "rows": 9},
    "planes": {"planar": True, "rows": 7}, "planar tiles": {"planar": True, "tile": 32},
    "planar deflate": {"planar": True, "compression": DEFLATE}, "big-endian": {"order": ">"},
    "turned": {"turn": 6}, "mirrored": {"turn": 2, "rows": 5},
}  # fmt: skip
READINGS = (AS_STORED, Reading(range="auto"), Reading(bands=(1,)))


@pytest.mark.parametrize("name", FILES)
def test_files_that_pillow_reads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(FILES[name])
    for pixels in (1, 300, 10**6):
        alike(tmp_path / "a", monkeypatch, pixels)
    for reading in READINGS[1:]:
        alike(tmp_path / "a", monkeypatch, 300, reading)


@pytest.mark.parametrize("name", PNGS)
def test_damaged_pngs_fail_alike(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made up, and what Pillow forgives is forgiven."""
    assert png_bands(Content(PNGS[name])) is not None
    path, whole = tmp_path / "a.png", PNGS[name]
    first = whole.index(b"IDAT") + 4
    for cut in (whole[:-30], whole[: len(whole) // 2], whole[: first + 40] + b"\0\xff" + whole[first + 42 :]):
        path.write_bytes(cut)
        for pixels in (1, 10**6):
            try:
                load_image(path)
            except BadImage:
                with lowered(monkeypatch, pixels), pytest.raises(BadImage):
                    load_image(path)
            else:
                alike(path, monkeypatch, pixels)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", TIFFS)
def test_tiffs(kind: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, options = TIFFS[kind]
    organisation = dict(LAYOUTS[layout])
    tags = {**options.get("tags", {})}
    if "turn" in organisation:
        tags[274] = (3, [organisation.pop("turn")])
    data = write_tiff(values, **{**options, **organisation, "tags": tags})
    (tmp_path / "a.tif").write_bytes(data)
    for reading in READINGS:
        for pixels in (1, 300, 10**6):
            if reading.range is None or values.dtype != np.uint8:  # the note on it is worded otherwise
                alike(tmp_path / "a.tif", monkeypatch, pixels, reading)


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, empty, with every picture large."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(spooled, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(spooled, "BAND_PIXELS", 300)
    return folder


def open_spools(folder: Path) -> int:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(str(link.readlink()).startswith(str(folder)) for link in links if os.path.lexists(link))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at Linux's table of open files")
def test_the_file_goes_with_the_array(spool: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(RGB))
    (tmp_path / "cut.png").write_bytes(encode(RGB)[:-4000])
    (tmp_path / "cut.tif").write_bytes(write_tiff(RGB, rows=5)[:-9000])
    loaded = load_image(tmp_path / "a.png")
    assert not list(spool.iterdir())
    assert open_spools(spool) == 1
    part = loaded.pixels[3:9]
    del loaded
    gc.collect()
    assert np.array_equal(part, RGB[3:9])
    del part
    for name in ("cut.png", "cut.tif"):
        with pytest.raises(BadImage):
            load_image(tmp_path / name)
    gc.collect()
    assert open_spools(spool) == 0
    assert not list(spool.iterdir())


def test_nothing_is_left_of_a_process_that_is_killed(spool: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(RGB))
    code = (
        "import os, signal, sys\n"
        "from san_cli.datasets import spooled\n"
        "from san_cli.datasets.images import load_image\n"
        "spooled.MOST_IN_MEMORY = 0\n"
        "held = load_image(sys.argv[1])\n"
        "assert held.pixels.base is not None\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "TMPDIR": str(spool)}
    ended = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], env=environment, check=False)
    assert ended.returncode == -9
    assert not list(spool.iterdir())


def test_a_full_disk_is_told_of(spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encode(RGB))

    class FullDisk:
        """`os`, with no room for more than 5,000 bytes of a file."""

        def __init__(self) -> None:
            self.room = 5000

        def write(self, descriptor: int, rest: memoryview) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done = os.write(descriptor, rest[: self.room])
            self.room -= done
            return done

    with monkeypatch.context() as patch:
        patch.setattr(spooled, "os", FullDisk())
        with pytest.raises(BadImage, match="no room") as caught:
            load_image(tmp_path / "a.png")
        assert "TMPDIR" in caught.value.cause and str(spool) in caught.value.cause
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(BadImage, match="TMPDIR"):
        load_image(tmp_path / "a.png")


def test_several_threads_spool_at_once(spool: Path, tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(encode(np.roll(RGB, number, 0)))

    def load(number: int) -> LoadedImage:
        return load_image(tmp_path / f"{number % 6}.png")

    with ThreadPoolExecutor(6) as pool:
        for number, loaded in enumerate(pool.map(load, range(24))):
            assert np.array_equal(loaded.pixels, np.roll(RGB, number % 6, 0))


@pytest.mark.parametrize("kind", ["rows", "tiles", "jpeg", "png"])
def test_a_file_cut_short_while_it_is_read(
    kind: str, spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't mapped: reading a map beyond the file's end would end the process."""
    monkeypatch.setattr(image_file, "_READ_AT_ONCE", 0)
    big = np.tile(WIDE, (20, 20, 1))
    data = {
        "rows": lambda: write_tiff(big, rows=5),
        "tiles": lambda: write_tiff(big, tile=64, compression=DEFLATE),
        "jpeg": lambda: encode((big >> 8).astype(np.uint8), "JPEG"),
        "png": lambda: encode((big >> 8).astype(np.uint8)),
    }[kind]()
    path = tmp_path / "a"
    path.write_bytes(data)
    read_at, calls = image_file.Content.read_at, 0

    def cutting(self: image_file.Content, start: int, size: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 5:
            os.truncate(path, len(data) // 3)
        return read_at(self, start, size)

    monkeypatch.setattr(image_file.Content, "read_at", cutting)
    with pytest.raises(BadImage):
        load_image(path)
    assert calls >= 5


def test_memory_beyond_the_pixels_is_that_of_bands(tmp_path: Path) -> None:
    """100 megapixels of 16 bits from 0.6 MB of file: 600 MB of numbers, 300 MB of pixels."""
    values = np.tile(WIDE[:50, :50], (1, 200, 1))
    path = tmp_path / "a.tif"
    path.write_bytes(tall(values, 200))
    assert path.stat().st_size < 10**6
    code = (
        "import resource, sys\n"
        "from san_cli.datasets.images import load_image\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "assert load_image(sys.argv[1]).pixels.shape == (10_000, 10_000, 3)\n"
        "print(peak() - before)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 150_000  # KiB


def tall(values: np.ndarray, times: int) -> bytes:
    """A TIFF of the values [h, W, C] repeated downwards, all strips at one place of the file."""
    packed = zlib.compress(values.astype("<u2").tobytes(), 1)
    height, width, count = values.shape
    return assembled(
        packed,
        {
            256: (4, [width]), 257: (4, [height * times]), 258: (3, [16] * count), 259: (3, [DEFLATE]),
            262: (3, [2]), 273: (4, [8] * times), 277: (3, [count]), 278: (4, [height]),
            279: (4, [len(packed)] * times),
        },
        "<",
        False,
    )  # fmt: skip
