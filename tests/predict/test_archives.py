"""Archives as inputs: the images of a folder, read where they lie, and each fault for itself."""

import io
import os
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from archive_files import KINDS, archive_of
from PIL import Image
from program import San, make_photos, tree

from san_cli.datasets.archive_listing import archive_stem, list_archive
from san_cli.datasets.archives import Member, expect
from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.images import displayed_size, load_image
from san_cli.errors import SanError
from san_cli.predict.inputs import Listing, discover, fail_unreadable


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def jpeg(size: tuple[int, int] = (64, 48)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def tar_of(path: str, **members: bytes) -> str:
    """A tar of files; of their names `__` is a slash and `_` a dot."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def listing(*arguments: str, **options: object) -> tuple[Listing, list[str]]:
    said: list[str] = []
    return discover(arguments, say=said.append, **options), said  # type: ignore[arg-type]


def names(*arguments: str, **options: object) -> list[str]:
    return [image.name for image in listing(*arguments, **options)[0].images]


@pytest.mark.parametrize(("kind", "batch"), [("zip", 2), ("tar", 1), ("tar.gz", 2), ("tar.xz", 1)])
def test_results_are_those_of_the_folder(
    predict: San, photos: Path, tmp_path: Path, kind: str, batch: int
) -> None:
    (photos / "p02.jpg").write_bytes(b"\xff\xd8\xffdamaged")
    archive_of(photos, tmp_path / f"a.{kind}")
    options = ["--save", "labels,overlay,json,html,table", "--batch", batch, "--workers", 3]
    folder = predict(photos, "-o", tmp_path / "folder", *options)
    ended = predict(f"a.{kind}", "-o", "out", *options)
    assert (ended.code, folder.code) == (3, 3)
    found, wanted = tree(tmp_path / "out"), tree(tmp_path / "folder")
    assert {p: d for p, d in found.items() if ".san" not in p} == {
        p: d for p, d in wanted.items() if ".san" not in p
    }
    again = predict(f"a.{kind}", "-o", "out", *options)
    assert "nothing new, 5 done before, 1 failed" in again.err
    os.utime(f"a.{kind}", (1, 1))
    assert "5 done, 1 failed" in predict(f"a.{kind}", "-o", "out", *options).err


def test_names_of_one_of_several_and_of_patterns(tmp_path: Path) -> None:
    make_photos(tmp_path / "f", 2)
    for number in range(3):
        archive_of(tmp_path / "f", tmp_path / f"shards/{number:03d}.tar")
    one = ["p00.jpg", "sub/p01.jpg"]
    assert names("shards/000.tar") == one
    several = [f"{number:03d}/{name}" for number in range(3) for name in one]
    assert names("shards/000.tar", "shards/001.tar", "shards/002.tar") == several
    assert names("shards/{000..002}.tar") == several
    assert names("shards/*.tar") == several
    assert names("shards/*2.tar") == several[4:]
    assert names("f", "shards/000.tar") == [*(f"f/{name}" for name in one), *several[:2]]
    listed = io.BytesIO(b"shards/001.tar\n./shards/000.tar\n")
    assert names("-", stdin=listed) == [f"shards/{n}/{name}" for n in ("001", "000") for name in one]
    (missing,) = listing("shards/{002..003}.tar")[0].failures
    assert missing.path == "shards/003.tar"
    assert names("shards/000.tar", recursive=False) == ["p00.jpg"]
    assert names("shards/000.tar", exclude=["sub"]) == ["p00.jpg"]
    Path("link.tar").symlink_to("shards/000.tar")
    found, said = listing("shards/000.tar", "link.tar")
    assert [image.name for image in found.images] == several[:2] and "taken once" in said[0]


def test_archives_in_folders_are_told_and_not_entered(tmp_path: Path) -> None:
    make_photos(tmp_path / "in", 2)
    archive_of(tmp_path / "in", tmp_path / "only/000.tar")
    archive_of(tmp_path / "in", tmp_path / "in/more.zip")
    found, (note,) = listing("in")
    assert len(found.images) == 2 and "in/**/*.zip" in note
    with pytest.raises(SanError, match="no image in only") as caught:
        listing("only")
    assert "only/**/*.tar" in caught.value.hint
    assert "nothing but archives" in listing("only/*")[0].failures[0].cause
    assert len(names("only/**/*.tar")) == 2


def test_what_a_folder_leaves_out_an_archive_leaves_out() -> None:
    image = jpeg()
    tar_of("a.tar", a_jpg=image, __MACOSX____jpg=image, _hidden__b_jpg=image, notes_txt=b"x", c_HEIC=b"x")
    with tarfile.open("a.tar", "a") as tar:
        for name in ("__MACOSX/x.jpg", ".h.jpg", "out/.san/run.json", "out/r.labels.png", "raw/noname"):
            info = tarfile.TarInfo(name)
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))
    found, said = listing("a.tar")
    assert [one.name for one in found.images] == ["a.jpg"]
    assert [failure.name for failure in found.failures] == ["c.HEIC"]
    told = "\n".join(said)
    assert "__MACOSX" in told and "out/r.labels.png" in told and "raw/noname" in told


def test_hostile_members(tmp_path: Path) -> None:
    image = jpeg()
    with tarfile.open("a.tar", "w") as tar:

        def add(name: str, data: bytes = image, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, target
            tar.addfile(info, io.BytesIO(data))

        add("../../climbs.jpg")
        add("/abs/a.jpg")
        add("./b.jpg", b"first")
        add("b.jpg")
        add("hard.jpg", b"", tarfile.LNKTYPE, "b.jpg")
        add("soft.jpg", b"", tarfile.SYMTYPE, "/etc/passwd")
        add("pipe.jpg", b"", tarfile.FIFOTYPE)
        add("x/../../../up.jpg")
        add("empty.jpg", b"")
    found, said = listing("a.tar")
    assert [one.name for one in found.images] == ["abs/a.jpg", "b.jpg", "hard.jpg", "empty.jpg"]
    assert [one.name for one in found.failures] == ["../../climbs.jpg", "x/../../../up.jpg"]
    assert all("leads out" in one.cause for one in found.failures)
    told = "\n".join(said)
    assert "soft.jpg" in told and "pipe.jpg" in told and "more than once" in told
    assert load_image(found.images[2].path).pixels.shape == (64, 48, 3)
    with pytest.raises(BadImage, match="empty file"):
        load_image(found.images[3].path)


def test_damaged_members_of_a_zip_fail_alone() -> None:
    image = jpeg()
    with zipfile.ZipFile("a.zip", "w") as archive:
        for number, method in enumerate((0, 8, 8, 12, 14)):
            archive.writestr(f"{number}.jpg", image, method)
    data = bytearray(Path("a.zip").read_bytes())
    with zipfile.ZipFile("a.zip") as archive:
        infos = archive.infolist()
    data[infos[0].header_offset + 200] ^= 0xFF  # stored: the sum tells
    data[infos[1].header_offset : infos[1].header_offset + 4] = b"nope"
    at = data.index(b"PK\1\2", infos[2].header_offset) + 0  # the list follows the members
    entry = [at]
    for _ in infos[1:]:
        entry.append(data.index(b"PK\1\2", entry[-1] + 4))
    data[entry[2] + 24 : entry[2] + 28] = (2**31).to_bytes(4, "little")  # says to be huge
    Path("a.zip").write_bytes(data)
    found, _ = listing("a.zip")
    causes = []
    for one in found.images:
        try:
            load_image(one.path)
            causes.append("")
        except BadImage as fault:
            causes.append(fault.cause)
    assert "CRC" in causes[0] and "no header" in causes[1] and "bytes" in causes[2]
    assert causes[3] == "" and "LZMA" in causes[4]


def test_encrypted_and_foreign_archives() -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("a.jpg", jpeg())
    data = bytearray(Path("a.zip").read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    Path("a.zip").write_bytes(data)
    failed = fail_unreadable(listing("a.zip")[0], 10**6)
    assert "password" in failed.failures[0].cause
    for name, head in (
        ("a.7z", b"7z\xbc\xaf\x27\x1c"),
        ("a.rar", b"Rar!\x1a\7"),
        ("a.tar.zst", b"\x28\xb5\x2f\xfd"),
    ):
        Path(name).write_bytes(head + bytes(600))
        assert "unpack it" in listing(name)[0].failures[0].cause


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_truncated_archive(predict: San, photos: Path, tmp_path: Path, kind: str) -> None:
    path = archive_of(photos, tmp_path / f"a.{kind}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    ended = predict(path, "-o", "out", "--save", "labels")
    if kind == "zip":  # its list is at its end
        assert ended.code == 4 and "damaged or cut short" in ended.err
        return
    assert ended.code == 3
    assert f"a.{kind}: tar archive that is damaged or cut short" in ended.err.replace("failed: ", "")
    done = sorted(file.name for file in Path("out").rglob("*.labels.png"))
    assert 2 <= len(done) < 6
    predict(photos, "-o", "whole", "--save", "labels")
    for file in Path("out").rglob("*.labels.png"):
        assert file.read_bytes() == Path("whole", file.relative_to("out")).read_bytes()


def test_a_member_that_says_to_be_huge() -> None:
    with tarfile.open("a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("first.jpg"))
        info = tarfile.TarInfo("huge.jpg")
        info.size = 2**40
        tar.addfile(info)
    found, _ = listing("a.tar")
    assert [one.name for one in found.images] == ["first.jpg", "huge.jpg"]
    for options in ({}, {"max_bytes": 2**41}):
        with pytest.raises(BadImage, match="1,099,511,627,776 bytes|cut short"):
            load_image(found.images[1].path, **options)  # type: ignore[arg-type]
    assert len(found.failures) == 1


def test_a_tar_whose_first_name_begins_like_another_kind() -> None:
    for name in ("PK", "BZh", "PK__a"):
        assert names(tar_of(f"{name}.tar", **{f"{name}_jpg": jpeg(), "b_jpg": jpeg()}))[-1] == "b.jpg"


def test_a_path_that_leads_into_an_archive_is_explained() -> None:
    tar_of("a.tar", x__b_jpg=jpeg())
    found, _ = listing("a.tar/x/b.jpg")
    assert "given together: a.tar" in found.failures[0].cause


def test_tars_in_a_row_and_without_an_end() -> None:
    one, two = (Path(tar_of(f"{name}.tar", **{f"{name}_jpg": jpeg()})).read_bytes() for name in "ab")
    Path("row.tar").write_bytes(one + two)
    found, (note,) = listing("row.tar")
    assert len(found.images) == 1 and "end mark" in note
    Path("cut.tar").write_bytes(one[: 512 + (len(jpeg()) + 511) // 512 * 512])
    found, _ = listing("cut.tar")
    assert len(found.images) == 1 and "end mark is missing" in found.failures[0].cause


def test_an_archive_that_changes_after_it_was_listed() -> None:
    found, _ = listing(tar_of("a.tar", a_jpg=jpeg()))
    tar_of("a.tar", a_jpg=jpeg((32, 32)))
    with pytest.raises(BadImage, match="has changed"):
        load_image(found.images[0].path)


def test_members_of_a_compressed_tar_in_any_order(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02d}.jpg").write_bytes(jpeg((40 + number, 40)))
    members = list(list_archive(str(archive_of(folder, tmp_path / "a.tar.gz"))).archive.members.values())
    expect(members)
    order = [*range(12)]
    random.Random(1).shuffle(order)
    for number in order:
        assert displayed_size(members[number]) == (40 + number, 40)
        assert load_image(members[number]).pixels.shape[:2] == (40 + number, 40)
    reader = members[0].archive.reader
    assert not reader._kept and reader._file is None  # nothing is held any more
    assert members[3].read() == (folder / "03.jpg").read_bytes()


def test_world_files_in_archives(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg())
    (folder / "a.jgw").write_text("2\n0\n0\n-2\n500001\n5999999\n")
    placed = load_image(folder / "a.jpg").geo_tags
    for kind in KINDS:
        (image,) = listing(str(archive_of(folder, tmp_path / f"a.{kind}")))[0].images
        assert load_image(image.path).geo_tags == placed is not None


def test_a_large_list_is_small(tmp_path: Path) -> None:
    with tarfile.open("a.tar", "w") as tar:
        for number in range(3000):
            tar.addfile(tarfile.TarInfo(f"dir/{number:06d}.jpg"))
    found, _ = listing("a.tar")
    assert len(found.images) == 3000
    path = found.images[7].path
    assert isinstance(path, Member) and str(path) == "a.tar/dir/000007.jpg" and path.name == "000007.jpg"


def test_results_of_members_stay_until_these_are_gone(predict: San, photos: Path, tmp_path: Path) -> None:
    archive_of(photos, tmp_path / "a.tar")
    predict("a.tar", "-o", "out", "--save", "labels")
    predict("a.tar", "-o", "out", "--save", "labels", "--limit", 2)
    assert len(list(Path("out").rglob("*.labels.png"))) == 6
    assert "nothing new" in predict("a.tar", "-o", "out", "--save", "labels").err
    (photos / "p04.jpg").unlink()
    archive_of(photos, tmp_path / "a.tar")
    assert "removed: 1 result" in predict("a.tar", "-o", "out", "--save", "labels").err
    assert not Path("out/p04.labels.png").exists()


def test_results_that_lead_to_files_are_refused(predict: San, photos: Path, tmp_path: Path) -> None:
    archive_of(photos, tmp_path / "a.tar")
    ended = predict("a.tar", "-o", "out", "--save", "yolo")
    assert ended.code == 2 and "Unpack the archive" in ended.err
    assert not Path("out").exists()


def test_stems() -> None:
    assert [archive_stem(name) for name in ("a.tar.gz", "b.TGZ", "c.d.zip", "e.cbz", "f", ".tar")] == [
        *("a", "b", "c.d", "e", "f", ".tar"),
    ]
