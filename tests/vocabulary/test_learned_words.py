"""Files of learned words, and what vocabularies make of them."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from san_cli.errors import SanError
from san_cli.vocabulary.class_files import read_class_file, read_label_classes
from san_cli.vocabulary.grammar import format_lines, format_vocabulary, parse_vocabulary, select_entries
from san_cli.vocabulary.learned_words import (
    LearnedWord,
    WordsFile,
    fingerprints,
    is_words_file,
    read_words_file,
    write_words_file,
)
from san_cli.vocabulary.synonyms import read_synonyms
from san_cli.weights.find import SHIPPED

ROWS = {0: np.arange(4, dtype=np.float32), 2: np.full(4, -0.5, np.float32)}
CLASSES = (("crack",), ("rust", "oxide"), ("dog", "hound"))
WEIGHTS = "ab" * 32


def words_file(weights: str = WEIGHTS, model: str = "tiny") -> WordsFile:
    return WordsFile(model, weights, CLASSES, ROWS, {"crack": {"pictures": 2, "iou": [0.5, 0.25]}})


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    write_words_file(words_file(), tmp_path / "mine.words")
    return tmp_path / "mine.words"


def learned(expression: str | Sequence[str]) -> list[str]:
    return [one.word for one in parse_vocabulary(expression).learned]


def test_what_is_written_is_read(mine: Path) -> None:
    found = read_words_file(mine)
    assert (found.model, found.weights_sha256, found.groups) == ("tiny", WEIGHTS, CLASSES)
    assert {index: row.tolist() for index, row in found.rows.items()} == {
        index: row.tolist() for index, row in ROWS.items()
    }
    assert found.told == words_file().told
    write_words_file(found, mine.with_name("again.words"))
    assert mine.with_name("again.words").read_bytes() == mine.read_bytes()
    assert found.note("photos/mine.words") == "mine.words: 3 classes, 2 learned with tiny; plain: rust"


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.text("aé|+# ", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=5),
    st.dictionaries(st.integers(0, 4), st.lists(finite, min_size=3, max_size=3)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_any_words_with_any_rows(tmp_path: Path, words: list[str], rows: dict[int, list[float]]) -> None:
    kept = {index: np.array(row, np.float32) for index, row in rows.items() if index < len(words)}
    write_words_file(WordsFile("m", "w", tuple((word,) for word in words), kept, {}), tmp_path / "a")
    found = read_words_file(tmp_path / "a")
    assert found.groups == tuple((word,) for word in words)
    assert {index: row.tobytes() for index, row in found.rows.items()} == {
        index: row.tobytes() for index, row in kept.items()
    }


@pytest.mark.parametrize(
    "rows", [{0: np.array([np.nan])}, {0: np.zeros(2), 1: np.zeros(3)}, {7: np.zeros(2)}, {0: np.zeros(())}]
)
def test_what_can_not_be_read_is_not_written(rows: dict[int, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows are finite|a row is of one"):
        write_words_file(WordsFile("tiny", WEIGHTS, CLASSES, rows, {}), tmp_path / "a.words")
    assert not list(tmp_path.iterdir())


def test_every_changed_or_missing_byte_is_noticed(mine: Path) -> None:
    content = mine.read_bytes()
    for place in range(0, len(content), 7):
        flipped = content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
        for damaged in (content[:place], flipped):
            mine.write_bytes(damaged)
            with pytest.raises(SanError):
                parse_vocabulary([f"@{mine}"])
    mine.write_bytes(content[:-1])
    with pytest.raises(SanError, match=r"learned words '.*mine.words' is damaged"):
        parse_vocabulary([f"@{mine}"])


def test_a_later_format_is_told(mine: Path) -> None:
    mine.write_bytes(mine.read_bytes().replace(rb"\"format\":1", rb"\"format\":2"))
    with pytest.raises(SanError, match="by a later version of san: format 2"):
        read_words_file(mine)


def test_files_of_words_are_known_by_their_content(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "text.words").write_text("crack\nrust\n")
    mine.rename(tmp_path / "names.txt")
    assert is_words_file(tmp_path / "names.txt")
    for other in (tmp_path / "text.words", SHIPPED / "tiny.safetensors", tmp_path, tmp_path / "none", "\0"):
        assert not is_words_file(other)
    assert learned(f"@{tmp_path / 'text.words'}") == []
    with pytest.raises(SanError, match="is no file of learned words"):
        read_words_file(tmp_path / "text.words")
    with pytest.raises(SanError, match="can't be read: No such file"):
        read_words_file(tmp_path / "none")


@pytest.mark.parametrize(
    ("expression", "names", "words"),
    [
        ("@M", ["crack", "rust", "dog"], ["crack", "dog", "hound"]),
        ("cat,dog+@M", ["cat", "dog", "crack", "rust"], ["dog", "hound", "crack"]),
        ("@M+cat,dog", ["crack", "rust", "dog", "cat"], ["crack", "dog", "hound"]),
        ("DOG|puppy+@M", ["DOG", "crack", "rust"], ["DOG", "hound", "crack"]),
        ("@M+-crack", ["rust", "dog"], ["dog", "hound"]),
        ("@M+-dog+dog", ["crack", "rust", "dog"], ["crack"]),
        ("cat+@M+-@M", ["cat"], []),
        ("crack+@M+-@M+crack", ["crack"], []),
        ("@M+@M", ["crack", "rust", "dog"], ["crack", "dog", "hound"]),
    ],
)
def test_terms_act_in_order(mine: Path, expression: str, names: list[str], words: list[str]) -> None:
    found = parse_vocabulary(expression.replace("M", str(mine)))
    assert (list(found.names), [one.word for one in found.learned]) == (names, words)
    assert [found.words[place] for place in found.learned_places] == words
    assert set(found.learned_names) == {
        entry.name for entry in found.entries if not {*words}.isdisjoint(entry.words)
    }


def test_all_words_of_a_learned_class_have_its_row(mine: Path) -> None:
    found = parse_vocabulary(f"coco+@{mine}")
    assert {one.word: one.numbers.tolist() for one in found.learned} == {
        "crack": ROWS[0].tolist(), "dog": ROWS[2].tolist(), "hound": ROWS[2].tolist(),
    }  # fmt: skip
    assert "mine.words: 3 classes, 2 learned with tiny; plain: rust" in found.notes
    assert select_entries(found, [f"@{mine}"]) == tuple(map(found.names.index, ("dog", "crack", "rust")))


def test_a_word_named_again_stays_learned_and_that_is_said(mine: Path) -> None:
    notes = parse_vocabulary(f"@{mine}+crack,rust").notes
    assert notes[1:] == (
        "named more than once, counted once: rust",
        "named more than once, counted once, as last learned: crack",
    )


def test_the_row_of_the_later_file_counts(mine: Path) -> None:
    other = mine.with_name("other.words")
    write_words_file(WordsFile("tiny", WEIGHTS, (("crack",),), {0: np.ones(4)}, {}), other)
    one, two = parse_vocabulary(f"@{mine}+@{other}"), parse_vocabulary(f"@{other}+@{mine}")
    assert one.learned[0].numbers.tolist() == [1.0] * 4 and two.learned[0].numbers.tolist() == [0, 1, 2, 3]


def test_words_of_two_models_do_not_go_together(mine: Path) -> None:
    other = mine.with_name("other.words")
    write_words_file(WordsFile("vit-b-16", "cd" * 32, (("spall",),), {0: np.ones(4)}, {}), other)
    said = r"two models: 'crack' of tiny \(weights abababababab…\), 'spall' of vit-b-16 \(weights cdcd"
    with pytest.raises(SanError, match=said):
        parse_vocabulary(f"@{mine}+@{other}")
    assert learned(f"@{mine}+-@{mine}+@{other}+rust") == ["spall"]


def test_other_rows_make_other_vocabularies(mine: Path) -> None:
    plain, taught = parse_vocabulary("crack,rust|oxide,dog|hound"), parse_vocabulary(f"@{mine}")
    assert plain.entries == taught.entries and plain != taught
    assert taught == parse_vocabulary(f"@{mine}") and hash(taught) == hash(parse_vocabulary(f"@{mine}"))
    assert taught.as_plain() == plain and plain.as_plain() is plain
    assert pickle.loads(pickle.dumps(taught)) == taught
    more = taught.with_more(parse_vocabulary("cat").entries)
    assert more.names == ("crack", "rust", "dog", "cat") and more.learned == taught.learned
    assert format_vocabulary(taught) == format_vocabulary(plain)
    assert format_lines(taught) == ["crack", "rust|oxide", "dog|hound"]


def test_fingerprints_tell_rows_and_models() -> None:
    one = LearnedWord("crack", b"\0" * 8, WEIGHTS, "tiny")
    others = [
        LearnedWord("crack", b"\0" * 7 + b"\1", WEIGHTS, "tiny"),
        LearnedWord("crack", b"\0" * 8, "c", ""),
    ]
    found = [fingerprints([word]) for word in (one, *others)]
    assert len({str(each) for each in found}) == 3 and fingerprints([]) is None
    assert found[0] is not None and len(found[0]["crack"]) == 16


def test_a_list_of_names_is_wanted_and_learned_words_are_given(mine: Path) -> None:
    for read, what in (
        (read_class_file, "names"),
        (read_label_classes, "names"),
        (read_synonyms, "synonyms"),
    ):
        with pytest.raises(SanError, match=f"is a file of learned words, not a list of {what}") as refused:
            read(str(mine))
        assert f"--vocab @{mine}" in refused.value.hint


def test_weights_are_no_words() -> None:
    with pytest.raises(SanError, match="is a safetensors file, of a model's weights perhaps") as refused:
        parse_vocabulary(f"@{SHIPPED / 'tiny.safetensors'}")
    assert "--weights" in refused.value.hint


def test_a_file_without_its_sign_is_no_word(mine: Path, tmp_path: Path) -> None:
    for name in (str(mine), "gone.words"):
        with pytest.raises(SanError, match="looks like a file"):
            parse_vocabulary(name)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="there are no names for pipes")  # noqa: PTH112
def test_a_pipe_is_told_to_be_none(mine: Path) -> None:
    read, write = os.pipe()
    try:
        os.write(write, mine.read_bytes())
        os.close(write)
        with pytest.raises(SanError, match="a pipe can't be read for them"):
            parse_vocabulary(f"@/dev/fd/{read}")
    finally:
        os.close(read)
