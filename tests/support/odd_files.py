"""Files that a program meets once it leaves home: damaged, of odd content, by odd names."""

import io
import json
import os
import random
import stat
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from recipe import image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")
SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}


def encode(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and bytes of everything below a folder: what a run must leave alone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = status.st_mode, status.st_mtime_ns, data
    return found


def damages(data: bytes, chance: random.Random) -> dict[str, bytes]:
    """The twelve damages of the list; the last two are none, but for the name."""
    bit = bytearray(data)
    bit[chance.randrange(16)] ^= 1 << chance.randrange(8)
    bits, block = bytearray(data), bytearray(data)
    for _ in range(4):
        bits[chance.randrange(64, len(data))] ^= 1 << chance.randrange(8)
    start = chance.randrange(len(data) // 2)
    block[start : start + 512] = bytes(len(data[start : start + 512]))
    cuts = {f"cut-{percent}": data[: len(data) * percent // 100] for percent in (10, 50, 90, 99)}
    return {
        "empty": b"", "one-byte": data[:1], "header": data[:24], **cuts,
        "bit": bytes(bit), "bits": bytes(bits), "block": bytes(block), "text": b"not a picture\n", "suffix": data,
    }  # fmt: skip


def odd_images() -> dict[str, bytes]:
    """Every kind of content in the list that isn't huge, by a name that says what comes of it."""
    photo = Image.fromarray(image(0, 40, 56))
    grey, other = photo.convert("L"), photo.rotate(180)
    deep = np.asarray(grey).astype(np.uint16) * 200
    floats = np.asarray(grey).astype(np.float32) / 255
    holes = floats.copy()
    holes[3, 4:9] = np.nan, np.inf, -np.inf, 1e38, -1e38
    see_through = photo.convert("RGBA")
    see_through.putalpha(grey)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    images = {
        "1x1.png": encode(photo.resize((1, 1))),
        "1x32.png": encode(photo.resize((32, 1))),
        "32x1.png": encode(photo.resize((1, 32))),
        "grey-16.png": encode(deep),
        "grey-16.tif": encode(deep, "TIFF"),
        "grey-32.tif": encode(deep.astype(np.int32) * 1000, "TIFF"),
        "float-nan.tif": encode(holes, "TIFF"),
        "one-bit.png": encode(photo.convert("1")),
        "palette-transparent.png": encode(photo.quantize(8), transparency=3),
        "rgba.png": encode(see_through),
        "la.png": encode(see_through.convert("LA")),
        "cmyk.jpg": encode(photo.convert("CMYK"), "JPEG"),
        "cmyk.tif": encode(photo.convert("CMYK"), "TIFF"),
        "lab.tif": encode(ImageCms.profileToProfile(photo, ImageCms.createProfile("sRGB"),
                          ImageCms.createProfile("LAB"), outputMode="LAB"), "TIFF"),
        "broken-exif.jpg": encode(photo, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "icc.jpg": encode(photo, "JPEG", icc_profile=profile),
        "broken-icc.png": encode(photo, icc_profile=b"no profile"),
        "animated.gif": encode(photo, "GIF", save_all=True, append_images=[other]),
        "animated.webp": encode(photo, "WEBP", save_all=True, append_images=[other]),
        "animated.png": encode(photo, save_all=True, append_images=[other]),
        "pages.tif": encode(photo, "TIFF", save_all=True, append_images=[other]),
        "several.jpg": encode(photo, "MPO", save_all=True, append_images=[other]),
    }  # fmt: skip
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        images[f"turn-{turn}.jpg"] = encode(photo, "JPEG", exif=exif)
    return images


ODD_NAMES = [
    *("two\nlines.jpg", " space .jpg", "-dash.jpg", "quote'\".jpg", "100%s.jpg", "🦊.jpg", "café.jpg", "con.jpg"),
    *(os.fsdecode(b"\xff\xfe.jpg"), "x" * 251 + ".jpg", "[ab]*.jpg", "[red]x[bold].jpg", "\x1b[31mred.jpg"),
    *("<script>alert(1)<b>.jpg", "a&b;c$HOME`id`.jpg", "tab\t.jpg", "\u202etxt.jpg", "\x85.jpg"),
]  # fmt: skip


def make_odd_names(folder: Path, suffix: str = ".jpg") -> None:
    """A picture by each of the odd names, one in an odd folder, and three that are hidden."""
    for name in (*ODD_NAMES, "d\n\x1b[32m/x.jpg", ".hidden.jpg", "..jpg.jpg", "..f/y.jpg"):
        path = folder / (name.removesuffix(".jpg")[: 255 - len(suffix)] + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image(0, 40, 56), "JPEG"))


def json_lines(out: str) -> dict[str, dict[str, object]]:
    """The lines of --jsonl by path; no path twice."""
    lines = [json.loads(line) for line in out.splitlines()]
    assert len({line["path"] for line in lines}) == len(lines)
    return {line["path"]: line for line in lines}
