"""The hash of a weights file: remembered while the file stays the same, stated in its own header, read once."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from san_cli.errors import SanError
from san_cli.weights import file_hash
from san_cli.weights.file_hash import begin_hashing, rehash, remembered_sha256, weights_sha256
from san_cli.weights.find import find_weights, verify_sha256


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a temporary folder, with the cache there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "san-home"))


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- hashes are remembered while the file stays the same


def test_hash_is_remembered_until_the_file_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(Path("a.pth"), b"one")
    assert remembered_sha256(path) is None
    assert weights_sha256(path) == hashlib.sha256(b"one").hexdigest() == remembered_sha256(path)
    monkeypatch.setattr(file_hash, "rehash", lambda _: pytest.fail("hashed again"))
    assert weights_sha256(path) == hashlib.sha256(b"one").hexdigest()  # not read again
    Path("link.pth").symlink_to("a.pth")
    assert remembered_sha256(Path("link.pth")) == remembered_sha256(path)
    other = _write(Path("b.pth"), b"two")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)  # same name, size and date, another inode
    assert remembered_sha256(path) is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    garbage=st.binary(max_size=80)
    | st.sampled_from([{}, [], 3, {"file": None, "sha256": 1}, {"sha256": "0" * 64}]).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_a_corrupt_memo_is_ignored_and_rewritten(garbage: bytes, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.pth", b"one")
    rehash(path)
    (memo,) = (tmp_path / "san-home" / "sha256").iterdir()
    memo.write_bytes(garbage)
    assert weights_sha256(path) == hashlib.sha256(b"one").hexdigest() == remembered_sha256(path)
    assert [memo] == list(memo.parent.iterdir())


def test_a_cache_that_cannot_be_written_costs_only_the_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(Path("a.pth"), b"one")
    monkeypatch.setenv("SAN_HOME", str(path / "under-a-file"))
    assert weights_sha256(path) == hashlib.sha256(b"one").hexdigest()
    assert remembered_sha256(path) is None


# --- a safetensors file that states its own hash


def _sealed(path: Path) -> Path:
    metadata = {
        "sha256": file_hash.UNSTATED,
        "source": 'Über\n\t\x01\x7f"\\',
        "preset": '{"name":"x"}',
        "format": "san-1",
    }
    save_file({"a": np.arange(64, dtype=np.float32)}, path, metadata)
    file_hash.write_stated_hash(path)
    return path


def test_sealing_makes_the_bytes_the_same_every_time() -> None:
    assert len({_sealed(Path("a.safetensors")).read_bytes() for _ in range(12)}) == 1


def test_a_sealed_file_stays_a_safetensors_file() -> None:
    path = _sealed(Path("a.safetensors"))
    assert file_hash.check_stated_hash(path)
    with safe_open(path, framework="np") as file:
        stated = file.metadata()["sha256"]
        assert file.metadata()["source"] == 'Über\n\t\x01\x7f"\\'
        assert file.get_tensor("a")[63] == 63
    blank = path.read_bytes().replace(stated.encode(), file_hash.UNSTATED.encode())
    assert hashlib.sha256(blank).hexdigest() == stated
    assert verify_sha256(path)[1] == "as it was written"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_a_sealed_file_is_noticed(data: st.DataObject, tmp_path: Path) -> None:
    path = _sealed(tmp_path / "a.safetensors")
    whole = path.read_bytes()
    key = whole.index(b'"sha256"')
    kind = data.draw(st.sampled_from(["flip", "cut", "append"]))
    if (
        kind == "flip"
    ):  # not the 8 bytes that give the header's length, nor the key: the format's reader sees those
        place = st.integers(8, len(whole) - 1).filter(lambda at: not key - 1 <= at < key + 11)
        at, bit = data.draw(place), data.draw(st.integers(0, 7))
        damaged = whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
    elif kind == "cut":
        damaged = whole[: data.draw(st.integers(key + 75, len(whole) - 1))]
    else:
        damaged = whole + data.draw(st.binary(min_size=1, max_size=9))
    path.write_bytes(damaged)
    if kind == "cut" and int.from_bytes(whole[:8], "little") > len(damaged):
        assert not file_hash.check_stated_hash(path)  # cut within the header: safetensors itself refuses it
        return
    with pytest.raises(SanError, match=r"is damaged: its sha256 is [0-9a-f]{64}, expected"):
        find_weights("vit-b-16", path, say=print)


def test_a_file_is_read_once_to_be_hashed_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    path = _sealed(Path("a.safetensors"))
    read, hashes = [], file_hash._hashes
    monkeypatch.setattr(file_hash, "_hashes", lambda path: read.append(path) or hashes(path))
    assert rehash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(read) == 1
    assert find_weights("vit-b-16", path, say=print) == path
    assert len(read) == 1  # remembered
    assert verify_sha256(path)[1] == "as it was written"
    assert len(read) == 2


def test_files_that_state_no_hash_have_no_place_for_one() -> None:
    for content in (b"", b"PK\x03\x04", b"\xff" * 64, b'\x08\0\0\0\0\0\0\0{"a":{}}'):
        path = _write(Path("a"), content)
        assert not file_hash.check_stated_hash(path)
        with pytest.raises(ValueError, match="no place for a sha256"):
            file_hash.write_stated_hash(path)


def test_verify_sees_a_bit_flipped_under_an_unchanged_date() -> None:
    path = _write(Path("mine.pth"), b"PK\x03\x04 one")
    verify_sha256(path)
    assert verify_sha256(path)[1] == "unchanged since its first use"
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"QK")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SanError, match="has changed, though not its size or date"):
        verify_sha256(path)


# --- a hash that is begun early is the same


def test_a_hash_begun_early_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    path, counted = _write(Path("a.pth"), b"one"), []
    real = file_hash.rehash
    monkeypatch.setattr(file_hash, "rehash", lambda one: counted.append(one) or real(one))
    begin_hashing(path)
    assert weights_sha256(path) == hashlib.sha256(b"one").hexdigest() == remembered_sha256(path)
    begin_hashing(path)  # known by now
    assert len(counted) == 1


def test_a_hash_begun_early_is_not_that_of_a_file_changed_since() -> None:
    path = _write(Path("a.pth"), b"one")
    begin_hashing(path)
    _write(path, b"another")
    assert weights_sha256(path) == hashlib.sha256(b"another").hexdigest()


def test_damage_found_early_is_told_in_its_turn(tiny_weights: Path) -> None:
    whole = tiny_weights.read_bytes()
    path = _write(Path("a.safetensors"), whole[:-1] + bytes([whole[-1] ^ 1]))
    begin_hashing(path)
    with pytest.raises(SanError, match="is damaged"):
        weights_sha256(path)
    begin_hashing(Path("missing"))
    with pytest.raises(FileNotFoundError):
        weights_sha256(Path("missing"))
