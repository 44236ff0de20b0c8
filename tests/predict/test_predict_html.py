"""`san predict --save html`: the gallery of a whole run, and of one that was interrupted or shared out."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image
from program import San, tree

from san_cli.outputs.label_map import read_label_map


def rows_of(out: Path) -> tuple[dict[str, Any], list[Any]]:
    text = (out / "html" / "data.js").read_text("ascii")
    head, rows = json.loads(f"[{text.removeprefix('gallery(').removesuffix(');' + chr(10))}]")
    return head, rows


def test_gallery_agrees_with_the_label_maps(predict: San, photos: Path, tmp_path: Path) -> None:
    (photos / "sub" / "p01.jpg").write_bytes(b"broken")
    out = tmp_path / "out"
    ended = predict(photos, tmp_path / "nowhere.jpg", "-o", out, "--save", "html,labels,overlay")
    assert ended.code == 3
    assert "index.html" in ended.err
    head, rows = rows_of(out)
    assert head["links"] == {"overlay": ".overlay.jpg", "labels": ".labels.png"}
    assert dict(head["about"])["Model"] == "small"
    names = [row[0] for row in rows]
    inner = ["p00.jpg", "p02.jpg", "p04.jpg", "sub/p01.jpg", "sub/p03.jpg", "sub/p05.jpg"]
    assert names[:-1] == [f"photos/{name}" for name in inner]
    assert names[-1].endswith("nowhere.jpg")
    assert [len(row) for row in rows] == [6, 6, 6, 2, 6, 6, 2]
    for name, stem, height, width, classes, uncertain in (row for row in rows if len(row) == 6):
        label_map = read_label_map(out / f"{unquote(stem)}.labels.png")
        assert label_map.shape == (height, width)
        found = dict(zip(classes[::3], classes[1::3], strict=True))
        assert found == {i: (label_map == i).sum() for i in found}
        assert sum(found.values()) == label_map.size
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert 0 <= uncertain <= 1
        assert all(0 < confidence <= 1 for confidence in classes[2::3])
        for kind in ("photo.jpg", "classes.png"):
            with Image.open(out / "html" / f"{unquote(stem)}.{kind}") as thumbnail:
                assert thumbnail.size == (width, height), name
        assert (out / (stem + head["links"]["overlay"])).is_file()


def test_gallery_alone(predict: San, photos: Path, tmp_path: Path) -> None:
    assert predict(photos, "-o", tmp_path / "out", "--save", "html").code == 0
    written = {name for name in tree(tmp_path / "out") if not name.startswith(".san")}
    stems = [str(path.relative_to(photos).with_suffix("")) for path in photos.rglob("*.jpg")]
    thumbnails = {f"html/{stem}.{kind}" for stem in stems for kind in ("photo.jpg", "classes.png")}
    assert written == thumbnails | {"index.html", "html/data.js"}
    lines = predict(photos, "-o", tmp_path / "out", "--save", "html", "--jsonl").out.splitlines()
    for line in map(json.loads, lines):
        assert set(line["outputs"]) == {"thumbnail", "thumbnail_classes"}
        assert all(Path(path).is_file() for path in line["outputs"].values())


def test_rerun_makes_what_is_missing(predict: San, photos: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", ["--save", "html,json"]
    predict(photos, "-o", out, *options)
    whole = tree(out)
    for name in ("html/p00.photo.jpg", "html/sub/p03.classes.png", "index.html"):
        (out / name).unlink()
        ended = predict(photos, "-o", out, *options)
        assert ended.code == 0
        assert ("1 done" in ended.err) == (name != "index.html")
        assert tree(out) == whole


@pytest.mark.parametrize("first", ["1/2", "2/2"])
def test_shards_make_the_same_gallery(predict: San, photos: Path, tmp_path: Path, first: str) -> None:
    options = ["--save", "html"]
    predict(photos, "-o", tmp_path / "whole", *options)
    predict(photos, "-o", tmp_path / "out", *options, "--shard", first)
    assert not (tmp_path / "out" / "index.html").exists()
    predict(photos, "-o", tmp_path / "out", *options, "--shard", {"1/2": "2/2", "2/2": "1/2"}[first])
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_page_of_someone_else_is_not_replaced(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("mine")
    ended = predict(photos, "-o", out, "--save", "html")
    assert ended.code == 2
    assert "index.html" in ended.err
    assert tree(out) == {"index.html": b"mine"}


def test_thumbnails_stay_inside_the_folder(predict: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "html").symlink_to(tmp_path / "elsewhere")
    ended = predict(photos, "-o", out, "--save", "html")
    assert ended.code != 0
    assert "leads out" in ended.err
    assert tree(tmp_path / "elsewhere") == {}
