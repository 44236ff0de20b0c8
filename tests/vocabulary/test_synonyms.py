"""Files of synonyms: two formats, and what is wrong in them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from san_cli.errors import ExitCode, SanError
from san_cli.vocabulary.synonyms import read_synonyms


def read(tmp_path: Path, content: object, name: str = "synonyms.json") -> list[tuple[str, ...]]:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return [entry.words for entry in read_synonyms(str(path)).entries]


def entries(*synonyms: object) -> dict[str, object]:
    return {"classes": [{"id": number, "synonyms": words} for number, words in enumerate(synonyms)]}


def test_a_string_is_one_synonym(tmp_path: Path) -> None:
    assert read(tmp_path, entries("cat", ["dog", "hound"])) == [("cat",), ("dog", "hound")]


def test_formats_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    rows = entries(["cat", "Cat", " kitten "], ["dog"])
    assert read(tmp_path, rows, "synonyms.txt") == [("cat", "kitten"), ("dog",)]
    assert read(tmp_path, rows["classes"]) == [("cat", "kitten"), ("dog",)]
    text = "# ids from 1\n2:dog\n0:invalid_class_id\n1:cat, kitten,cat\n"
    assert read(tmp_path, text, "synonyms.txt") == [("cat", "kitten"), ("dog",)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (entries(["cat", 3]), "entry 1"),
        (entries("cat", None), "entry 2"),
        (entries("cat", 3), "entry 2"),
        (entries([["cat"]]), "entry 1"),
        (entries({"cat": 1}), "entry 1"),
        (entries([]), "class 0 has no words"),
        (entries(""), "class 0 has no words"),
        (entries("a\nb"), "control character"),
        ({"classes": [{"id": "0", "synonyms": ["cat"]}]}, "entry 1"),
        ({"classes": [{"id": True, "synonyms": ["cat"]}]}, "entry 1"),
        ({"classes": [{"synonyms": ["cat"]}]}, "entry 1"),
        ({"classes": ["cat"]}, "entry 1"),
        ({"classes": "cat"}, "no list of classes"),
        ({"classes": []}, "no classes"),
        ({"classes": [{"id": 0, "synonyms": "a"}, {"id": 0, "synonyms": "b"}]}, "a second time"),
        ("{", "JSON"),
        ("[" * 100_000, "deep"),
        (f'{{"classes": [{{"id": {"9" * 5000}, "synonyms": "a"}}]}}', "JSON"),
    ],
)
def test_other_shapes_are_refused_with_their_place(tmp_path: Path, content: object, told: str) -> None:
    with pytest.raises(SanError) as caught:
        read(tmp_path, content)
    assert told in caught.value.message
    assert caught.value.code == ExitCode.USAGE
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("line", ["cat,dog", "²:cat", "9" * 5000 + ":cat", "x:cat", "0:"])
def test_other_lines_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(SanError, match=r"Line 1"):
        read(tmp_path, line, "synonyms.txt")


def test_a_word_of_two_classes_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("0:cat,pet\n1:dog,Pet\n")
    vocabulary = read_synonyms(str(path))
    notes = vocabulary.notes
    assert len(vocabulary) == 2
    assert "'Pet' (0 and 1)" in notes[0]


@given(st.binary(max_size=40) | st.text('01:,ab{}["\n#', max_size=40).map(str.encode))
def test_any_bytes_are_synonyms_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    try:
        vocabulary = read_synonyms(str(path))
    except SanError:
        return
    assert all(entry.words for entry in vocabulary.entries)
