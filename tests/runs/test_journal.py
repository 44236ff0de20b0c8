"""Journals: whole lines survive whatever happens to the files."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from san_cli.runs.journal import Journal, encode_line
from san_cli.runs.shares import Share

in_one_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
heads = st.recursive(st.text(max_size=8) | st.integers() | st.none(), st.lists, max_leaves=5)
bodies = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


def journal_of(folder: Path, **files: bytes) -> Journal:
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name.replace("_", "-")).write_bytes(data)
    return Journal(folder, "journal")


@given(st.lists(st.tuples(heads, bodies), max_size=8))
@in_one_folder
def test_what_is_appended_is_read_again(tmp_path: Path, told: list[tuple[object, str]]) -> None:
    journal = journal_of(tmp_path)
    assert list(journal.lines()) == []
    journal.open_own(Share(1, 3))
    for head, body in told:
        assert journal.body(journal.append(encode_line(head, body))) == body
    journal.close()
    again = Journal(tmp_path, "journal")
    assert [(line.head, again.body(line)) for line in again.lines()] == told
    assert again.files() == ["journal-2-of-3"]
    again.close()


@given(st.lists(bodies, min_size=1, max_size=6), st.data())
@in_one_folder
def test_a_torn_line_is_cut_off_before_the_next(tmp_path: Path, told: list[str], data: st.DataObject) -> None:
    lines = [encode_line(number, body) for number, body in enumerate(told)]
    cut = data.draw(st.integers(0, len(b"".join(lines))))
    journal = journal_of(tmp_path, journal=b"".join(lines)[:cut])
    complete = sum(len(b"".join(lines[: n + 1])) <= cut for n in range(len(lines)))
    assert [line.head for line in journal.lines()] == list(range(complete))
    journal.open_own()
    journal.append(encode_line("last"))
    journal.close()
    assert [line.head for line in Journal(tmp_path, "journal").lines()] == [*range(complete), "last"]


@given(st.integers(0, 10_000), st.integers(0, 7))
@in_one_folder
def test_a_flipped_bit_costs_only_its_line(tmp_path: Path, place: int, bit: int) -> None:
    lines = [encode_line(number, "body") for number in range(3)]
    data = bytearray(b"".join(lines))
    place %= len(data)
    data[place] ^= 1 << bit
    hurt = next(n for n in range(3) if place < len(b"".join(lines[: n + 1])))
    found = [line.head for line in journal_of(tmp_path, journal=bytes(data)).lines()]
    assert {0, 1, 2} - {hurt, hurt + 1} <= set(found) <= {0, 1, 2}  # a CRC may be spelled in capitals


def test_parts_are_read_and_merged(tmp_path: Path) -> None:
    other = {"journalist": b"x", "journal.txt": b"y"}
    journal = journal_of(tmp_path, journal=encode_line("a"), journal_2_of_2=encode_line("b", "text"), **other)
    found = {line.head: line for line in journal.lines()}
    journal.merge(journal.raw(found[head]) for head in "ba")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", *sorted(other)]
    assert [(line.head, journal.body(line)) for line in journal.lines()] == [("b", "text"), ("a", "")]
    journal.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "journal")
    with pytest.raises(OSError, match="not a file"):
        list(Journal(tmp_path, "journal").lines())


def test_a_name_may_look_like_a_pattern(tmp_path: Path) -> None:
    """Nothing was read before it is appended to: the torn end is found all the same."""
    (tmp_path / "a[1]*").write_bytes(encode_line("first") + encode_line("torn")[:-3])
    journal = Journal(tmp_path, "a[1]*")
    journal.open_own()
    journal.append(encode_line("last"))
    journal.close()
    assert [line.head for line in journal.lines()] == ["first", "last"]
