"""The side adapter's two heads: mask proposals (Eq. 1) and attention biases (Eq. 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from san_cli.models.presets import Preset


class MaskDecoder(nn.Module):
    """Three 3-layer MLPs and two inner products; the projected queries serve both (Sec. 3)."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        width, inner = preset.side_width, preset.decoder_width
        self.heads = preset.clip.heads
        self.block_gradient = preset.block_clip_gradient
        self.query_mlp = MLP(width, inner, inner)
        self.pixel_mlp = MLP(width, inner, inner)
        self.bias_mlp = MLP(width, inner, inner * self.heads) if preset.decoupled_head else None
        self.bias_scaling = nn.Linear(1, 1)  # one scale and shift for every bias value

    def forward(self, queries: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Decode queries [B, N, width] and pixels [B, width, H/16, W/16].

        Returns mask logits [B, N, H/16, W/16] and attention bias [B, heads, N, H/16, W/16].
        """
        grid = pixels.shape[-2:]
        pixels = pixels.flatten(2).transpose(1, 2)  # [B, HW/256, width]
        queries = self.query_mlp(queries)  # [B, N, inner]
        mask_logits = queries @ self.pixel_mlp(pixels).transpose(1, 2)  # [B, N, HW/256]
        bias = self.bias_scaling.weight * self._bias(queries, pixels, mask_logits) + self.bias_scaling.bias
        return mask_logits.unflatten(-1, grid), bias.unflatten(-1, grid)

    def _bias(self, queries: Tensor, pixels: Tensor, mask_logits: Tensor) -> Tensor:
        """Compute the attention bias before scaling, [B, heads, N, HW/256]."""
        if self.bias_mlp is None:  # single head: the proposals themselves guide CLIP (Tables 6 and 7)
            masks = mask_logits.detach() if self.block_gradient else mask_logits
            return masks[:, None].expand(-1, self.heads, -1, -1)
        last = self.bias_mlp.layers[2]
        assert isinstance(last, nn.Linear)
        hidden = self.bias_mlp.hidden(pixels)  # [B, HW/256, inner]
        # (W x + b)·q = x·(Wᵀ q) + b·q: projecting 100 queries instead of 1,600 pixels through the widest
        # layer of the adapter saves 1.2 of its 1.8 billion multiply-adds at 640 px.
        weight = last.weight.unflatten(0, (self.heads, -1))  # [heads, inner, hidden]
        offset = last.bias.unflatten(0, (self.heads, -1))  # [heads, inner]
        looking = torch.einsum("bnc,hcd->bhnd", queries, weight)
        # One product for all heads: with a head's own, the pixels would be copied for each.
        seen = looking.flatten(1, 2) @ hidden.transpose(1, 2)  # [B, heads*N, HW/256]
        return seen.unflatten(1, (self.heads, -1)) + torch.einsum("bnc,hc->bhn", queries, offset)[..., None]


class MLP(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)]
        )

    def hidden(self, x: Tensor) -> Tensor:
        """Run the first two layers: [..., inputs] to [..., hidden]."""
        return F.relu(self.layers[1](F.relu(self.layers[0](x))))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., inputs] to [..., outputs]."""
        return self.layers[2](self.hidden(x))
