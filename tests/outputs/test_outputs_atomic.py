"""A file is complete or what it was before."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from san_cli.files import atomic_write, sweep_stale

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from san_cli.files import atomic_write
with atomic_write(Path(sys.argv[1])) as stream:
    stream.write(b"new" * 100_000)
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_writer(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL


def write(path: Path, content: bytes) -> None:
    with atomic_write(path) as stream:
        stream.write(content)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_content_arrives_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write(path, b"one")
    write(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a.bin"]


def test_until_the_end_the_old_content_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write(path, b"old")
    with atomic_write(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_an_exception_leaves_what_was_before(
    tmp_path: Path, exception: type[BaseException], existed: bool
) -> None:
    path = tmp_path / "a.bin"
    if existed:
        path.write_bytes(b"old")

    def fails_half_way() -> None:
        with atomic_write(path) as stream:
            stream.write(b"half of it")
            raise exception

    with pytest.raises(exception):
        fails_half_way()
    assert names(tmp_path) == (["a.bin"] if existed else [])
    assert not existed or path.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_a_full_disk_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write(path, b"old")

    def fills_the_disk() -> None:
        with atomic_write(path) as stream, Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), stream.fileno())  # from here on the disk is full
            stream.write(b"new" * 10)

    with pytest.raises(OSError, match="No space left"):
        fills_the_disk()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_target_that_can_not_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write(tmp_path / "folder", b"new")
    assert names(tmp_path) == ["folder"]
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "absent" / "a.bin", b"new")


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("elsewhere")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    assert not (tmp_path / "link").is_symlink()


def test_the_longest_name_a_folder_can_hold(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_mode_honours_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.bin", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_a_killed_writer_leaves_the_old_file_and_a_rest_that_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"old")
    killed_writer(path)
    assert path.read_bytes() == b"old"
    assert len(names(path.parent)) == 2
    assert sweep_stale(tmp_path) == 1
    assert names(path.parent) == ["a.bin"]


def test_sweeping_spares_the_living_and_the_strange(tmp_path: Path) -> None:
    killed_writer(tmp_path / "a.bin")
    [stale] = names(tmp_path)
    _, _, prefix_host, _, process, rest = stale.replace(".san-tmp-", "--").split("-")
    strangers = [
        ".san-tmp-notes",
        stale + ".jpg",
        f".san-tmp-00000000-1-{process}-{rest}",  # of another host, perhaps still at work
        f".san-tmp-{prefix_host}-{os.getppid()}-{process}-{rest}",  # of a living process
    ]
    for name in strangers:
        (tmp_path / name).write_bytes(b"")
    ours_before_a_restart = tmp_path / f".san-tmp-{prefix_host}-{os.getpid()}-{process}-{rest}"
    ours_before_a_restart.write_bytes(b"")
    long_forgotten = tmp_path / f".san-tmp-11111111-1-{process}-{rest}"
    long_forgotten.write_bytes(b"")
    os.utime(long_forgotten, (1e9, 1e9))
    with atomic_write(tmp_path / "b.bin") as stream:
        assert sweep_stale(tmp_path) == 3
        stream.write(b"still here")
    assert names(tmp_path) == sorted([*strangers, "b.bin"])
