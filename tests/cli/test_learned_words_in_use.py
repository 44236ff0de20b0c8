"""Files of learned words in the commands: where they are taken, and how they are refused elsewhere."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import San, make_photos, tree

from san_cli.vocabulary.learned_words import WordsFile, write_words_file
from san_cli.weights.checkpoint import read_checkpoint, write_checkpoint
from san_cli.weights.file_hash import weights_sha256

CLASSES = (("cat",), ("crack", "fissure"), ("dog",))


def write_words(path: Path, weights: Path, seed: int, classes: tuple[tuple[str, ...], ...] = CLASSES) -> Path:
    """Write words of the small model, all but the first class learned."""
    rng = np.random.default_rng(seed)
    rows = {index: rng.standard_normal(32).astype(np.float32) for index in range(1, len(classes))}
    write_words_file(WordsFile("small", weights_sha256(weights), classes, rows, {}), path)
    return path


@pytest.fixture
def mine(tmp_path: Path, tiny_weights: Path) -> Path:
    return write_words(tmp_path / "mine.words", tiny_weights, 0)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos", 1)
    return tmp_path / "photos"


def test_show_says_which_are_learned(san: San, mine: Path) -> None:
    ended = san("vocab", "show", f"bird+@{mine}")
    assert ended.out.splitlines() == ["bird", "cat", "crack|fissure", "dog"]
    assert ended.err.splitlines() == [
        "note: mine.words: 3 classes, 2 learned with small; plain: cat",
        "note: learned, and plain words in a file of this list: crack, dog",
    ]
    rows = json.loads(san("vocab", "show", "--json", f"bird+@{mine}").out)
    assert [row.get("learned") for row in rows] == [None, None, True, True]


def test_similarity_is_of_the_texts(san: San, mine: Path) -> None:
    ended = san("vocab", "similarity", "cat,crack,dog", f"@{mine}", "--model", "tiny")
    assert ended.code == 0 and "texts are compared here, not learned rows: of crack, dog" in ended.err
    assert " 1.000" in ended.out


def test_a_run_is_of_the_rows_that_it_began_with(
    predict: San, photo: Path, mine: Path, tiny_weights: Path
) -> None:
    out, plain = mine.with_name("out"), mine.with_name("plain")
    words = ("--vocab", f"voc+@{mine}")
    assert predict(photo, "-o", out, *words).code == 0
    before = tree(out)
    assert "nothing new, 1 done before" in predict(photo, "-o", out, *words).err
    assert set(json.loads((out / ".san" / "run.json").read_bytes())["learned"]) == {"crack", "fissure", "dog"}

    # Words learned anew, all of them or one, and plain ones.
    write_words(mine, tiny_weights, 1)
    ended = predict(photo, "-o", out, *words)
    assert ended.code == 2 and "learned.dog (then " in ended.err and "--overwrite" in ended.err
    write_words(mine, tiny_weights, 0)
    ended = predict(photo, "-o", out, "--vocab", f"voc+@{mine}+-dog+dog")
    assert ended.code == 2
    ended = predict(photo, "-o", out, "--vocab", "voc+crack|fissure")
    assert ended.code == 2 and "with other settings: learned" in ended.err
    assert tree(out) == before

    # And the other way round.
    assert predict(photo, "-o", plain, "--vocab", "voc+crack|fissure").code == 0
    assert "learned" not in json.loads((plain / ".san" / "run.json").read_bytes())
    assert b'"learned"' not in (plain / "predictions.json").read_bytes()
    assert b'"learned":{' in (out / "predictions.json").read_bytes().replace(b" ", b"")
    ended = predict(photo, "-o", plain, "--vocab", f"voc+@{mine}")
    assert ended.code == 2 and "with other settings: learned" in ended.err


def test_a_run_like_one_with_learned_words_needs_their_file(
    predict: San, san: San, photo: Path, mine: Path
) -> None:
    out, other = mine.with_name("out"), mine.with_name("other")
    assert predict(photo, "-o", out, "--vocab", f"voc+@{mine}").code == 0
    ended = san("predict", photo, "-o", other, "--like", out)
    assert ended.code == 2 and "were learned (dog, crack, fissure), and their file is not known" in ended.err
    assert "--vocab … with @FILE.words" in ended.err
    ended = san("predict", photo, "-o", other, "--like", out, "--vocab", f"voc+@{mine}")
    assert ended.code == 0
    assert tree(other)["p00.labels.png"] == tree(out)["p00.labels.png"]
    assert predict(photo, "-o", mine.with_name("only"), "--only", f"@{mine}").code == 0
    ended = san("predict", photo, "-o", mine.with_name("third"), "--like", mine.with_name("only"))
    assert ended.code == 2 and "--only … with @FILE.words" in ended.err


def test_another_model_is_refused_before_anything_is_done(
    predict: San, san: San, photo: Path, mine: Path
) -> None:
    out = mine.with_name("out")
    assert predict(photo, "-o", out).code == 0
    before = tree(out)
    vocab, new = ["--vocab", f"voc+@{mine}"], mine.with_name("new")
    for more in (
        ["-o", out, *vocab, "--overwrite"],
        ["-o", new, *vocab],
        ["-o", new, *vocab, "--dry-run"],
        ["-o", new, "--only", f"@{mine}"],
        ["-o", new, "--only", f"@{mine}", "--dry-run"],
    ):
        ended = predict(photo, "--model", "tiny", "--weights", "random", *more)
        assert (ended.code, ended.out) == (2, "")
        assert "to small (weights" in ended.err and "not to tiny (weights" in ended.err
    assert tree(out) == before and not new.exists()
    # Of published weights the hash is known before they are downloaded.
    for more in ([], ["--dry-run"]):
        ended = san("predict", photo, "-o", new, *vocab, "--model", "vit-b-16", *more)
        assert ended.code == 2 and "not to vit-b-16 (weights" in ended.err
    assert not new.exists()


def test_the_way_to_find_few_words_keeps_them_learned(predict: San, photo: Path, mine: Path) -> None:
    ended = predict(photo, "-o", mine.with_name("out"), "--vocab", f"@{mine}", "--dry-run")
    assert ended.code == 0 and f"instead of --vocab: --only @{mine}" in ended.err


@pytest.fixture
def labelled(tmp_path: Path) -> list[object]:
    """Options for one labelled picture of classes in another order than the words'."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8), 16)[:, None].repeat(64, 1)).save(
        tmp_path / "labels" / "a.png"
    )
    (tmp_path / "names.txt").write_text("dog\nbird\ncrack\ncat\n")
    return ["--images", tmp_path / "images", "--labels", tmp_path / "labels"]


