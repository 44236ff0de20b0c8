"""The emoji world as a dataset: evaluated, trained on, and named like any other."""

import json
import math
from pathlib import Path

import numpy as np
from emoji_font import needs_font
from program import San

from san_cli.datasets.emoji.pairs import MOSAIC_SIDE, SCENES, SIZE, SPLITS, scene_pairs
from san_cli.datasets.emoji.source import EmojiSource
from san_cli.vocabulary.class_lists import load_dataset_vocabulary
from san_cli.vocabulary.emoji_concepts import all_ids, seen_ids, unseen_ids


@needs_font
def test_evaluation_tells_seen_from_unseen(san: San) -> None:
    ended = san("eval", "emoji", "--model", "tiny", "--weights", "random", "--templates", "name",
                "--limit", 3, "--json", "--device", "cpu")  # fmt: skip
    assert ended.code == 0, ended.err
    (result,) = json.loads(ended.out)["results"]
    assert result["images"] == 3
    assert result["classes"] == len(all_ids())
    iou = [one["IoU"] for one in result["per_class"]]
    for name, ids in (("seen", seen_ids()), ("unseen", unseen_ids())):
        present = [iou[index] for index in ids if iou[index] is not None]
        assert math.isclose(result[f"mIoU_{name}"], sum(present) / len(present), abs_tol=1e-9)


def test_an_unknown_split_is_refused(san: San) -> None:
    ended = san("eval", "emoji", "--split", "train", "--weights", "random")
    assert ended.code == 2
    assert "emoji has no split 'train'" in ended.err
    assert all(split in ended.err for split in SPLITS)


def test_a_slip_in_its_name_is_noticed(san: San) -> None:
    ended = san("eval", "emojis", "--weights", "random")
    assert ended.code == 2
    assert "Did you mean emoji?" in ended.err


@needs_font
def test_a_scene_to_evaluate_has_one_label_for_each_pixel() -> None:
    pair = scene_pairs("val")[7]
    image, labels = pair.read_image(), pair.read_labels(len(all_ids()), 65535)
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    assert labels.shape == (SIZE, SIZE)
    assert labels.max() < len(all_ids())
    assert not np.array_equal(image, scene_pairs("val-2")[7].read_image())


@needs_font
def test_mosaics_hold_the_pixels_of_the_scenes() -> None:
    scenes, mosaics = scene_pairs("val"), scene_pairs("mosaics")
    assert len(mosaics) * MOSAIC_SIDE**2 == len(scenes) == SCENES
    assert len({pair.stem for pair in (*scenes, *mosaics)}) == len(scenes) + len(mosaics)
    image, labels = mosaics[19].read_image(), mosaics[19].read_labels(len(all_ids()), 65535)
    assert image.shape == (MOSAIC_SIDE * SIZE, MOSAIC_SIDE * SIZE, 3)
    for number, scene in enumerate(scenes[19 * MOSAIC_SIDE**2 :]):
        row, column = divmod(number, MOSAIC_SIDE)
        place = slice(row * SIZE, (row + 1) * SIZE), slice(column * SIZE, (column + 1) * SIZE)
        assert np.array_equal(image[place], scene.read_image())
        assert np.array_equal(labels[place], scene.read_labels(len(all_ids()), 65535))


@needs_font
def test_all_its_splits_are_checked(san: San) -> None:
    ended = san("data", "check", "emoji", "--split", "all")
    assert ended.code == 0, ended.err
    assert [line.split(",")[0] for line in ended.out.splitlines()] == [
        "emoji val: 500 pictures",
        "emoji val-2: 500 pictures",
        "emoji val-3: 500 pictures",
        "emoji mosaics: 20 pictures",
    ]


@needs_font
def test_training_scenes_hold_nothing_unseen_and_know_their_number() -> None:
    source = EmojiSource(1, seen_ids(), 96, 10)
    first = source.read(3)
    again = EmojiSource(1, seen_ids(), 96, 10).read(3)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert first[1].max() < len(seen_ids())
    assert "3" in first[2]
    assert len(source) == 10


@needs_font
def test_a_dry_run_of_training_on_it(san: San, tmp_path: Path) -> None:
    ended = san("train", "emoji", "--model", "tiny", "--clip-weights", "random", "--templates", "name", "--limit", 4,
                "--batch", 1, "--iterations", 10, "--set", "points=64", "--workers", 0, "--device", "cpu",
                "-o", tmp_path / "run", "--dry-run")  # fmt: skip
    assert ended.code == 0, ended.err
    assert f"{len(seen_ids())} classes" in ended.out
    assert not (tmp_path / "run").exists()


def test_its_names_are_a_vocabulary() -> None:
    names = [one.name for one in load_dataset_vocabulary("emoji").classes]
    assert len(names) == len(all_ids()) == len(seen_ids()) + len(unseen_ids())
    assert "dog" in names
