"""`--tile` as a user runs it: large pictures in windows, small ones as ever, the same bytes however it is run."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mosaics import SIDE, make_mosaics, mosaic
from PIL import Image
from program import Ended, San, make_photos, subprocess_environment, tree
from tiff_files import write_tiff

from san_cli.engine.mask_blocks import frame_of
from san_cli.engine.segmentation_map import segmentation_scores
from san_cli.engine.segmenter import Segmenter
from san_cli.engine.tiling import tiling_of
from san_cli.vocabulary.grammar import parse_vocabulary


@pytest.fixture
def mosaics(tmp_path: Path) -> Path:
    """A folder of three large pictures and three small ones."""
    folder = tmp_path / "mosaics"
    make_mosaics(folder)
    return folder


def pictures(folder: Path) -> dict[str, bytes]:
    """The files of results that say nothing of the run's settings."""
    return {
        name: content
        for name, content in tree(folder).items()
        if not name.startswith((".san", "predictions.json", "index.html", "html/data"))
    }


def labels_of(folder: Path, name: str = "m0") -> np.ndarray:
    with Image.open(folder / f"{name}.labels.png") as file:
        return np.asarray(file)


def test_auto_leaves_scenes_as_they_are(predict: San, photos: Path, tmp_path: Path) -> None:
    save = ("--save", "overlay,labels,json,html,labels-gray,scores,table")
    predict(photos, "-o", tmp_path / "off", *save)
    ended = predict(photos, "-o", tmp_path / "auto", *save, "--tile", "auto")
    assert ended.code == 0
    assert pictures(tmp_path / "off") == pictures(tmp_path / "auto")
    documents = [json.loads((tmp_path / out / "predictions.json").read_text()) for out in ("off", "auto")]
    assert [document["info"]["san"].pop("tile") for document in documents] == ["off", "auto"]
    assert documents[0] == documents[1]


def test_the_label_map_is_that_of_the_weighted_sum(
    predict: San, mosaics: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    options = ("--tile", SIDE, "--save", "labels,scores")
    assert predict(mosaics / "m0.png", "-o", tmp_path, *options).code == 0
    segmenter = Segmenter.load(weights=tiny_weights, device="cpu")
    words, pixels = parse_vocabulary(["voc"]), mosaic(0, 2, 3)
    tiling = tiling_of(*pixels.shape[:2], SIDE, segmenter.preset)
    assert tiling is not None and len(tiling) == 12
    total = torch.zeros(len(words), *pixels.shape[:2])
    for row in range(len(tiling.rows.starts)):
        for column, place in enumerate(tiling.places(row)):
            resized = segmenter.resize(np.ascontiguousarray(pixels[place]))
            masks, classes = segmenter.map_factors([resized], words)
            scores = segmentation_scores(masks[0], classes[0], frame_of(resized, tiling.size))
            weights = np.outer(tiling.rows.weights[row], tiling.columns.weights[column])
            total[(slice(None), *place)] += scores * torch.from_numpy(weights)
    best, second = total.topk(2, dim=0).values.numpy()
    clear = best - second > 1e-4 * best
    assert clear.mean() > 0.9
    assert np.array_equal(labels_of(tmp_path)[clear], total.argmax(dim=0).numpy()[clear])
    with Image.open(tmp_path / "m0.confidence.png") as file:
        confidence = np.asarray(file) / 65535
    assert np.allclose(confidence, best / total.sum(dim=0).numpy(), atol=1e-3)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_same_bytes_however_it_is_run(predict: San, mosaics: Path, tmp_path: Path, batch: int) -> None:
    options = ("--tile", SIDE, "--batch", batch, "--save", "overlay,labels,json,scores,table,html")
    predict(mosaics, "-o", tmp_path / "one", *options, "--workers", 1)
    ended = predict(mosaics, "-o", tmp_path / "three", *options, "--workers", 3)
    assert ended.code == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "three")
    for shard in ("3/3", "1/3", "2/3"):
        predict(mosaics, "-o", tmp_path / "shards", *options, "--shard", shard)
    assert tree(tmp_path / "one") == tree(tmp_path / "shards")
    predict(mosaics / "m1.png", "-o", tmp_path / "alone", *options)
    alone, among = (pictures(tmp_path / out) for out in ("alone", "one"))
    kept = [name for name in alone if name.startswith(("m1.", "html/m1."))]
    assert len(kept) == 5 and all(alone[name] == among[name] for name in kept)
    assert "nothing new, 6 done before" in predict(mosaics, "-o", tmp_path / "one", *options).err
    assert tree(tmp_path / "one") == tree(tmp_path / "three")


