"""Files that are complete or absent, whatever happens while they are written."""

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# .san-tmp-HOST-PID-PROCESS-RANDOM. The host, as a shared folder may have writers on several machines; the
# process, as a restarted container has the pid of the one that was killed.
_HOST = hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]
_PROCESS = secrets.token_hex(4)
_TEMP_NAME = re.compile(r"\.san-tmp-([0-9a-f]{8})-(\d{1,9})-([0-9a-f]{8})-[0-9a-f]{8}")
_FOREIGN_AGE_S = 3600.0  # a temporary file of another host is taken for dead when so long unchanged


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary stream whose content takes `path`'s place when the block ends without an exception.

    Until then, and after any exception, `path` is what it was before. A symbolic link at `path` is replaced,
    not followed. The folder must exist; OSError where writing fails.

    The content reaches the disk before the name does (fsync, then rename), so a power cut can't leave an
    empty file under a final name. The folder is not synced: a power cut may take back the last few renames,
    which a rerun repeats, and another 0.3 ms per file is much for that (60 kB on ext4, virtual SSD: 0.1 ms
    without fsync, 0.5 ms with the file's, 0.8 ms with the folder's as well).
    """
    temp = temp_path(path.parent)
    stream = temp.open("xb")
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


def open_regular(path: Path, flags: int) -> int:
    """Open or make a file; its descriptor. OSError for anything but a file: a pipe would be waited for."""
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return descriptor


def read_regular(path: Path, limit: int = 2**27) -> bytes:
    """The content of a file of at most `limit` bytes; OSError for anything else."""
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, "it is far too large", str(path))
    return content


def temp_path(folder: Path) -> Path:
    """A name in `folder` that nobody else takes, and that `sweep_stale` knows once this process is dead."""
    return folder / f".san-tmp-{_HOST}-{os.getpid()}-{_PROCESS}-{secrets.token_hex(4)}"


def sweep_stale(directory: Path, *, below: bool = True) -> int:
    """Remove what killed processes left in `directory` (and `below` it), and return how many files that were.

    Nothing else is touched: no file with another name, and none that a living process is writing.
    """
    removed = 0
    for folder, folders, names in os.walk(directory):
        if not below:
            folders.clear()
        for name in names:
            found = _TEMP_NAME.fullmatch(name)
            if found is None:
                continue
            temp = Path(folder, name)
            with suppress(OSError):  # gone already, or not ours to delete: neither does harm
                if _is_stale(temp, host=found[1], pid=int(found[2]), process=found[3]):
                    temp.unlink()
                    removed += 1
    return removed


def _is_stale(temp: Path, *, host: str, pid: int, process: str) -> bool:
    if host != _HOST:
        return time.time() - temp.lstat().st_mtime > _FOREIGN_AGE_S
    if pid == os.getpid():
        return process != _PROCESS
    return not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return False  # asking would end the process, and Windows won't delete a file that is open anyway
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def free_megabytes(path: Path) -> int | None:
    """Tell how much room there is where `path` is, or would be made: 10⁶ bytes; None where that can't be told."""
    there = path.absolute()
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    try:
        return shutil.disk_usage(there).free // 10**6
    except OSError:
        return None
