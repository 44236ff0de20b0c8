"""Words on their own: what competes with them, and what that does on tiny's scenes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from san_cli import MapOptions, Segmenter, parse_vocabulary
from san_cli.datasets.emoji.scenes import EmojiScenes
from san_cli.engine.contrast import contrast_of, told
from san_cli.vocabulary.contrast import contrast_to
from san_cli.vocabulary.emoji_concepts import all_ids, concepts
from san_cli.vocabulary.grammar import Vocabulary, vocabulary_of_names

SEED = 8100  # of scenes that neither training nor evaluation has


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.load("tiny", device="cpu")


def test_what_is_asked_for_does_not_compete_with_itself() -> None:
    asked = parse_vocabulary(["person|people,sofa|Couch"])
    names = [word for entry in contrast_to(asked, of_tiny=False) for word in entry.words]
    assert "person" not in names and "couch" not in names
    assert len(names) > 180 and len(set(names)) == len(names)
    assert len(contrast_to(parse_vocabulary(["dog"]), of_tiny=True)) == len(concepts()) - 1


def test_near_words_are_left_out_whatever_all_words_share() -> None:
    rng = torch.Generator().manual_seed(0)
    cone = 5 * torch.nn.functional.normalize(torch.randn(64, generator=rng), dim=0)
    spread = torch.nn.functional.normalize(torch.randn(41, 64, generator=rng), dim=1)
    spread[1] = spread[0] + 0.05 * spread[2]  # the first candidate means what is asked for
    rows = torch.nn.functional.normalize(cone + spread, dim=1)
    assert float((rows @ rows.T).min()) > 0.8  # as CLIP's are: all near one another
    candidates = vocabulary_of_names([f"word {i}" for i in range(40)]).entries
    asked = vocabulary_of_names(["asked"])
    contrast, chosen = contrast_of(asked, candidates, rows)
    assert contrast.left_out == (("word 0", "asked"),)
    assert contrast.competing.names == ("asked", *(f"word {i}" for i in range(1, 40)))
    assert torch.equal(chosen, rows[[0, *range(2, 41)]])
    assert told(contrast)[-1] == "left out: word 0 (near asked)"


def test_any_synonym_keeps_near_words_out(segmenter: Segmenter) -> None:
    for words in (["quasar", "toad"], ["toad", "quasar"]):
        contrast = segmenter.contrast(vocabulary_of_names([words]))
        assert "frog" not in contrast.competing.names


def test_without_candidates_nothing_competes() -> None:
    asked = vocabulary_of_names(["cat"])
    rows = torch.ones(1, 4)
    contrast, chosen = contrast_of(asked, (), rows)
    assert (contrast.competing, contrast.left_out) == (asked, ()) and torch.equal(chosen, rows)
    assert told(contrast) == ["competing, unseen: no object"]


def test_kinds_of_what_is_asked_for_do_not_compete() -> None:
    names = {entry.name for entry in contrast_to(vocabulary_of_names(["wall", "Building"]), of_tiny=False)}
    assert not any(name.startswith(("wall-", "building-")) for name in names)
    assert any(name.startswith("floor") for name in names)


def test_only_finds_what_is_there_and_nothing_else(segmenter: Segmenter) -> None:
    scenes = EmojiScenes(SEED, all_ids(), 320)
    world, full = concepts(), parse_vocabulary(["emoji"])
    rng, false, shared, either = np.random.default_rng(1), [], np.zeros(2), np.zeros(2)
    for index in range(6):
        scene = scenes[index]
        by_all = segmenter.segment(scene.image, full).label_map
        things = [int(i) for i in np.unique(scene.labels) if world[i].emoji]
        for wanted in things:
            alone = segmenter.segment(scene.image, [world[wanted].name], MapOptions(only=True)).label_map
            truth = scene.labels == wanted
            for kind, found in enumerate((alone == 0, by_all == wanted)):
                shared[kind] += (found & truth).sum()
                either[kind] += (found | truth).sum()
        absent = [int(i) for i in rng.integers(len(world), size=4) if i not in np.unique(scene.labels)]
        for other in absent:
            made = segmenter.segment(scene.image, [world[other].name], MapOptions(only=True))
            false.append(float((made.label_map >= 0).mean()))
    assert np.mean(false) < 0.01
    alone_iou, full_iou = shared / either
    assert alone_iou > full_iou - 0.03


def test_several_words_share_one_contrast(segmenter: Segmenter) -> None:
    scene = EmojiScenes(SEED, all_ids(), 320)[0]
    names = [concepts()[i].name for i in np.unique(scene.labels)]
    found = segmenter.segment(scene.image, names[:2], MapOptions(only=True, keep_scores=True))
    assert found.vocabulary == tuple(names[:2])
    assert found.class_scores.shape == found.class_confidences.shape == (2,)
    assert set(np.unique(found.label_map)) <= {-1, 0, 1}
    strict = segmenter.segment(scene.image, names[:2], MapOptions(only=True, min_confidence={names[0]: 1.0}))
    assert not (strict.label_map == 0).any()
    assert np.array_equal(strict.label_map == 1, found.label_map == 1)


def test_the_contrast_is_chosen_once(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = vocabulary_of_names(["dog"])
    first = segmenter.contrast(asked)
    monkeypatch.setattr(Segmenter, "embed", None)
    assert segmenter.contrast(Vocabulary(asked.entries)) is first


def test_python_writes_nothing(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scene = EmojiScenes(SEED, all_ids(), 320)[1]
    whole = segmenter.segment(scene.image, ["dog", "cat"])
    assert whole.confidence is None and 0 <= whole.uncertain <= 1
    assert (whole.class_confidences >= 0.5)[np.unique(whole.label_map)].all()  # of two, the winner has most
    assert not list(tmp_path.iterdir())
