"""The side adapter: a light vision transformer that reuses CLIP's features (Sec. 3, Fig. 3)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from san_cli.models.activation_checkpointing import checkpointed
from san_cli.models.any_size import exporting, fitting_positions_of_any
from san_cli.models.clip import resized_positions
from san_cli.models.presets import Preset

# Tokens up to which training on a CPU keeps the attention map: 3 heads of 1,024 tokens are 6 MB an image in bfloat16.
MOST_TOKENS = 1024
LAYER_NORM_EPS = 1e-6  # timm's, where the adapter's architecture comes from


class SideAdapter(nn.Module):
    """Query tokens and patch tokens through `side_depth` blocks, with CLIP features fused into the patches."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        width, patch = preset.side_width, preset.side_patch_size
        self.supervised_layers = preset.supervised_layers
        self.fused = dict(preset.fusion)  # {side-adapter layer: CLIP layer}
        self.patch_embed = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(1, preset.side_grid**2, width))
        self.query_embed = nn.Parameter(torch.empty(1, preset.queries, width))
        self.query_positions = nn.Parameter(torch.empty(1, preset.queries, width))
        self.blocks = nn.ModuleList(Block(width, preset.side_heads) for _ in range(preset.side_depth))
        self.fusions = nn.ModuleDict({str(side): Fusion(preset.clip.width, width) for side in self.fused})
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.normal_(self.query_embed, std=0.02)
        nn.init.normal_(self.query_positions, std=0.02)

    def forward(
        self,
        image: Tensor,
        features: dict[int, Tensor],
        clip_grid: tuple[int, int],
        all_supervised: bool,
        activation_checkpointing: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (queries [B, N, width], pixels [B, width, H/16, W/16]) of the layers to decode, the last one last.

        The position embeddings are shared by all layers and added before each block, as the paper says; the
        stem's feature is fused after that, the other layers' before (official code).
        """
        patches = self.patch_embed(image)  # [B, width, H/16, W/16]
        grid = (patches.shape[2], patches.shape[3])
        patches = patches.flatten(2).transpose(1, 2)
        queries = self.query_embed.expand(image.shape[0], -1, -1)
        number = queries.shape[1]
        positions = torch.cat([self.query_positions, self._patch_positions(grid)], dim=1)
        tokens = torch.cat([queries, patches], dim=1) + positions  # [B, N+HW/256, width]
        tokens = self._fuse(0, tokens, number, features, clip_grid, grid)

        depth = len(self.blocks)
        first = depth - self.supervised_layers + 1 if all_supervised else depth
        for layer, block in enumerate(self.blocks, start=1):
            tokens = checkpointed(block, tokens, wanted=activation_checkpointing)
            tokens = self._fuse(layer, tokens, number, features, clip_grid, grid)
            if layer >= first:
                yield tokens[:, :number], tokens[:, number:].transpose(1, 2).unflatten(2, grid)
            if layer < depth:
                tokens = tokens + positions

    def _patch_positions(self, grid: tuple[int, int]) -> Tensor:
        """Give positions [1, HW/256, width], resized where the NUMBER of patches differs from the learned one.

        That a 10 × 160 grid keeps the 40 × 40 layout is the official code's behaviour.
        """
        if exporting():
            return fitting_positions_of_any(self.positions, grid)
        if grid[0] * grid[1] == self.positions.shape[1]:
            return self.positions
        return resized_positions(self.positions, grid)

    def _fuse(
        self,
        layer: int,
        tokens: Tensor,
        number: int,
        features: dict[int, Tensor],
        clip_grid: tuple[int, int],
        grid: tuple[int, int],
    ) -> Tensor:
        """Add the CLIP feature that belongs to this layer, if any, to the patch tokens."""
        if layer not in self.fused:
            return tokens
        added = self.fusions[str(layer)](features[self.fused[layer]], clip_grid, grid)
        return torch.cat([tokens[:, :number], tokens[:, number:] + added], dim=1)


class Fusion(nn.Module):
    """CLIP's visual tokens as seen by the side adapter: normalised, projected, resized to its grid."""

    def __init__(self, clip_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(clip_width, eps=LAYER_NORM_EPS)
        self.project = nn.Linear(clip_width, width)
        nn.init.kaiming_uniform_(self.project.weight, a=1)
        nn.init.zeros_(self.project.bias)

    def forward(self, tokens: Tensor, clip_grid: tuple[int, int], grid: tuple[int, int]) -> Tensor:
        """Map CLIP tokens [B, 1+hw, clip_width], [CLS] first, to [B, HW/256, width]."""
        projected = self.project(self.norm(tokens[:, 1:])).transpose(1, 2).unflatten(2, clip_grid)
        resized = F.interpolate(projected, size=grid, mode="bilinear", align_corners=False)
        return resized.flatten(2).transpose(1, 2)


class Block(nn.Module):
    """A pre-norm transformer block with exact GELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.qkv = _linear(width, 3 * width)
        self.proj = _linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.fc1 = _linear(width, 4 * width)
        self.fc2 = _linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map [B, T, width] to the same."""
        qkv = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1))  # [B, T, 3, heads, width/heads]
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = attend(query, key, value)
        tokens = tokens + self.proj(seen.transpose(1, 2).flatten(2))
        return tokens + self.fc2(F.gelu(self.fc1(self.norm2(tokens))))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend: softmax(Q Kᵀ / √d) V, each [B, heads, T, d].

    The fused kernel saves memory, but on CPUs its backward pass computes the attention map again, in small tiles:
    where the map is small, keeping it is two to three times as fast.
    """
    if query.device.type != "cpu" or query.shape[-2] > MOST_TOKENS or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, key, value)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(dim=-1).to(value.dtype) @ value


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Make a linear layer initialised as timm's vision transformer: truncated normal 0.02, zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
