"""The `--vocab` grammar, what its terms do to a vocabulary, its errors, and names files."""

import os
from pathlib import Path

import pytest
from program import San

from san_cli.errors import ExitCode, SanError
from san_cli.vocabulary.class_lists import (
    DATASET_NAMES,
    dataset_lookalike,
    dataset_slip,
    load_dataset_vocabulary,
)
from san_cli.vocabulary.grammar import VocabularyEntry, parse_vocabulary, select_entries


def classes(*terms: str) -> list[str]:
    """The classes of a vocabulary, synonyms joined by |, without regard to notes."""
    return ["|".join(entry.words) for entry in parse_vocabulary(terms).entries]


def refusal(*terms: str) -> SanError:
    with pytest.raises(SanError) as caught:
        parse_vocabulary(terms)
    assert caught.value.code == ExitCode.USAGE
    return caught.value


# The grammar

GRAMMAR = [
    (["cat"], ["cat"]),
    (["cat+dog"], ["cat", "dog"]),
    (["cat,dog", "horse"], ["cat", "dog", "horse"]),
    (["  cat  ,\tdog "], ["cat", "dog"]),
    (["golden retriever"], ["golden retriever"]),
    (["golden   \t retriever"], ["golden retriever"]),
    (['"golden retriever"'], ["golden retriever"]),
    (["'golden retriever' , \"cat\""], ["golden retriever", "cat"]),
    (['"salt, pepper + oil|vinegar"'], ["salt, pepper + oil|vinegar"]),
    (["lord's table,men's shoes"], ["lord's table", "men's shoes"]),
    (['"lord\'s table"'], ["lord's table"]),
    (['27" monitor'], ['27" monitor']),
    (['"a ""quoted"" word"'], ['a "quoted" word']),
    (["'it''s'"], ["it's"]),
    (["t-shirt,wall-other,hot-air balloon"], ["t-shirt", "wall-other", "hot-air balloon"]),
    (['"-sign"'], ["-sign"]),
    (['"@home"'], ["@home"]),
    (["me@home"], ["me@home"]),
    (['"coco","VOC"'], ["coco", "VOC"]),
    (["cat|kitten"], ["cat|kitten"]),
    (["cat | kitten |'tom, cat'"], ["cat|kitten|tom, cat"]),
    (['"coco"|dog'], ["coco|dog"]),
    (["cat|cat"], ["cat"]),
    (["background"], ["background"]),
    (["C++".replace("+", "#")], ["C##"]),
    (["🦓,斑马,zèbre"], ["🦓", "斑马", "zèbre"]),
    (['"..."'], ["..."]),
    (["cat+dog+-cat"], ["dog"]),
    (["cat,dog", "-'cat'"], ["dog"]),
    (["cat,dog,- cat"], ["dog"]),
    (["cat,-cat,cat"], ["cat"]),
    (["cat|kitten,dog,-kitten"], ["dog"]),
    (["cat,dog,horse,-cat|horse"], ["dog"]),
    (["CAT,dog,-cat"], ["dog"]),
    (['"-x",y,--x'], ["y"]),
]


@pytest.mark.parametrize(("terms", "expected"), GRAMMAR)
def test_grammar(terms: list[str], expected: list[str]) -> None:
    assert classes(*terms) == expected


@pytest.mark.parametrize("dataset", DATASET_NAMES)
def test_a_dataset_name_in_any_case_stands_for_its_classes(dataset: str) -> None:
    names = tuple(known.name for known in load_dataset_vocabulary(dataset).classes)
    assert parse_vocabulary([dataset]) == parse_vocabulary([dataset.upper()])
    assert parse_vocabulary([f" {dataset} "]).names == names
    assert parse_vocabulary([dataset]).notes == ()


@pytest.mark.parametrize(
    "text", ["coco+golden retriever", 'coco+"golden retriever"', "coco,'golden retriever'"]
)
def test_coco_plus_golden_retriever_with_and_without_the_quotes_that_a_shell_eats(text: str) -> None:
    names = parse_vocabulary([text]).names
    assert len(names) == 172
    assert names[:3] == ("person", "bicycle", "car")
    assert names[-1] == "golden retriever"


