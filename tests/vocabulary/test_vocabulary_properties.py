"""What holds for every vocabulary, and the interface of a parsed one."""

import string
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from san_cli.errors import SanError
from san_cli.text import nearest
from san_cli.vocabulary.class_lists import DATASET_NAMES
from san_cli.vocabulary.grammar import (
    Vocabulary,
    complete_vocabulary,
    format_lines,
    format_vocabulary,
    parse_vocabulary,
    select_entries,
    vocabulary_of_names,
)
from san_cli.vocabulary.terms import check_word, word_key

fuzz = settings(deadline=None, max_examples=200)
SPICE = "+,|'\"-@# \tcoade150v#é"
words = st.text(st.sampled_from(SPICE) | st.characters(codec="utf-8"), min_size=1, max_size=12)
plain_words = st.text(string.ascii_lowercase[:4], min_size=1, max_size=2)


def quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def outcome(terms: list[str]) -> tuple[Vocabulary, tuple[str, ...]] | str:
    """The vocabulary with its notes, or the message of the error."""
    try:
        vocabulary = parse_vocabulary(terms)
        return vocabulary, vocabulary.notes
    except SanError as error:
        return error.message


def is_word(word: str) -> bool:
    try:
        check_word(word)
    except SanError:
        return False
    return word == unicodedata.normalize("NFC", " ".join(word.split()))


proper_words = words.map(lambda word: unicodedata.normalize("NFC", " ".join(word.split()))).filter(is_word)
groups = st.lists(proper_words, min_size=1, max_size=3)


@fuzz
@given(st.lists(st.text() | st.text(st.sampled_from(SPICE)), max_size=3))
def test_nothing_but_a_san_error_is_ever_raised(terms: list[str]) -> None:
    result = outcome(terms)
    if isinstance(result, str):
        assert result
        return
    vocabulary, notes = result
    keys = [word_key(word) for entry in vocabulary.entries for word in entry.words]
    assert len(keys) == len(set(keys)) > 0
    assert all(isinstance(note, str) for note in notes)


@fuzz
@given(st.lists(groups, min_size=1, max_size=5))
def test_format_and_parse_are_inverse(given_groups: list[list[str]]) -> None:
    vocabulary = parse_vocabulary(["|".join(map(quoted, group)) for group in given_groups])
    again = parse_vocabulary([format_vocabulary(vocabulary)])
    notes = again.notes
    assert again == vocabulary
    assert [note for note in notes if "taken as a class" not in note and "is one class" not in note] == []


def test_format_quotes_only_where_it_must() -> None:
    given_classes = '"t-shirt"+"golden retriever"+"building, edifice"+"coco"+"voc20"+"-x"+"a|b"|c+"x.txt"'
    vocabulary = parse_vocabulary([given_classes])
    expected = 't-shirt+golden retriever+"building, edifice"+"coco"+"voc20"+"-x"+"a|b"|c+"x.txt"'
    assert format_vocabulary(vocabulary) == expected


@fuzz
@given(st.lists(groups, min_size=1, max_size=5))
def test_lines_make_a_names_file_that_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, given_groups: list[list[str]]
) -> None:
    vocabulary = parse_vocabulary(["|".join(map(quoted, group)) for group in given_groups])
    names = tmp_path_factory.getbasetemp() / "names.txt"
    names.write_bytes("\n".join(format_lines(vocabulary)).encode())
    assert parse_vocabulary([f"@{names}"]) == vocabulary


@fuzz
@given(st.lists(proper_words, min_size=1, max_size=8))
def test_order_and_first_spelling_are_kept(given_words: list[str]) -> None:
    first: dict[str, str] = {}
    for word in given_words:
        first.setdefault(word_key(word), word)
    assert parse_vocabulary([quoted(word) for word in given_words]).names == tuple(first.values())


@fuzz
@given(st.lists(groups, min_size=1, max_size=5))
def test_twice_the_same_is_once(given_groups: list[list[str]]) -> None:
    text = "+".join("|".join(map(quoted, group)) for group in given_groups)
    vocabulary = parse_vocabulary([text])
    assert parse_vocabulary([text, text]) == vocabulary


