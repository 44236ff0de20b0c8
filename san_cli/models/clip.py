"""CLIP, as SAN uses it: our way through its image tower.

What SAN changes in the image tower's forward is here: tapping features, stopping at a layer, and carrying [SLS]
tokens through the last blocks under an attention bias (Sec. 3, Fig. 4).
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.models.activation_checkpointing import checkpointed
from san_cli.models.any_size import exporting, longest_window, max_pool_of_any, resized_positions_of_any
from san_cli.models.presets import ClipShape, Preset
from san_cli.models.towers import ResidualAttentionBlock, TextTransformer, VisionTransformer


def build_image_tower(shape: ClipShape) -> VisionTransformer:
    """Build CLIP's image tower, initialised as open_clip does."""
    return VisionTransformer(shape)


def build_text_tower(shape: ClipShape) -> TextTransformer:
    """CLIP's text tower, initialised as open_clip does."""
    return TextTransformer(shape)


def clip_features(
    visual: VisionTransformer,
    image: Tensor,
    preset: Preset,
    activation_checkpointing: bool = False,
    positions: Tensor | None = None,
) -> tuple[dict[int, Tensor], tuple[int, int]]:
    """Run CLIP's shallow blocks over `image` [B, 3, H', W'] and keep what later steps need.

    `positions` [1+hw, width] are the position embeddings, where the image isn't the whole of CLIP's field of view.
    Returns the tokens [B, 1+hw, width] ([CLS] first, no final norm) after each layer (layer 0: after `ln_pre`) that
    is fused into the side adapter or that recognition starts from, and after those from there to the last fused
    one; and the patch grid (h, w).
    """
    patches = visual.conv1(image)  # [B, width, h, w]
    grid = (patches.shape[2], patches.shape[3])
    tokens = patches.flatten(2).transpose(1, 2)  # [B, hw, width]
    cls = visual.class_embedding.expand(tokens.shape[0], 1, -1)
    tokens = torch.cat([cls, tokens], dim=1) + (_positions(visual, grid) if positions is None else positions)
    tokens = visual.ln_pre(tokens)

    start = preset.clip.layers - preset.recognition_layers
    wanted = {start, *(clip for _, clip in preset.fusion)}
    features = {0: tokens} if 0 in wanted else {}
    for layer in range(1, max(wanted) + 1):
        tokens = checkpointed(
            image_block, visual.transformer.resblocks[layer - 1], tokens, wanted=activation_checkpointing
        )
        if layer in wanted or layer > start:
            features[layer] = tokens
    return features, grid


def _positions(visual: VisionTransformer, grid: tuple[int, int]) -> Tensor:
    """Give position embeddings [1+hw, width] for that grid: bicubic from the pretraining grid where it differs."""
    positions = visual.positional_embedding
    if not exporting() and grid == tuple(visual.grid_size):
        return positions
    return torch.cat([positions[:1], resized_positions(positions[None, 1:], grid)[0]])  # [CLS]'s stays


