"""The bundled `tiny` model on real pictures: as good as its card says, and open to any word its CLIP knows.

The side adapter was trained with one name for each seen concept; synonyms, unseen concepts and mixed vocabularies
below are words that it never saw beside a mask.
"""

import contextlib
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from program import San

from san_cli import MapOptions, Segmentation, Segmenter
from san_cli.cli.main import main
from san_cli.engine import text_embeddings
from san_cli.engine.loading import load_weights
from san_cli.engine.text_embeddings import SHIPPED_WORDS, TextTower, embed_words
from san_cli.models.san import SAN, SanOutput
from san_cli.models.text import TextEncoder
from san_cli.vocabulary.class_lists import load_dataset_vocabulary
from san_cli.vocabulary.emoji_concepts import concepts, seen_ids, unseen_ids
from san_cli.vocabulary.grammar import vocabulary_of_names
from san_cli.vocabulary.templates import VILD
from san_cli.weights.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from san_cli.weights.find import find_weights

ROOT = Path(__file__).resolve().parents[2]
SCENES = Path(__file__).parents[1] / "data" / "emoji"
OWN_DATA = (
    "--images", SCENES / "images", "--labels", SCENES / "labels", "--classes", SCENES / "classes.txt"
)  # fmt: skip
NAMES = [concept.name for concept in concepts()]
Evaluated = dict[str, float]  # IoU in percent by concept, of those that occur


@pytest.fixture(scope="module")
def seen_once() -> Iterator[None]:
    """The network sees a picture once in this module, since no word reaches it: what it finds is kept."""
    kept: dict[object, list[SanOutput]] = {}
    real = SAN.forward

    def forward(network: SAN, image: torch.Tensor, all_supervised: bool = False) -> list[SanOutput]:
        if torch.is_grad_enabled() or all_supervised:  # training moves its tensors
            return real(network, image, all_supervised)
        seen = (network.side_adapter.query_embed, image)  # weights have their own queries
        key = (image.shape, *(hashlib.sha256(one.numpy().tobytes()).digest() for one in seen))
        if key not in kept:
            kept[key] = real(network, image)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SAN, "forward", forward)
        yield


