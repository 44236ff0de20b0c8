"""`--label-map`: how it is read, what it makes of labels, and what can't be meant."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from san_cli.datasets.own_pairs import ignored_values
from san_cli.datasets.relabelling import id_change, read_relabelling
from san_cli.datasets.task import OwnData, Task, own_task
from san_cli.errors import SanError

NAMES = ("road", "person|pedestrian", "sky")
COLOURS = np.array([[128, 64, 128], [220, 20, 60], [70, 130, 180]], np.uint8)
TRUTH = np.kron(np.random.default_rng(2).integers(0, 3, (6, 10)), np.ones((6, 6), int)).astype(np.uint8)


def make(folder: Path, *labels: Any, names: tuple[str, ...] = NAMES, suffix: str = ".png") -> Path:
    for number, label in enumerate(labels):
        for kind in ("i", "l"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        image = label if isinstance(label, Image.Image) else Image.fromarray(label)
        image.save(folder / f"l/{number}{suffix}")
        Image.new("RGB", image.size).save(folder / f"i/{number}.jpg")
    (folder / "c.txt").write_text("\n".join(names) + "\n")
    return folder


def task_of(folder: Path, *entries: str, ignore: tuple[str, ...] = ()) -> Task:
    relabelling = read_relabelling(entries)
    data = OwnData(
        folder / "i", folder / "l", str(folder / "c.txt"), ignored_values(ignore), relabelling=relabelling
    )
    return own_task(data)


def ids(task: Task) -> list[np.ndarray]:
    return [pair.read_labels(len(task.classes), task.ignore_label) for pair in task.pairs]


def assert_becomes(expected: np.ndarray, folder: Path, *entries: str, **options: Any) -> None:
    for found in ids(task_of(folder, *entries, **options)):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8


def refused(folder: Path, *entries: str, **options: Any) -> SanError:
    with pytest.raises(SanError) as caught:
        ids(task_of(folder, *entries, **options))
    assert "\n" not in caught.value.message
    return caught.value


# Ids


def test_masks_of_0_and_255(tmp_path: Path) -> None:
    binary = (TRUTH > 0).astype(np.uint8)
    folder = make(tmp_path, binary * 255, names=("off", "on"))
    assert "--label-map 255=1" in refused(folder).hint
    assert_becomes(binary, folder, "255=1")
    assert_becomes(binary, folder, "255=on")


def test_ids_from_1(tmp_path: Path) -> None:
    folder = make(tmp_path, TRUTH + 1)
    assert "--label-map 1-3=0-2." in refused(folder).hint
    assert_becomes(TRUTH, folder, "1-3=0-2")
    assert "--label-map 1-3=0-2 in the place of --ignore 0" in refused(folder, ignore=("0",)).hint


def test_ids_from_1_with_0_for_unlabelled(tmp_path: Path) -> None:
    labels = TRUTH + 1
    labels[:5] = 0
    expected = np.where(labels == 0, 255, TRUTH)
    folder = make(tmp_path, labels)
    assert "--label-map 0=ignore --label-map 1-3=0-2" in refused(folder).hint
    assert_becomes(expected, folder, "0=ignore", "1-3=0-2")
    assert_becomes(expected, folder, "0=255", "1-3=0-2")
    fault = refused(folder, "1-3=0-2")  # 0 would be two classes
    assert "--label-map 0=ignore" in fault.hint
    fault = refused(folder, "1-3=0-2", ignore=("0",))
    assert "leave it out" in fault.hint
    assert_becomes(np.where(labels == 0, 0, TRUTH), folder, "0=0", "1-3=0-2")


def test_shades_are_given_places(tmp_path: Path) -> None:
    folder = make(tmp_path, np.array([0, 128, 255], np.uint8)[TRUTH])
    hint = refused(folder).hint
    entries = [word.rstrip(".") for word in hint.split() if "=" in word]
    assert_becomes(TRUTH, folder, *entries)


def test_merging(tmp_path: Path) -> None:
    folder = make(tmp_path, TRUTH)
    assert_becomes(np.minimum(TRUTH, 1), folder, "1-2=1")
    assert_becomes(np.minimum(TRUTH, 1), folder, "2=Pedestrian")
    assert_becomes(np.where(TRUTH > 0, 255, 0), folder, "1-2=ignore")


def test_ids_of_16_bits(tmp_path: Path) -> None:
    folder = make(tmp_path, TRUTH.astype(np.uint16) * 1000, suffix=".tif")
    task = task_of(folder, "1000=1", "2000=2")
    np.testing.assert_array_equal(ids(task)[0], TRUTH)


@given(st.dictionaries(st.integers(0, 255), st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=30))
def test_all_entries_act_at_once(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[int, int | None]
) -> None:
    path = tmp_path_factory.mktemp("at once") / "a.png"
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(stored).save(path)
    entries = [f"{old}={'ignore' if new is None else new}" for old, new in wanted.items()]
    relabelling = read_relabelling(entries)
    assert relabelling is not None
    found = id_change(relabelling, [[f"n{i}"] for i in range(10)], (255,)).read(path, 255)
    expected = [wanted.get(value, value) for value in range(256)]
    assert found.ravel().tolist() == [255 if value is None else value for value in expected]


# Colours


def palette(indices: np.ndarray) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(COLOURS[::-1].tobytes())
    return image


@pytest.mark.parametrize(
    "label",
    [
        COLOURS[TRUTH],
        np.dstack([COLOURS[TRUTH], np.full(TRUTH.shape, 255, np.uint8)]),
        palette(2 - TRUTH.astype(int)),
    ],
)
def test_colours(tmp_path: Path, label: Any) -> None:
    folder = make(tmp_path, label)
    entries = ["128,64,128=road", "#DC143C=pedestrian", "(70, 130, 180)=2"]
    assert_becomes(TRUTH, folder, *entries)
    assert_becomes(np.array([255, 1, 2])[TRUTH], folder, "128,64,128=ignore", *entries[1:])


def test_grey_is_a_colour_too(tmp_path: Path) -> None:
    folder = make(tmp_path, np.array([0, 90, 255], np.uint8)[TRUTH])
    assert_becomes(TRUTH, folder, "0,0,0=road", "90,90,90=person", "#ffffff=sky")


def test_colours_that_nobody_named_are_listed_with_counts(tmp_path: Path) -> None:
    folder = make(tmp_path, COLOURS[TRUTH], COLOURS[np.zeros_like(TRUTH)])
    counts = np.bincount(TRUTH.ravel())
    fault = refused(folder, "128,64,128=road")
    assert fault.code == 4
    assert f"70,130,180 ({counts[2]:,} pixels)" in fault.message
    assert f"220,20,60 ({counts[1]:,} pixels)" in fault.message and "=NAME" in fault.hint
    noisy = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    assert "interpolation" in refused(make(tmp_path / "noisy", noisy), "0,0,0=road").hint
    assert "--label-map '" in refused(make(tmp_path / "plain", COLOURS[TRUTH])).hint


# Files


@pytest.mark.parametrize(
    "text",
    [
        "# old=new\n1 = 0  # first\n\n2-3=1-2\n",
        "1=road\r\n2=person\r\n3=sky\r\n",
        "\ufeff1-3=0-2",
        json.dumps({"1": 0, "2": "person", "3": "2"}),
    ],
)
def test_files_of_ids(tmp_path: Path, text: str) -> None:
    (tmp_path / "map").write_text(text, newline="")
    assert_becomes(TRUTH, make(tmp_path, TRUTH + 1), str(tmp_path / "map"))


@pytest.mark.parametrize(
    "text",
    [
        "#804080 = road\n# a comment\n#dc143c=person\n70,130,180=sky\n",
        "# label:color_rgb:parts:actions\nroad:128,64,128::\nperson:220,20,60::\nsky:70,130,180::\n",
        json.dumps({"#804080": "road", "220,20,60": "person", "70,130,180": 2}),
    ],
)
def test_files_of_colours(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.txt").write_text(text)
    assert_becomes(TRUTH, make(tmp_path, COLOURS[TRUTH]), str(tmp_path / "map.txt"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "road\n", "1=\n", "[1, 2]", '{"1": [2]}', "{", "\xff"])
def test_files_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "map").write_text(text, encoding="latin-1")
    with pytest.raises(SanError) as caught:
        read_relabelling([str(tmp_path / "map")])
    assert caught.value.code == 2 and caught.value.hint


# What can't be meant


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (["nowhere.txt"], "can't read"),
        (["1=0,2=1"], "more than one ="),
        (["=1"], "without a side"),
        (["1="], "without a side"),
        (["3-1=0"], "no range"),
        (["1-70000=0"], "no range"),
        (["1-3=0-1"], "differ in length"),
        (["1=0", "1=1"], "twice"),
        (["1-5=0", "3=1"], "twice"),
        (["#800000=road", "128,0,0=sky"], "twice"),
        (["300,0,0=road"], "no colour"),
        (["1=0", "0,0,0=road"], "mixture"),
        (["1=0", "truck=road"], "begins with a name"),
        (["truck=road"], "begins with a name"),
        (["1=rode"], "Did you mean 'road'"),
        (["1=7"], "the ids 0 to 2"),
    ],
)
def test_entries_that_cannot_be_meant(tmp_path: Path, entries: list[str], told: str) -> None:
    fault = refused(make(tmp_path, TRUTH), *entries)
    assert fault.code == 2
    assert told in f"{fault.message} {fault.hint}"


def test_ignore_none_and_an_entry_that_ignores(tmp_path: Path) -> None:
    assert "--ignore none" in refused(make(tmp_path, TRUTH), "1=ignore", ignore=("none",)).message


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_any_text_is_an_entry_or_refused(texts: list[str]) -> None:
    found = None
    with suppress(SanError):
        found = read_relabelling(texts)
    assert found is None or found.told
