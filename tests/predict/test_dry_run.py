"""`san predict --dry-run`: what a run would do, before it, and not a file of it."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from program import San, tree


def everything(folder: Path, *but: Path) -> set[str]:
    """Every file, folder and link below `folder`, but for those below some."""
    return {str(path) for path in folder.rglob("*") if not any(one in (path, *path.parents) for one in but)}


def test_the_plan_says_what_the_run_then_does(
    predict: San, photos: Path, tmp_path: Path, san_home: Path
) -> None:
    (photos / "torn.jpg").write_bytes(b"no picture")
    Image.new("RGB", (300, 300)).save(photos / "large.png")
    options = (photos, "-o", tmp_path / "out", "--max-pixels", 80_000)
    before, before_home = everything(tmp_path), everything(san_home, san_home / "text", san_home / "towers")
    ended = predict(*options, "--dry-run")
    assert ended.code == 0, ended.err
    assert everything(tmp_path) == before
    assert everything(san_home, san_home / "text", san_home / "towers", san_home / "sha256") <= before_home
    told = {line[:24].strip(): line[24:] for line in ended.out.splitlines()}
    assert told["images"] == "8 images" and told["to do"] == "6" and told["will fail"] == "2"
    assert "torn.jpg: " in ended.out and "large.png: 300 × 300 pixels are more than the limit" in ended.out
    assert told["classes"].startswith("20: aeroplane, bicycle") and told["device"] == "cpu, fp32"
    assert told["model"].startswith("small (") and "*.labels.png" in told["results"]
    assert told["time"].startswith("about ") and told["disk"].startswith("about 0.")
    assert told["memory"].endswith("MB peak, with one image")

    assert predict(*options).code == 3
    again = predict(*options, "--dry-run")
    told = {line[:24].strip(): line[24:] for line in again.out.splitlines()}
    assert (told["done before"], told["to do"], told["time"]) == ("6", "0", "nothing to do")
    assert "6  (--overwrite" not in again.out
    anew = predict(*options, "--dry-run", "--overwrite")
    assert "0 (--overwrite: all anew)" in anew.out and "to do                 6" in anew.out
    assert tree(tmp_path / "out") == tree(tmp_path / "out")


def test_the_estimate_of_the_results_is_near(predict: San, photos: Path, tmp_path: Path) -> None:
    for save in ("overlay,labels,json", "html,labelme,yolo,table", "none"):
        out = tmp_path / save
        planned = json.loads(predict(photos, "-o", out, "--save", save, "--dry-run", "--jsonl").out)
        predict(photos, "-o", out, "--save", save)
        made = sum(
            os.lstat(path).st_size for path in out.rglob("*") if path.is_file() and not path.is_symlink()
        )
        assert planned["megabytes"] * 1e6 == pytest.approx(made, rel=0.3)


def test_as_json_it_is_one_object(predict: San, photos: Path, tmp_path: Path) -> None:
    ended = predict(photos, "-o", tmp_path / "out", "--dry-run", "--jsonl", "--shard", "2/3", "--only", "dog")
    (line,) = ended.out.splitlines()
    facts = json.loads(line)
    assert (facts["dry_run"], facts["images"], facts["to_do"], facts["shard"]) == (True, 2, 2, "2/3")
    assert facts["classes"] == ["dog"] and facts["competing"] > 100
    assert sum(facts["seconds_by"].values()) == pytest.approx(facts["seconds"], abs=0.2)
    assert not (tmp_path / "out").exists()


def test_words_that_are_new_are_counted_and_not_all_embedded(
    predict: San, photos: Path, tmp_path: Path
) -> None:
    words = ",".join(f"dry run word {number}" for number in range(30))
    ended = predict(photos, "-o", tmp_path / "out", "--vocab", words, "--dry-run")
    assert "for 30 new words" in ended.out
    again = predict(photos, "-o", tmp_path / "out", "--vocab", words, "--dry-run")
    assert "for 26 new words" in again.out  # those that were timed are kept


def test_large_pictures_are_not_done_for_it(predict: San, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    Image.new("RGB", (900, 900), (90, 120, 40)).save(tmp_path / "scans" / "scan.png")
    ended = predict(tmp_path / "scans", "-o", tmp_path / "out", "--tile", 64, "--dry-run")
    assert ended.code == 0, ended.err
    assert (
        "a window of noise was done for it" in ended.out and "disk                    unknown; " in ended.out
    )


def test_a_list_of_pictures_that_cant_be_read_has_no_time(predict: San, photos: Path, tmp_path: Path) -> None:
    for path in photos.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:400])
    ended = predict(photos, "-o", tmp_path / "out", "--dry-run")
    assert ended.code == 0 and "unknown: none of the images tried can be read" in ended.out


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--weights", "nowhere.pth"], 2, "nowhere.pth"),
        (["--device", "cuda:9"], 2, "cuda:9"),
        (["--precision", "fp16"], 2, "fp16 on the CPU"),
        (["--save", "png"], 2, "--save knows no 'png'"),
        (["--shard", "4/3"], 2, "--shard '4/3'"),
        (["--exclude", "*.jpg"], 4, "no image"),
    ],
)
def test_what_would_keep_the_run_from_starting_ends_the_plan(
    options: list[str], code: int, told: str, predict: San, photos: Path, tmp_path: Path
) -> None:
    real = predict(photos, "-o", tmp_path / "out", *options)
    plan = predict(photos, "-o", tmp_path / "out", *options, "--dry-run")
    assert (plan.code, plan.out) == (code, "") and told in plan.err
    assert (plan.code, plan.err) == (real.code, real.err)


def test_other_settings_in_the_folder_end_the_plan(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--limit", 1)
    before = tree(out)
    for options in (["--min-area", "3"], ["--precision", "bf16"]):
        ended = predict(photos, "-o", out, *options, "--dry-run")
        assert ended.code == 2 and "holds a run with other settings" in ended.err
    assert "results of 1 input that are gone" not in predict(photos, "-o", out, "--dry-run").out
    (photos / "p00.jpg").unlink()
    assert "results of 1 input that are gone" in predict(photos, "-o", out, "--dry-run").out
    assert tree(out) == before


def test_weights_that_would_be_downloaded_are_said_and_not_fetched(
    san: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from san_cli.engine import outlook

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    found = outlook.weights_ahead("vit-b-16", None, lambda text: None)
    assert found.file is None and found.facts == {"weights": "san_vit_b_16.pth", "download_megabytes": 699}
    assert found.loadable == "random"
    assert ("model", "vit-b-16 (san_vit_b_16.pth, to be downloaded: 699 MB)") in list(
        outlook.rows_of_model({"model": "vit-b-16", **found.facts, "device": "cpu", "precision": "fp32"})
    )
