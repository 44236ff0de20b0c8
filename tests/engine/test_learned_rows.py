"""Learned words at work: their own rows alone are others, and they are of one model alone."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from san_cli import MapOptions, Segmenter, parse_vocabulary
from san_cli.engine.alike_words import word_notes
from san_cli.engine.ensemble import Ensemble, Member
from san_cli.engine.learned_rows import model_hashes, refuse_words_of_others, with_learned
from san_cli.engine.outlook import WeightsAhead, words_on_trial
from san_cli.engine.text_embeddings import TextTower
from san_cli.engine.tiny_world import note_on_words
from san_cli.errors import SanError
from san_cli.models.presets import TINY
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.vocabulary.learned_words import WordsFile, write_words_file
from san_cli.weights.hub import OFFICIAL

IMAGE = recipe.image(3, 64, 64)
NAMES = "cat,dog|hound,spoon,wooden crate"


@pytest.fixture(scope="module")
def segmenter(tiny_weights: Path, san_home: Path) -> Iterator[Segmenter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAN_HOME", str(san_home))
        torch.set_num_threads(1)
        yield Segmenter.load(weights=tiny_weights, device="cpu")


def taught(segmenter: Segmenter, folder: Path, rows: dict[int, np.ndarray], names: str = NAMES) -> Vocabulary:
    """The vocabulary with these rows, by class, from a file of that model."""
    plain = parse_vocabulary(names)
    groups = tuple(entry.words for entry in plain.entries)
    write_words_file(
        WordsFile(segmenter.preset.name, segmenter.weights_sha256, groups, rows, {}), folder / "m.words"
    )
    return parse_vocabulary(f"@{folder / 'm.words'}")


def winning(segmenter: Segmenter) -> np.ndarray:
    """A row [D] that all regions of the image are like, at length 3."""
    mean = segmenter.raw(IMAGE, ["cat"]).region_embeddings.mean(axis=0)
    return 3 * mean / np.linalg.norm(mean)


def test_the_logits_of_plain_words_do_not_change_by_a_bit(segmenter: Segmenter, tmp_path: Path) -> None:
    plain = segmenter.raw(IMAGE, parse_vocabulary(NAMES))
    rng = np.random.default_rng(0)
    rows = {1: 3 * rng.standard_normal(plain.text_embeddings.shape[1]).astype(np.float32)}
    found = segmenter.raw(IMAGE, taught(segmenter, tmp_path, rows))
    others = [0, 2, 3, 4]  # with "no object", the last one
    assert np.array_equal(found.class_logits[:, others], plain.class_logits[:, others])
    assert np.array_equal(found.mask_logits, plain.mask_logits)
    assert not np.array_equal(found.class_logits[:, 1], plain.class_logits[:, 1])
    assert np.array_equal(found.text_embeddings[[1, 2]], np.stack([rows[1]] * 2))  # dog and hound
    scale = float(segmenter.model.logit_scale.exp())
    assert np.allclose(found.class_logits[:, 1], scale * found.region_embeddings @ rows[1], rtol=1e-4)


def test_a_row_that_is_the_text_s_own_changes_nothing(segmenter: Segmenter, tmp_path: Path) -> None:
    plain = parse_vocabulary(NAMES)
    text = segmenter.text_rows(plain).numpy()
    same = taught(segmenter, tmp_path, {0: text[0], 3: text[4]})
    assert [one.word for one in same.learned] == ["cat", "wooden crate"]
    assert torch.equal(segmenter.text_rows(same), segmenter.text_rows(plain))
    one, two = (segmenter.raw(IMAGE, words) for words in (plain, same))
    assert np.array_equal(one.class_logits, two.class_logits)
    one, two = (segmenter.segment(IMAGE, words, MapOptions(keep_scores=True)) for words in (plain, same))
    assert np.array_equal(one.label_map, two.label_map) and np.array_equal(one.scores, two.scores)


def test_a_vocabulary_of_plain_words_is_not_even_copied(segmenter: Segmenter) -> None:
    rows = torch.ones(2, 3)
    assert with_learned(rows, parse_vocabulary("cat")) is rows


def test_rows_of_another_length_are_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(SanError, match="a learned row has 7 numbers, and those of this model have 32"):
        segmenter.segment(IMAGE, taught(segmenter, tmp_path, {0: np.ones(7)}))


def test_embeddings_are_those_of_the_texts(segmenter: Segmenter, tmp_path: Path) -> None:
    plain = segmenter.embed(parse_vocabulary(NAMES))
    rows = {0: np.ones(plain.shape[1], np.float32)}
    assert torch.equal(segmenter.embed(taught(segmenter, tmp_path, rows)), plain)


def test_learned_words_compete_with_a_contrast(segmenter: Segmenter, tmp_path: Path) -> None:
    row = winning(segmenter)
    asked = taught(segmenter, tmp_path, {0: row}, "cat,dog")
    competing = segmenter.contrast(asked).competing
    assert competing.names[:2] == ("cat", "dog") and len(competing) > 100
    assert competing.learned == asked.learned
    assert np.array_equal(segmenter.text_rows(competing)[0].numpy(), row)
    plain = segmenter.contrast(parse_vocabulary("cat,dog"))
    assert plain.competing.names == competing.names and not plain.competing.learned
    found = [segmenter.segment(IMAGE, words, MapOptions(only=True)) for words in (asked, plain.asked)]
    assert not np.array_equal(found[0].label_map, found[1].label_map)


def test_learned_words_travel_to_other_processes(segmenter: Segmenter, tmp_path: Path) -> None:
    words = taught(segmenter, tmp_path, {2: winning(segmenter)})
    wanted = segmenter.segment(IMAGE, words).label_map
    assert wanted.max() == wanted.min() == 2
    there = pickle.loads(pickle.dumps((segmenter, words)))
    assert np.array_equal(there[0].segment(IMAGE, there[1]).label_map, wanted)
    assert not np.array_equal(there[0].segment(IMAGE, words.as_plain()).label_map, wanted)


def test_another_model_refuses_them(segmenter: Segmenter, tmp_path: Path) -> None:
    words = taught(segmenter, tmp_path, {0: np.ones(512, np.float32), 1: np.ones(512, np.float32)})
    other = Segmenter.load("tiny", "random", device="cpu")
    said = r"'cat', 'dog', 'hound' to small \(weights .*…\), not to tiny \(weights"
    for use in (
        other.embed,
        lambda words: other.segment(IMAGE, words),
        lambda words: other.raw(IMAGE, words),
    ):
        with pytest.raises(SanError, match=said) as refused:
            use(words)
        assert "--weights" in refused.value.hint and "san vocab learn" in refused.value.hint
    assert len(other.embed(parse_vocabulary("@" + str(tmp_path / "m.words") + "+-cat+-dog"))) == 2


def test_an_ensemble_takes_words_of_none_of_two_models(segmenter: Segmenter, tmp_path: Path) -> None:
    words = taught(segmenter, tmp_path, {0: segmenter.text_rows(parse_vocabulary("cat"))[0].numpy()})
    same = Ensemble([Member(segmenter), Member(segmenter, 0.5)], words)
    assert same.label_map(segmenter.resize(IMAGE), (64, 64), lambda _: None).shape == (64, 64)
    two = Ensemble([Member(segmenter), Member(Segmenter.load("tiny", "random", device="cpu"))], words)
    with pytest.raises(SanError, match="not to tiny"):
        two.label_map(segmenter.resize(IMAGE), (64, 64), lambda _: None)


def test_an_onnx_file_is_the_model_that_it_was_made_from(segmenter: Segmenter, tmp_path: Path) -> None:
    words = taught(segmenter, tmp_path, {0: np.ones(4)})
    tower = TextTower(TINY.clip, dict, segmenter.weights_sha256)
    assert model_hashes("of the ONNX file", tower) == (segmenter.weights_sha256, "of the ONNX file")
    refuse_words_of_others(words, "small", model_hashes("of the ONNX file", tower))
    assert segmenter.hashes == (segmenter.weights_sha256,) and model_hashes("w", None) == ("w",)


def test_a_plan_tries_plain_words_where_the_weights_are_to_come(segmenter: Segmenter, tmp_path: Path) -> None:
    official = OFFICIAL["vit-b-16"]
    write_words_file(
        WordsFile("vit-b-16", official.sha256, (("crack",),), {0: np.ones(512)}, {}), tmp_path / "b.words"
    )
    words, said = parse_vocabulary(f"@{tmp_path / 'b.words'}"), list[str]()
    ahead = WeightsAhead(download=official)
    assert words_on_trial(words, ahead, segmenter, said.append) == words.as_plain() and not said
    mine = taught(segmenter, tmp_path, {0: np.ones(32)})
    with pytest.raises(SanError, match="not to vit-b-16"):
        words_on_trial(mine, ahead, segmenter, said.append)
    with pytest.raises(SanError, match="not to small"):
        words_on_trial(words, WeightsAhead(tmp_path), segmenter, said.append)
    assert words_on_trial(mine, WeightsAhead(tmp_path), segmenter, said.append) is mine
    somebody_s = WeightsAhead(download=replace(official, repo="me/mine"))
    assert words_on_trial(mine, somebody_s, segmenter, said.append) == mine.as_plain() and len(said) == 1


def test_notes_on_words_are_not_about_the_texts_of_learned_ones(segmenter: Segmenter, tmp_path: Path) -> None:
    names, rows = ",".join(["cat", *(f"{word} " * 90 for word in "abc")]), torch.ones(4, 8)
    said = word_notes(parse_vocabulary(names), rows, ["a {}."], 77)
    assert "'b b" in said[0] and "'b b" in said[1]
    words = taught(segmenter, tmp_path, {2: np.full(8, 2), 3: np.full(8, 2)}, names)
    cut, alike = word_notes(words, rows, ["a {}."], 77)
    assert "'a a" in cut and "'b b" not in cut and "'c c" not in cut
    assert "'cat' and 'a a" in alike and "'b b" in alike and "'cat' and 'b b" not in alike
    strange = taught(segmenter, tmp_path, {0: np.ones(4)}, "girder,spalling")
    assert "(spalling)" in str(note_on_words(TINY, strange))
