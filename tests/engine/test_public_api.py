"""What `san_cli` itself offers: every public name, without torch until one needs it, and a bar for notebooks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import recipe

import san_cli
from san_cli import SanError, Segmenter, Vocabulary, parse_vocabulary

PIXELS = recipe.image(3, 40, 60)


@pytest.fixture
def segmenter(tiny_weights: Path, san_home: Path, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    monkeypatch.setenv("SAN_HOME", str(san_home))
    return Segmenter.load(weights=tiny_weights, device="cpu")


def test_every_public_name_is_there_and_listed() -> None:
    assert set(san_cli.__all__) <= set(dir(san_cli))
    for name in san_cli.__all__:
        assert getattr(san_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'segmenter'"):
        _ = san_cli.segmenter


def test_importing_and_reading_a_vocabulary_need_no_torch() -> None:
    code = (
        "import sys, san_cli; assert 'numpy' not in sys.modules; dir(san_cli); "
        "san_cli.parse_vocabulary(['coco']), san_cli.PRESETS, san_cli.Reading, san_cli.SanError; "
        "print([name for name in ('torch', 'open_clip') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_vocabulary_that_was_read_goes_straight_into_a_segmentation(segmenter: Segmenter) -> None:
    vocabulary = parse_vocabulary(["cat+dog", "cat|kitten"])
    assert isinstance(vocabulary, Vocabulary)
    assert vocabulary.notes == ("sharing one class: kitten with cat",)
    assert segmenter.segment(PIXELS, vocabulary).vocabulary == ("cat", "dog")


def test_a_progress_bar_goes_to_stderr_and_changes_nothing(
    segmenter: Segmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [PIXELS, recipe.image(4, 60, 40), PIXELS]
    silent = segmenter.segment_batch(images, ["cat", "dog"])
    assert capsys.readouterr() == ("", "")
    shown = segmenter.segment_batch(images, ["cat", "dog"], progress=True)
    written = capsys.readouterr()
    assert written.out == ""
    assert "3/3" in written.err
    assert all((one.label_map == other.label_map).all() for one, other in zip(silent, shown, strict=True))
    with pytest.raises(SanError):
        segmenter.segment_batch([*images, "missing.jpg"], ["cat", "dog"], progress=True)


def test_new_words_in_another_working_folder(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text tower is read when a word needs it, from weights that were named relative to the first folder."""
    monkeypatch.chdir(tiny_weights.parent)
    segmenter = Segmenter.load(weights=tiny_weights.name, device="cpu")
    monkeypatch.chdir(tmp_path)
    made = segmenter.segment(np.zeros((40, 50, 3), np.uint8), ["a word that nobody has embedded", "another"])
    assert made.label_map.shape == (40, 50)
