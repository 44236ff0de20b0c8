"""Archives that ask for more memory than they are worth: refused in a sentence, before they get it."""

import gzip
import json
import lzma
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import raw_datasets as raw_trees
from program import San

from san_cli.errors import SanError
from san_cli.prepare import detail, matfile, sources
from san_cli.prepare.matfile import read_mat
from san_cli.prepare.sources import open_sources

MOST = 16 * 2**20  # bytes that listing any of these may take


def header(kind: bytes, size: int, name: str = "x", mode: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar header that promises `size` bytes."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(mode)


def _pax(path: Path, kind: bytes = tarfile.XHDTYPE) -> None:
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header(kind, 2**26))
        for _ in range(64):
            stream.write(bytes(2**20))
        stream.write(header(tarfile.REGTYPE, 0) + bytes(1024))


def _promise(path: Path, kind: bytes) -> None:
    """6 GB in the header, which the file doesn't have."""
    path.write_bytes(gzip.compress(header(kind, 6 * 10**9) + bytes(4096)))


def _chain(path: Path, kind: bytes) -> None:
    """A header of a header of a header."""
    path.write_bytes(gzip.compress((header(kind, 512) + b"y".ljust(512, b"\0")) * 5000 + bytes(1024)))


def _sparse(path: Path) -> None:
    """A map of a sparse file that goes on for ever."""
    first = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    first[482] = 1  # extended
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    block = (b"00000000001\0" * 42).ljust(504, b"\0") + b"\1".ljust(8, b"\0")
    path.write_bytes(gzip.compress(bytes(first) + block * 20_000))


