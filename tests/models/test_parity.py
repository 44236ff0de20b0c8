"""Our outputs against the official implementation's, through the public API (tolerances: see README)."""

from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
from presets import GOLDEN_TINY

from san_cli import Segmenter
from san_cli.engine.mask_blocks import Frame
from san_cli.engine.segmentation_map import segmentation_map, segmentation_scores
from san_cli.models.presets import VIT_B_16, VIT_L_14, Preset
from san_cli.models.san import PAD_TO

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory: pytest.TempPathFactory):
    """Load each model once from a fake official checkpoint: `.pth` in detectron2's format."""
    loaded: dict[str, Segmenter] = {}

    def load(preset: Preset) -> Segmenter:
        if preset.name not in loaded:
            path = tmp_path_factory.mktemp("official") / f"{preset.name}.pth"
            recipe.save_official(str(path), recipe.official_state(preset))
            loaded.clear()  # one big model in memory at a time
            loaded[preset.name] = Segmenter.load(preset, weights=path, device="cpu", precision="fp32")
        return loaded[preset.name]

    return load


CASES = [
    ("tiny_a", GOLDEN_TINY),
    ("tiny_b", GOLDEN_TINY),
    pytest.param("vit_b_16_a", VIT_B_16, marks=pytest.mark.parity),
    pytest.param("vit_b_16_b", VIT_B_16, marks=pytest.mark.parity),
    pytest.param("vit_large_14_c", VIT_L_14, marks=pytest.mark.parity),
]


@pytest.mark.parametrize(("case", "preset"), CASES)
def test_outputs_equal_the_official_ones(
    case: str, preset: Preset, segmenters, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("SAN_HOME", str(tmp_path))
    golden = np.load(GOLDENS / f"{case}.npz")
    segmenter = segmenters(preset)
    picture = recipe.image(int(golden["image_seed"]), *golden["image_hw"])
    vocabulary = [str(name) for name in golden["vocabulary"]]
    few = slice(None) if preset is GOLDEN_TINY else slice(None, None, 2)  # what the big goldens hold

    raw = segmenter.raw(picture, vocabulary)
    assert np.abs(raw.text_embeddings[golden["text_rows"]] - golden["text_embeddings"]).max() < 1e-5
    assert np.abs(raw.mask_logits[:, few, few] - golden["mask_logits"]).max() < 3e-4
    assert np.abs(raw.region_embeddings[few] - golden["region_embeddings"]).max() < 1e-5
    assert np.abs(raw.class_logits[few] - golden["class_logits"]).max() < 5e-4

    height, width = picture.shape[:2]
    padded = (height + -height % PAD_TO, width + -width % PAD_TO)
    frame = Frame(padded, (height, width), tuple(int(side) for side in golden["output_hw"]))
    masks = torch.from_numpy(raw.mask_logits)
    probabilities = torch.from_numpy(raw.class_logits).softmax(dim=-1)[:, :-1]
    scores = segmentation_scores(masks, probabilities, frame)
    coarse = scores[:, ::16, ::16] if case != "vit_b_16_b" else scores[:, ::48, ::48]
    assert np.abs(coarse.numpy() - golden["scores"]).max() < 2e-3
    first, second = scores.topk(2, dim=0).values
    decided = (first - second > 1e-3).numpy()
    label_map = segmentation_map(masks, probabilities, frame).label_map
    assert decided.mean() > 0.99
    assert (label_map[decided] == golden["label_map"][decided]).all()