def test_removal_from_datasets() -> None:
    assert "person" not in classes("coco+-person")
    assert len(classes("coco+-person")) == 170
    assert len(classes('ade847,-"sky"')) == 846
    assert len(classes('ade847,-"building, edifice"')) == 846
    assert classes("coco+zebra crossing+-coco") == ["zebra crossing"]
    assert classes("voc+-coco") == ["aeroplane", "diningtable", "motorbike", "pottedplant", "sofa"]


def test_synonyms_join_the_class_that_has_one_of_their_words() -> None:
    vocabulary = parse_vocabulary(["coco+television|TV"])
    notes = vocabulary.notes
    assert len(vocabulary) == 171
    tv = vocabulary.entries[vocabulary.names.index("tv")]
    assert tv == VocabularyEntry("tv", ("tv", "television"))
    assert notes == ("sharing one class: television with tv",)


def test_synonyms_make_one_class_of_several_at_the_place_of_the_first() -> None:
    assert classes("cat,horse,dog,dog|cow|cat,end") == ["cat|dog|cow", "horse", "end"]
    assert classes("a|b,c|d,e,d|b") == ["a|b|c|d", "e"]


def test_one_string_is_one_value() -> None:
    assert parse_vocabulary("cat+dog") == parse_vocabulary(["cat+dog"])


@pytest.mark.parametrize(
    ("terms", "kept", "note"),
    [
        (["cat,Cat, CAT "], ["cat"], "named more than once, counted once: Cat, CAT"),
        (["Golden Retriever,golden  retriever"], ["Golden Retriever"], "counted once: golden retriever"),
        (["caf\u00e9,cafe\u0301"], ["caf\u00e9"], "counted once: caf\u00e9"),
        (["stra\u00dfe,STRASSE"], ["stra\u00dfe"], "counted once: STRASSE"),
        (["zebra+zebra|zebra"], ["zebra"], "counted once: zebra"),
    ],
)
def test_a_repeated_name_counts_once_in_its_first_spelling(
    terms: list[str], kept: list[str], note: str
) -> None:
    assert classes(*terms) == kept
    assert [text for text in parse_vocabulary(terms).notes if text.endswith(note)]


def test_many_repetitions_make_one_short_note() -> None:
    vocabulary = parse_vocabulary(["coco", "ade150"])
    notes = vocabulary.notes
    assert len(vocabulary) == 281
    assert notes == ("named more than once, counted once: tree, bed, grass, cabinet, person and 35 more",)


def test_ten_thousand_names() -> None:
    names = [f"class {number}" for number in range(10_000)]
    assert parse_vocabulary([",".join(names)]).names == tuple(names)


# Errors

ERRORS = [
    ([], "no class", "coco+zebra"),
    ([""], "is empty", "coco+zebra"),
    ([" \t "], "is empty", "coco+zebra"),
    (["cat,,dog"], "an empty name in 'cat,,dog'", "quotes around a separator"),
    (["coco+"], "an empty name", "Put a name"),
    (["+coco"], "an empty name", "Put a name"),
    (["cat|"], "an empty name", "Put a name"),
    (["cat||dog"], "an empty name", "Put a name"),
    (['cat,""'], "an empty name", "Put a name"),
    (["cat,-"], "an empty name", "Put a name"),
    (["cat|\u200b"], "is empty", "Leave it out"),
    (['cat+"golden retriever'], "quote \" in 'cat+\"golden retriever' is not closed", "Close it"),
    (["'tis"], "not closed", "other kind of quotes"),
    (['"cat""'], "not closed", "Close it"),
    (["'lord's table'"], "more after the closing quote", "other kind"),
    (['"cat" dog'], "more after the closing quote", "Separate terms"),
    (["..."], "nothing but punctuation", "'\"...\"'"),
    (["x" * 201], "201 characters", "@file.txt"),
    (["cat\ndog"], "line break", "@file.txt"),
    (["\x1b[31mcat"], "control character", "@file.txt"),
    (["caf\udce9"], "not valid UTF-8", ""),
    (["cat,-cat"], "all were removed", "coco+zebra"),
    (["-coco"], "None of the classes of 'coco'", ""),
    (["coco,-pesron"], "no class 'pesron'", "Did you mean person?"),
    (["ade847,-building"], "no class 'building'", 'Did you mean "building, edifice"?'),
    (["coco,-sky"], "no class 'sky'", "Did you mean sky-other?"),
    (["coco,-cat|unicorn"], "no class 'unicorn'", "san vocab show"),
    (["cat,-ade-847"], "no class 'ade-847'", "Did you mean ade847?"),
    (["coco|dog"], "dataset coco can't be a synonym", "quotes"),
    (["cat,names.txt"], "looks like a file", "@names.txt"),
    (["@"], "no path after the @", "@names.txt"),
    (["@no such file.txt"], "no file 'no such file.txt'", "Check the path"),
    (["@."], "can't be read: it is a folder", "file itself"),
    (["@a\0b"], "can't be read", ""),
]


