"""A safetensors file that states its own sha256, because the format notices no flipped bit by itself.

The header's metadata holds `"sha256"`: the hash of the whole file with those 64 digits as zeros.
"""

import hashlib
import json
import re
from pathlib import Path

from san_cli.errors import SanError

UNSEALED = "0" * 64  # what a writer puts in the header's metadata before it calls `seal`
# Any 64 bytes, whatever follows: the digits and the quote behind them may be what is damaged.
_STATED = re.compile(rb'"sha256":"(.{64})', re.DOTALL)
_LONGEST_HEADER = 100_000_000  # bytes, safetensors' own limit
_BLOCK = 1 << 22  # bytes read at a time


def seal(path: Path) -> None:
    """Put the file's hash into its header, over the zeros there. Raises ValueError if there are none."""
    place = _find(path)
    if place is None or place[1] != UNSEALED:
        raise ValueError(f"the header of {path} has no place for a sha256")
    _sort_metadata(path)
    place = _find(path)
    assert place is not None
    with path.open("r+b") as file:
        file.seek(place[0])
        file.write(_hash_but_for(path, place[0]).encode())


def check_seal(path: Path) -> bool:
    """Whether the file states a hash. Raises SanError if that isn't its hash, OSError if it can't be read."""
    place = _find(path)
    if place is None:
        return False
    at, stated = place
    found = _hash_but_for(path, at)
    if found != stated:
        raise SanError(
            f"'{path}' is damaged: its sha256 is {found}, expected {stated} as its header says",
            hint="Copy it again from where it came, or make it again with `san weights convert`.",
        )
    return True


def states_hash(path: Path) -> bool:
    """Whether the file states a hash, true or not. Raises OSError if it can't be read."""
    return _find(path) is not None


def _sort_metadata(path: Path) -> None:
    """Order the metadata by name: safetensors writes them in an order that changes from call to call."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > length:
            raise ValueError(f"the header of {path} is not as safetensors writes it")
        file.seek(8)
        file.write(text.ljust(length))


def _find(path: Path) -> tuple[int, str] | None:
    """Offset and digits of the stated hash; None for a file that states none or isn't safetensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_LONGEST_HEADER, path.stat().st_size):
            return None
        stated = _STATED.search(file.read(length))
    return None if stated is None else (8 + stated.start(1), stated[1].decode("latin-1"))


def _hash_but_for(path: Path, at: int) -> str:
    """Hex sha256 of the file with the 64 bytes from offset `at` taken as zeros."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(at))
        digest.update(UNSEALED.encode())
        file.seek(at + len(UNSEALED))
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