def _sparse_pax(path: Path) -> None:
    records = b"".join(
        b"%d %s\n" % (len(text) + 4, text)
        for text in (b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.realsize=9")
    )
    numbers = b"9999999\n" + b"1\n" * 2**20
    data = header(tarfile.XHDTYPE, len(records)) + records.ljust(512, b"\0")
    data += header(tarfile.REGTYPE, len(numbers)) + numbers
    path.write_bytes(gzip.compress(data))


def _globals(path: Path) -> None:
    """Attributes for all members, ever more of them."""
    data = b""
    for number in range(100):
        records = b"".join(b"%d k%03d%03d=v\n" % (13, number, key) for key in range(100))
        data += header(tarfile.XGLTYPE, len(records)) + records.ljust(
            (len(records) + 511) // 512 * 512, b"\0"
        )
        data += header(tarfile.REGTYPE, 0)
    path.write_bytes(gzip.compress(data + bytes(1024)))


BOMBS: dict[str, Callable[[Path], None]] = {
    "64 MB of attributes": _pax,
    "64 MB of attributes for all": lambda path: _pax(path, tarfile.XGLTYPE),
    "a name of 64 MB": lambda path: _pax(path, tarfile.GNUTYPE_LONGNAME),
    "a link's name of 64 MB": lambda path: _pax(path, tarfile.GNUTYPE_LONGLINK),
    "6 GB of attributes, promised": lambda path: _promise(path, tarfile.XHDTYPE),
    "6 GB of a name, promised": lambda path: _promise(path, tarfile.GNUTYPE_LONGNAME),
    "names of names": lambda path: _chain(path, tarfile.GNUTYPE_LONGNAME),
    "a sparse file's map": _sparse,
    "a sparse file's map of another kind": _sparse_pax,
    "ever more attributes": _globals,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_headers_are_bounded(san: San, tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "bomb.tar.gz"
    BOMBS[bomb](path)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        ended = san("data", "prepare", "coco", "--from", path, "--to", tmp_path / "root")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (ended.code, "Traceback" in ended.err, "bomb.tar.gz" in ended.err) == (4, False, True)
    assert peak < MOST
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_members_are_counted(san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(sources, "_MOST_MEMBERS", 3)
    raw_trees.make_coco(tmp_path / "raw")
    path = raw_trees.pack(tmp_path / "raw", tmp_path / f"raw.{suffix}")
    ended = san("data", "prepare", "coco", "--from", path, "--to", tmp_path / "root")
    assert (ended.code, "over 3 members" in ended.err) == (4, True)


def test_names_beyond_any_path_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "long.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("val2017/" + "n" * 5000 + ".jpg"))
    with open_sources([tmp_path / "long.tar"]) as (source,):
        assert source.members == ()
        assert [len(name) for name in source.refused] == [200]


def test_a_member_that_inflates(tmp_path: Path) -> None:
    """Only as far as its size says, and not at all where that is absurd."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("val2017/1.jpg", bytes(2**22))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", 100)  # the central directory's size
    (tmp_path / "b.zip").write_bytes(data)
    with open_sources([tmp_path / "a.zip", tmp_path / "b.zip"]) as (whole, lying):
        with pytest.raises(SanError, match="far more than such a file has"):
            whole.members[0].read(2**20)
        with pytest.raises(SanError):
            lying.members[0].read()


def test_a_dictionary_of_gigabytes(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**30}]
    with lzma.open(tmp_path / "a.tar.xz", "wb", filters=filters) as stream:
        stream.write(header(tarfile.REGTYPE, 0) + bytes(1024))
    with pytest.raises(SanError, match=r"a\.tar\.xz"), open_sources([tmp_path / "a.tar.xz"]):
        pass


def test_a_pipe_is_not_waited_for(san: San, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    ended = san("data", "prepare", "coco", "--from", tmp_path / "pipe.zip", "--to", tmp_path / "root")
    assert (ended.code, "neither a file nor a folder" in ended.err) == (4, True)
    for odd in ("x" * 5000, "nothing\nhere"):
        ended = san("data", "prepare", "coco", "--from", odd, "--to", tmp_path / "root")
        assert (ended.code, "Traceback" in ended.err) == (4, False)


def test_mat_files_inflate_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """All elements of a file together."""
    monkeypatch.setattr(matfile, "_MAX_BYTES", 3000)
    head = b"MATLAB 5.0".ljust(124, b" ") + b"\0\1IM"
    element = zlib.compress(bytes(8) * 250)
    one = struct.pack("<II", 15, len(element)) + element
    assert read_mat(head + one) == {}
    for bomb in (head + one * 2, head + struct.pack("<II", 15, len(big := zlib.compress(bytes(4000)))) + big):
        with pytest.raises(ValueError, match="more than any label map"):
            read_mat(bomb)


@pytest.mark.parametrize(
    "size",
    [
        "-1",
        "0",
        "1e999",
        "-1e999",
        "NaN",
        "1e30",
        "9" * 50,
        "9" * 5000,
        '"500"',
        "null",
        "[]",
        "true",
        "65536",
    ],
)
@pytest.mark.parametrize("where", ["images", "segments"])
def test_sizes_in_the_json_that_no_picture_has(san: San, tmp_path: Path, size: str, where: str) -> None:
    raw_trees.make_pcontext(tmp_path / "raw")
    top = tmp_path / "raw/VOCdevkit/VOC2010"
    path = top / detail.NAME
    content = json.loads(path.read_text())
    if where == "images":
        for row in content["images"]:
            row["height"] = "SIZE"
    else:
        for row in content["annos_segmentation"]:
            row["segmentation"]["size"][0] = "SIZE"
    path.write_text(json.dumps(content).replace('"SIZE"', size))
    ended = san("data", "prepare", "pc59", "--from", top, "--to", tmp_path / "root")
    assert "Traceback" not in ended.err
    assert ended.code in ((4,) if size not in ("true", '"500"') else (3, 4))


def test_nesting_in_the_json(san: San, tmp_path: Path) -> None:
    raw_trees.make_pcontext(tmp_path / "raw")
    top = tmp_path / "raw/VOCdevkit/VOC2010"
    (top / detail.NAME).write_text('{"images": [' + "[" * 100_000)
    ended = san("data", "prepare", "pc59", "--from", top, "--to", tmp_path / "root")
    assert (ended.code, "Traceback" in ended.err) == (4, False)


# What the root may hold


@pytest.mark.parametrize("content", ["[" * 100_000, "{", "9" * 5000, "[]", None])
def test_a_damaged_note_on_the_preparation(san: San, tmp_path: Path, content: str | None) -> None:
    """Then everything is compared anew; a pipe isn't waited for."""
    raw_trees.make_coco(tmp_path / "raw")
    words = (
        "data",
        "prepare",
        "coco",
        "--from",
        tmp_path / "raw",
        "--to",
        tmp_path / "root",
        "--split",
        "val",
    )
    assert san(*words).code == 0
    note = tmp_path / "root/.san/prepare-coco-val.json"
    note.unlink()
    if content is None:
        os.mkfifo(note)
    else:
        note.write_text(content)
    ended = san(*words)
    assert (ended.code, "0 files written, 2 kept" in ended.out) == (0, True)
    assert json.loads(note.read_text())["complete"] is True


@pytest.mark.parametrize("name", ["", ".san", "coco"])
def test_a_root_that_can_not_be_written(san: San, tmp_path: Path, name: str) -> None:
    raw_trees.make_coco(tmp_path / "raw")
    root = tmp_path / "root"
    if name:
        root.mkdir()
    (root / name).write_text("mine")
    ended = san("data", "prepare", "coco", "--from", tmp_path / "raw", "--to", root, "--split", "val")
    assert (ended.code, "can't write below" in ended.err, "room" in ended.err) == (2, True, False)
    assert (root / name).read_text() == "mine"


def test_a_root_that_is_removed_under_way(san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from san_cli.prepare import run

    raw_trees.make_coco(tmp_path / "raw")
    real = run._Run._do

    def remove(self: object, *parts: object) -> bool:
        shutil.rmtree(tmp_path / "root", ignore_errors=True)
        return real(self, *parts)  # type: ignore[arg-type]

    monkeypatch.setattr(run._Run, "_do", remove)
    ended = san("data", "prepare", "coco", "--from", tmp_path / "raw", "--to", tmp_path / "root")
    assert (ended.code, "was removed or moved" in ended.err, "room" in ended.err) == (3, True, False)
