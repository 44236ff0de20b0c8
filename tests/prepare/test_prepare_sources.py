"""Archives as sources: the same trees as from folders, and nothing that a hostile one could do."""

import io
import pickle
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
import raw_datasets as raw_trees
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_datasets import content

from san_cli.datasets.catalogue import get_dataset, list_pairs
from san_cli.errors import SanError
from san_cli.prepare.run import prepare
from san_cli.prepare.sources import open_sources


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("name", raw_trees.MAKERS)
def test_archive_gives_what_the_folder_gives(name: str, suffix: str, tmp_path: Path) -> None:
    raw_trees.MAKERS[name](tmp_path / "raw")
    archive = raw_trees.pack(tmp_path / "raw", tmp_path / f"official{suffix}")
    prepare(get_dataset(name), [tmp_path / "raw"], tmp_path / "from_folder")
    prepare(get_dataset(name), [archive], tmp_path / "from_archive", workers=2)
    assert content(tmp_path / "from_archive") == content(tmp_path / "from_folder")
    assert len(content(tmp_path / "from_archive")) >= 2


def test_several_sources_of_several_kinds(tmp_path: Path) -> None:
    raw_trees.make_coco(tmp_path / "raw")
    coco = tmp_path / "raw/coco"
    (tmp_path / "labels/stuff").mkdir(parents=True)
    (coco / "stuffthingmaps").rename(tmp_path / "labels/stuff/maps")
    labels = raw_trees.pack(tmp_path / "labels/stuff/maps", tmp_path / "stuffthingmaps_trainval2017.zip")
    images = raw_trees.pack(coco, tmp_path / "images.tar.gz")
    warnings: list[str] = []
    prepare(get_dataset("coco"), [images, labels], tmp_path / "root", warn=warnings.append)
    assert len(list_pairs(get_dataset("coco"), "train", tmp_path / "root")) == 1

    with pytest.raises(SanError, match="no images for coco val"):
        prepare(get_dataset("coco"), [labels], tmp_path / "other")
    (coco / "train2017/000000000009.jpg").unlink()
    prepare(get_dataset("coco"), [coco, labels], tmp_path / "val_only", warn=warnings.append)
    assert any("train is left out" in text for text in warnings)
    with pytest.raises(SanError, match="no images for coco train"):
        prepare(get_dataset("coco"), [coco, labels], tmp_path / "val_only", ["val", "train"])


def test_single_files_as_sources(tmp_path: Path) -> None:
    raw_trees.make_pcontext(tmp_path / "raw")
    top = tmp_path / "raw/VOCdevkit/VOC2010"
    sources = [top / "JPEGImages", top / "trainval_merged.json"]
    prepare(get_dataset("pc59"), sources, tmp_path / "root")
    assert len(list_pairs(get_dataset("pc59"), "val", tmp_path / "root")) == 1


