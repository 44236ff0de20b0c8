"""CLIP's two towers, their parameters named and initialised as open_clip's are.

Ours, since importing open_clip takes as long as importing torch does: with it come torchvision, timm and
torch's compiler. Its tokenizer is imported for words that are new.
"""

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

from san_cli.models.presets import ClipShape


class LayerNorm(nn.LayerNorm):
    """Normalises tokens, and gives them the precision they had: autocast would leave them in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [..., width]."""
        return super().forward(input).to(input.dtype)


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIPs: a GELU through a sigmoid."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each element."""
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """A transformer's block with the norms before its attention and before its MLP."""

    def __init__(self, width: int, heads: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = LayerNorm(width)
        expand, contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(OrderedDict(c_fc=expand, gelu=activation(), c_proj=contract))

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Tokens [B, T, width]; `attn_mask` [T, T] is added to the attention's logits."""
        normed = self.ln_1(tokens)
        seen, _ = self.attn(normed, normed, normed, need_weights=False, attn_mask=attn_mask)
        tokens = tokens + seen
        return tokens + self.mlp(self.ln_2(tokens))


class Transformer(nn.Module):
    """Blocks in a row; the ways through them are in `models/clip.py` and `models/text.py`."""

    def __init__(self, width: int, layers: int, heads: int, activation: type[nn.Module]) -> None:
        super().__init__()
        blocks = [ResidualAttentionBlock(width, heads, activation) for _ in range(layers)]
        self.resblocks = cast(list[ResidualAttentionBlock], nn.ModuleList(blocks))


class VisionTransformer(nn.Module):
    """The parts of CLIP's image tower; the way through them is in `models/clip.py`."""

    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        side, width = shape.image_size // shape.patch_size, shape.width
        self.grid_size = (side, side)
        self.conv1 = nn.Conv2d(3, width, shape.patch_size, shape.patch_size, bias=False)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(side * side + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, shape.layers, shape.heads, _activation(shape))
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, shape.embed_dim))


class TextTransformer(nn.Module):
    """The parts of CLIP's text tower; the way through them is in `models/text.py`."""

    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        width, layers = shape.text_width, shape.text_layers
        self.token_embedding = nn.Embedding(shape.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(shape.context_length, width))
        self.transformer = Transformer(width, layers, shape.text_heads, _activation(shape))
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, shape.embed_dim))

        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in self.transformer.resblocks:
            attn, (expand, _, contract) = block.attn, block.mlp
            nn.init.normal_(attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(cast(nn.Linear, expand).weight, std=(2 * width) ** -0.5)
            nn.init.normal_(cast(nn.Linear, contract).weight, std=width**-0.5 * (2 * layers) ** -0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)


def _activation(shape: ClipShape) -> type[nn.Module]:
    return QuickGELU if shape.quick_gelu else nn.GELU