@pytest.mark.parametrize(("terms", "message", "hint"), ERRORS, ids=lambda value: ascii(value)[:30])
def test_errors_say_what_is_wrong_and_the_way_out(terms: list[str], message: str, hint: str) -> None:
    error = refusal(*terms)
    assert message in error.message
    assert hint in error.hint
    assert len(error.message) < 200


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("ade-847", "ade847"),
        ("ADE 150", "ade150"),
        ("ade_150", "ade150"),
        ("pc-59", "pc59"),
        ("coco-stuff", "coco"),
        ("cocostuff164k", "coco"),
        ("coco171", "coco"),
        ("coco2017", "coco"),
        ("voc20", "voc"),
        ("voc2012", "voc"),
        ("pascal-voc", "voc"),
        ("cityscape", "cityscapes"),
        ("city scapes", "cityscapes"),
        ("cityscapes19", "cityscapes"),
        ("citysacpes", "cityscapes"),
        ("ade", "ade150 or ade847"),
        ("ade20k", "ade150 or ade847"),
        ("ade20k-150", "ade150"),
        ("ad847", "ade847"),
        ("ade840", "ade847"),
        ("pc460", "pc59 or pc459"),
        ("pcontext", "pc59 or pc459"),
        ("voc-person", "voc"),
        ("ade150-sky", "ade150"),
        ("cocoo", "coco"),
        ("coc0", "coco"),
        ("ccoo", "coco"),
        ("coc", "coco"),
        ("v0c", "voc"),
        ("vooc", "voc"),
        ("emojis", "emoji"),
        ("emjoi", "emoji"),
        ("pascal", "voc or pc59 or pc459"),
        ("pascal_context", "pc59 or pc459"),
        ("pascal-context-59", "pc59 or pc459"),
        ("ADE20K", "ade150 or ade847"),
    ],
)
def test_a_slip_for_a_dataset_is_refused_unless_quoted(slip: str, meant: str) -> None:
    error = refusal(f"cat+{slip}")
    assert error.message == f"There is no dataset '{slip}'."
    assert error.hint.startswith(f"Write {meant} for the dataset")
    assert f"'\"{slip}\"', with all the quotes" in error.hint
    assert classes(f'"{slip}"') == [slip]


def test_a_class_taken_from_a_dataset_without_a_separator_is_refused_with_the_right_form() -> None:
    assert "coco+-person to remove a class" in refusal("coco-person").hint
    assert 'coco+-"sky-other" to remove a class' in refusal('coco-"sky-other"').hint


@pytest.mark.parametrize(
    "word", ["imagenet", "ImageNet-1k", "imagenet21k", "lvis", "LVIS", "Objects365", "nyu_v2", "camvid"]
)
def test_a_dataset_that_we_do_not_have_is_no_class(word: str) -> None:
    error = refusal(f"cat+{word}")
    assert f"'{word}' is a dataset" in error.message
    assert "@FILE" in error.hint
    assert classes(f'"{word}"') == [word]


@pytest.mark.parametrize("name", ["cocoo", "coc0", "ade", "pascal", "cityscape", "emojis", "voc2012"])
def test_a_misspelt_dataset_gets_the_same_suggestion_everywhere(san: San, name: str) -> None:
    likely = " or ".join(dataset_slip(name))
    commands = [("vocab", "show"), ("eval",), ("train",), ("data", "check"), ("data", "prepare")]
    for command in commands:
        ended = san(*command, name)
        assert (ended.code, ended.out) == (ExitCode.USAGE, "")
        assert likely in ended.err and name in ended.err
    ended = san("predict", ".", "--vocab", name)
    assert ended.code == ExitCode.USAGE
    assert likely in ended.err


