"""The sha256 of a weights file, computed on first use and remembered while the file stays the same.

Neither `.pth` nor safetensors notices a flipped bit, so a hash over the whole file is the only proof of its content;
remembering it makes that proof free from the second run on. A safetensors file of ours states its own: the header's
metadata holds `"sha256"`, the hash of the whole file with those 64 digits as zeros.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from san_cli.errors import SanError
from san_cli.files import atomic_write
from san_cli.weights.cache_dir import cache_dir, read_small

UNSTATED = "0" * 64  # in the header's metadata before `write_stated_hash`
# Any 64 bytes, whatever follows: the digits and the quote behind them may be what is damaged.
_STATED = re.compile(rb'"sha256":"(.{64})', re.DOTALL)
_LONGEST_HEADER = 100_000_000  # bytes, safetensors' own limit
_LONGEST_MEMO = 1 << 16  # bytes
_BLOCK = 1 << 22  # bytes read at a time
_begun: dict[str, Future[str]] = {}  # hashes on their way, by the file's identity


def weights_sha256(path: Path) -> str:
    """Look up or compute the lower-case hex sha256 of the file's bytes.

    It is looked up while the file has the resolved path, size, modification time (ns) and inode that it had when it
    was hashed. A cache that can't be read or written only costs the hashing. Raises as `rehash` does.
    """
    remembered = remembered_sha256(path)
    if remembered is not None:
        return remembered
    begun = _begun.pop(json.dumps(_identity(path)), None)
    return rehash(path) if begun is None else begun.result()


def begin_hashing(path: Path) -> None:
    """Hash a file in a thread, so that `weights_sha256` has less to wait for; nothing where its hash is known."""
    if remembered_sha256(path) is not None:
        return
    found: Future[str] = Future()

    def hash_it() -> None:
        try:
            found.set_result(rehash(path))
        except BaseException as error:
            found.set_exception(error)

    with suppress(OSError):  # which is told when it is looked up
        _begun[json.dumps(_identity(path))] = found
        Thread(target=hash_it, daemon=True).start()  # nobody waits for it where the run ends before


def remembered_sha256(path: Path) -> str | None:
    """Look up the hash of a file that is as it was when that was computed; None for any other."""
    try:
        memo = json.loads(read_small(_memo_file(path), _LONGEST_MEMO))
        known = memo["file"] == _identity(path) and re.fullmatch("[0-9a-f]{64}", memo["sha256"])
        return str(memo["sha256"]) if known else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def remembered_files(sha256: str) -> Iterator[Path]:
    """Yield the files, still there and unchanged, that had this hash when they were used on this machine."""
    for memo in sorted((cache_dir() / "sha256").glob("*.json")):
        try:
            known = json.loads(read_small(memo, _LONGEST_MEMO))
            path = Path(known["file"][0])
            if known["sha256"] == sha256 and remembered_sha256(path) == sha256:
                yield path
        except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
            continue


def rehash(path: Path) -> str:
    """Hash the file's bytes now, in one reading with the check of the hash it states, and remember the result.

    Raises OSError where the file can't be read, SanError where it isn't what its own header says.
    """
    before = _identity(path)
    sha256, stated, found = _hashes(path)
    _refuse_damage(path, stated, found)
    if _identity(path) == before:  # else someone is writing to it: true for these bytes, not for the file
        _remember(path, before, sha256)
    return sha256


def remember_sha256(path: Path, sha256: str) -> None:
    """Remember a hash that was just computed by other means."""
    _remember(path, _identity(path), sha256)


def check_stated_hash(path: Path) -> bool:
    """Tell whether the file states a hash. Raises SanError if that isn't its hash, OSError if it can't be read."""
    if not states_hash(path):
        return False
    _, stated, found = _hashes(path)
    _refuse_damage(path, stated, found)
    return True


def states_hash(path: Path) -> bool:
    """Tell whether the file states a hash, true or not. Raises OSError if it can't be read."""
    with path.open("rb") as file:
        return _find(file) is not None


def header_of(path: Path) -> bytes:
    """Read the header of a safetensors file, JSON; empty for one that can't be one. OSError if it can't be read."""
    with path.open("rb") as file:
        return _header(file)


def write_stated_hash(path: Path) -> None:
    """Put the file's hash into its header, over the zeros there. Raises ValueError if there are none."""
    with path.open("r+b") as file:
        place = _find(file)
        if place is None or place[1] != UNSTATED:
            raise ValueError(f"the header of {path} has no place for a sha256")
        _sort_metadata(file)
        place = _find(file)
        assert place is not None
        sha256 = stream_sha256(file)  # of the file with zeros, which is what is stated
        file.seek(place[0])
        file.write(sha256.encode())


def stream_sha256(file: BinaryIO) -> str:
    """Compute the hex sha256 of an open file, from its beginning."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def stream_git_sha1(file: BinaryIO) -> str:
    """Compute the hex sha1 by which git knows an open file's content."""
    length = file.seek(0, os.SEEK_END)
    digest = hashlib.sha1(b"blob %d\0" % length, usedforsecurity=False)
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _hashes(path: Path) -> tuple[str, str, str]:
    """The file's sha256, the one it states, and what that should be; the latter two "" where it states none."""
    with path.open("rb") as file:
        place = _find(file)
        if place is None:
            return stream_sha256(file), "", ""
        at, stated = place
        file.seek(0)
        whole = hashlib.sha256(file.read(at))
        blank = whole.copy()
        whole.update(file.read(len(UNSTATED)))
        blank.update(UNSTATED.encode())
        while block := file.read(_BLOCK):
            whole.update(block)
            blank.update(block)
    return whole.hexdigest(), stated, blank.hexdigest()


def _refuse_damage(path: Path, stated: str, found: str) -> None:
    if found != stated:
        raise SanError(
            f"'{path}' is damaged: its sha256 is {found}, expected {stated} as its header says",
            hint="Copy it again from where it came, or make it again with `san weights convert`.",
        )


def _find(file: BinaryIO) -> tuple[int, str] | None:
    """Offset and digits of the stated hash; None for a file that states none or isn't safetensors."""
    stated = _STATED.search(_header(file))
    return None if stated is None else (8 + stated.start(1), stated[1].decode("latin-1"))


def _header(file: BinaryIO) -> bytes:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    return b"" if length > min(_LONGEST_HEADER, os.fstat(file.fileno()).st_size) else file.read(length)


def _sort_metadata(file: BinaryIO) -> None:
    """Order the metadata by name: safetensors writes them in an order that changes from call to call."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > length:
        raise ValueError(f"the header of {file.name} is not as safetensors writes it")
    file.seek(8)
    file.write(text.ljust(length))


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
