"""The journal of finished images: whole lines survive whatever happens to the file."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from san_cli.outputs.record import Found, ImageRecord
from san_cli.predict.journal import ImageJournal, Source, image_line, source_of
from san_cli.predict.made_files import Mark, marks_from
from san_cli.regions.rle import Region

SOURCE = Source(10, 20, "here")
in_one_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
names = st.text(min_size=1, max_size=12).filter(lambda name: "/" not in name)


def record(name: str, error: str | None = None) -> ImageRecord:
    return ImageRecord(
        name,
        0 if error else 4,
        0 if error else 5,
        (Found(3, Region("04", 20, (0, 0, 5, 4)), 0.25, 0.5, 2),),
        error,
    )


def line(name: str, source: Source = SOURCE, error: str | None = None, size: int = 7) -> bytes:
    return image_line(source, 1, record(name, error), {} if error else {"labels": Mark(size, "0f")})


def folder_with(tmp_path: Path, **files: bytes) -> Path:
    state = tmp_path / ".san"
    state.mkdir(exist_ok=True)
    for path in state.iterdir():
        path.unlink()
    for name, data in files.items():
        (state / name.replace("_", "-")).write_bytes(data)
    return tmp_path


def read(folder: Path, current: Source | None = SOURCE) -> ImageJournal:
    return ImageJournal(folder, lambda name: current)


@given(st.lists(names, unique=True, max_size=8))
@in_one_folder
def test_what_is_appended_is_read_again(tmp_path: Path, listed: list[str]) -> None:
    folder = folder_with(tmp_path)
    journal = read(folder)
    journal.open_own()
    for name in listed:
        journal.append(line(name))
        assert journal.record(name) == record(name)
    journal.close()
    again = read(folder)
    assert list(again.entries) == listed
    assert all(again.record(name) == record(name) for name in listed)
    again.close()


def test_names_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    name = "caf\udce9\t\n.jpg"
    journal = read(folder_with(tmp_path, journal=line(name)))
    assert journal.record(name).file_name == name
    journal.close()


@given(st.lists(names, unique=True, min_size=1, max_size=6), st.data())
@in_one_folder
def test_damage_costs_only_the_damaged_lines(tmp_path: Path, listed: list[str], data: st.DataObject) -> None:
    lines = [line(name) for name in listed]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    journal = read(folder_with(tmp_path, journal=whole[:cut]))
    complete = sum(len(b"".join(lines[: n + 1])) <= cut for n in range(len(lines)))
    assert list(journal.entries) == listed[:complete]
    journal.open_own()
    journal.append(line("last"))
    journal.close()
    assert (tmp_path / ".san" / "journal").read_bytes() == b"".join([*lines[:complete], line("last")])

    position, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(whole)
    damaged[position] ^= 1 << bit
    found = read(folder_with(tmp_path, journal=bytes(damaged)))
    hit = next(n for n in range(len(lines)) if position < len(b"".join(lines[: n + 1])))
    assert set(listed) - set(found.entries) <= set(listed[hit : hit + 2])  # a lost line end joins two lines
    assert all(found.record(name) == record(name) for name in found.entries)
    found.close()


def test_the_present_content_and_success_win(tmp_path: Path) -> None:
    old = Source(10, 19, "here")
    cases = [
        ({"journal": line("a", old), "journal_1_of_2": line("a")}, SOURCE, False),
        ({"journal_1_of_2": line("a"), "journal_2_of_3": line("a", old)}, SOURCE, False),
        ({"journal": line("a"), "journal_1_of_2": line("a", error="no")}, SOURCE, False),
        ({"journal": line("a", error="no"), "journal_1_of_2": line("a", old)}, SOURCE, True),
        ({"journal": line("a", old), "journal_1_of_2": line("a", old, "no")}, old, True),
    ]
    for files, source, failed in cases:
        entry = read(folder_with(tmp_path, **files)).entries["a"]
        assert (entry.source, entry.failed) == (source, failed)


def test_compacting_orders_and_seals(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path,
        journal=line("gone") + line("b", error="no"),
        journal_2_of_2=line("a") + line("b"),
        journal_1_of_2=line("c"),
    )
    journal = read(folder)
    assert journal.seal is None
    journal.merge(["b", "c", "a", "gone"], "digest", {"html/data.js": Mark(3, "ab")})
    journal.close()
    assert [path.name for path in (folder / ".san").iterdir()] == ["journal"]
    again = read(folder)
    assert (list(again.entries), again.seal) == (["b", "c", "a", "gone"], "digest")
    first = (folder / ".san" / "journal").read_bytes()
    assert again.run_marks == {"html/data.js": Mark(3, "ab")}
    again.merge(["b", "c", "a", "gone"], "digest", again.run_marks)
    assert (folder / ".san" / "journal").read_bytes() == first
    again.open_own()
    again.append(line("d"))
    again.close()
    assert read(folder).seal is None


def test_source_of_what_is_not_there(tmp_path: Path) -> None:
    assert source_of(tmp_path / "x")[:2] == (-1, -1)
    assert source_of("a\0b")[:2] == (-1, -1)
    (tmp_path / "x").write_bytes(b"abc")
    assert source_of(tmp_path / "x").size == 3


def test_marks_of_what_was_made_before_are_kept(tmp_path: Path) -> None:
    """A line that takes another's place may leave files behind: of a failure, or of other kinds."""
    journal = read(folder_with(tmp_path, journal=line("a", size=5) + line("a", error="no") + line("b") * 2))
    assert journal.entries["a"].failed
    assert {name: [marks_from(text) for text in texts] for name, texts in journal.replaced.items()} == {
        "a": [{"labels": Mark(5, "0f")}]
    }


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    os.mkfifo(folder / ".san" / "journal")
    with pytest.raises(OSError, match="not a file"):
        read(folder)
