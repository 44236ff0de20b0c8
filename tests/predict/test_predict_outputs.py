"""What `san predict` writes, and what its options change."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import San, tree
from pycocotools.coco import COCO

from san_cli import Segmenter
from san_cli.outputs.label_map import read_label_map
from san_cli.vocabulary.grammar import parse_vocabulary


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_every_output_is_there_and_agrees(predict: San, photos: Path, tmp_path: Path) -> None:
    before = tree(photos)
    ended = predict(photos, "-o", tmp_path / "out")
    assert ended.code == 0
    assert ended.out == ""
    assert "6 done" in ended.err
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    stems = [name.removesuffix(".jpg") for name in names]
    expected = {f"{stem}.{kind}" for stem in stems for kind in ("overlay.jpg", "labels.png")}
    written = set(tree(tmp_path / "out"))
    assert written == expected | {
        "predictions.json", "classes.json", ".san/inputs", ".san/journal", ".san/lock", ".san/notes", ".san/run.json",
    }  # fmt: skip
    assert tree(photos) == before

    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    classes = [row["name"] for row in json.loads((tmp_path / "out" / "classes.json").read_text())]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == classes
    images = coco.loadImgs(coco.getImgIds())
    assert [(row["id"], row["file_name"]) for row in images] == list(enumerate(names, start=1))
    several = 0
    for row, stem in zip(images, stems, strict=True):
        label_map = read_label_map(tmp_path / "out" / f"{stem}.labels.png")
        assert label_map.shape == (row["height"], row["width"])
        rebuilt = np.full(label_map.shape, -1)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=row["id"]))
        for annotation in annotations:
            mask = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum()
            rebuilt[mask] = annotation["category_id"] - 1
        assert (rebuilt == label_map).all()
        several += len(annotations) > 1
        with Image.open(tmp_path / "out" / f"{stem}.overlay.jpg") as overlay:
            assert overlay.width >= row["width"]
            assert overlay.height >= row["height"]
    assert several, "the small model is of no use here if it sees but one class"


def test_label_map_is_what_the_python_api_gives(
    predict: San, photos: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    predict(photos, "-o", tmp_path / "out", "--save", "labels")
    segmenter = Segmenter.load(weights=tiny_weights, device="cpu")
    found = segmenter.segment(photos / "p02.jpg", parse_vocabulary(["voc"]))
    assert (found.label_map == read_label_map(tmp_path / "out" / "p02.labels.png")).all()


def test_save_chooses_what_is_written(predict: San, photos: Path, tmp_path: Path) -> None:
    for kinds, suffixes in {
        "labels": {".png", ".json"},
        "overlay": {".jpg"},
        "json": {".json"},
        "none": set(),
    }.items():
        out = tmp_path / f"out-{kinds}"
        assert predict(photos, "-o", out, "--save", kinds).code == 0
        assert {Path(name).suffix for name in tree(out) if not name.startswith(".san")} == suffixes
    ended = predict(photos, "-o", tmp_path / "out", "--save", "label")
    assert ended.code == 2
    assert "labels" in ended.err


def test_jsonl_has_a_line_per_input_in_order(predict: San, photos: Path, tmp_path: Path) -> None:
    (photos / "p03.jpg").write_bytes(b"not a picture")
    ended = predict(photos, tmp_path / "missing.jpg", "-o", tmp_path / "out", "--jsonl")
    assert ended.code == 3
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["path"] for line in lines[:-1]] == [
        "photos/p00.jpg", "photos/p02.jpg", "photos/p03.jpg", "photos/p04.jpg",
        "photos/sub/p01.jpg", "photos/sub/p03.jpg", "photos/sub/p05.jpg",
    ]  # fmt: skip
    assert [index for index, line in enumerate(lines) if "error" in line] == [2, 7]
    assert [line["input"] for line in lines[:-1]] == [str(tmp_path / line["path"]) for line in lines[:-1]]
    assert lines[-1]["input"] == str(tmp_path / "missing.jpg")
    good = lines[0]
    assert sum(entry["area"] for entry in good["classes"]) == good["width"] * good["height"]
    assert all("segmentation" in entry for entry in good["classes"])
    assert all(Path(path).is_file() for path in good["outputs"].values())
    assert set(good["ms"]) == {"decode", "model", "post", "write"}
    document = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["file_name"] for row in document["failures"]] == [lines[2]["path"], lines[7]["path"]]

    again = predict(photos, tmp_path / "missing.jpg", "-o", tmp_path / "out", "--jsonl")
    repeated = [json.loads(line) for line in again.out.splitlines()]
    assert [line | {"ms": {}} for line in repeated] == [line | {"ms": {}} for line in lines]


def test_jsonl_tells_where_each_input_is(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`input` opens from where the command runs, whatever the results are called."""
    monkeypatch.chdir(photos / "sub")
    given = ["../p00.jpg", str(photos / "p02.jpg"), "p01.jpg", "gone.jpg"]
    ended = predict(
        "-", "-o", photos.parent / "out", "--jsonl", "--save", "none", stdin="\n".join(given).encode()
    )
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["input"] for line in lines] == given
    assert [line["path"] for line in lines] == ["p00.jpg", "p02.jpg", "p01.jpg", "gone.jpg"]


def test_without_json_lines_carry_no_masks(predict: San, photos: Path, tmp_path: Path) -> None:
    ended = predict(photos, "-o", tmp_path / "out", "--jsonl", "--save", "none")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert len(lines) == 6
    assert all("segmentation" not in entry for line in lines for entry in line["classes"])
    assert all(line["outputs"] == {} for line in lines)


