"""Template sets: SAN's exact sentences, the others, and those of the user."""

from pathlib import Path

import pytest

from san_cli.errors import SanError
from san_cli.templates import TEMPLATE_NAMES, templates


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


def test_a_missing_file_of_templates() -> None:
    with pytest.raises(SanError, match=r"no file 'nowhere\.txt' to read templates from"):
        templates("@nowhere.txt")
