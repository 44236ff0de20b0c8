"""What `tiny` says of itself where it is given words or pictures that it has never seen."""

from dataclasses import replace
from pathlib import Path

import pytest
from program import San

from san_cli.engine.tiny_world import note_on_pictures, note_on_words
from san_cli.models.presets import TINY, VIT_B_16
from san_cli.vocabulary.grammar import parse_vocabulary

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STORED = Path(__file__).parents[1] / "data" / "emoji" / "images"
NOTE = "nothing but drawn scenes of emoji"


def note(*vocab: str) -> str | None:
    return note_on_words(TINY, parse_vocabulary(list(vocab)))


def test_words_of_its_own_need_no_note() -> None:
    for vocab in ("emoji", "dog,cat,Grass", "spaceship|rocket"):
        assert note(vocab) is None


@pytest.mark.parametrize(
    ("vocab", "told"),
    [("coco", "121 of 171 classes"), ("dog,graffiti", "1 of 2 classes"), ("kerb", "the class is")],
)
def test_words_that_it_never_learned_are_counted_and_named(vocab: str, told: str) -> None:
    said = str(note(vocab))
    assert NOTE in said
    assert told in said
    strange = {"coco": "person", "dog,graffiti": "(graffiti)", "kerb": "(kerb)"}
    assert strange[vocab] in said


def test_models_trained_on_from_it_count_as_tiny_and_others_do_not() -> None:
    coco = parse_vocabulary(["coco"])
    assert note_on_words(replace(TINY, name="mine", queries=50), coco) is not None
    assert note_on_words(VIT_B_16, coco) is None


def test_a_few_odd_scenes_among_many_need_no_note() -> None:
    assert note_on_pictures(0, 0) is None
    assert note_on_pictures(100, 2) is None
    assert "30 of 100 pictures" in str(note_on_pictures(100, 30))
    assert "this picture" in str(note_on_pictures(1, 1))


@pytest.mark.parametrize("vocab", ["emoji", "dog,grass"])
def test_photographs_are_told_apart_from_scenes(san: San, tmp_path: Path, vocab: str) -> None:
    """Whatever the vocabulary: of photographs once, of scenes never."""
    tiny = ("--model", "tiny", "--device", "cpu", "--vocab", vocab, "--save", "none", "--quiet")
    scenes = [EXAMPLES / "scenes", *sorted(STORED.iterdir())[:5]]
    ended = san("predict", *scenes, *tiny, "-o", tmp_path / "scenes")
    assert (ended.code, ended.err) == (0, "")
    ended = san("predict", EXAMPLES / "photos", *tiny, "-o", tmp_path / "photos")
    assert ended.code == 0
    assert ended.err.count(NOTE) == 1
    assert "4 of 4 pictures" in ended.err
