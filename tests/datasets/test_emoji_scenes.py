"""Scenes of emoji: the same pixels for the same seed, and labels that are true to the pixel."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from san_cli.datasets.emoji import sprites
from san_cli.datasets.emoji.scenes import EmojiScenes, Layout
from san_cli.errors import SanError
from san_cli.vocabulary.emoji_concepts import all_ids, concepts, seen_ids


def _font_is_here() -> bool:
    try:
        return bool(sprites.sprite("🐕"))
    except SanError:
        return False


needs_font = pytest.mark.skipif(not _font_is_here(), reason="fonts-noto-color-emoji is not installed")
IDS = {concept.name: i for i, concept in enumerate(concepts())}


@needs_font
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**40), st.sampled_from([64, 97, 160]))
def test_a_scene_depends_on_seed_and_index_alone(seed: int, index: int, size: int) -> None:
    first = EmojiScenes(seed, all_ids(), size)[index]
    other = EmojiScenes(seed, all_ids(), size)
    np.random.seed(index % 1000)
    _ = other[index + 1]
    second = other[index]
    assert first.image.dtype == np.uint8 and first.image.shape == (size, size, 3)
    assert first.labels.dtype == np.uint16 and first.labels.shape == (size, size)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert int(first.labels.max()) < len(all_ids())


@needs_font
def test_other_seeds_and_indices_give_other_scenes() -> None:
    shown = [
        EmojiScenes(seed, all_ids(), 64)[index].image.tobytes() for seed in range(3) for index in range(10)
    ]
    assert len(set(shown)) == 30


@needs_font
def test_labels_are_places_in_the_wanted_list() -> None:
    full, few = EmojiScenes(5, seen_ids(), 96), EmojiScenes(5, [IDS["grass"], IDS["dog"]], 96, Layout((1, 1)))
    for index in range(20):
        scene = full[index]
        assert int(scene.labels.max()) < len(seen_ids())
        assert set(np.unique(few[index].labels)) == {0, 1}  # grass around a dog


@needs_font
@pytest.mark.parametrize("name", ["dog", "soccer ball", "fire", "pencil"])
def test_the_mask_ends_where_the_emoji_ends(name: str) -> None:
    """On a wall whose colour changes slowly, every sharp edge lies in the mask or on its border."""
    layout = Layout(count=(1, 1), scale=(0.3, 0.6), two_backgrounds=0)
    scenes = EmojiScenes(1, [IDS[name], IDS["plain wall"]], 128, layout)
    for index in range(8):
        scene = scenes[index]
        inside = scene.labels == 0
        assert inside.sum() > 60
        image = scene.image.astype(int)
        jump = np.zeros(inside.shape, int)
        jump[:, 1:] = np.abs(np.diff(image, axis=1)).max(-1)
        jump[1:] = np.maximum(jump[1:], np.abs(np.diff(image, axis=0)).max(-1))
        near = np.zeros_like(inside)
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                near |= np.roll(inside, (dy, dx), axis=(0, 1))
        assert jump[~near].max(initial=0) <= 3
        assert jump[near].max() > 25


@needs_font
def test_what_is_hidden_is_left_out() -> None:
    squares = [IDS[name] for name in ("fireworks", "calendar", "window", "plain wall")]
    scenes = EmojiScenes(3, squares, 160, Layout(count=(8, 8), scale=(0.4, 0.4), two_backgrounds=0))
    dropped = 0
    for index in range(30):
        labels = scenes[index].labels
        areas = np.bincount(labels.ravel(), minlength=4)[:3]
        assert all(area == 0 or area > 0.2 * 0.5 * 64**2 for area in areas)
        dropped += int((areas == 0).sum())
    assert dropped < 45  # of 90: most of them can be seen


@needs_font
def test_layout_is_kept() -> None:
    empty = EmojiScenes(1, all_ids(), 64, Layout(count=(0, 0), two_backgrounds=0))
    halves = EmojiScenes(1, all_ids(), 64, Layout(count=(0, 0), two_backgrounds=1))
    assert all(len(np.unique(empty[i].labels)) == 1 for i in range(10))
    assert sum(len(np.unique(halves[i].labels)) == 2 for i in range(20)) >= 15
    for i in range(20):
        assert all(not concepts()[label].emoji for label in np.unique(halves[i].labels))


def test_scenes_need_a_background_and_an_emoji() -> None:
    for wanted in ([IDS["dog"]], [IDS["grass"]], []):
        with pytest.raises(ValueError, match="background"):
            EmojiScenes(0, wanted, 64)
    EmojiScenes(0, [IDS["grass"]], 64, Layout(count=(0, 0)))


@pytest.fixture
def fresh_fonts(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Sprites as if none had been drawn, before and after."""
    monkeypatch.setattr(sprites, "_font", sprites._font.__wrapped__)
    monkeypatch.setattr(sprites, "sprite", sprites.sprite.__wrapped__)
    monkeypatch.delenv("SAN_EMOJI_FONT", raising=False)
    return monkeypatch


def test_missing_font_names_the_package(fresh_fonts: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh_fonts.setattr(sprites, "_FONT_FOLDERS", (str(tmp_path), "~nobody/fonts", "~/none"))
    with pytest.raises(SanError, match="not installed") as caught:
        sprites.sprite("🐕")
    assert "fonts-noto-color-emoji" in caught.value.hint and "$SAN_EMOJI_FONT" in caught.value.hint


def test_unusable_font_is_named(fresh_fonts: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    for path in (tmp_path / "broken.ttf", tmp_path / "absent.ttf"):
        fresh_fonts.setenv("SAN_EMOJI_FONT", str(path))
        with pytest.raises(SanError, match="can't be used") as caught:
            sprites.sprite("🐕")
        assert path.name in caught.value.message


@needs_font
def test_font_is_found_below_the_usual_folders(fresh_fonts: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed = next(sprites._candidates())
    (tmp_path / "truetype" / "noto").mkdir(parents=True)
    shutil.copy(installed, tmp_path / "truetype" / "noto")
    fresh_fonts.setattr(sprites, "_FONT_FOLDERS", (str(tmp_path),))
    assert sprites.sprite("🐕")[0].getbbox() is not None


@needs_font
def test_a_character_without_picture_is_an_error() -> None:
    with pytest.raises(SanError, match="no picture"):
        sprites.sprite("\u200b")


@needs_font
def test_every_concept_has_a_picture() -> None:
    for concept in concepts():
        if concept.emoji:
            full, *smaller = sprites.sprite(concept.emoji)
            assert max(full.size) >= 90, concept.name
            assert full.getchannel("A").getextrema()[1] >= 250, concept.name
            assert len(smaller) == 3