@pytest.fixture(scope="module")
def tiny(san_home: Path, seen_once: None) -> Iterator[Segmenter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAN_HOME", str(san_home))
        patch.delenv("SAN_WEIGHTS", raising=False)
        yield Segmenter.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def evaluate(san_home: Path, seen_once: None) -> Callable[..., Evaluated]:
    """`san eval` on the stored scenes."""

    def run(*words: object) -> Evaluated:
        command = ("eval", *OWN_DATA, "--model", "tiny", "--device", "cpu", "--json", *words)
        out = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
            patch.setenv("SAN_HOME", str(san_home))
            patch.delenv("SAN_WEIGHTS", raising=False)
            patch.setattr(sys, "argv", ["san", *map(str, command)])
            with pytest.raises(SystemExit) as stopped:
                main()
        assert not stopped.value.code
        (result,) = json.loads(out.getvalue())["results"]
        rows = zip(NAMES, result["per_class"], strict=True)
        return {name: row["IoU"] for name, row in rows if row["IoU"] is not None}

    return run


@pytest.fixture(scope="module")
def own_names(evaluate: Callable[..., Evaluated]) -> Evaluated:
    return evaluate()


def mean(values: Evaluated, ids: Sequence[int]) -> float:
    present = [values[NAMES[i]] for i in ids if NAMES[i] in values]
    return sum(present) / len(present)


@dataclass(frozen=True)
class Thing:
    """A thing in a stored scene that `tiny` finds there."""

    picture: Path
    name: str
    truth: np.ndarray  # bool [H, W]
    overlap: float  # IoU


@pytest.fixture(scope="module")
def things(tiny: Segmenter) -> list[Thing]:
    """The things that cover 4 % of a scene or more and are found, the best first."""
    found = []
    for path in sorted((SCENES / "images").glob("*.jpg"))[:25]:
        labels = np.asarray(Image.open(SCENES / "labels" / f"{path.stem}.png"))
        segmentation = tiny.segment(path, NAMES)
        for index in np.unique(labels):
            truth = labels == index
            if concepts()[index].emoji and truth.mean() >= 0.04:
                found.append(Thing(path, NAMES[index], truth, overlap(segmentation, NAMES[index], truth)))
    return sorted((one for one in found if one.overlap > 0.5), key=lambda one: -one.overlap)


def overlap(found: Segmentation, name: str, truth: np.ndarray) -> float:
    """IoU of the class's region."""
    region = found.label_map == found.vocabulary.index(name)
    return float((region & truth).sum() / (region | truth).sum())


def test_it_is_shipped_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAN_WEIGHTS", raising=False)
    path = find_weights("tiny", None, say=pytest.fail)
    assert path.resolve() == ROOT / "weights" / "tiny.safetensors"
    assert path.stat().st_size <= 24e6


def test_its_names_come_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fresh machine the first command embeds nothing; the rows that are shipped are what it would make."""
    monkeypatch.setenv("SAN_HOME", str(tmp_path))
    tower = load_weights("tiny", None, say=pytest.fail).text_tower
    device = torch.device("cpu")
    shipped = embed_words(tower, NAMES, VILD, device, lambda *_: pytest.fail("a name is embedded"))
    some = NAMES[::20]
    encoder = TextEncoder(tower.shape, tower.read(), device)
    fresh = dict(encoder.embed_each(some, VILD))
    assert torch.allclose(torch.stack([fresh[word] for word in some]), shipped[::20], atol=1e-5)
    asked: list[tuple[int, int]] = []
    embed_words(tower, ["camel", "dromedary"], VILD, device, lambda *step: asked.append(step))
    embed_words(tower, ["camel"], ("a photo of a {}.",), device, lambda *step: asked.append(step))
    assert asked == [(1, 1), (1, 1)]  # other words, and other templates


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped"])
def test_damaged_rows_are_not_used(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAN_HOME", str(tmp_path))
    content = SHIPPED_WORDS.read_bytes()
    flipped = content[:9000] + bytes([content[9000] ^ 1]) + content[9001:]
    rows = {"empty": b"", "text": b"text", "cut": content[:-100], "flipped": flipped}[damage]
    (tmp_path / "rows.npz").write_bytes(rows)
    monkeypatch.setattr(text_embeddings, "SHIPPED_WORDS", tmp_path / "rows.npz")
    tower = load_weights("tiny", None, say=pytest.fail).text_tower
    asked: list[tuple[int, int]] = []
    embed_words(tower, ["camel"], VILD, torch.device("cpu"), lambda *step: asked.append(step))
    assert asked == [(1, 1)]


def test_the_same_text_tower_in_another_file_finds_all_words(tiny: Segmenter, tmp_path: Path) -> None:
    """Fine-tuned, converted or halved: embeddings are the tower's, not the file's."""
    start = read_checkpoint(ROOT / "weights" / "tiny.safetensors")
    tuned = {name: tensor + name.startswith("mask_decoder.") for name, tensor in start.state.items()}
    write_checkpoint(Checkpoint(start.preset, tuned), tmp_path / "tuned.safetensors")
    words = vocabulary_of_names(["cat", "a word of nobody's"])
    rows = tiny.embed(words)
    for _ in range(2):  # the second time the file's tower is known without being read
        other = Segmenter.load(weights=tmp_path / "tuned.safetensors", device="cpu")
        assert other.weights_sha256 != tiny.weights_sha256
        assert torch.equal(other.embed(words, lambda *_: pytest.fail("embedded again")), rows)
    tower = TextTower(start.preset.clip, lambda: start.part("text"))
    known = TextTower(start.preset.clip, lambda: pytest.fail("read again"), tiny.weights_sha256)
    assert tower.key == known.key
    quick = TextTower(replace(start.preset.clip, quick_gelu=True), lambda: start.part("text"))
    assert quick.key != tower.key


def test_stored_scenes_are_segmented_as_the_model_card_says(own_names: Evaluated) -> None:
    card = (ROOT / "weights" / "README.md").read_text(encoding="utf-8")
    row = re.search(r"^\| the scenes in `tests/data/emoji` \| ([\d.]+) \| ([\d.]+) \|", card, re.MULTILINE)
    assert row is not None, "the model card has no row of the stored scenes"
    seen, unseen = (float(cell) for cell in row.groups())
    assert mean(own_names, seen_ids()) == pytest.approx(seen, abs=2)
    assert mean(own_names, unseen_ids()) == pytest.approx(unseen, abs=2)


def test_the_stored_scenes_are_small() -> None:
    assert 0 < sum(path.stat().st_size for path in SCENES.rglob("*") if path.is_file()) <= 2e6


def test_synonyms_never_trained_with_masks_find_the_same_things(
    evaluate: Callable[..., Evaluated], own_names: Evaluated, tmp_path: Path
) -> None:
    renamed = [concept.synonyms[0] if concept.synonyms else concept.name for concept in concepts()]
    (tmp_path / "words.txt").write_text("".join(f'"{word}"\n' for word in renamed), encoding="utf-8")
    found = evaluate("--vocab", f"@{tmp_path / 'words.txt'}")
    for ids in (seen_ids(), unseen_ids()):
        ids = [i for i in ids if concepts()[i].synonyms]
        assert mean(found, ids) > 0.75 * mean(own_names, ids)


def test_case_does_not_matter(tiny: Segmenter, things: list[Thing]) -> None:
    lower = tiny.segment(things[0].picture, NAMES)
    upper = tiny.segment(things[0].picture, [name.upper() for name in NAMES])
    assert np.array_equal(lower.label_map, upper.label_map)


def test_unseen_things_are_found_too(things: list[Thing]) -> None:
    unseen = {NAMES[i] for i in unseen_ids()}
    assert any(one.name in unseen and one.overlap > 0.7 for one in things)


def test_words_of_another_world_distract_little(tiny: Segmenter, things: list[Thing]) -> None:
    """Forty classes of ADE20K that share no word with ours, beside ours."""
    ours = {word for concept in concepts() for name in concept.words for word in name.casefold().split()}
    ade = [one.name for one in load_dataset_vocabulary("ade847").classes]
    others = [name for name in ade if not ours & set(re.findall(r"\w+", name.casefold()))][:40]
    assert len(others) == 40
    kept = [overlap(tiny.segment(one.picture, [*NAMES, *others]), one.name, one.truth) for one in things[:12]]
    assert np.mean(kept) > 0.8 * np.mean([one.overlap for one in things[:12]])


def test_without_the_right_word_nothing_is_said_more_often(tiny: Segmenter, things: list[Thing]) -> None:
    """The model's own "no object" takes over pixels whose word is missing; without it another word gets them."""
    nothing = MapOptions(background="nothing")
    with_word, without = [], []
    for one in things[:12]:
        others = [name for name in NAMES if name != one.name]
        assert (tiny.segment(one.picture, others).label_map >= 0).all()
        for names, shares in ((NAMES, with_word), (others, without)):
            found = tiny.segment(one.picture, names, nothing)
            shares.append((found.label_map == found.vocabulary.index("nothing"))[one.truth].mean())
    assert np.mean(without) > np.mean(with_word) + 0.05


def test_show_keeps_one_class_while_the_rest_competes(tiny: Segmenter, things: list[Thing]) -> None:
    best = things[0]
    every = tiny.segment(best.picture, NAMES)
    shown = tiny.segment(best.picture, NAMES, MapOptions(show=(best.name,)))
    index = NAMES.index(best.name)
    assert np.array_equal(shown.label_map == index, every.label_map == index)
    assert set(np.unique(shown.label_map)) == {-1, index}


@pytest.mark.parametrize("order", [1, -1])
def test_one_right_word_of_two_is_enough(tiny: Segmenter, things: list[Thing], order: int) -> None:
    """`a|b` is as likely as its better word."""
    for one in things[:5]:
        pair = [one.name, "xylophone"][::order]
        found = tiny.segment(one.picture, [pair, *(name for name in NAMES if name != one.name)])
        assert overlap(found, pair[0], one.truth) > 0.8 * one.overlap


def test_it_can_be_fine_tuned_by_its_name(san: San, tmp_path: Path) -> None:
    short = (
        "--limit",
        2,
        "--batch",
        1,
        "--iterations",
        1,
        "--lr",
        1e-4,
        "--eval-every",
        0,
        "--set",
        "points=64",
    )
    where = ("--workers", 0, "--device", "cpu", "-o", tmp_path / "mine", "--quiet")
    ended = san("train", *OWN_DATA, "--init-from", "tiny", *short, *where)
    assert ended.code == 0, ended.err
    tuned = read_checkpoint(tmp_path / "mine" / "model.safetensors")
    start = read_checkpoint(ROOT / "weights" / "tiny.safetensors")
    assert tuned.preset == start.preset
    trained = ("side_adapter.", "mask_decoder.", "background_embedding", "visual.positional_embedding")
    for name, tensor in start.state.items():
        moved = (tuned.state[name].float() - tensor.float()).abs().max()
        assert moved < 1e-3
        assert moved == 0 or name.startswith(trained)
    queries = "side_adapter.query_embed"
    assert not np.array_equal(tuned.state[queries].numpy(), start.state[queries].float().numpy())


def test_an_unknown_model_is_no_name_to_start_from(san: San, tmp_path: Path) -> None:
    ended = san("train", "emoji", "--init-from", "tinny", "-o", tmp_path / "mine")
    assert ended.code == 2
    assert "there is no file and no model 'tinny'" in ended.err
    assert "Did you mean tiny?" in ended.err


def test_a_mistyped_model_is_told_before_what_follows_from_it(san: San, tmp_path: Path) -> None:
    """Its vocabulary would be another one: the folder would be said to hold a run with other settings."""
    scene = next((SCENES / "images").glob("*.jpg"))
    assert san("predict", scene, "--model", "tiny", "-o", tmp_path / "out", "--quiet").code == 0
    ended = san("predict", scene, "--model", "tinyy", "-o", tmp_path / "out")
    assert ended.code == 2 and "unknown model 'tinyy'" in ended.err


def test_its_names_are_the_default_by_its_file_too(san: San, tmp_path: Path) -> None:
    """As they are by its name: what was trained on from tiny has a file alone."""
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes((ROOT / "weights" / "tiny.safetensors").read_bytes())
    scene = next((SCENES / "images").glob("*.jpg"))
    ended = san(
        "predict", scene, "--weights", weights, "-o", tmp_path / "out", "--save", "none", "--device", "cpu"
    )
    assert (ended.code, f"{len(NAMES)} classes" in ended.err) == (0, True)
