"""Names of files for classes: readable, safe on every system, none twice."""

import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from painted import any_text

from san_cli.outputs.annotations.masks import file_names


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("golden retriever", "golden retriever"),
        ("猫", "猫"),
        ("jack-o'-lantern", "jack-o'-lantern"),
        ("a/b\\c", "a_b_c"),
        ("..", "__"),
        (".hidden", "_hidden"),
        ("what?", "what_"),
        ("a: b", "a_ b"),
        ("ends. ", "ends_"),
        ("two\nlines\x1b", "two_lines_"),
        ("caf\udce9", "caf_"),
        ("con", "_con"),
        ("COM1", "_COM1"),
        ("nul.png", "_nul.png"),
        ("console", "console"),
        ("", "_"),
        ("   ", "_"),
    ],
)
def test_a_name(name: str, file: str) -> None:
    assert file_names([name]) == (file,)


def test_names_that_a_system_takes_for_one() -> None:
    names = ["a/b", "Cat", "cat", "a_b", "é", unicodedata.normalize("NFD", "é"), "a:b"]
    found = file_names(names)
    assert (found[1], found[3], found[4]) == ("Cat", "a_b", "é")
    assert [name.partition("~")[0] for name in found] == ["a_b", "Cat", "cat", "a_b", "é", names[5], "a_b"]
    keys = {unicodedata.normalize("NFC", name).casefold() for name in found}
    assert len(keys) == len(names)
    assert file_names(names) == found


def test_a_name_is_told_from_what_it_would_be_called() -> None:
    [_, marked] = file_names(["a:b", "a/b"])
    assert file_names(["a:b", "a/b", marked])[2] == marked
    assert len(set(file_names(["a:b", "a/b", marked]))) == 3


def test_long_names() -> None:
    one, other = file_names(["猫" * 100, "猫" * 101])
    assert one != other
    assert all(len(name.encode()) <= 150 and name.startswith("猫" * 40) for name in (one, other))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(st.sampled_from("aA.b/ :\u0301é\u00e9e_~"), max_size=4) | any_text, max_size=8))
def test_any_names(tmp_path: Path, names: list[str]) -> None:
    found = file_names(names)
    assert len(found) == len(names)
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found}) == len(names)
    for name in found:
        path = tmp_path / f"{name}.png"
        assert path.parent == tmp_path
        path.write_bytes(b"")
        assert PureWindowsPath(name).parts == (name,)
        assert not name.startswith((".", " "))
        assert not name.endswith((".", " "))
