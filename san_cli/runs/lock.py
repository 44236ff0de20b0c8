"""The folder of results: one that can be used, and one run at a time in it; shards of one job share it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from san_cli.errors import SanError
from san_cli.files import open_regular
from san_cli.text import printable, quoted

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs apart there
    fcntl = None  # type: ignore[assignment]

_POLL_S = 0.2
_held: set[int] = set()  # descriptors


def refuse_unusable_folder(output: Path) -> None:
    """Raise SanError if `output` can't be a folder of results; it need not exist."""
    there = output
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    hint = "Choose another folder with -o."
    if not there.is_dir():
        raise SanError(f"{quoted(there)} is not a folder", hint=hint)
    if not os.access(there, os.W_OK | os.X_OK):
        raise SanError(f"the folder {quoted(there)} can't be written to", hint=hint)


@contextmanager
def locked(
    folder: Path, output: Path, command: str, *, shared: bool = False, wait_s: float = 0.0
) -> Iterator[int]:
    """Hold the lock in `folder`, alone or together with other holders of a shared one; yields its descriptor.

    SanError if another run of `command` has it, and so writes to `output`, for longer than `wait_s`; OSError where
    there can be no lock. The system frees the lock of a dead process.
    """
    descriptor = open_regular(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        if not lock_file(descriptor, shared=shared, wait_s=wait_s):
            raise SanError(
                f"another {command} is writing to {quoted(output)}",
                hint="Wait for it to end, or choose another folder with -o. Where none is running, on any machine "
                f"that shares the folder, remove {printable(str(folder / 'lock'))}.",
            )
        _held.add(descriptor)
        yield descriptor
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _leave_to_parent() -> None:
    """Close the locks in a process that was forked: it would keep them for a parent that is dead."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_to_parent)


def lock_file(descriptor: int, *, shared: bool = False, wait_s: float = 0.0) -> bool:
    """Lock an open file until it is closed; whether that worked. A file system without locks grants all."""
    if fcntl is None:
        return True
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, how)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        except OSError:  # e.g. ENOLCK on a network file system: better unprotected than refused
            return True


def is_locked(path: Path) -> bool | None:
    """Tell whether a process holds the lock of a file; None where that can't be told, as without locks.

    It is looked at by taking a share of it for a moment, so another one that is shared isn't seen.
    """
    try:
        descriptor = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        if fcntl is None:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)
