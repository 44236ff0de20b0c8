"""Slips with words that only a run shows: words given as inputs, words that CLIP can't tell apart."""

from pathlib import Path

import pytest
import torch
from program import San

from san_cli.engine.alike_words import cut_words, word_notes
from san_cli.errors import ExitCode
from san_cli.text import counted
from san_cli.vocabulary.grammar import parse_vocabulary, vocabulary_of_names
from san_cli.vocabulary.templates import templates

ONES = "1 " * 90


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["--vocab", "cat", "dog", "DIR"], "--vocab cat,dog?"),
        (["DIR", "--vocab", "cat", "dog", "bird"], "--vocab cat,dog,bird?"),
        (["--vocab", "cat,", "dog", "DIR"], "--vocab cat,dog?"),
        (["--vocab", "coco", "+", "zebra", "DIR"], "--vocab coco+zebra?"),
        (["--vocab=golden", "retriever", "DIR"], '--vocab "golden retriever"'),
        (["DIR", "--vocab", "coco", "--show", "cat", "dog"], "--show cat,dog?"),
    ],
)
def test_words_that_became_inputs_are_asked_about(
    predict: San, photos: Path, tmp_path: Path, arguments: list[str], meant: str
) -> None:
    given = [photos if one == "DIR" else one for one in arguments]
    ended = predict(*given, "-o", tmp_path / "out")
    assert ended.code == ExitCode.USAGE
    assert meant in ended.err
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_not_there_are_no_words(predict: San, photos: Path, tmp_path: Path) -> None:
    ended = predict("--vocab", "coco", "gone", "-o", tmp_path / "out")
    assert ended.code == ExitCode.NO_INPUT
    assert "no such file" in ended.err
    ended = predict("--vocab", "voc", photos, "gone.jpg", "-o", tmp_path / "out", "--save", "none")
    assert ended.code == ExitCode.SOME_FAILED


def test_words_that_became_datasets_are_asked_about(san: San) -> None:
    ended = san("eval", "voc", "--vocab", "cat", "dog")
    assert ended.code == ExitCode.USAGE
    assert "--vocab cat,dog?" in ended.err


def test_words_equal_after_the_cut_are_noted(predict: San, photos: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text(f"{ONES}red apple\n{ONES}brain\ncat\n")
    ended = predict(photos / "p00.jpg", "--vocab", f"@{names}", "-o", tmp_path / "out", "--save", "json")
    assert ended.code == 0
    notes = [line for line in ended.err.splitlines() if line.startswith("note: CLIP")]
    assert len(notes) == 2
    assert all("red apple" in note and "brain" in note and "cat" not in note.split() for note in notes)
    assert "can't tell apart" in notes[1]


def test_only_words_that_are_cut_are_said_to_be() -> None:
    words = ["cat", "a " * 60, "x" * 60, ONES]
    assert cut_words(words, templates("name"), 77) == [ONES]
    assert cut_words(words, (" ".join(["b"] * 30) + " {}",), 77) == ["a " * 60, ONES]
    assert cut_words(["cat"], templates("imagenet"), 77) == []


def test_synonyms_of_one_class_may_be_alike() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    vocabulary = vocabulary_of_names([["a", "b"], "c", "d"])
    notes = word_notes(vocabulary, rows, ("{}",), 77)
    assert len(notes) == 1
    assert "'a' and 'd'" in notes[0] and "'b'" not in notes[0]
    assert word_notes(parse_vocabulary(["a|b,c"]), rows[:3], ("{}",), 77) == []


def test_one_thing_is_singular() -> None:
    assert counted(1, "class") == "1 class"
    assert counted(0, "class") == "0 classes"
    assert counted(1203, "image") == "1,203 images"
    assert counted(2, "box") == "2 boxes"
    assert counted(2, "entry", "entries") == "2 entries"