def test_batches_change_hardly_a_pixel(predict: San, mosaics: Path, tmp_path: Path) -> None:
    """As for whole images: another number of rows of a matrix product may round its sums elsewise."""
    for batch in (1, 4):
        options = ("--tile", SIDE, "--batch", batch, "--save", "labels")
        predict(mosaics, "-o", tmp_path / f"{batch}", *options)
    for name in ("m0", "m1", "m2"):
        one, four = (labels_of(tmp_path / batch, name) for batch in ("1", "4"))
        assert (one != four).mean() < 1e-3


def test_a_large_picture_among_small_ones_changes_none_of_a_batch(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    make_photos(photos, 9)
    options = ("--batch", 3, "--save", "labels")
    predict(photos, "-o", tmp_path / "small", *options)
    Image.fromarray(mosaic(0, 2, 2)).save(photos / "p99.png")
    predict(photos, "-o", tmp_path / "both", *options, "--tile", "auto")
    small, both = pictures(tmp_path / "small"), pictures(tmp_path / "both")
    assert {name: both[name] for name in small} == small


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_run_ends_in_the_same_bytes(
    predict: San, tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    folder, out = tmp_path / "mosaics", tmp_path / "out"
    folder.mkdir()
    for number, side in enumerate([2, 2, 4, 4, 4]):  # most of the work is left after the first
        Image.fromarray(mosaic(number, side, side)).save(folder / f"m{number}.png")
    predict(folder, "-o", tmp_path / "whole", "--tile", SIDE)
    options = ["--weights", str(tiny_weights), "--vocab", "voc", "--device", "cpu", "-q", "--tile", str(SIDE)]
    process = subprocess.Popen(
        [sys.executable, "-m", "san_cli", "predict", str(folder), "-o", str(out), *options],
        env={**subprocess_environment(san_home), "PYTHONHASHSEED": "7"},
    )
    journal = out / ".san" / "journal"
    # With the second line the first picture's files have their names.
    while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "predictions.json").exists()
    ended = predict(folder, "-o", out, "--tile", SIDE, "--workers", 4)
    assert (ended.code, "done before" in ended.err) == (0, True)
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    "options",
    [
        ("--only", "cat,dog"),
        ("--vocab", "voc", "--background", "nothing"),
        ("--vocab", "voc", "--background", "nothing", "--show", "cat,person"),
        ("--vocab", "voc", "--min-score", "0.05", "--min-confidence", "0.2"),
        ("--vocab", "voc", "--min-score", "person=0.2,*=0.01"),
    ],
    ids=lambda options: options[-2].lstrip("-"),
)
def test_every_option_means_the_same_in_windows(
    predict: San, mosaics: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    save = ("--save", "scores,table,html,labels,labels-gray,json", "--jsonl")
    ended = predict(mosaics / "m0.png", "-o", tmp_path, "--tile", SIDE, *options, *save)
    assert ended.code == 0
    line = json.loads(ended.out)
    assert all(Path(path).is_file() for path in line["outputs"].values()) and len(line["outputs"]) == 5
    labels = labels_of(tmp_path)
    with Image.open(line["outputs"]["labels-gray"]) as gray:
        assert np.array_equal(np.asarray(gray), labels)
    areas = {entry["id"]: entry["area"] for entry in line["classes"]}
    assert areas == {i: int((labels == i).sum()) for i in np.unique(labels).tolist() if i != 255}
    names = json.loads((tmp_path / "classes.json").read_text())
    shown = {"cat", "dog"} if options[0] == "--only" else {"cat", "person"} if "--show" in options else None
    if shown is not None:
        assert {entry["name"] for entry in line["classes"]} <= shown
    if "--min-score" in options:
        least = 0.01 if "*" in options[-1] else 0.05
        assert all(entry["score"] >= least for entry in line["classes"])
        assert (labels == 255).any()
    assert len(names) >= 2


def test_limits_leave_out_what_the_whole_map_has_below_them(
    predict: San, mosaics: Path, tmp_path: Path
) -> None:
    options = ("--tile", SIDE, "--save", "labels,scores")
    predict(mosaics / "m0.png", "-o", tmp_path / "all", *options)
    predict(mosaics / "m0.png", "-o", tmp_path / "sure", *options, "--min-confidence", 0.3)
    with Image.open(tmp_path / "all" / "m0.confidence.png") as file:
        confidence = np.asarray(file) / 65535
    clear = abs(confidence - 0.3) > 1e-4
    expected = np.where(confidence < 0.3, 255, labels_of(tmp_path / "all"))
    assert np.array_equal(labels_of(tmp_path / "sure")[clear], expected[clear])
    assert (expected == 255).any() and (expected != 255).any()


def test_pixels_without_data_stay_unlabelled(predict: San, tmp_path: Path) -> None:
    """A strip, a hole in a window, and windows that have none at all."""
    values = mosaic(3, 3, 3).astype(np.float32)
    values[:, :100], values[200:, 150:160] = -9999, -9999
    (tmp_path / "holes.tif").write_bytes(write_tiff(values, tags={42113: b"-9999"}))
    options = ("--tile", SIDE, "--range", "0,255", "--save", "labels,json", "--jsonl")
    ended = predict(tmp_path / "holes.tif", "-o", tmp_path / "out", *options)
    assert ended.code == 0
    assert np.array_equal(labels_of(tmp_path / "out", "holes") == 255, values[:, :, 0] == -9999)
    line = json.loads(ended.out)
    assert sum(entry["area"] for entry in line["classes"]) == int((values[:, :, 0] != -9999).sum())


def noted(ended: Ended) -> int:
    return ended.err.count("--tile auto looks closer")


def test_pictures_larger_than_the_view_get_one_note(
    predict: San, mosaics: Path, photos: Path, tmp_path: Path
) -> None:
    assert noted(first := predict(mosaics, "-o", tmp_path / "off")) == 1
    assert "m0.png (240 × 160 pixels) is seen at less than half its size" in first.err
    assert noted(predict(mosaics, "-o", tmp_path / "off", "--jsonl")) == 0  # nothing new
    assert noted(predict(mosaics, "-o", tmp_path / "quiet", "-q")) == 0
    assert noted(predict(photos, "-o", tmp_path / "small")) == 0
    assert noted(predict(mosaics / "m0.png", "-o", tmp_path / "auto", "--tile", "auto")) == 0
    # A window as large as the picture leaves it whole, and squeezed.
    assert noted(predict(mosaics / "m0.png", "-o", tmp_path / "400", "--tile", 400)) == 1


@pytest.mark.parametrize("tile", ["0", "-640", "63", "640x640", "big", "", "auto,640", "1e3"])
def test_senseless_tiles_are_usage_errors(predict: San, photos: Path, tmp_path: Path, tile: str) -> None:
    ended = predict(photos, "-o", tmp_path / "out", "--weights", "missing.safetensors", f"--tile={tile}")
    assert ended.code == 2
    assert "--tile takes a window's side in pixels" in ended.err
    assert "--tile auto suits most large pictures" in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_another_tile_is_another_run(predict: San, mosaics: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(mosaics, "-o", out, "--tile", "96", "--save", "labels")
    before = tree(out)
    for other in (["--tile", "100"], ["--tile", "auto"], ["--tile", "off"], []):
        ended = predict(mosaics, "-o", out, "--save", "labels", *other)
        assert ended.code == 2
        assert re.search(r"other settings.*\btile\b", ended.err)
        assert "--overwrite" in ended.err
        assert tree(out) == before
    ended = predict(mosaics, "-o", out, "--tile", " 96", "--save", "labels", "--workers", 2)
    assert "nothing new, 6 done before" in ended.err
    assert tree(out) == before
