"""The number of threads reaches no result: a process of torchrun, which has one, writes what any other does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from san_cli import MapOptions, Segmenter
from san_cli.datasets.images import load_image
from san_cli.vocabulary.grammar import parse_vocabulary

PHOTO = Path(__file__).resolve().parents[2] / "examples" / "photos" / "cat.jpg"


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="another library multiplies the matrices")
@pytest.mark.parametrize("words", ["voc", "emoji"])
def test_network_and_label_map_are_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, san_home: Path, words: str
) -> None:
    monkeypatch.setenv("SAN_HOME", str(san_home))
    segmenter = Segmenter.load("tiny", device="cpu")
    vocabulary = parse_vocabulary([words])
    pixels = load_image(PHOTO, max_pixels=10**6).pixels
    resized = segmenter.resize(pixels)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        factors = segmenter.map_factors([resized], vocabulary)
        (made,) = segmenter.segment_resized(
            [resized], [pixels.shape[:2]], vocabulary, MapOptions(keep_scores=True)
        )
        of_classes = (made.class_scores, made.class_confidences, np.array(made.uncertain))
        found.append([*(factor.numpy() for factor in factors), made.label_map, made.confidence, *of_classes])
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(found[0], other, strict=True))
