"""Miniature raw trees of the benchmarks, in the folders and file formats of the official archives."""

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from san_cli.regions.rle import encode_label_map

Array = NDArray[np.integer]
SIZE = (12, 17)


def content(root: Path) -> dict[str, bytes]:
    """Every file but the notes on the preparation, which name the source."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".san" not in path.parts
    }


def raw_map(values: list[int], size: tuple[int, int] = SIZE) -> Array:
    """All `values` over and over, row by row."""
    return np.resize(np.array(values), size)


def _write(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_photo(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    _write(Image.fromarray(pixels), path)


def write_grey(path: Path, raw: Array, *, palette: bool = False) -> None:
    image = Image.fromarray(raw.astype(np.uint8))
    if palette:
        image.putpalette(bytes(range(256)) * 3)
    _write(image, path)


def make_coco(root: Path) -> dict[str, Array]:
    raw = {"val/000000000139": raw_map([0, 11, 12, 79, 90, 91, 181, 255]), "train/000000000009": raw_map([3])}
    for n, (key, values) in enumerate(raw.items()):
        split, stem = key.split("/")
        write_photo(root / f"coco/{split}2017/{stem}.jpg", seed=n)
        write_grey(root / f"coco/stuffthingmaps/{split}2017/{stem}.png", values, palette=n == 0)
    return raw


def make_ade150(root: Path) -> dict[str, Array]:
    raw = {"val/ADE_val_00000001": raw_map([0, 1, 2, 150]), "train/ADE_train_00000001": raw_map([0])}
    for n, (key, values) in enumerate(raw.items()):
        split, stem = key.split("/")
        folder = {"val": "validation", "train": "training"}[split]
        write_photo(root / f"ADEChallengeData2016/images/{folder}/{stem}.jpg", seed=n)
        write_grey(root / f"ADEChallengeData2016/annotations/{folder}/{stem}.png", values)
    return raw


def make_ade847(root: Path, size: tuple[int, int] = SIZE) -> dict[str, Array]:
    raw = {"val/ADE_val_00000001": raw_map([0, 2978, 312, 1, 3156, 6], size)}
    folder = root / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
    for key, values in raw.items():
        stem = key.split("/")[1]
        write_photo(folder / f"{stem}.jpg", size)
        colours = np.dstack([values // 256 * 10 + 7, values % 256, values * 37 % 251]).astype(np.uint8)
        _write(Image.fromarray(colours), folder / f"{stem}_seg.png")
        _write(Image.fromarray(colours * 0), folder / f"{stem}_parts_1.png")
        _write(Image.fromarray(colours[:, :, 0]), folder / stem / f"instance_000_{stem}.png")
    (root / "ADE20K_2021_17_01/index_ade20k.pkl").write_bytes(b"cos\nsystem\n(S'exit 7'\ntR.")
    return raw


def make_voc(root: Path) -> dict[str, Array]:
    raw = {"val/2007_000033": raw_map([0, 1, 20, 255]), "train/2007_000032": raw_map([0, 5, 255])}
    top = root / "VOCdevkit/VOC2012"
    for n, (key, values) in enumerate(raw.items()):
        split, stem = key.split("/")
        write_photo(top / f"JPEGImages/{stem}.jpg", seed=n)
        write_grey(top / f"SegmentationClass/{stem}.png", values, palette=True)
        (top / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (top / f"ImageSets/Segmentation/{split}.txt").write_text(f"{stem}\n")
    write_photo(top / "JPEGImages/2011_003271.jpg", seed=9)
    return raw


def add_sbd(root: Path) -> dict[str, Array]:
    """Two more training masks as SBD stores them, the second without any object."""
    raw = {"train/2008_000008": raw_map([0, 7, 8]), "train/2008_000009": raw_map([0])}
    cls = root / "benchmark_RELEASE/dataset/cls"
    cls.mkdir(parents=True)
    for key, values in raw.items():
        stem = key.split("/")[1]
        fields = {"Boundaries": np.zeros((20, 1)), "Segmentation": values.astype(np.uint8)}
        savemat(cls / f"{stem}.mat", {"GTcls": fields}, do_compression=True)
        write_photo(root / f"VOCdevkit/VOC2012/JPEGImages/{stem}.jpg", seed=5)
    return raw


def make_pcontext(root: Path) -> dict[str, Array]:
    """.mat files, images, PASCAL in Detail's JSON and a list; one .mat belongs to neither split."""
    raw = {
        "val/2008_000002": raw_map([0, 1, 2, 9, 431, 458, 459]),
        "train/2008_000003": raw_map([2, 459]),
        "unused/2010_999999": raw_map([2]),
    }
    top = root / "VOCdevkit/VOC2010"
    (top / "trainval").mkdir(parents=True)
    detail: dict[str, list[dict]] = {"images": [], "parts": [{"a": [1]}], "annos_segmentation": []}
    for n, (key, values) in enumerate(raw.items()):
        split, stem = key.split("/")
        write_photo(top / f"JPEGImages/{stem}.jpg", seed=n)
        savemat(
            top / f"trainval/{stem}.mat", {"LabelMap": values.astype(np.uint16)}, do_compression=n % 2 == 0
        )
        if split == "unused":
            continue
        height, width = SIZE
        image = {"file_name": f"{stem}.jpg", "image_id": n, "height": height, "width": width, "phase": split}
        detail["images"].append(image)
        everything = encode_label_map(np.zeros(SIZE, np.int64))[0].counts
        first = {"size": [height, width], "counts": everything}  # wholly painted over by what follows it
        detail["annos_segmentation"].append({"image_id": n, "category_id": 458, "segmentation": first})
        for category, region in encode_label_map(values).items():
            segmentation = {"size": [height, width], "counts": region.counts}
            row = {"image_id": n, "category_id": category if category in PC59 else 0}
            detail["annos_segmentation"].append({**row, "segmentation": segmentation})
    (top / "trainval_merged.json").write_text(json.dumps({"info": {}, **detail}, indent=1))
    (top / "pascalcontext_val.txt").write_text("2008_000002")
    return raw


PC59 = (2, 9, 458)  # the raw ids above that pc59 lists


def make_cityscapes(root: Path) -> dict[str, Array]:
    raw = {
        "val/frankfurt_000000_000294": raw_map([0, 4, 7, 33, 255]),
        "train/ulm_000001_000019": raw_map([8]),
    }
    for n, (key, values) in enumerate(raw.items()):
        split, stem = key.split("/")
        city = stem.split("_")[0]
        pixels = np.random.default_rng(n).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        _write(Image.fromarray(pixels), root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png")
        write_grey(root / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", values)
        write_grey(root / f"gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png", values)
    return raw


MAKERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    "coco": make_coco,
    "ade150": make_ade150,
    "ade847": make_ade847,
    "voc": make_voc,
    "pc59": make_pcontext,
    "pc459": make_pcontext,
    "cityscapes": make_cityscapes,
}


def pack(folder: Path, archive: Path) -> Path:
    """Everything in `folder` as a .zip, .tar or .tar.gz, with "./" before the names of the latter two."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in files:
                packed.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as packed_tar:
            for path in files:
                packed_tar.add(path, f"./{path.relative_to(folder).as_posix()}")
    return archive
