"""SAN's forward pass in the form that the paper counted: same weights, same result, more multiply-adds.

[SLS] tokens are carried by masked self-attention in one sequence with the image's tokens (Fig. 4) instead of beside
them, the last block updates every token, and the attention bias is made of pixels projected through the whole MLP
instead of queries through its last layer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.models.clip import clip_features, project_tokens, updated_tokens
from san_cli.models.mask_decoder import MaskDecoder
from san_cli.models.san import SAN, SanOutput


def paper_form(model: SAN, image: Tensor) -> SanOutput:
    """The final layer's output for `image` [B, 3, H, W], as `model(image)[0]`."""
    preset = model.preset
    clip_image = F.interpolate(image, scale_factor=preset.clip_scale, mode="bilinear", align_corners=False)
    features, grid = clip_features(model.visual, clip_image, preset)
    ((queries, pixels),) = model.side_adapter(image, features, grid, False)
    mask_logits, bias = _decode(model.mask_decoder, queries, pixels)
    regions = _masked_self_attention(model, features, grid, bias)
    return SanOutput(mask_logits, F.normalize(regions.float(), dim=-1), bias)


def _decode(decoder: MaskDecoder, queries: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mask logits [B, N, h, w] and attention bias [B, heads, N, h, w]."""
    if decoder.bias_mlp is None:
        return decoder(queries, pixels)
    grid = pixels.shape[-2:]
    pixels = pixels.flatten(2).transpose(1, 2)
    queries = decoder.query_mlp(queries)
    mask_logits = queries @ decoder.pixel_mlp(pixels).transpose(1, 2)
    per_head = decoder.bias_mlp(pixels).unflatten(-1, (decoder.heads, -1))  # [B, hw, heads, inner]
    bias = torch.einsum("bnc,bphc->bhnp", queries, per_head)
    bias = decoder.bias_scaling.weight * bias + decoder.bias_scaling.bias
    return mask_logits.unflatten(-1, grid), bias.unflatten(-1, grid)


def _masked_self_attention(
    model: SAN, features: dict[int, Tensor], grid: tuple[int, int], bias: Tensor
) -> Tensor:
    """Region embeddings [B, N, D], not normalised."""
    preset, visual = model.preset, model.visual
    start = preset.clip.layers - preset.recognition_layers
    tokens, number = features[start], preset.queries
    sequence = torch.cat([tokens[:, :1].expand(-1, number, -1), tokens], dim=1)  # [SLS] × N, [CLS], patches
    pooled = F.adaptive_max_pool2d(bias.flatten(1, 2), grid).unflatten(1, bias.shape[1:3]).flatten(3)
    mask = pooled.new_zeros(*bias.shape[:2], sequence.shape[1], sequence.shape[1])
    mask[..., : number + 1] = float("-inf")  # nobody sees an [SLS] token, nor they [CLS] …
    mask[..., range(number + 1), range(number + 1)] = 0  # … but each sees itself
    mask[..., number:, number] = 0  # and the image's tokens see [CLS]
    mask[..., :number, number + 1 :] = pooled
    for block in visual.transformer.resblocks[start:]:
        query, key, value = project_tokens(block, sequence, "qkv")
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        sequence = updated_tokens(block, sequence, seen)
    return visual.ln_post(sequence[:, :number]) @ visual.proj