def resized_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize learned positions of a square [1, side², width] to another grid of patches, bicubically: [1, hw, width].

    CLIP's and the side adapter's alike.
    """
    if exporting():
        return resized_positions_of_any(positions, grid)
    side = round(positions.shape[1] ** 0.5)
    square = positions.transpose(1, 2).unflatten(2, (side, side))  # [1, width, side, side]
    resized = F.interpolate(square.float(), size=grid, mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2).to(positions.dtype)


def recognise_regions(
    visual: VisionTransformer,
    features: dict[int, Tensor],
    grid: tuple[int, int],
    attention_bias: Tensor,
    preset: Preset,
) -> Tensor:
    """Carry N copies of [CLS] through CLIP's last blocks, each looking where its bias says (Eq. 3).

    `attention_bias` [B, heads, N, H/16, W/16] is max-pooled to CLIP's grid. Returns [B, N, D], not normalised.
    Image tokens never see the [SLS] tokens, so the two streams run side by side and the [SLS] tokens are
    updated by cross-attention: O((Tv+Tc)² + Ts(Tv+Tc)) instead of O((Tv+Tc+Ts)²).
    """
    start = preset.clip.layers - preset.recognition_layers
    tokens = features[start]  # [B, 1+hw, width]
    batch, heads, queries = attention_bias.shape[:3]
    sls = tokens[:, :1].expand(-1, queries, -1)  # [B, N, width]
    pooled = _max_pool(attention_bias.flatten(1, 2), grid, preset)  # [B, heads*N, h, w]
    bias = pooled.view(batch, heads, queries, -1)  # [B, heads, N, hw]

    blocks, last = visual.transformer.resblocks, preset.clip.layers - 1
    for layer in range(start, last + 1):
        # Nobody reads the image tokens after the last block, and where they are known nobody makes them again.
        carried = layer < last and layer + 1 not in features
        if carried:
            query, key, value = project_tokens(blocks[layer], tokens, "qkv")
            tokens = updated_tokens(blocks[layer], tokens, F.scaled_dot_product_attention(query, key, value))
        else:
            key, value = project_tokens(blocks[layer], tokens, "kv")
            tokens = features.get(layer + 1, tokens)
        sls = _sls_block(blocks[layer], sls, key[:, :, 1:], value[:, :, 1:], bias)
    return visual.ln_post(sls) @ visual.proj


def _max_pool(bias: Tensor, grid: tuple[int, int], preset: Preset) -> Tensor:
    """Pool adaptively (maximum) to `grid`, with overlapping windows where it doesn't divide (ViT-L/14: 40 to 32)."""
    if exporting():
        return max_pool_of_any(bias, grid, longest_window(preset))
    divides = bias.shape[-2] % grid[0] == 0 and bias.shape[-1] % grid[1] == 0
    if bias.device.type == "mps" and not divides:  # silently wrong there (pytorch issue 190064)
        return F.adaptive_max_pool2d(bias.cpu(), grid).to(bias.device)
    if divides and not bias.requires_grad:  # gradients would go elsewhere where two are equal
        # In a tenth of the time.
        for axis, to in ((2, grid[0]), (3, grid[1])):
            bias = reduce(torch.maximum, bias.unflatten(axis, (to, -1)).unbind(axis + 1))
        return bias
    return F.adaptive_max_pool2d(bias, grid)


def image_block(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """Run one CLIP block over the image tokens [B, 1+hw, width]."""
    query, key, value = project_tokens(block, tokens, "qkv")
    return updated_tokens(block, tokens, F.scaled_dot_product_attention(query, key, value))


def _sls_block(
    block: ResidualAttentionBlock, sls: Tensor, key: Tensor, value: Tensor, bias: Tensor
) -> Tensor:
    """Run one CLIP block over the [SLS] tokens [B, N, width]: they see the patches under the bias, and themselves.

    `key` and `value` are the patches' [B, heads, hw, width/heads]: [SLS] tokens don't see [CLS], nor each other.
    `bias` is [B, heads, N, hw].
    """
    query, own_key, own_value = project_tokens(block, sls, "qkv")
    query = query * query.shape[-1] ** -0.5
    patches = query @ key.transpose(-1, -2) + bias.to(query.dtype)  # [B, heads, N, hw]
    itself = (query * own_key).sum(dim=-1, keepdim=True)  # [B, heads, N, 1]
    weights = torch.cat([patches, itself], dim=-1).softmax(dim=-1).to(value.dtype)
    seen = weights[..., :-1] @ value + weights[..., -1:] * own_value
    return updated_tokens(block, sls, seen)


def project_tokens(block: ResidualAttentionBlock, tokens: Tensor, parts: str) -> list[Tensor]:
    """Project tokens to queries, keys and values (or only "kv") of a block, each [B, heads, T, width/heads]."""
    attn = block.attn
    first = (3 - len(parts)) * tokens.shape[-1]
    projected = F.linear(block.ln_1(tokens), attn.in_proj_weight[first:], attn.in_proj_bias[first:])
    return [_split_heads(part, attn.num_heads) for part in projected.chunk(len(parts), dim=-1)]


def updated_tokens(block: ResidualAttentionBlock, tokens: Tensor, seen: Tensor) -> Tensor:
    """Add what was seen [B, heads, T, width/heads] to the tokens [B, T, width], then the MLP's part."""
    tokens = tokens + block.attn.out_proj(_join_heads(seen))
    return tokens + block.mlp(block.ln_2(tokens))


def _split_heads(tokens: Tensor, heads: int) -> Tensor:
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, heads, T, width/heads]


def _join_heads(tokens: Tensor) -> Tensor:
    return tokens.transpose(1, 2).flatten(2)  # [B, T, width]