def test_evaluation(san: San, labelled: list[object], mine: Path, tiny_weights: Path) -> None:
    names, out = mine.with_name("names.txt"), mine.with_name("report")
    common = ["eval", *labelled, "--weights", tiny_weights, "--device", "cpu", "-o", out]
    ended = san(*common, "--classes", names, "--vocab", f"@{names}+@{mine}")
    assert ended.code == 0, ended.err
    for other in (f"@{names}", f"@{mine}+bird"):  # plain words; another order
        ended = san(*common, "--classes", names, "--vocab", other, "--resume")
        assert ended.code == 2
    assert "the labels' class 0 is 'dog', and the words given have that as class 2" in ended.err
    assert "--vocab @names.txt+@FILE.words" in ended.err
    write_words(mine, tiny_weights, 1)
    ended = san(*common, "--classes", names, "--vocab", f"@{names}+@{mine}", "--resume")
    assert ended.code == 2 and "learned.dog (then" in ended.err
    ended = san(*common, "--classes", names, "--vocab", f"@{mine}")
    assert ended.code == 2 and "the words given make 3 classes" in ended.err and "@FILE.words" in ended.err
    ended = san(
        "eval", *labelled, "--classes", names, "--vocab", f"@{names}+@{mine}", "--model", "tiny", "--dry-run"
    )
    assert ended.code == 2 and "not to tiny (weights" in ended.err


def test_of_several_models_none_is_evaluated(
    san: San, labelled: list[object], mine: Path, tiny_weights: Path
) -> None:
    names, other = mine.with_name("names.txt"), mine.with_name("other.safetensors")
    write_checkpoint(replace(read_checkpoint(tiny_weights), metadata={"made": "again"}), other)
    common = ["eval", *labelled, "--classes", names, "--vocab", f"@{names}+@{mine}", "--device", "cpu"]
    ended = san(*common, "--weights", tiny_weights, other)
    assert (ended.code, ended.out) == (2, "") and "not to other.safetensors (weights" in ended.err
    assert "embedding" not in ended.err
    ended = san(*common, "--weights", tiny_weights, "--ensemble", other)
    assert (ended.code, ended.out) == (2, "") and "not to small (weights" in ended.err


def test_classes_of_labels_are_names(san: San, labelled: list[object], mine: Path) -> None:
    for command in (
        ["eval", "--model", "tiny"],
        ["train", "--init-from", "tiny"],
        ["convert", "--save", "masks"],
    ):
        given = labelled if command[0] != "convert" else [labelled[3], *labelled[:2]]
        out = ["-o", mine.with_name("out")]
        ended = san(*command, *given, "--classes", f"@{mine}", *out)
        assert ended.code == 2, ended.err
        assert "is a file of learned words, not a list of names" in ended.err and "--vocab @" in ended.err
    ended = san(
        "eval", *labelled, "--classes", mine.with_name("names.txt"), "--synonyms", mine, "--model", "tiny"
    )
    assert ended.code == 2 and "not a list of synonyms" in ended.err


def test_words_are_no_weights(san: San, photo: Path, mine: Path) -> None:
    ended = san("predict", photo, "-o", mine.with_name("out"), "--weights", mine)
    assert ended.code == 2 and "it is a file of learned words, which goes to --vocab" in ended.err


def test_exported_rows_are_the_learned_ones(san: San, mine: Path, tiny_weights: Path) -> None:
    text = mine.with_name("t.npz")
    assert san("export", "--text", text, "--weights", tiny_weights, "--vocab", f"bird+@{mine}").code == 0
    with np.load(text) as found:
        lengths = np.linalg.norm(found["rows"], axis=1)
        assert list(found["words"]) == ["bird", "cat", "crack", "fissure", "dog"]
    assert np.allclose(lengths[[0, 1, -1]], 1) and (lengths[2:5] > 2).all()
    ended = san("export", "--text", text, "--model", "tiny", "--vocab", f"@{mine}")
    assert ended.code == 2 and "not to tiny" in ended.err