def _hostile_tar(path: Path, outside: Path) -> None:
    image = io.BytesIO()
    raw_trees.Image.new("RGB", (17, 12)).save(image, "JPEG")
    with tarfile.open(path, "w") as archive:
        for name in ("../val2017/1.jpg", f"{outside}/val2017/2.jpg", "a/../../val2017/3.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(image.getvalue())
            archive.addfile(info, io.BytesIO(image.getvalue()))
        for kind, name in ((tarfile.SYMTYPE, "val2017/4.jpg"), (tarfile.LNKTYPE, "val2017/5.jpg")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("val2017/6.jpg")
        info.type = tarfile.FIFOTYPE
        archive.addfile(info)


def test_hostile_members_are_left_out(tmp_path: Path) -> None:
    raw_trees.make_coco(tmp_path / "raw")
    hostile = tmp_path / "hostile.tar"
    _hostile_tar(hostile, tmp_path / "outside")
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        archive.writestr("../val2017/7.jpg", b"x")
        archive.writestr("C:\\val2017\\8.jpg", b"x")
        link = zipfile.ZipInfo("val2017/9.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    before = set(tmp_path.rglob("*"))
    warnings: list[str] = []
    sources = [tmp_path / "raw", hostile, tmp_path / "hostile.zip"]
    prepare(get_dataset("coco"), sources, tmp_path / "root", ["val"], warn=warnings.append)
    made = {path for path in set(tmp_path.rglob("*")) - before if path != tmp_path / "root"}
    assert all(path.is_relative_to(tmp_path / "root") for path in made)
    assert not (tmp_path / "outside").exists()
    assert [p.stem for p in list_pairs(get_dataset("coco"), "val", tmp_path / "root")] == ["000000000139"]
    assert any("6 members of" in text for text in warnings)
    assert any("3 members of" in text for text in warnings)


@pytest.mark.parametrize("stem", ["-rf", "a b", "x;y", "$(id)", "n" * 300, "é"])
def test_stem_that_no_official_file_has(stem: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr(f"val2017/{stem}.jpg", b"x")
        archive.writestr(f"stuffthingmaps/val2017/{stem}.png", b"x")
    with pytest.raises(SanError, match="name that no official file has"):
        prepare(get_dataset("coco"), [tmp_path / "odd.zip"], tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    raw_trees.make_ade847(tmp_path / "raw")
    prepare(get_dataset("ade847"), [tmp_path / "raw"], tmp_path / "root")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_damaged_archive_is_an_error_in_words(suffix: str, tmp_path: Path) -> None:
    raw_trees.make_voc(tmp_path / "raw")
    whole = raw_trees.pack(tmp_path / "raw", tmp_path / f"whole{suffix}").read_bytes()
    rng = random.Random(0)
    damaged = tmp_path / f"damaged{suffix}"
    outcomes = set()
    for n in range(30):
        data = bytearray(whole[: rng.randrange(len(whole))] if n % 2 else whole)
        for _ in range(0 if n % 2 else 20):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(data)
        try:
            prepare(get_dataset("voc"), [damaged], tmp_path / f"root{n}", ["val"])
            outcomes.add("fine")  # what is needed may be whole
        except SanError:
            outcomes.add("error")
    assert "error" in outcomes


def test_missing_and_useless_sources(tmp_path: Path) -> None:
    with pytest.raises(SanError, match="There is no"):
        prepare(get_dataset("voc"), [tmp_path / "nothing.tar"], tmp_path / "root")
    (tmp_path / "page.zip").write_text("<html>404</html>")
    with pytest.raises(SanError, match="is no archive"):
        prepare(get_dataset("voc"), [tmp_path / "page.zip"], tmp_path / "root")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SanError, match="found no labels") as caught:
        prepare(get_dataset("voc"), [tmp_path / "empty"], tmp_path / "root")
    assert "VOCtrainval_11-May-2012.tar" in caught.value.hint


def test_same_stem_twice_with_different_content(tmp_path: Path) -> None:
    raw_trees.make_ade150(tmp_path / "one")
    raw_trees.make_ade150(tmp_path / "two")
    prepare(
        get_dataset("ade150"), [tmp_path / "one", tmp_path / "two"], tmp_path / "root"
    )  # equal: no matter
    folder = tmp_path / "two/ADEChallengeData2016/images/validation"
    raw_trees.write_photo(folder / "ADE_val_00000001.jpg", (40, 40))
    with pytest.raises(SanError, match="could both be meant"):
        prepare(get_dataset("ade150"), [tmp_path / "one", tmp_path / "two"], tmp_path / "root")


@pytest.mark.parametrize("gone", ["images", "annotations"])
def test_lone_halves_are_an_error_before_anything_is_written(gone: str, tmp_path: Path) -> None:
    raw_trees.make_ade150(tmp_path / "raw")
    folder = tmp_path / "raw/ADEChallengeData2016"
    for sub, suffix in (("images", "jpg"), ("annotations", "png")):
        source = folder / sub / "validation" / f"ADE_val_00000001.{suffix}"
        if sub != gone:
            source.with_stem("ADE_val_00000002").write_bytes(source.read_bytes())
    with pytest.raises(SanError, match="1 (image|label) without (image|label), for example ADE_val_00000002"):
        prepare(get_dataset("ade150"), [tmp_path / "raw"], tmp_path / "root", ["val"])
    assert not (tmp_path / "root").exists()


def test_folder_loops_and_broken_links_do_no_harm(tmp_path: Path) -> None:
    raw_trees.make_ade150(tmp_path / "raw")
    (tmp_path / "raw/loop").symlink_to(tmp_path / "raw")
    (tmp_path / "raw/broken.jpg").symlink_to(tmp_path / "nowhere")
    with open_sources([tmp_path / "raw"]) as (source,):
        assert len([member for member in source.members if member.suffix == ".jpg"]) == 2


@settings(max_examples=60, deadline=None)
@given(name=st.text(st.sampled_from("ab./\\:~ \0C"), min_size=1, max_size=12))
def test_no_member_name_leads_out(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with open_sources([path]) as (source,):
        for member in source.members:
            assert ".." not in member.parts
            assert "" not in member.parts
            assert ":" not in member.parts[0]
