"""`--save …,shards`: the results of an archive in a tar, whole or absent, the same bytes whatever came between."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from archive_files import archive_of
from program import San, make_photos, tree

from san_cli.predict import pipeline, result_tars

SAVE = ("--save", "labels,overlay,json,shards")


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two archives of three images each, in `shards/`."""
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        folder = tmp_path / f"f{number}"
        make_photos(folder, 3)
        archive_of(folder, tmp_path / f"shards/{number:03d}.tar")
    return tmp_path / "shards"


def results(folder: str) -> dict[str, bytes]:
    """All that a user sees of a folder of results."""
    return {path: data for path, data in tree(Path(folder)).items() if not path.startswith(".san")}


def members(path: str) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


def test_a_tar_for_each_archive(predict: San, shards: Path) -> None:
    ended = predict("shards/*.tar", "-o", "out", *SAVE, "--jsonl")
    assert ended.code == 0
    assert set(results("out")) == {"000.tar", "001.tar", "predictions.json", "classes.json"}
    assert not Path("out/.san/staged").exists()
    predict("f1", "-o", "loose", "--save", "labels,overlay,json")
    found = members("out/001.tar")
    assert list(found) == [
        f"{stem}.{suffix}"
        for stem in ("p00", "p02", "sub/p01")
        for suffix in ("overlay.jpg", "labels.png", "json")
    ]
    for name, data in found.items():
        if not name.endswith(".json"):
            assert data == Path("loose", name).read_bytes()
    printed = [json.loads(line) for line in ended.out.splitlines()]
    record = json.loads(found["p02.json"])
    assert record["classes"] == printed[4]["classes"] and record["input"] == "001.tar/p02.jpg"
    assert printed[4]["outputs"]["labels"] == "out/001.tar/p02.labels.png"
    with tarfile.open("out/000.tar") as tar:
        assert {(info.mtime, info.uid, info.uname, info.mode) for info in tar} == {(0, 0, "", 0o644)}


def test_nothing_twice_and_one_tar_anew(predict: San, shards: Path) -> None:
    predict("shards/*.tar", "-o", "out", *SAVE)
    before = results("out")
    stamp = Path("out/000.tar").stat().st_mtime_ns
    assert "nothing new, 6 done before" in predict("shards/*.tar", "-o", "out", *SAVE).err
    Path("out/001.tar").unlink()
    assert "3 done, 3 done before" in predict("shards/*.tar", "-o", "out", *SAVE).err
    assert results("out") == before
    assert Path("out/000.tar").stat().st_mtime_ns == stamp
    Path("out/001.tar").write_bytes(before["001.tar"][:30_000])  # cut short
    predict("shards/*.tar", "-o", "out", *SAVE)
    assert results("out") == before


def test_shares_and_threads_give_the_same(predict: San, shards: Path) -> None:
    predict("shards/*.tar", "-o", "out", *SAVE)
    predict("shards/*.tar", "-o", "two", *SAVE, "--shard", "2/2", "--workers", 3)
    assert not list(Path("two").glob("*.tar"))
    predict("shards/*.tar", "-o", "two", *SAVE, "--shard", "1/2", "--batch", 1)
    assert results("two") == results("out")
    assert "done before" in predict("shards/*.tar", "-o", "two", *SAVE).err
    assert results("two") == results("out")


class Killed(BaseException):
    """In the place of a kill."""


