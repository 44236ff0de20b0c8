"""Template sets: SAN's exact sentences, the others, and those of the user."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from san_cli.errors import SanError
from san_cli.vocabulary.templates import TEMPLATE_NAMES, templates


def test_vild_has_the_official_punctuation() -> None:
    vild = templates("vild")
    assert len(vild) == len(set(vild)) == 14
    assert [text for text in vild if not text.endswith(".")] == [
        "This is a photo of a {}",
        "There is a {} in the scene",
        "There is the {} in the scene",
        "a photo of a {} in the scene",
    ]
    assert sum(text.startswith("There is") for text in vild) == 5
    assert sum(text.startswith("This is") for text in vild) == 4
    assert vild[0] == "a photo of a {}."


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_every_set_takes_one_word_per_sentence(name: str) -> None:
    found = templates(name)
    assert found == templates(name.upper())
    assert found
    assert all(text.count("{}") == 1 for text in found)


def test_sizes_of_the_other_sets() -> None:
    assert templates("photo") == ("a photo of a {}.",)
    assert templates("name") == ("{}",)
    assert len(templates("imagenet")) == 80


def test_an_unknown_set_gets_a_suggestion() -> None:
    with pytest.raises(
        SanError, match=r"no template set 'vidl'\.\nDid you mean vild\? There are vild, photo"
    ):
        templates("vidl")
    with pytest.raises(SanError, match=r"no template set '42'\.\nThere are vild"):
        templates("42")


def test_a_file_of_templates(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes("\ufeff# mine\r\na {set} of {}.\r\n\r\nune photo : {}  # French\r\n".encode())
    assert templates(f"@{file}") == ("a {set} of {}.", "une photo : {}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a photo", "Line 1 of"),
        ("ok {}\n{} and {}", "Line 2 of"),
        ("{}\x1b[0m", "Line 1 of"),
        ("#\n", "no templates"),
    ],
)
def test_a_bad_file_of_templates(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_text(content)
    with pytest.raises(SanError, match=message):
        templates(f"@{file}")


def test_a_json_list_of_templates(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('["a photo of a {}.", "art of {} # 1"]')
    assert templates(f"@{file}") == ("a photo of a {}.", "art of {} # 1")


@pytest.mark.parametrize(
    ("content", "told", "way"),
    [
        ('"a photo of a {}.",\n"art of {}.",\n', "Line 1", "quotes"),
        ("a photo of a {c}.\n", "Line 1", "instead of {c}"),
        ("a photo of a %s.\n", "Line 1", "instead of %s"),
        ("0,a photo of a {}.\n1,art of {}.\n", "numbers or bullets", "alone"),
        ("- a photo of a {}.\n- art of {}.\n", "numbers or bullets", "alone"),
        ("['a photo of a {}.']", "no JSON list", "one a line"),
        ('["a photo of a {}.", 3]', "no JSON list", "one a line"),
        ("[" * 100_000, "no JSON list", "one a line"),
        ('["a photo"]', "Entry 1", "exactly one {}"),
        ("a photo of a {}.".encode("utf-16"), "UTF-16", "iconv"),
        (b"PK\x03\x04", "ZIP", "templates"),
    ],
)
def test_files_of_another_format_are_refused(
    tmp_path: Path, content: str | bytes, told: str, way: str
) -> None:
    file = tmp_path / "templates.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SanError) as caught:
        templates(f"@{file}")
    assert told in caught.value.message
    assert way in caught.value.hint


@pytest.mark.parametrize(
    ("name", "way"), [("mine.txt", "@mine.txt"), ("a photo of a {}.", "@file.txt"), ("vidl", "vild?")]
)
def test_what_is_no_name_of_a_set_leads_to_the_right_form(name: str, way: str) -> None:
    with pytest.raises(SanError) as caught:
        templates(name)
    assert way in caught.value.hint


@given(st.binary(max_size=40) | st.text("{}[]\"', a0\n#-", max_size=40).map(str.encode))
def test_any_bytes_are_templates_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(content)
    try:
        found = templates(f"@{file}")
    except SanError:
        return
    assert found
    assert all(text.count("{}") == 1 for text in found)


def test_a_missing_file_of_templates() -> None:
    with pytest.raises(SanError, match=r"no file 'nowhere\.txt' to read templates from"):
        templates("@nowhere.txt")
