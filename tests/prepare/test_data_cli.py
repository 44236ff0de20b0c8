"""`san data` as people use it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import raw_datasets as raw_trees
from program import San

from san_cli.datasets.labels import write_label


@pytest.fixture(autouse=True)
def _no_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAN_DATASETS", "DETECTRON2_DATASETS"):
        monkeypatch.delenv(name, raising=False)


def test_prepare_check_and_list(san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_trees.make_voc(tmp_path / "raw")
    archive = raw_trees.pack(tmp_path / "raw", tmp_path / "VOCtrainval_11-May-2012.tar")
    root = tmp_path / "data root"
    ended = san("data", "prepare", "voc", "--from", archive, "--to", root)
    assert ended.code == 0
    assert ended.out.splitlines() == [
        f"voc val: 1 pair in {root} (2 files written, 0 kept)",
        f"voc train: 1 pair in {root} (2 files written, 0 kept)",
    ]
    assert "voc val: 1 pair in the sources, 1,449 in the official data" in ended.err

    monkeypatch.setenv("SAN_DATASETS", str(root))
    ended = san("data", "check", "voc")
    assert ended.code == 0
    assert ended.out.startswith("voc val: 1 pair, 0 at fault, 2 of 20 classes occur (not: bicycle; ")

    ended = san("data", "list")
    assert ended.code == 0
    rows = {line.split()[0]: line for line in ended.out.splitlines()[1:8]}
    assert list(rows) == ["coco", "ade150", "ade847", "voc", "pc59", "pc459", "cityscapes"]
    assert "1 of 1,449" in rows["voc"]
    assert rows["coco"].count("not here") == 2
    assert f"san data prepare voc --from ARCHIVE… --to '{root}'" in ended.out
    assert "images.cocodataset.org/zips/val2017.zip" in ended.out


def test_sources_may_follow_one_from(san: San, tmp_path: Path) -> None:
    raw_trees.make_coco(tmp_path / "raw")
    coco = tmp_path / "raw/coco"
    several = [coco / "val2017", coco / "stuffthingmaps"]
    ended = san("data", "prepare", "coco", "--from", *several, "--to", tmp_path / "root", "--split", "val")
    assert (ended.code, ended.out.split(" in ")[0]) == (0, "coco val: 1 pair")


def test_check_says_what_is_missing_and_how_to_make_it(san: San, tmp_path: Path) -> None:
    ended = san("data", "check", "pc459", "--data-root", tmp_path)
    assert (ended.code, ended.out) == (4, "")
    assert "there is no folder" in ended.err
    assert f"san data prepare pc459 --from ARCHIVE… --to {tmp_path} --split val" in ended.err


def test_check_finds_every_kind_of_fault(san: San, tmp_path: Path) -> None:
    raw_trees.make_ade150(tmp_path / "raw")
    assert san("data", "prepare", "ade150", "--from", tmp_path / "raw", "--to", tmp_path).code == 0
    images = tmp_path / "ADEChallengeData2016/images/validation"
    labels = tmp_path / "ADEChallengeData2016/annotations_detectron2/validation"
    for stem, values in (("range", [3, 150]), ("size", [3]), ("cut", [3]), ("image", [3])):
        raw_trees.write_photo(images / f"{stem}.jpg", (9, 9) if stem == "size" else raw_trees.SIZE)
        write_label(labels / f"{stem}.png", raw_trees.raw_map(values).astype(np.uint8))
    (labels / "cut.png").write_bytes((labels / "cut.png").read_bytes()[:40])
    (images / "image.jpg").write_text("no image")
    ended = san("data", "check", "ade150", "--data-root", tmp_path)
    assert ended.code == 3
    assert "5 pairs, 4 at fault" in ended.out
    for text in ("range.png holds the value 150", "size.jpg has 9 × 9 pixels, its label 17 × 12"):
        assert text in ended.err
    assert "cut.png is no label map" in ended.err
    assert "image.jpg is no image that can be read" in ended.err

    (labels / "lone.png").write_bytes((labels / "size.png").read_bytes())
    ended = san("data", "check", "ade150", "--data-root", tmp_path, "--split", "all")
    assert ended.code == 3
    assert "lone.png' has no image" in ended.err
    assert "ade150 train: 1 pair, 0 at fault" in ended.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("prepare", "ade851", "--from", "."), "Did you mean ade150 or ade847?"),
        (("prepare", "voc"), "nothing to prepare from"),
        (("prepare", "voc", "--from", ".", "--split", "test"), "no split 'test'"),
        (("check", "voc", "--split", "test"), "no split 'test'"),
        (("check", "voc", "--data-root", "/nowhere"), "which --data-root gives"),
    ],
)
def test_wrong_usage(
    san: San, arguments: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = san("data", *arguments)
    assert ended.code in (2, 4)
    assert text in ended.err
    assert "Traceback" not in ended.err


def test_damaged_raw_file_leaves_the_others_converted(san: San, tmp_path: Path) -> None:
    raw_trees.make_pcontext(tmp_path / "raw")
    mats = tmp_path / "raw/VOCdevkit/VOC2010/trainval"
    (mats / "2008_000002.mat").write_bytes(b"\x1b[31mno mat")
    ended = san(
        "data", "prepare", "pc459", "--from", tmp_path / "raw", "--to", tmp_path / "root", "--split", "val"
    )
    assert ended.code == 3
    assert "1 files of pc459 val could not be converted" in ended.err
    assert "2008_000002.mat" in ended.err
    assert "no MAT-file of version 5" in ended.err
    assert (tmp_path / "root/pcontext_full/val/image/2008_000002.jpg").is_file()


def test_help_loads_no_heavy_module() -> None:
    code = (
        "import sys; from san_cli.cli.data import app\n"
        "sys.exit(str([name for name in ('numpy', 'PIL', 'torch') if name in sys.modules] or ''))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert ended.stderr.strip() == ""


def test_check_knows_the_emoji_that_eval_knows(san: San) -> None:
    ended = san("data", "check", "emoji")
    assert ended.code == 0
    assert "emoji val: 500 pictures" in ended.out
    assert san("data", "check", "EMOJI", "--split", "nowhere").code == 2
    ended = san("data", "prepare", "emoji")
    assert (ended.code, "nothing to prepare" in ended.err) == (2, True)


def test_check_of_what_is_missing(san: San, tmp_path: Path) -> None:
    assert san("data", "check", "voc", "--data-root", tmp_path).code == 4
