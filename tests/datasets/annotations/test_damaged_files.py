"""Files of drawn labels with bytes changed, cut out or doubled: read, or refused in a sentence, and nothing else."""

import json
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from drawn_files import NAMES, coco_of, cvat_of, label_studio_of, random_map, write_labelme, write_yolo
from hypothesis import given, settings
from hypothesis import strategies as st

from san_cli.datasets.annotations.find import read_drawings
from san_cli.datasets.annotations.shapes import label_map_of
from san_cli.datasets.relabelling import class_words
from san_cli.errors import SanError

SIZE = (9, 11)
MAPS = {"a": random_map(5, *SIZE)}
IDS = class_words([[name] for name in (*NAMES, "__ignore__")])


def files(folder: Path) -> dict[str, bytes]:
    write_labelme(folder, MAPS)
    write_yolo(folder, MAPS)
    return {
        "labelme.json": (folder / "a.json").read_bytes(),
        "coco.json": json.dumps(coco_of(MAPS, "polygons")).encode(),
        "coco-rle.json": json.dumps(coco_of(MAPS, "rle")).encode(),
        "coco-counts.json": json.dumps(coco_of(MAPS, "counts")).encode(),
        "studio.json": json.dumps(label_studio_of(MAPS)).encode(),
        "cvat.xml": cvat_of(MAPS).encode(),
        "labels/a.txt": (folder / "labels/a.txt").read_bytes(),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files(tmp_path_factory.mktemp("whole"))


def read_all(path: Path) -> None:
    drawings = read_drawings(path, names=NAMES)
    for drawn in drawings.images.values():
        drawing = drawn.read()
        with suppress(ValueError, KeyError):  # what a pair tells its user in words
            label_map_of(
                drawing.shapes, drawing.size if drawing.size and max(drawing.size) < 999 else SIZE, IDS
            )


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        ["labelme.json", "coco.json", "coco-rle.json", "coco-counts.json", "studio.json", "cvat.xml"]
    ),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.binary(max_size=6)), min_size=1, max_size=3),
)
def test_damaged_files(
    tmp_path_factory: pytest.TempPathFactory,
    whole: dict[str, bytes],
    name: str,
    changes: list[tuple[float, int, bytes]],
) -> None:
    data = whole[name]
    for place, length, other in changes:
        at = int(place * len(data))
        data = data[:at] + other + data[at + length :]
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    path.write_bytes(data)
    with warnings.catch_warnings(), suppress(SanError):
        warnings.simplefilter("error")
        read_all(path)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.integers(0, 30), st.text("0123456789.-+e \nx", max_size=6))
def test_damaged_yolo(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], place: float, length: int, other: str
) -> None:
    data = whole["labels/a.txt"]
    at = int(place * len(data))
    folder = tmp_path_factory.getbasetemp() / "damaged-yolo"
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_bytes(data[:at] + other.encode() + data[at + length :])
    with suppress(SanError):
        read_all(folder)