@pytest.mark.parametrize("place", ["before", "during", "after"])
def test_a_kill_costs_only_what_is_missing(
    predict: San, shards: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    predict("shards/*.tar", "-o", "whole", *SAVE)

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if place == "before":
            patch.setattr(pipeline, "_pack", kill)
        elif place == "during":
            patch.setattr(result_tars, "_write", kill)
        else:  # the tar is there, and all that waited for it too
            patch.setattr(result_tars.TarWriter, "_unstage", kill)
        with pytest.raises(Killed):
            predict("shards/*.tar", "-o", "out", *SAVE)
    assert list(Path("out/.san/staged").rglob("*.labels.png"))
    ended = predict("shards/*.tar", "-o", "out", *SAVE)
    assert "3 done, 3 done before" in ended.err
    assert results("out") == results("whole")
    assert not list(Path("out/.san/staged").rglob("*.*"))


def test_a_failed_image_is_not_in_its_tar_until_it_is_done(predict: San, shards: Path) -> None:
    options = (*SAVE, "--max-pixels", "6500")  # of 6,400, 6,912 and 6,912
    ended = predict("shards/000.tar", "-o", "out", *options)
    assert ended.code == 3
    some = set(members("out/000.tar"))
    assert some and len(some) % 3 == 0 and len(some) < 9
    assert predict("shards/000.tar", "-o", "out", *SAVE).code == 0
    predict("shards/000.tar", "-o", "whole", *SAVE)
    assert results("out") == results("whole")


def test_fewer_inputs_keep_what_is_there(predict: San, shards: Path) -> None:
    predict("shards/*.tar", "-o", "out", *SAVE)
    before = results("out")
    for arguments in (["shards/*1.tar"], ["shards/*.tar", "--limit", "2"]):
        predict(*arguments, "-o", "out", *SAVE)
        found = results("out")
        assert (found["000.tar"], found["001.tar"]) == (before["000.tar"], before["001.tar"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["f0", "--save", "labels,shards"], "a file of its own"),
        (["shards/000.tar", "-o", "shards", "--save", "labels,shards"], "over an archive of images"),
        (["shards/000.tar", "--save", "html,shards"], "html"),
        (["shards/000.tar", "--save", "tar"], "shards?"),
        (["shards/000.tar", "-o", "mine", "--save", "labels,shards"], "was not made by a run"),
        (["shards/000.tar", "other/000.tar", "--save", "labels,shards"], "san predict -"),
    ],
)
def test_refusals(predict: San, shards: Path, arguments: list[str], told: str) -> None:
    Path("mine").mkdir()
    Path("mine/000.tar").write_bytes(b"precious")
    archive_of(Path("f1/sub"), Path("other/000.tar"))
    before = tree(shards)
    ended = predict(*arguments)
    assert ended.code == 2 and told in ended.err
    assert tree(shards) == before and Path("mine/000.tar").read_bytes() == b"precious"


def test_records_alone_and_zips(predict: San, shards: Path) -> None:
    archive_of(Path("f0"), Path("photos.zip"))
    predict("photos.zip", "-o", "out", "--save", "shards")
    assert list(members("out/photos.tar")) == ["p00.json", "p02.json", "sub/p01.json"]
    Path("out/photos.tar").unlink()
    assert "nothing new" in predict("photos.zip", "-o", "out", "--save", "shards").err
    assert Path("out/photos.tar").is_file()


def test_odd_names_and_overwriting(predict: San, shards: Path) -> None:
    folder = Path("odd")
    make_photos(folder, 1)
    data = (folder / "p00.jpg").read_bytes()
    names = ["ü/日本.left.jpg", "a b.jpg", "x" * 120 + ".jpg", "\udcff.jpg"]
    with tarfile.open("odd.tar", "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert predict("odd.tar", "-o", "out", "--save", "labels,shards").code == 0
    before = results("out")
    found = members("out/odd.tar")
    assert list(found)[::2] == [name.removesuffix(".jpg") + ".labels.png" for name in names]
    assert len(set(list(found.values())[::2])) == 1
    assert "4 done" in predict("odd.tar", "-o", "out", "--save", "labels,shards", "--overwrite").err
    assert results("out") == before
    ended = predict(
        "shards/000.tar", "-o", "out", "--save", "labels,shards", "--vocab", "cat,dog", "--overwrite"
    )
    assert ended.code == 0, ended.err
    assert set(results("out")) == {"000.tar", "classes.json"}
