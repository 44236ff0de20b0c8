"""The network's parts against independent formulas, and the switches of the ablations."""

from dataclasses import replace

import pytest
import recipe
import torch
import torch.nn.functional as F
from presets import GOLDEN_TINY
from torch import Tensor, nn

from san_cli.errors import SanError
from san_cli.models.clip import build_text_tower, clip_features, recognise_regions
from san_cli.models.presets import VIT_B_16, VIT_L_14, Preset, preset_from_json, preset_to_json
from san_cli.models.san import SAN, normalise

SMALL = replace(GOLDEN_TINY, name="small", side_depth=4)


def build(preset: Preset) -> SAN:
    torch.manual_seed(0)
    return SAN(preset).eval()


def picture(batch: int = 1, height: int = 128, width: int = 128) -> Tensor:
    pixels = torch.stack([torch.from_numpy(recipe.image(7 + i, height, width)) for i in range(batch)])
    return normalise(pixels.permute(0, 3, 1, 2))


def masked_self_attention(model: SAN, image: Tensor, bias: Tensor) -> Tensor:
    """Recognition as the paper's Figure 4 draws it: all tokens in one sequence under one mask."""
    preset, visual = model.preset, model.visual
    clip_image = F.interpolate(image, scale_factor=preset.clip_scale, mode="bilinear", align_corners=False)
    features, grid = clip_features(visual, clip_image, preset)
    start = preset.clip.layers - preset.recognition_layers
    tokens = features[start]
    number, seen = preset.queries, tokens.shape[1]
    sequence = torch.cat([tokens[:, :1].expand(-1, number, -1), tokens], dim=1)  # [SLS] × N, [CLS], patches
    pooled = F.adaptive_max_pool2d(bias.flatten(1, 2), grid).view(len(image), preset.clip.heads, number, -1)
    mask = torch.zeros(len(image), preset.clip.heads, number + seen, number + seen, dtype=bias.dtype)
    mask[..., :number] = float("-inf")  # nobody sees an [SLS] token …
    mask[..., range(number), range(number)] = 0  # … but itself
    mask[..., :number, number] = float("-inf")  # [SLS] tokens don't see [CLS]
    mask[..., :number, number + 1 :] = pooled
    for block in visual.transformer.resblocks[start:]:
        sequence = block(sequence, attn_mask=mask.flatten(0, 1))
    return visual.ln_post(sequence[:, :number]) @ visual.proj


@pytest.mark.parametrize("fused", [9, 11, 12])  # up to where recognition starts, into it, to its end
def test_cross_attention_equals_masked_self_attention(fused: int) -> None:
    """Also where fusion has carried the image's tokens further than recognition needs: they aren't carried again."""
    model = build(replace(GOLDEN_TINY, feature_layers=fused, fusion=((0, 0), (1, fused)))).double()
    image = picture(batch=2, width=160).double()
    bias = torch.randn(2, 4, 10, 8, 10, dtype=torch.float64) * 4
    clip_image = F.interpolate(image, scale_factor=0.5, mode="bilinear", align_corners=False)
    features, grid = clip_features(model.visual, clip_image, model.preset)
    ours = recognise_regions(model.visual, features, grid, bias, model.preset)
    assert (ours - masked_self_attention(model, image, bias)).abs().max() < 1e-12


def test_clip_tower_equals_open_clip() -> None:
    """With zero bias and [SLS] = [CLS], only the keys differ; the features must be open_clip's own."""
    model = build(GOLDEN_TINY)
    image = picture(height=64, width=64)
    features, _ = clip_features(model.visual, image, replace(GOLDEN_TINY, recognition_layers=3))
    tokens = model.visual.conv1(image).flatten(2).transpose(1, 2)
    tokens = torch.cat([model.visual.class_embedding.expand(1, 1, -1), tokens], dim=1)
    tokens = model.visual.ln_pre(tokens + model.visual.positional_embedding)
    for block in model.visual.transformer.resblocks[:9]:
        tokens = block(tokens)
    assert torch.allclose(features[9], tokens, atol=1e-5)


def test_batch_equals_single_images() -> None:
    model = build(GOLDEN_TINY)
    image = picture(batch=3)
    together = model(image)[0]
    for index in range(3):
        alone = model(image[index : index + 1])[0]
        assert torch.allclose(together.mask_logits[index], alone.mask_logits[0], atol=1e-4)
        assert torch.allclose(together.region_embeddings[index], alone.region_embeddings[0], atol=1e-5)


