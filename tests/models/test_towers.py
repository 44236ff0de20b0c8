"""CLIP's towers against open_clip's: the same numbers to begin with, the same names, and the same outputs."""

from dataclasses import replace

import pytest
import torch
from open_clip import transformer
from presets import GOLDEN_TINY
from torch import nn

from san_cli.models.clip import build_image_tower, build_text_tower
from san_cli.models.presets import VIT_B_16, ClipShape
from san_cli.models.text import encode_prompts

SHAPES = [
    GOLDEN_TINY.clip,
    replace(GOLDEN_TINY.clip, quick_gelu=not GOLDEN_TINY.clip.quick_gelu),
    replace(VIT_B_16.clip, layers=1, text_layers=2),
]


def open_clips(shape: ClipShape) -> tuple[transformer.VisionTransformer, transformer.TextTransformer]:
    """Its towers of that shape, drawn as ours are below."""
    activation = transformer.QuickGELU if shape.quick_gelu else nn.GELU
    torch.manual_seed(3)
    return (
        transformer.VisionTransformer(
            shape.image_size, shape.patch_size, shape.width, shape.layers, shape.heads, mlp_ratio=4.0,
            output_dim=shape.embed_dim, act_layer=activation,
        ),
        transformer.TextTransformer(
            shape.context_length, shape.vocab_size, shape.text_width, shape.text_heads, shape.text_layers,
            output_dim=shape.embed_dim, act_layer=activation,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_towers_are_open_clips_to_the_bit(shape: ClipShape) -> None:
    theirs = open_clips(shape)
    torch.manual_seed(3)
    ours = (build_image_tower(shape), build_text_tower(shape))
    for one, other in zip(theirs, ours, strict=True):
        first, second = one.state_dict(), other.state_dict()
        assert list(first) == list(second)
        assert [name for name, _ in one.named_parameters()] == [name for name, _ in other.named_parameters()]
        assert all(torch.equal(first[name], second[name]) for name in first)
        tokens = torch.randn(2, 9, one.transformer.width)
        for their_block, our_block in zip(
            one.transformer.resblocks, other.transformer.resblocks, strict=True
        ):
            assert torch.equal(their_block(tokens), our_block(tokens))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert torch.equal(their_block(tokens.bfloat16()), our_block(tokens.bfloat16()))
    assert ours[0].grid_size == tuple(theirs[0].grid_size)


@pytest.mark.parametrize("shape", SHAPES)
def test_truncated_prompts_give_the_same_text_features(shape: ClipShape) -> None:
    theirs = open_clips(shape)[1].eval()
    ours = build_text_tower(shape).eval()
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.zeros(3, shape.context_length, dtype=torch.long)
    for row, length in enumerate((4, 9, 6)):
        tokens[row, :length] = torch.randint(1, 40000, (length,))
        tokens[row, length] = 49407
    assert torch.allclose(encode_prompts(ours, tokens), theirs(tokens), atol=1e-5)
