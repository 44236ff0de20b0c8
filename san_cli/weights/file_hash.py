"""The sha256 of a weights file, computed on first use and remembered while the file stays the same.

Neither `.pth` nor safetensors notices a flipped bit, so a hash over the whole file is the only proof of its
content; remembering it makes that proof free from the second run on.
"""

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from san_cli.files import atomic_write
from san_cli.weights.cache_dir import cache_dir, read_small
from san_cli.weights.stated_hash import check_seal

_BLOCK = 1 << 22  # bytes read at a time
_LONGEST_MEMO = 1 << 16  # bytes


def weights_sha256(path: Path) -> str:
    """Lower-case hex sha256 of the file's bytes, from memory if the file hasn't changed since it was hashed.

    "Changed" means another resolved path, size, modification time (ns) or inode. A cache that can't be read
    or written only costs the hashing. Raises as `rehash` does.
    """
    return remembered_sha256(path) or rehash(path)


def remembered_sha256(path: Path) -> str | None:
    """The hash that was computed when the file had its present size, modification time and inode, if any."""
    try:
        memo = json.loads(read_small(_memo_file(path), _LONGEST_MEMO))
        known = memo["file"] == _identity(path) and re.fullmatch("[0-9a-f]{64}", memo["sha256"])
        return str(memo["sha256"]) if known else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def rehash(path: Path) -> str:
    """Hash the file's bytes now and remember the result.

    Raises OSError where the file can't be read, SanError where it isn't what its own header says (`seal.py`).
    """
    before = _identity(path)
    check_seal(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if _identity(path) == before:  # else someone is writing to it: true for these bytes, not for the file
        _remember(path, before, digest.hexdigest())
    return digest.hexdigest()


def remember_sha256(path: Path, sha256: str) -> None:
    """Remember a hash that was just computed by other means."""
    _remember(path, _identity(path), sha256)


def _identity(path: Path) -> list[object]:
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino]


def _memo_file(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return cache_dir() / "sha256" / f"{name}.json"


def _remember(path: Path, identity: list[object], sha256: str) -> None:
    memo = _memo_file(path)
    with suppress(OSError):  # a read-only or full cache: hash again next time
        memo.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(memo) as file:
            file.write(json.dumps({"file": identity, "sha256": sha256}).encode())
