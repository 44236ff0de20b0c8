"""Faults of docs/faults.md: files that can't be used, disks, streams and signals, for real."""

import contextlib
import errno
import fcntl
import io
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from odd_files import ODD_NAMES, encode, make_odd_names, state
from program import San, make_photos, subprocess_environment, tree
from recipe import image

from san_cli.datasets.images import LoadedImage
from san_cli.errors import SanError
from san_cli.predict import pipeline
from san_cli.predict import run as predict_run
from san_cli.predict.inputs import discover
from san_cli.runs.journal import Journal, Line

# The file system


def in_process(
    home: Path, weights: Path, *arguments: object, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """`san predict` in a process of its own; `before` is a command that runs it."""
    command = [*before, *command_line(weights, *arguments)]
    return subprocess.run(command, env=subprocess_environment(home), capture_output=True, text=True)


def command_line(weights: Path, *arguments: object) -> list[str]:
    """The command of a run in a process of its own."""
    options = ["--weights", str(weights), "--vocab", "voc", "--device", "cpu"]
    return [sys.executable, "-m", "san_cli", "predict", *map(str, arguments), *options]


IS_ROOT = os.geteuid() == 0
# Root may read everything, unless it gives that up.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if IS_ROOT else ()
needs_unprivileged = pytest.mark.skipif(
    IS_ROOT and shutil.which("setpriv") is None, reason="root may read everything"
)


@needs_unprivileged
def test_permissions(predict: San, photos: Path, tmp_path: Path, tiny_weights: Path, san_home: Path) -> None:
    """Read-only inputs, some not even that, and a folder among the results that is closed."""
    (photos / "closed.jpg").write_bytes(b"no picture")
    (photos / "closed").mkdir()
    predict(photos, "-o", tmp_path / "whole")
    before = state(photos)
    (tmp_path / "out" / "sub").mkdir(parents=True)
    closed = (photos / "closed", photos / "closed.jpg")
    try:
        for path in closed:
            path.chmod(0)
        for path in (photos / "sub", photos, tmp_path / "out" / "sub"):
            path.chmod(0o555)
        ended = in_process(san_home, tiny_weights, photos, "-o", tmp_path / "out", before=UNPRIVILEGED)
        among = in_process(san_home, tiny_weights, photos, "-o", photos / "out", before=UNPRIVILEGED)
    finally:
        for path in (photos, photos / "sub", photos / "closed", tmp_path / "out" / "sub"):
            path.chmod(0o755)
        (photos / "closed.jpg").chmod(0o644)
    assert ended.returncode == 3
    assert "closed: unreadable folder: permission denied\n" in ended.stderr
    assert "failed: closed.jpg: permission denied\n" in ended.stderr
    assert ended.stderr.splitlines()[-2].endswith("/out': permission denied")
    assert "run the same command again" in ended.stderr
    assert (among.returncode, "can't be written to" in among.stderr) == (2, True)
    assert state(photos) == before
    assert "3 done, 3 done before, 1 failed" in predict(photos, "-o", tmp_path / "out").err
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def _can_mount(folder: Path) -> bool:
    command = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


UNSHARE = ("unshare", "--mount") if IS_ROOT else ("unshare", "--mount", "--map-root-user")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no mounts of our own")
def test_a_disk_that_is_really_full(
    predict: San, photos: Path, tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    """A small file system below the folder of the results, which is on another one; the rerun has room."""
    make_photos(photos, 16)
    predict(photos, "-o", tmp_path / "whole")
    small = tmp_path / "out" / "sub"
    small.mkdir(parents=True)
    if not _can_mount(small):
        pytest.skip("mounts are not allowed here")
    where = shlex.quote(str(small))
    command = shlex.join(command_line(tiny_weights, photos, "-o", tmp_path / "out", "-q"))
    script = (
        f"mount -t tmpfs -o size=24k tmpfs {where} && {command}; "
        f"echo $?; find {where} -name '.san-tmp*'; cp -a {where} {where}-kept"
    )
    ended = subprocess.run(
        [*UNSHARE, "bash", "-c", script], env=subprocess_environment(san_home), capture_output=True, text=True
    )
    assert ended.stdout.split() == ["3"]
    assert "no space left for the results" in ended.stderr
    small.rmdir()
    (tmp_path / "out" / "sub-kept").rename(small)
    again = predict(photos, "-o", tmp_path / "out")
    assert again.code == 0
    assert " done before" in again.err
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_quota_is_a_full_disk(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ended = predict(photos, "-o", tmp_path / "out")
    assert ended.code == 3
    assert "no space left for the results" in ended.err
    assert predict(photos, "-o", tmp_path / "out").code == 0


def all_descriptors() -> list[int]:
    """Every file descriptor that is left, taken."""
    taken: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    return taken


@pytest.mark.parametrize("room", [0, 1, 2, 3, 5])
def test_few_file_descriptors(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """With too few, the run stops and says so; no image is blamed, and a rerun goes on."""
    predict(photos, "-o", tmp_path / "whole")  # what is imported late is imported now
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    real, taken = predict_run._do_images, []

    def work(*arguments: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        taken.extend(all_descriptors())
        for _ in range(room):
            os.close(taken.pop())
        real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(predict_run, "_do_images", work)
        try:
            ended = predict(photos, "-o", tmp_path / "out", "--workers", 3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for descriptor in taken:
                os.close(descriptor)
    assert "failed:" not in ended.err
    assert ended.code == 3 or room
    assert ended.code == 0 or "san: too many open files" in ended.err
    assert predict(photos, "-o", tmp_path / "out").code == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_file_system_without_locks(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    assert predict(photos, "-o", tmp_path / "out").code == 0


def disturbed(
    monkeypatch: pytest.MonkeyPatch, name: str, before: object = None, after: object = None
) -> None:
    """Have a function called with the path of one image just before or just after it is read."""
    real = pipeline.load_image

    def load(path: Path, **options: int) -> LoadedImage:
        if path.name == name and callable(before):
            before(path)
        loaded = real(path, **options)
        if path.name == name and callable(after):
            after(path)
        return loaded

    monkeypatch.setattr(pipeline, "load_image", load)


def _turn_into_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (Path.unlink, "no such file"),
        (_turn_into_a_pipe, "a named pipe, not a file"),
        (lambda path: path.write_bytes(path.read_bytes()[:700]), "truncated or damaged"),
    ],
    ids=["vanishes", "becomes a pipe", "shrinks"],
)
def test_a_file_that_changes_after_it_was_listed(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    change: object, cause: str, batch: int,
) -> None:  # fmt: skip
    disturbed(monkeypatch, "p02.jpg", before=change)
    ended = predict(photos, "-o", tmp_path / "out", "--batch", batch)
    assert ended.code == 3
    assert f"failed: p02.jpg: {cause}" in ended.err
    assert "5 done, 1 failed" in ended.err


def test_a_file_that_changes_while_it_is_read_is_done_again(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        disturbed(patch, "p02.jpg", after=lambda path: path.write_bytes((photos / "p04.jpg").read_bytes()))
        assert predict(photos, "-o", tmp_path / "out").code == 0
    assert "1 done, 5 done before" in predict(photos, "-o", tmp_path / "out").err
    predict(photos, "-o", tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_clock_that_is_wrong(predict: San, photos: Path, tmp_path: Path) -> None:
    """Times are compared for equality alone."""
    for year, seconds in {1960: -315_619_200, 2100: 4_102_444_800}.items():
        os.utime(photos / "p00.jpg", ns=(seconds * 10**9 + 1, seconds * 10**9 + 1))
        ended = predict(photos, "-o", tmp_path / "out")
        assert ended.code == 0
        assert ("6 done" if year == 1960 else "1 done, 5 done before") in ended.err
        assert "nothing new" in predict(photos, "-o", tmp_path / "out").err


# stdin, stdout, stderr


def test_a_list_from_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").touch()
    leader, follower = os.openpty()
    os.write(leader, b"a.jpg\n\x04")
    said: list[str] = []
    with os.fdopen(follower, "rb") as terminal:
        found = discover(["-"], stdin=terminal, say=said.append)
    os.close(leader)
    assert [image.name for image in found.images] == ["a.jpg"]
    assert said == ["reading the list of images from the terminal; Ctrl-D ends it"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_waiting_for_a_list_can_be_ended(tmp_path: Path, san_home: Path, number: int) -> None:
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "san_cli", "predict", "-", "-o", str(tmp_path / "out")],
        env=subprocess_environment(san_home), stdin=follower, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "reading the list" in process.stderr.readline()
    time.sleep(0.1)  # until it reads
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    os.close(leader)
    os.close(follower)
    assert process.returncode == 130
    assert err.startswith("san: interrupted\n")
    assert not (tmp_path / "out").exists()


def test_a_list_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("san_cli.predict.lists.LONGEST_LIST", 1000)

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            buffer[:] = (b"y\n" * len(buffer))[: len(buffer)]
            return len(buffer)

    with pytest.raises(SanError, match="the list on stdin is above"):
        discover(["-"], stdin=io.BufferedReader(Endless()), say=print)


@pytest.mark.parametrize(
    "command", ["--version", "--help", "vocab list", "vocab show voc", "weights path tiny", "data list"]
)
@pytest.mark.parametrize(
    ("stdout", "why"), [(">&-", "it is closed"), ("> /dev/full", "no space left on device")]
)
def test_stdout_that_can_not_be_written(command: str, stdout: str, why: str, san_home: Path) -> None:
    ended = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m san_cli {command} {stdout}"],
        env=subprocess_environment(san_home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 3
    assert ended.stderr.startswith(f"san: can't write to standard output: {why}\n")
    assert "Traceback" not in ended.stderr and "Exception" not in ended.stderr


def test_closed_stdout(photos: Path, tmp_path: Path, tiny_weights: Path, san_home: Path) -> None:
    """Only what is to be written there needs it."""
    command = f"{sys.executable} -m san_cli predict {photos} --weights {tiny_weights} --vocab voc -q"
    for number, (more, code) in enumerate([("", 0), ("--jsonl", 3)]):
        ended = subprocess.run(
            ["bash", "-c", f"{command} -o {tmp_path / str(number)} {more} >&-"],
            env=subprocess_environment(san_home), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (ended.returncode, "it is closed" in ended.stderr) == (code, code == 3)


def test_closed_stderr_and_a_reader_that_is_gone(
    predict: San, photos: Path, tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    predict(photos, "-o", tmp_path / "whole")
    command = shlex.join(command_line(tiny_weights, photos, "-o", tmp_path / "out", "--jsonl"))
    ended = subprocess.run(
        ["bash", "-c", f"{command} 2>&- | true; exit ${{PIPESTATUS[0]}}"],
        env=subprocess_environment(san_home),
    )
    assert ended.returncode == 0
    assert predict(photos, "-o", tmp_path / "out").code == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_locale_that_knows_ascii_only(tmp_path: Path, san_home: Path) -> None:
    """Every name fails before anything is loaded, so that this takes no time."""
    make_odd_names(tmp_path / "in", ".heic")
    (tmp_path / "in" / "ok.jpg").write_bytes(encode(image(0, 40, 56), "JPEG"))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(
        command_line(Path("any.pth"), tmp_path / "in", "-o", tmp_path / "ß", "--fail-fast"),
        env=subprocess_environment(san_home) | plain, capture_output=True,
    )  # fmt: skip
    assert ended.returncode == 3
    lines = ended.stderr.decode("ascii").splitlines()
    assert sum(line.startswith("failed: ") for line in lines) == len(ODD_NAMES) + 1
    assert any(line.startswith(r"failed: caf\udcc3\udca9.heic: HEIC") for line in lines)


# The process


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Set back what the program sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raise_after(monkeypatch: pytest.MonkeyPatch, images: int, number: int) -> None:
    """Have the process get a signal once so many images are journalled."""
    real = Journal.append
    left = [images]

    def append(self: Journal, line: bytes) -> Line:
        found = real(self, line)
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(number)
        return found

    monkeypatch.setattr(Journal, "append", append)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, twice: bool
) -> None:
    predict(photos, "-o", tmp_path / "whole")
    number = signal.Signals[name]
    with monkeypatch.context() as patch:
        raise_after(patch, 2, number)
        if twice:  # the second one comes while the threads are waited for
            from concurrent.futures import ThreadPoolExecutor

            real = ThreadPoolExecutor.shutdown

            def shutdown(self: ThreadPoolExecutor, **options: bool) -> None:
                patch.setattr(ThreadPoolExecutor, "shutdown", real)
                real(self, wait=False, cancel_futures=True)
                signal.raise_signal(number)

            patch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
        ended = predict(photos, "-o", tmp_path / "out")
    for thread in threading.enumerate():  # as Python does when it exits
        if thread.name.startswith("san"):
            thread.join()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out" / "predictions.json").exists()
    # The second image is in the journal, but its files had no names yet.
    assert "5 done, 1 done before" in predict(photos, "-o", tmp_path / "out").err
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.usefixtures("own_signals")
def test_nohup(predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise_after(monkeypatch, 2, signal.SIGHUP)
    assert predict(photos, "-o", tmp_path / "out").code == 0