additions = st.lists(plain_words, min_size=1, max_size=3).map("|".join)
removals = plain_words.map("-{}".format)


@fuzz
@given(st.lists(additions | removals, min_size=1, max_size=6), st.data())
def test_plus_is_associative(terms: list[str], data: st.DataObject) -> None:
    """However the terms are spread over options and whichever separator is used, the result is the same."""
    split = data.draw(st.integers(0, len(terms)))
    spread = [
        separator.join(part) for separator, part in (("+", terms[:split]), (",", terms[split:])) if part
    ]
    assert outcome(spread) == outcome(terms)


@fuzz
@given(
    st.lists(plain_words, min_size=1, max_size=6, unique=True), st.lists(plain_words, min_size=1, unique=True)
)
def test_removal_undoes_addition(first: list[str], then: list[str]) -> None:
    assume(not set(first) & set(then))
    added = [*first, *then, *(f"-{word}" for word in then)]
    assert parse_vocabulary(added) == parse_vocabulary(first)


def test_words_and_their_places() -> None:
    vocabulary = parse_vocabulary(["cat|kitten+dog+cow|bull|ox"])
    assert len(vocabulary) == 3
    assert vocabulary.names == ("cat", "dog", "cow")
    assert vocabulary.words == ("cat", "kitten", "dog", "cow", "bull", "ox")
    assert vocabulary.word_indices == ((0, 1), (2,), (3, 4, 5))
    assert hash(vocabulary) == hash(Vocabulary(vocabulary.entries))


def test_names_of_the_python_api_are_literal() -> None:
    given_names = ["coco", "Cat", "building, edifice", "a|b", "-x", "@y", '"q"', "Cat", ["tv", "television"]]
    vocabulary = vocabulary_of_names(given_names)
    assert vocabulary.names == ("coco", "Cat", "building, edifice", "a|b", "-x", "@y", '"q"', "Cat", "tv")
    assert vocabulary.entries[-1].words == ("tv", "television")
    assert vocabulary.words == (*vocabulary.names[:7], "tv", "television")
    assert vocabulary.word_indices[1] == vocabulary.word_indices[7] == (1,)


@pytest.mark.parametrize(
    "names", [[], "cat", [""], [" "], [[]], [["cat", ""]], [3], [None], [["cat", 3]], ["a\nb"]]
)
def test_names_that_are_none(names: list) -> None:
    with pytest.raises(SanError):
        vocabulary_of_names(names)


def test_a_message_about_names_is_short() -> None:
    for names in ([parse_vocabulary(["coco"])], [["cat", 3] * 5000], "coco+" * 5000):
        with pytest.raises(SanError) as caught:
            vocabulary_of_names(names)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 300


def test_select_entries() -> None:
    vocabulary = parse_vocabulary(["cat|kitten+dog+golden retriever+-dog+dog"])
    assert select_entries(vocabulary, ["Golden  Retriever"]) == (1,)
    assert select_entries(vocabulary, ["dog,kitten"]) == (0, 2)
    assert select_entries(vocabulary, ["voc", "cat"]) == (0, 2)
    with pytest.raises(SanError, match=r"no class 'golden'[^?]*\nDid you mean golden retriever\?"):
        select_entries(vocabulary, ["golden"])
    with pytest.raises(SanError, match="None of the classes of 'cityscapes'"):
        select_entries(vocabulary, ["cityscapes"])
    with pytest.raises(SanError, match="can't be removed here"):
        select_entries(vocabulary, ["-cat"])


def test_nearest() -> None:
    assert nearest("VIT-B16", ["vit-l-14", "vit-b-16"]) == "vit-b-16"
    assert nearest("zebra", ["Coco", "voc"]) is None
    assert nearest("zebra", []) is None


@pytest.mark.parametrize(
    ("incomplete", "offered"),
    [
        ("", list(DATASET_NAMES)),
        ("ad", ["ade150", "ade847"]),
        ("PC", ["pc59", "pc459"]),
        ("coco+ade8", ["coco+ade847"]),
        ("cat,dog+-vo", ["cat,dog+-voc"]),
        ("zebra", []),
        ("@names", []),
    ],
)
def test_completion(incomplete: str, offered: list[str]) -> None:
    assert complete_vocabulary(incomplete) == offered