def test_all_supervised_layers_come_final_first() -> None:
    model = build(GOLDEN_TINY)
    image = picture()
    outputs = model(image, all_supervised=True)
    assert len(outputs) == 2
    assert torch.equal(outputs[0].mask_logits, model(image)[0].mask_logits)
    assert not torch.equal(outputs[0].mask_logits, outputs[1].mask_logits)


@pytest.mark.parametrize(
    ("preset", "trainable", "total"), [(VIT_B_16, 8_370_866, 157_840_307), (VIT_L_14, 9_321_650, 436_674_995)]
)
def test_parameter_counts_are_the_paper_s(preset: Preset, trainable: int, total: int) -> None:
    with torch.device("meta"):
        model, text = SAN(preset), build_text_tower(preset.clip)
    adapter = [*model.side_adapter.parameters(), *model.mask_decoder.parameters()]
    counted = count([*adapter, model.background_embedding, model.visual.positional_embedding])
    assert counted == trainable
    assert count([*model.parameters(), *text.parameters()]) == total


def count(parameters: list[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize(
    "change",
    [
        {"fusion": ()},
        {"fusion": ((1, 9),)},
        {"feature_layers": 6, "recognition_layers": 6, "fusion": ((0, 0), (1, 3), (2, 6))},
        {"feature_layers": 12, "recognition_layers": 12},
        {"feature_layers": 11, "recognition_layers": 1},
        {"clip_scale": 0.35},
        {"clip_scale": 1.0},
        {"decoupled_head": False},
    ],
    ids=lambda change: ",".join(change),
)
def test_ablations_change_the_output(change: dict) -> None:
    """Tables 4, 5, 7, 8: the same weights, another graph, another result of the same shape."""
    default, ablated = build(GOLDEN_TINY), build(replace(GOLDEN_TINY, **change))
    state = {name: tensor for name, tensor in default.state_dict().items() if name in ablated.state_dict()}
    ablated.load_state_dict(state)
    image = picture()
    ours, other = default(image)[0], ablated(image)[0]
    assert ours.mask_logits.shape == other.mask_logits.shape
    assert not torch.allclose(ours.region_embeddings, other.region_embeddings, atol=1e-5)


def test_blocked_gradient_isolates_the_proposals_from_clip() -> None:
    """Table 6: a loss on the recognition must not move the mask proposals in two-stage training."""
    for blocked in (False, True):
        model = build(replace(SMALL, decoupled_head=False, block_clip_gradient=blocked))
        model(picture())[0].region_embeddings.sum().backward()
        gradient = model.side_adapter.query_embed.grad
        assert (gradient is None or not gradient.any()) == blocked


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"fusion": ((1, 10),)}, "CLIP layer 10"),
        ({"fusion": ((9, 3),)}, "side-adapter layer 9"),
        ({"fusion": ((1, 3), (1, 6))}, "same side-adapter layer"),
        ({"recognition_layers": 2}, "unused"),
        ({"recognition_layers": 0}, "must be positive"),
        ({"recognition_layers": 13}, "within CLIP's 12"),
        ({"side_patch_size": 14}, r"side_patch_size \(14\) must divide 32"),
        ({"input_size": 100}, r"\(16\) must divide 32 and input_size \(100\)"),
        ({"clip_scale": 0.0}, "clip_scale is 0.0, and must be positive"),
        ({"supervised_layers": 9}, "supervised"),
        ({"block_clip_gradient": True}, "attention bias"),
        ({"side_heads": 7}, "multiple"),
    ],
)
def test_presets_that_cannot_be_built_are_refused(change: dict, word: str) -> None:
    with pytest.raises(SanError, match=word):
        replace(VIT_B_16, **change)


def test_preset_survives_json() -> None:
    for preset in (VIT_B_16, VIT_L_14, replace(SMALL, fusion=())):
        assert preset_from_json(preset_to_json(preset)) == preset
    with pytest.raises(SanError):
        preset_from_json('{"name": "x"}')


def test_normalise_pads_with_the_mean_colour() -> None:
    padded = normalise(torch.full((1, 3, 33, 40), 255, dtype=torch.uint8))
    assert padded.shape == (1, 3, 64, 64)
    assert padded[..., 33:, :].abs().max() == 0
    assert padded[..., 40:].abs().max() == 0
    assert torch.allclose(padded[0, :, 0, 0], torch.tensor([1.9303, 2.0749, 2.1459]), atol=1e-4)
