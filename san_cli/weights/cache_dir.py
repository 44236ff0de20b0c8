"""The folder of all that san can have again: file hashes, text embeddings, downloads."""

import os
import stat
import tempfile
from pathlib import Path

from san_cli.files import open_regular


def cache_dir() -> Path:
    """Find the cache's folder: `$SAN_HOME`, else `$XDG_CACHE_HOME/san`, else `~/.cache/san`; not created here.

    An account without a home folder (some containers) gets a folder of its own in the system's temporary one, which
    is made here, as anybody might have put something under its name: see `_own_folder`.
    """
    if home := os.environ.get("SAN_HOME"):
        return Path(os.path.expanduser(home))  # noqa: PTH111 (what can't be expanded stays as it is)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if Path(xdg).is_absolute():  # the XDG specification: a relative path is to be ignored
        return Path(xdg) / "san"
    try:
        return Path.home() / ".cache" / "san"
    except RuntimeError:
        return _own_folder(Path(tempfile.gettempdir()), f"san-cache-{os.getuid()}")


def read_small(path: Path, limit: int) -> bytes:
    """Read a small file of a cache. OSError for all but a regular file of ours of at most `limit` bytes.

    Nothing is waited for: what lies there may be a pipe, a device, a folder. What another user (but root) put into
    a cache that several can write to is not believed.
    """
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        status = os.fstat(file.fileno())
        mine = not hasattr(os, "getuid") or status.st_uid in (0, os.getuid())
        if status.st_size > limit or not mine:
            raise OSError(f"{path} is no file of our cache")
        return file.read(limit)


def _own_folder(parent: Path, name: str) -> Path:
    """Find `parent/name`, made if need be, as long as it is a folder that nobody else can have written to.

    Else the first of `name-1`, `name-2`, … of which that is true, so that it is the same one in every run.
    """
    for number in range(100):
        folder = parent / (f"{name}-{number}" if number else name)
        try:
            folder.mkdir(mode=0o700)
            return folder
        except FileExistsError:
            pass
        except OSError:  # a temporary folder that can't be written: callers do without a cache
            return folder
        try:
            status = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
