"""A network that overflows: weights are finite, its output isn't. Nothing is made of that, nothing is scored."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from eval_trees import make_voc
from PIL import Image
from program import San, tree
from recipe import image

from san_cli.engine.results import NotFinite
from san_cli.engine.segmenter import Segmenter
from san_cli.errors import SanError
from san_cli.vocabulary.grammar import vocabulary_of_names
from san_cli.weights.checkpoint import read_checkpoint, write_checkpoint

# What is scaled, and where the overflow shows: in the masks, in CLIP's regions, in the attention bias between.
OVERFLOWS = {
    "masks": {
        "mask_decoder.query_mlp.layers.2.weight": 1e20,
        "mask_decoder.pixel_mlp.layers.2.weight": 1e20,
    },
    "regions": {"visual.proj": 1e30},  # the length of an embedding overflows, which makes it 0
    "class logits": {"logit_scale": 25.0},  # e^115
    "attention": {"mask_decoder.bias_mlp.layers.2.weight": 1e30, "mask_decoder.bias_scaling.weight": 1e10},
}


def scaled(weights: Path, folder: Path, factors: dict[str, float]) -> Path:
    """A copy of the model with some tensors times a factor, every value finite."""
    checkpoint = read_checkpoint(weights)
    tensors = {name: checkpoint.state[name] * factor for name, factor in factors.items()}
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    path = folder / "scaled.safetensors"
    write_checkpoint(dataclasses.replace(checkpoint, state={**checkpoint.state, **tensors}), path)
    return path


@pytest.fixture(scope="module", params=OVERFLOWS)
def overflowing(
    request: pytest.FixtureRequest, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return scaled(tiny_weights, tmp_path_factory.mktemp("overflow"), OVERFLOWS[request.param])


def test_predict_fails_the_images(predict: San, overflowing: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = predict(photos, "-o", out, "--save", "json,labels", "--weights", overflowing)
    assert ended.code in (3, 4)
    assert ended.err.count("not finite") == 6
    assert "Traceback" not in ended.err
    assert not [name for name in tree(out) if name.endswith(".labels.png")]
    document = json.loads((out / "predictions.json").read_text())
    assert document["annotations"] == []


def test_eval_scores_nothing(san: San, overflowing: Path, tmp_path: Path) -> None:
    root = make_voc(tmp_path / "data", 2)
    options = ["voc", "--data-root", root, "--weights", overflowing, "--device", "cpu"]
    ended = san("eval", *options)
    assert (ended.code, ended.out) == (3, "")
    assert "p00.jpg: the network's output is not finite" in ended.err
    ended = san("eval", *options, "--keep-going")
    assert (ended.code, ended.out) == (4, "")
    assert "no image of voc could be evaluated" in ended.err


def test_python_raises(overflowing: Path) -> None:
    segmenter = Segmenter.load(weights=overflowing, device="cpu")
    pixels = image(0, 64, 96)
    for call in (
        lambda: segmenter.segment(pixels, ["cat", "dog"]),
        lambda: segmenter.segment_batch([pixels, pixels], ["cat", "dog"]),
        lambda: segmenter.raw(pixels, ["cat", "dog"]),
    ):
        with pytest.raises(NotFinite, match="not finite"):
            call()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_precision(tiny_weights: Path, tmp_path: Path, precision: str) -> None:
    weights = scaled(tiny_weights, tmp_path, OVERFLOWS["masks"])
    segmenter = Segmenter.load(weights=weights, device="cpu", precision=precision)
    with pytest.raises(NotFinite):
        segmenter.segment(image(0, 64, 96), ["cat", "dog"])


def test_an_image_that_overflows_alone_changes_no_other(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch, only the image itself fails: the others' maps are what the batch makes of them."""
    segmenter = Segmenter.load(weights=tiny_weights, device="cpu", precision="fp32")
    pictures = [segmenter.resize(image(number, 64, 64)) for number in range(3)]
    words = vocabulary_of_names(["cat", "dog"])
    alike = segmenter.segment_resized(pictures, [(64, 64)] * 3, words)
    forward = segmenter._forward

    def overflow(*arguments: object) -> tuple[torch.Tensor, ...]:
        masks, classes, regions = forward(*arguments)
        masks[1, 0, 0, 0] = float("inf")
        return masks, classes, regions

    monkeypatch.setattr(segmenter, "_forward", overflow)
    maps = segmenter.segment_resized(pictures, [(64, 64)] * 3, words)
    assert maps[1] is None
    for place in (0, 2):
        assert np.array_equal(maps[place].label_map, alike[place].label_map)


def test_a_text_tower_that_overflows_leaves_nothing_in_the_cache(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "home"))
    weights = scaled(tiny_weights, tmp_path, {"text.text_projection": 1e30})
    segmenter = Segmenter.load(weights=weights, device="cpu")
    with pytest.raises(SanError, match="text tower's output is not finite"):
        segmenter.segment(np.asarray(Image.new("RGB", (64, 64))), ["cat"])
    assert not list((tmp_path / "home").rglob("text/*/*"))
