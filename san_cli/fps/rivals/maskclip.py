"""MaskCLIP on ViT-B/16, as the paper's authors must have built it from its description: one CLIP pass an image.

The official release came later and has other sizes, so this is a reconstruction: its mechanism with SimSeg's
proposals, relative mask attention (RMA) in every sixth layer, and CLIP at 512 pixels, the round size that comes
nearest to the published GFLOPs (312 against 307.8; parameters 63.04 M against 63.1 M).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from san_cli.fps.rivals.maskformer import QUERIES, MaskFormer, normalise
from san_cli.fps.rivals.simseg import STEM
from san_cli.models.clip import build_image_tower, clip_features, project_tokens, updated_tokens
from san_cli.models.presets import VIT_B_16
from san_cli.models.san import PIXEL_MEAN, PIXEL_STD
from san_cli.models.towers import ResidualAttentionBlock

_CLIP_INPUT = 512  # pixels
_RMA_LAYERS = (6, 12)
_TEMPERATURE = 100.0
_PATCH = VIT_B_16.clip.patch_size


class MaskCLIP(nn.Module):
    """A mask class token for each of MaskFormer's proposals reads CLIP's patches within its mask."""

    def __init__(self, clip_input: int = _CLIP_INPUT) -> None:
        super().__init__()
        self.clip_input = clip_input
        self.proposals = MaskFormer()
        self.visual = build_image_tower(VIT_B_16.clip).requires_grad_(False)
        self.rma = nn.ModuleDict({str(layer): RelativeMaskAttention() for layer in _RMA_LAYERS})

    def forward(self, pixels: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Refined mask logits [B, 100, H/4, W/4] and class probabilities [B, 100, C].

        `pixels` [B, 3, H, W], 0..255, sides multiples of 32; `text` [C, 512], normalised. The masks are handed over
        at the proposals' resolution, so that the output step costs what it costs the others.
        """
        masks, _ = self.proposals(pixels)
        coarse = masks.shape[2:]
        size = (self.clip_input, self.clip_input)
        masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        image = F.interpolate(pixels, size=size, mode="bicubic", align_corners=False)
        features, _ = clip_features(self.visual, normalise(image, PIXEL_MEAN, PIXEL_STD), STEM)
        image_tokens = features[0]  # [B, 1+P, 768]
        mask_tokens = image_tokens[:, :1].expand(-1, QUERIES, -1)
        blocks = self.visual.transformer.resblocks
        for layer, block in enumerate(blocks, start=1):
            is_last = layer == len(blocks)  # nobody reads the image tokens after it
            projected = project_tokens(block, image_tokens, "kv" if is_last else "qkv")
            key, value = projected[-2:]
            asking, inside = _queries(block, mask_tokens), _inside(masks)
            if str(layer) in self.rma:
                patches = block.ln_1(image_tokens[:, 1:])
                seen, residual = self.rma[str(layer)](asking, key, value, patches, masks, inside)
                masks = masks + residual
            else:
                seen = F.scaled_dot_product_attention(asking, key, value, attn_mask=inside)
            mask_tokens = updated_tokens(block, mask_tokens, seen)
            if not is_last:
                seen = F.scaled_dot_product_attention(projected[0], key, value)
                image_tokens = updated_tokens(block, image_tokens, seen)
        regions = self.visual.ln_post(mask_tokens) @ self.visual.proj
        cosines = F.normalize(regions.to(text.dtype), dim=-1) @ text.T
        masks = F.interpolate(masks, size=coarse, mode="bilinear", align_corners=False)
        return masks, (_TEMPERATURE * cosines).softmax(dim=-1)


class RelativeMaskAttention(nn.Module):
    """Attention scores that also look at the mask itself, and a refinement of the mask by what was found."""

    def __init__(self) -> None:
        super().__init__()
        width = VIT_B_16.clip.width
        self.embed = nn.Conv2d(1, width, _PATCH, stride=_PATCH)
        self.norm = nn.LayerNorm(width)
        self.relative_key = nn.Linear(width, width)
        self.refine = nn.Linear(width, _PATCH**2)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, patches: Tensor, masks: Tensor, inside: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute what the mask tokens see [B, heads, N, d] and what to add to the mask logits [B, N, 512, 512].

        `query` [B, heads, N, d]; `key`, `value` [B, heads, 1+P, d]; `patches` [B, P, 768]; `inside` [B, 1, N, 1+P].
        """
        heads, depth = query.shape[1], query.shape[3]
        embedded = self.embed(masks.flatten(0, 1)[:, None].tanh()).flatten(2).transpose(1, 2)  # [BN, P, 768]
        embedded = self.norm(embedded).unflatten(0, masks.shape[:2]).unflatten(-1, (heads, depth))
        relative = self.relative_key(patches).unflatten(-1, (heads, depth))
        scores = query @ key.transpose(2, 3)  # [B, heads, N, 1+P]
        among_patches = (scores[..., 1:] + torch.einsum("bnphd,bphd->bhnp", embedded, relative)) / 2
        scores = torch.cat([scores[..., :1], among_patches], dim=-1) * depth**-0.5
        seen = scores.masked_fill(~inside, float("-inf")).softmax(dim=-1) @ value
        # Every mask token times every patch, [B, N, P, 768]: most of this system's work beyond CLIP is here.
        pairs = _joined(query)[:, :, None] * _joined(key)[:, None, 1:]
        grid = (masks.shape[2] // _PATCH, masks.shape[3] // _PATCH)
        refined = self.refine(F.gelu(pairs)).transpose(2, 3).unflatten(3, grid)  # [B, N, 256, h, w]
        return seen, F.pixel_shuffle(refined, _PATCH)[:, :, 0]


def _inside(masks: Tensor) -> Tensor:
    """Mark the tokens that a mask token sees [B, 1, N, 1+P]: [CLS], and the patches that its mask touches."""
    touched = (F.max_pool2d(masks, _PATCH) >= 0).flatten(2)
    return F.pad(touched, (1, 0), value=True)[:, None]


def _queries(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """A block's queries alone, [B, heads, N, d]."""
    attn, width = block.attn, tokens.shape[-1]
    projected = F.linear(block.ln_1(tokens), attn.in_proj_weight[:width], attn.in_proj_bias[:width])
    return projected.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)


def _joined(tokens: Tensor) -> Tensor:
    return tokens.transpose(1, 2).flatten(2)  # [B, T, width]
