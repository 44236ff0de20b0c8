"""How sure, how much, and one word against the rest: what `san predict` says of it, in every kind of result."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import San, tree

from san_cli import MapOptions, Segmenter, parse_vocabulary
from san_cli.outputs.label_map import read_label_map
from san_cli.predict.output_names import KINDS

SAVE = ("--save", "labels,json,scores,table,labels-gray")


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def out(predict: San, photos: Path, tmp_path: Path) -> Path:
    """A folder with the results `out` and what stdout said, `lines`."""
    ended = predict(photos, "-o", tmp_path / "out", *SAVE, "--jsonl")
    assert ended.code == 0, ended.err
    (tmp_path / "lines").write_text(ended.out)
    return tmp_path


def test_the_confidence_map_is_what_python_gives(out: Path, photos: Path, tiny_weights: Path) -> None:
    segmenter = Segmenter.load(weights=tiny_weights, device="cpu")
    made = segmenter.segment(photos / "p02.jpg", parse_vocabulary(["voc"]), MapOptions(keep_scores=True))
    assert made.confidence is not None
    with Image.open(out / "out/p02.confidence.png") as file:
        assert (file.mode, file.text["san:scale"]) == ("I;16", "confidence = value / 65535")  # type: ignore[attr-defined]
        stored = np.asarray(file) / 65535
    assert np.abs(stored - made.confidence).max() <= 0.5 / 65535 + 1e-7
    line = next(one for one in lines((out / "lines").read_text()) if one["path"] == "p02.jpg")
    assert line["uncertain"] == pytest.approx((made.confidence < 0.5).mean(), abs=1e-6)
    for found in line["classes"]:
        here = made.label_map == found["id"]
        assert found["confidence"] == pytest.approx(made.confidence[here].mean(), abs=1e-3)
        assert found["category_id"] == found["id"] + 1


def test_every_kind_of_result_tells_the_same(out: Path) -> None:
    of_stdout = {one["path"]: one for one in lines((out / "lines").read_text())}
    dataset = json.loads((out / "out/predictions.json").read_text())
    areas = table(out / "out/areas.csv")
    for image in dataset["images"]:
        line = of_stdout[image["file_name"]]
        assert line["uncertain"] == image["uncertain"]
        by_id = {found["category_id"]: found for found in line["classes"]}
        annotations = [one for one in dataset["annotations"] if one["image_id"] == image["id"]]
        rows = [row for row in areas if row["image"] == image["file_name"] and row["class"]]
        assert len(annotations) == len(by_id) == len(rows)
        for annotation, row in zip(annotations, rows, strict=True):
            found = by_id[annotation["category_id"]]
            assert (annotation["mean_confidence"], annotation["score"]) == (
                found["confidence"],
                found["score"],
            )
            assert (int(row["category_id"]), int(row["label"])) == (found["category_id"], found["id"])
            assert (int(row["pixels"]), float(row["confidence"])) == (found["area"], found["confidence"])
            assert int(row["regions"]) >= 1 and float(row["uncertain"]) == image["uncertain"]
        of_image = [int(row["pixels"]) for row in areas if row["image"] == image["file_name"]]
        assert sum(of_image) == image["width"] * image["height"]
    summary = table(out / "out/summary.csv")
    assert sum(int(row["pixels"]) for row in summary) == sum(int(row["pixels"]) for row in areas)
    assert len(summary) == 21


def test_gray_label_maps_hold_the_same_values_without_a_palette(out: Path) -> None:
    for path in (out / "out").rglob("*.labels-gray.png"):
        with Image.open(path) as file:
            assert file.mode == "L"
            gray = np.asarray(file).astype(int)
        labels = read_label_map(Path(str(path).replace("labels-gray", "labels")))
        assert np.array_equal(np.where(gray == 255, -1, gray), labels)


def test_tables_are_the_same_bytes_over_shards_and_after_a_rerun(
    predict: San, photos: Path, tmp_path: Path, out: Path
) -> None:
    whole = {name: data for name, data in tree(out / "out").items() if ".san/" not in name}
    for share in ("2/2", "1/2"):
        assert predict(photos, "-o", tmp_path / "parts", *SAVE, "--shard", share).code == 0
    assert {name: data for name, data in tree(tmp_path / "parts").items() if ".san/" not in name} == whole
    (tmp_path / "parts/summary.csv").write_text("")
    (tmp_path / "parts/p02.confidence.png").unlink()
    again = predict(photos, "-o", tmp_path / "parts", *SAVE)
    assert (again.code, "1 done, 5 done before" in again.err) == (0, True)
    assert {name: data for name, data in tree(tmp_path / "parts").items() if ".san/" not in name} == whole


def test_a_kind_that_is_not_asked_for_any_more_is_another_run(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    to = ("-o", tmp_path / "out", "--save")
    assert predict(photos / "p02.jpg", *to, "table,scores").code == 0
    other = predict(photos / "p02.jpg", *to, "labels")
    assert (other.code, "save" in other.err) == (2, True)
    assert predict(photos / "p02.jpg", *to, "labels", "--overwrite").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"p02.labels.png", "classes.json", ".san"}


def test_parquet_beside_the_tables(predict: San, photos: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert predict(photos, "-o", tmp_path, "--save", "table,parquet").code == 0
    read = parquet.read_table(tmp_path / "areas.parquet").to_pylist()
    written = table(tmp_path / "areas.csv")
    assert [(row["image"], row["class"] or "", row["pixels"]) for row in read] == [
        (row["image"], row["class"], int(row["pixels"])) for row in written
    ]


def test_limits_leave_pixels_unlabelled_by_class(predict: San, photos: Path, tmp_path: Path) -> None:
    def labels(name: str, *options: object) -> np.ndarray:
        ended = predict(photos, "-o", tmp_path / name, "--save", "labels", *options)
        assert ended.code == 0, ended.err
        maps = sorted((tmp_path / name).rglob("*.labels.png"))
        return np.concatenate([read_label_map(path).ravel() for path in maps])

    plain = labels("plain")
    names = parse_vocabulary(["voc"]).names
    first, _ = np.unique(plain)[:2]
    kept = labels("score", "--min-score", f"{names[first]}=1000")
    assert np.array_equal(kept, np.where(plain == first, -1, plain))
    only_first = labels("confidence", "--min-confidence", f"{names[first]}=0,*=1")
    assert np.array_equal(only_first, np.where(plain == first, plain, -1))
    for wrong in ("--min-confidence=2", "--min-confidence=dog=-1", "--min-score=unicorn=1", "--min-score="):
        ended = predict(photos, "-o", tmp_path / "wrong", wrong)
        assert (ended.code, ended.out, len(ended.err.strip().splitlines())) == (2, "", 2), ended.err
    said = predict(photos, "-o", tmp_path / "none", "--save", "none", "--min-confidence", "1").err
    assert "no pixel reached --min-confidence 1; the largest confidence was 0." in said


def test_only_finds_one_word_among_everything(predict: San, photos: Path, tmp_path: Path) -> None:
    ended = predict(photos, "-o", tmp_path / "out", "--only", "dragon,cat", "-v", "--save", "labels,json")
    assert ended.code == 0, ended.err
    assert "every pixel" not in ended.err
    assert "competing, unseen: person, bicycle, car" in ended.err
    assert [row["name"] for row in json.loads((tmp_path / "out/classes.json").read_text())] == [
        "dragon",
        "cat",
    ]
    dataset = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [row["name"] for row in dataset["categories"]] == ["dragon", "cat"]
    assert dataset["info"]["san"]["only"] is True
    found = [read_label_map(path) for path in (tmp_path / "out").rglob("*.labels.png")]
    assert all(set(np.unique(one)) <= {-1, 0, 1} for one in found)
    assert all((one == -1).any() for one in found)  # without --only every pixel is one of the two
    plain = predict(photos, "-o", tmp_path / "out", "--vocab", "dragon,cat", "--save", "labels,json")
    assert (plain.code, "only" in plain.err) == (2, True)


@pytest.mark.parametrize("other", [["--vocab", "coco"], ["--show", "dog"], ["--background", "none"]])
def test_only_is_a_whole_vocabulary(predict: San, photos: Path, tmp_path: Path, other: list[str]) -> None:
    ended = predict(photos, "-o", tmp_path / "out", *other, "--only", "dog")
    assert (ended.code, other[0] in ended.err, (tmp_path / "out").exists()) == (2, True, False)


def test_what_competes_can_be_shown(san: San) -> None:
    ended = san("vocab", "show", "--only", "dog|hound,sauropod", "--model", "tiny")
    names = ended.out.splitlines()
    assert names[:2] == ["dog|hound", "sauropod"]
    assert len(names) > 300 and "dragon" not in names
    assert "left out: dragon (near sauropod)" in ended.err
    assert san("vocab", "show", "coco", "--only", "dog").code == 2
    assert san("vocab", "show").code == 2


def test_notes_on_an_image_go_where_its_results_go(predict: San, photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "p02.jpg") as photo:
        dark = (np.asarray(photo.convert("L")).astype(np.uint16)) * 10
    (tmp_path / "in").mkdir()
    Image.fromarray(dark).save(tmp_path / "in/dark.png")
    ended = predict(tmp_path / "in", "-o", tmp_path / "out", "--save", "json", "--jsonl")
    (line,) = lines(ended.out)
    assert line["notes"] and all(note in ended.err for note in line["notes"])
    assert json.loads((tmp_path / "out/predictions.json").read_text())["images"][0]["notes"] == line["notes"]
    again = predict(tmp_path / "in", "-o", tmp_path / "out", "--save", "json", "--jsonl")
    assert lines(again.out)[0]["notes"] == line["notes"]  # done before, told all the same


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("geojson", "shards")]
)  # no map, no archive
def test_each_kind_alone(predict: San, photos: Path, tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    ended = predict(photos / "p02.jpg", "-o", tmp_path / "out", "--save", kind)
    assert ended.code == 0, ended.err
    assert len(tree(tmp_path / "out")) > 3


def test_one_class_has_one_limit_however_it_is_written(predict: San, photos: Path, tmp_path: Path) -> None:
    to = (photos / "p02.jpg", "-o", tmp_path / "out", "--save", "labels", "--vocab", "bus|coach,dog")
    assert "for one class" in predict(*to, "--min-score", "bus=9,coach=0").err
    assert predict(*to, "--min-score", "bus=0.1,*=0").code == 0
    assert "nothing new" in predict(*to, "--min-score", "Coach=0.1").err
    assert predict(*to, "--min-score", "bus=0.1,dog=0.1").code == 2
    assert predict(*to, "--min-score", "0.1", "--overwrite").code == 0
    assert "nothing new" in predict(*to, "--min-score", "*=0.1").err


def test_nothing_found_is_told_truly_with_limits_by_class(predict: San, photos: Path, tmp_path: Path) -> None:
    plain = predict(photos, "-o", tmp_path / "0", "--save", "none", "--jsonl", "--show", "dog").out
    assert any(line["classes"] for line in lines(plain))
    said = predict(
        photos, "-o", tmp_path / "1", "--save", "none", "--show", "dog", "--min-score", "dog=99"
    ).err
    assert "no pixel of dog came out first and reached its --min-score; the largest score" in said


def test_all_kinds_have_names_of_their_own(predict: San, photos: Path, tmp_path: Path) -> None:
    kinds = [kind for kind in KINDS if kind not in ("parquet", "shards")]
    assert predict(photos / "p02.jpg", "-o", tmp_path / "out", "--save", ",".join(kinds)).code == 0
    assert (
        len(tree(tmp_path / "out")) == 5 + 4 + 2 + 4 + 2 + 12
    )  # image, .san, json and classes, page, tables, for tools
