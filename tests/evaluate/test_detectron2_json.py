"""detectron2's prediction files: written, read back, and refused where they are something else."""

import json
import os
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from san_cli.errors import SanError
from san_cli.evaluate.detectron2_json import (
    category_convention,
    image_entries,
    image_stem,
    index_predictions,
    read_label_map,
)
from san_cli.regions.rle import run_lengths

NAMES = ["a/one.jpg", "b/two é.jpg", 'odd"\\name].jpg', "雪.png", "bytes\udcff.png"]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)), min_size=0, max_size=5),
    st.integers(1, 60),
    st.sampled_from([", ", ",", " ,\n "]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[tuple[int, int, int]],
    chunk: int,
    separator: str,
    plain_letters: bool,
) -> None:
    generator = np.random.default_rng(len(shapes))
    maps = [generator.integers(0, classes, (h, w)).astype(np.int16) for h, w, classes in shapes]
    texts = [image_entries(name, one, None) for name, one in zip(NAMES, maps, strict=False)]
    text = "[" + separator.join(texts) + "]"
    if plain_letters:  # as a writer without escapes would have it
        text = json.dumps(json.loads(text), ensure_ascii=False)
    path = tmp_path_factory.mktemp("json") / "p.json"
    path.write_bytes(text.encode("utf-8", "replace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("san_cli.datasets.json_stream._CHUNK", chunk)
        index = index_predictions(path)
    assert len(index.spans) == len(maps)
    for name, one in zip(NAMES, maps, strict=False):
        stem = image_stem(name).replace("\udcff", "?" if plain_letters else "\udcff")
        found = read_label_map(index.entries(stem), one.shape, {i: i for i in range(9)}, name)
        assert np.array_equal(found, one)


def test_an_images_entries_may_be_scattered(tmp_path: Path) -> None:
    maps = {name: np.array([[0, 1], [2, 2]], np.int16) for name in ("x", "y")}
    entries = [
        entry for name, one in maps.items() for entry in json.loads(f"[{image_entries(name, one, None)}]")
    ]
    entries = entries[::2] + entries[1::2]
    index = index_predictions(write(tmp_path / "p.json", json.dumps(entries, indent=2)))
    for name, one in maps.items():
        assert np.array_equal(read_label_map(index.entries(name), (2, 2), {0: 0, 1: 1, 2: 2}, name), one)


ENTRY = '{"file_name": "x.jpg", "category_id": 1, "segmentation": {"size": [1, 2], "counts": "02"}}'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no file of predictions"),
        ('{"annotations": []}', "no file of predictions"),
        (f"[{ENTRY}", "cut short"),
        (f"[{ENTRY[:40]}", "cut short"),
        (f"[{ENTRY} {ENTRY}]", "damaged"),
        (f"[{ENTRY},]", "damaged"),
        ("[1]", "entry at byte 1 is no prediction"),
        ("[" * 100_000, "damaged"),
        (f"[{ENTRY}, {ENTRY.replace('1, 2', '1')}]", "no prediction"),
        (ENTRY.replace("category_id", "image_id").join("[]"), "no prediction"),
        (f"[{ENTRY}, {ENTRY.replace('x.jpg', 'y/x.png')}]", "two images called x"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SanError, match=told):
        index_predictions(write(tmp_path / "p.json", text))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"category_id": 7}, "category_id 7, which is no class"),
        ({"segmentation": {"size": [2, 1], "counts": "02"}}, "is 1×2 pixels, its label 2×1"),
        ({"segmentation": {"size": [1, 2], "counts": "05"}}, "damaged"),
        ({"segmentation": {"size": [1, 2], "counts": "o"}}, "damaged"),
        ({"segmentation": {"size": [1, 2], "counts": ""}}, "damaged"),
    ],
)
def test_what_is_wrong_with_an_entry(change: dict, told: str) -> None:
    entry = {**json.loads(ENTRY), **change}
    with pytest.raises(SanError, match=told):
        read_label_map([entry], (1, 2), {0: 0, 1: 1}, "x.jpg")


def test_overlaps_are_refused_and_gaps_have_no_class() -> None:
    entry = json.loads(ENTRY)
    with pytest.raises(SanError, match="another one"):
        read_label_map([entry, {**entry, "category_id": 0}], (1, 2), {0: 0, 1: 1}, "x.jpg")
    left = {**entry, "segmentation": {"size": [1, 2], "counts": "011"}}
    assert read_label_map([left], (1, 2), {1: 5}, "x.jpg").tolist() == [[5, -1]]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools under numpy 2
@given(st.integers(0, 6), st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_runs_are_painted_as_masks_are(segments: int, height: int, width: int, random: Random) -> None:
    """Every mask by itself, whatever its runs: those of no length, and gaps, too."""
    label_map = np.array([[random.randint(-1, segments) for _ in range(width)] for _ in range(height)])
    entries = json.loads(f"[{image_entries('x.jpg', label_map.astype(np.int16), None)}]")
    random.shuffle(entries)
    for entry in entries:  # a run of zeros, one of no ones, and the rest of the zeros are the same mask
        lengths = run_lengths(entry["segmentation"]["counts"], (height, width)).tolist()
        if lengths[0] > 1:
            lengths[:1] = [1, 0, lengths[0] - 1]
        text = coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
        entry["segmentation"]["counts"] = text["counts"].decode()
    expected = np.full((height, width), -1)
    for entry in entries:
        expected[coco_mask.decode(entry["segmentation"]).astype(bool)] = entry["category_id"]
    found = (
        read_label_map(entries, (height, width), {i: i for i in range(7)}, "x.jpg") if entries else expected
    )
    assert np.array_equal(found, expected)
    assert np.array_equal(found, label_map)


def test_category_conventions() -> None:
    of_coco = (1, 2, 4)  # 3 is not in use
    assert category_convention(frozenset([1, 4]), 3, of_coco)[0] == {1: 0, 2: 1, 4: 2}
    assert category_convention(frozenset([0, 1]), 3, of_coco)[0] == {0: 0, 1: 1, 2: 2}
    assert "the dataset's own id" in category_convention(frozenset([4]), 3, of_coco)[1]
    assert "not the dataset's own" in category_convention(frozenset([0]), 3, of_coco)[1]
    assert category_convention(frozenset([9]), 3, None)[0] == {0: 0, 1: 1, 2: 2}


BEYOND = (
    '[{"file_name": "a.jpg", "category_id": CATEGORY, "segmentation": {"size": [HEIGHT, 4], "counts": "4"}}]'
)
HEIGHTS = ("-3", "0", "1e400", "Infinity", "NaN", "true", "1" * 30, "1" * 5000, "4.0", '"4"', "null")
CATEGORIES = ("1" * 5000, "1" * 30, "-" + "1" * 30, "1e400", "true", "[0]")


@pytest.mark.parametrize(
    "text",
    [
        *(BEYOND.replace("HEIGHT", height).replace("CATEGORY", "0") for height in HEIGHTS),
        *(BEYOND.replace("HEIGHT", "4").replace("CATEGORY", category) for category in CATEGORIES),
        *("[" * 100_000, '[{"a":' * 50_000, '{"annotations": []}', "[1]", "null", ""),
    ],
)
def test_numbers_and_nesting_beyond_reason(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(SanError) as caught:
        index_predictions(path)
    assert caught.value.code == 4
    assert len(caught.value.message) < 300
    if "annotations" in text:
        assert "--save-predictions" in caught.value.hint


def test_predictions_that_are_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "nowhere"):
        with pytest.raises(SanError) as caught:
            index_predictions(tmp_path / name)
        assert caught.value.code == 4