def test_limit_takes_the_first(predict: San, photos: Path, tmp_path: Path) -> None:
    assert predict(photos, "-o", tmp_path / "out", "--limit", 2, "--save", "labels").code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "p00.labels.png",
        "p02.labels.png",
    ]


def test_list_on_stdin(predict: San, photos: Path, tmp_path: Path) -> None:
    listed = f"{photos}/p00.jpg\0{photos}/sub/p01.jpg\0".encode()
    assert predict("-", "-0", "-o", tmp_path / "out", "--save", "labels", stdin=listed).code == 0
    assert sorted(name for name in tree(tmp_path / "out") if name.endswith(".png")) == [
        "p00.labels.png",
        "sub/p01.labels.png",
    ]


def labels_with(predict: San, photos: Path, out: Path, *options: object) -> np.ndarray:
    assert predict(photos / "p02.jpg", "-o", out, "--save", "labels", *options).code == 0
    return read_label_map(out / "p02.labels.png")


def test_map_options_change_the_map(predict: San, photos: Path, tmp_path: Path) -> None:
    plain = labels_with(predict, photos, tmp_path / "plain")
    present = sorted(set(plain.ravel().tolist()))
    names = parse_vocabulary(["voc"]).names
    shown = labels_with(predict, photos, tmp_path / "shown", "--show", names[present[0]])
    assert (shown == np.where(plain == present[0], plain, -1)).all()
    unsure = labels_with(predict, photos, tmp_path / "unsure", "--min-score", 1000)
    assert (unsure == -1).all()
    alike = labels_with(predict, photos, tmp_path / "templates", "--templates", "name")
    assert (alike != plain).any()


def test_background_competes_under_its_name(predict: San, photos: Path, tmp_path: Path) -> None:
    options = ["--save", "labels", "--vocab", "bus", "--background"]
    assert predict(photos, "-o", tmp_path / "out", *options, "nothing").code == 0
    maps = [read_label_map(path) for path in sorted((tmp_path / "out").rglob("*.png"))]
    assert any((found == 1).any() for found in maps)
    names = [row["name"] for row in json.loads((tmp_path / "out" / "classes.json").read_text())]
    assert names == ["bus", "nothing"]
    twice = predict(photos, "-o", tmp_path / "twice", *options, "Bus")
    assert twice.code == 2
    assert "is in the vocabulary, too" in twice.err


def test_few_words_are_pointed_out(predict: San, photos: Path, tmp_path: Path) -> None:
    few = predict(photos, "-o", tmp_path / "few", "--save", "none", "--vocab", "cat+dog")
    assert (
        "every pixel must be one of 2 classes; to find them among everything else, instead of --vocab: --only cat,dog"
        in few.err
    )
    strict = predict(
        photos, "-o", tmp_path / "strict", "--save", "none", "--vocab", "cat+dog", "--min-score", 0.1
    )
    assert "every pixel" not in strict.err  # with it that isn't true
    many = predict(photos, "-o", tmp_path / "many", "--save", "none")
    assert "every pixel" not in many.err


def test_quiet_says_nothing(predict: San, photos: Path, tmp_path: Path) -> None:
    ended = predict(photos, "-o", tmp_path / "out", "-q")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_names_are_inert(predict: San, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("[red]x[bold].jpg", "two\nlines.jpg", "\x1b[31mcolour.jpg", "-dash.jpg"):
        (folder / name).write_bytes(b"no picture")
    ended = predict(folder, "-o", tmp_path / "out", "--jsonl")
    assert ended.code == 4
    assert "failed: [red]x[bold].jpg: " in ended.err
    assert "\x1b" not in ended.err + ended.out
    assert "failed: two\\nlines.jpg: " in ended.err
    assert len(ended.out.splitlines()) == 4


def test_the_first_line_says_what_runs(
    predict: San, photos: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    ended = predict(photos, "-o", tmp_path / "out")
    first = ended.err.splitlines()[0]
    for told in ("tiny", tiny_weights.name, "on cpu (as asked)", "fp32", "20 classes", "6 images"):
        assert told in first
    assert "load" in ended.err and "text" in ended.err


def test_results_are_not_named_where_there_are_none(predict: San, photos: Path, tmp_path: Path) -> None:
    assert "results:" in predict(photos, "-o", tmp_path / "out").err
    assert "results:" not in predict(photos, "-o", tmp_path / "none", "--save", "none").err
    for path in photos.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:300])
    assert "results:" not in predict(photos, "-o", tmp_path / "failed").err


def test_nothing_found_is_said_with_the_largest_score(predict: San, photos: Path, tmp_path: Path) -> None:
    found = predict(photos, "-o", tmp_path / "0", "--save", "json", "--jsonl")
    lines = [json.loads(line) for line in found.out.splitlines()]
    best = max(one["score"] for line in lines for one in line["classes"])
    ended = predict(photos, "-o", tmp_path / "1", "--min-score", 9)
    said = re.search(r"reached --min-score 9; the largest score was ([\d.]+) \((\w+)\)", ended.err)
    assert said is not None, ended.err
    assert best * 0.99 <= float(said[1]) < 9
    ended = predict(photos, "-o", tmp_path / "2", "--vocab", "voc+unicorn horn", "--show", "unicorn horn")
    assert ("nothing of unicorn horn" in ended.err) == ("unicorn horn  " not in ended.err)
    assert "nothing found" not in found.err