@pytest.mark.parametrize(
    "name", ["data.yaml", "classes.json", "coco.names", "labels.csv", "x.tsv", "names.txt"]
)
def test_a_file_without_the_at_is_no_class(name: str) -> None:
    assert f"@{name}" in refusal(f"cat,{name}").hint
    assert f"@{name}" in selection_refusal(name).hint
    assert classes(f'"{name}"') == [name]


def selection_refusal(name: str) -> SanError:
    with pytest.raises(SanError) as caught:
        select_entries(parse_vocabulary(["cat"]), [name])
    return caught.value


def test_any_file_that_is_there_is_no_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert classes("animals,plants") == ["animals", "plants"]
    Path("animals").write_text("cat\n")
    Path("plants").mkdir()
    assert "@animals" in refusal("animals,plants").hint
    assert classes("@animals,plants") == ["cat", "plants"]


def test_one_class_with_commas_in_its_name_is_noted() -> None:
    assert "is one class" in parse_vocabulary(['"cat, dog"']).notes[0]
    assert parse_vocabulary(['"cat, dog"', "bird"]).notes == ()


@pytest.mark.parametrize("word", ["cocoa", "Cocoon", "vocal", "voice", "loco", "doc"])
def test_a_word_that_only_looks_like_a_dataset_is_a_class_and_perhaps_a_note(word: str) -> None:
    vocabulary = parse_vocabulary([word])
    notes = vocabulary.notes
    assert vocabulary.names == (word,)
    assert len(notes) == (dataset_lookalike(word) is not None)
    assert all(f"'{word}' is taken as a class name" in note for note in notes)


def test_cocoa_is_noted() -> None:
    assert parse_vocabulary(["cocoa"]).notes == (
        "'cocoa' is taken as a class name (there is a dataset coco)",
    )


def test_ordinary_words_are_neither_refused_nor_noted() -> None:
    words = ["vol", "dog", "coconut", "cockpit", "voice", "pc", "pc board", "shade", "lemonade", "landscape"]
    words += ["seascape", "city", "b747", "mp3 player", "4x4", "ps5", "no. 59", "route 66", "coat"]
    for dataset in DATASET_NAMES:
        for known in load_dataset_vocabulary(dataset).classes:
            words += [known.name, *known.name.split(", ")]
    suspected = [word for word in words if dataset_slip(word) or dataset_lookalike(word)]
    assert suspected == []


# Names files


def test_a_names_file(tmp_path: Path) -> None:
    names = tmp_path / "my names.txt"
    names.write_bytes(
        b"\xef\xbb\xbf# animals\r\ncat | kitten  # and its young\r\n\r\n  building, edifice\t\r\n-minus\r\n"
        b"@at\r\nc#\r\na+b\r\n'x|y' # quoted\r\n\"it's # 1\"\r\ncoco\r\nCAT"
    )
    expected = ["cat|kitten", "building, edifice", "-minus", "@at", "c#", "a+b", "x|y", "it's # 1", "coco"]
    assert classes(f"@{names}") == expected
    assert classes(f'@"{names}"+horse') == [*expected, "horse"]
    assert classes(f"horse,cat,-@{names}") == ["horse"]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path: Path, ends: str) -> None:
    names = tmp_path / "names"
    names.write_bytes(ends.join(["cat", "dog", ""]).encode())
    assert classes(f"@{names}") == ["cat", "dog"]


def test_a_names_file_path_with_separators_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a+b, c.txt").write_text("cat")
    assert classes('@"a+b, c.txt",dog') == ["cat", "dog"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no names"),
        (b"# nothing\n\n", "holds no names"),
        (b"cat\nd\xe9\n", "not UTF-8 text (byte 5)"),
        ("cat\n".encode("utf-16"), "UTF-16"),
        (b"cat\n'dog\n", "Line 2 of "),
        (b"cat\n\na||b\n", "Line 3 of "),
        (b"cat\x00", "not a text file"),
        (b"x" * 201, "201 characters"),
        (b"x" * (16 * 2**20 + 1), "above 16 MiB"),
    ],
)
def test_bad_names_files(tmp_path: Path, content: bytes, message: str) -> None:
    names = tmp_path / "names"
    names.write_bytes(content)
    assert message in refusal(f"cat+@{names}").message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_can_be_read() -> None:
    readable, writable = os.pipe()
    os.write(writable, b"cat\ndog\n")
    os.close(writable)
    try:
        assert classes(f"@/dev/fd/{readable}") == ["cat", "dog"]
    finally:
        os.close(readable)
