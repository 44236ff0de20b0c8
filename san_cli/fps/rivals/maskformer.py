"""The mask proposals of SimSeg, OvSeg and MaskCLIP: a MaskFormer on ResNet-101c with a plain FPN.

As configured by the official SimSeg and OvSeg code: 100 queries, six decoder layers on res5, no encoder. Like there,
masks and classes are computed for all six layers, though only the last one's are used.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUERIES = 100
TEXT_WIDTH = 512  # of CLIP ViT-B/16's common space
_WIDTH, _HEADS, _LAYERS, _FEED_FORWARD = 256, 8, 6, 2048
_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_STAGES = ((3, 64), (4, 128), (23, 256), (3, 512))  # ResNet-101: (blocks, width)


class MaskFormer(nn.Module):
    """Images to 100 mask proposals, each with an embedding in CLIP's text space."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet101c()
        self.pixel_decoder = FeaturePyramid(self.backbone.channels)
        self.project = nn.Conv2d(self.backbone.channels[-1], _WIDTH, 1)
        self.query_positions = nn.Parameter(torch.randn(QUERIES, _WIDTH))
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(_WIDTH)
        self.mask_mlp = nn.Sequential(
            nn.Linear(_WIDTH, _WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, _WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, _WIDTH),
        )
        self.class_mlp = nn.Sequential(nn.Linear(_WIDTH, 1024), nn.ReLU(), nn.Linear(1024, TEXT_WIDTH))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """`pixels` [B, 3, H, W], 0..255, sides multiples of 32, to the last layer's masks and classes.

        Returns mask logits [B, 100, H/4, W/4] and class embeddings [B, 100, 512], not normalised.
        """
        levels = self.backbone(normalise(pixels, _IMAGENET_MEAN, _IMAGENET_STD))
        mask_features = self.pixel_decoder(levels)  # [B, 256, H/4, W/4]
        memory = self.project(levels[-1])
        height, width = memory.shape[2:]
        places = sine_positions(height, width, memory)  # [HW/1024, 256]
        memory = memory.flatten(2).transpose(1, 2)
        queries = torch.zeros_like(self.query_positions).expand(len(pixels), -1, -1)
        decoded = []
        for layer in self.layers:
            queries = layer(queries, self.query_positions, memory, places)
            decoded.append(self.norm(queries))
        every = torch.stack(decoded)  # [6, B, 100, 256]
        masks = torch.einsum("lbqc,bchw->lbqhw", self.mask_mlp(every), mask_features)
        return masks[-1], self.class_mlp(every)[-1]


class ResNet101c(nn.Module):
    """ResNet-101 with a stem of three convolutions and frozen batch norm; res5 has dilations 1, 2, 4."""

    channels = tuple(4 * width for _, width in _STAGES)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvNorm(3, 64, 3, stride=2), nn.ReLU(), ConvNorm(64, 64, 3), nn.ReLU(), ConvNorm(64, 128, 3), nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )  # fmt: skip
        inputs, stages = 128, []
        for number, (blocks, width) in enumerate(_STAGES):
            stage = []
            for block in range(blocks):
                stride = 2 if block == 0 and number > 0 else 1
                dilation = 2**block if number == 3 else 1
                stage.append(Bottleneck(inputs, width, stride, dilation))
                inputs = 4 * width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] to features of 256, 512, 1024, 2048 channels at strides 4, 8, 16, 32."""
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 (which has the stride), 1 × 1, and the way past them."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(inputs, width, 1)
        self.middle = ConvNorm(width, width, 3, stride, dilation)
        self.expand = ConvNorm(width, 4 * width, 1)
        self.shortcut = ConvNorm(inputs, 4 * width, 1, stride) if inputs != 4 * width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, 4 * width, h/stride, w/stride]."""
        inner = F.relu(self.middle(F.relu(self.reduce(x))))
        return F.relu(self.expand(inner) + self.shortcut(x))


class ConvNorm(nn.Module):
    """A convolution without bias and a frozen batch norm: its affine values are not trained."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, dilation * (size // 2), dilation, bias=False)
        self.norm = nn.BatchNorm2d(outputs).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h/stride, w/stride]."""
        return self.norm(self.conv(x))


class FeaturePyramid(nn.Module):
    """Top-down features, finest level only, for the masks' dot product."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_conv_group_norm(inputs, 1) for inputs in channels[:-1])
        self.output = nn.ModuleList(
            nn.Sequential(_conv_group_norm(inputs, 3), nn.ReLU()) for inputs in (*[_WIDTH] * 3, channels[-1])
        )
        self.mask_features = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """The backbone's four levels, finest first, to [B, 256, H/4, W/4]."""
        top = self.output[3](levels[3])
        for level in (2, 1, 0):
            fine = self.lateral[level](levels[level])
            top = self.output[level](fine + F.interpolate(top, size=fine.shape[2:], mode="nearest"))
        return self.mask_features(top)


class DecoderLayer(nn.Module):
    """DETR's: queries among themselves, then to the memory, then a feed-forward net; norms after each."""

    def __init__(self) -> None:
        super().__init__()
        self.among = Attention()
        self.across = Attention()
        self.feed_forward = nn.Sequential(
            nn.Linear(_WIDTH, _FEED_FORWARD), nn.ReLU(), nn.Linear(_FEED_FORWARD, _WIDTH)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(_WIDTH) for _ in range(3))

    def forward(self, queries: Tensor, positions: Tensor, memory: Tensor, places: Tensor) -> Tensor:
        """`queries` [B, 100, 256] under `positions` [100, 256] read `memory` [B, T, 256] at `places` [T, 256]."""
        placed = queries + positions
        queries = self.norms[0](queries + self.among(placed, placed, queries))
        seen = self.across(queries + positions, memory + places, memory)
        queries = self.norms[1](queries + seen)
        return self.norms[2](queries + self.feed_forward(queries))


class Attention(nn.Module):
    """Multi-head attention, fused."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(_WIDTH, _WIDTH) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[B, Q, 256], [B, T, 256], [B, T, 256] to [B, Q, 256]."""
        heads = [
            project(tokens).unflatten(-1, (_HEADS, -1)).transpose(1, 2)  # [B, heads, T, 32]
            for project, tokens in ((self.query, query), (self.key, key), (self.value, value))
        ]
        return self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """`pixels` [..., 3, H, W] of 0..255 with that mean and standard deviation taken out, same dtype."""
    shift, scale = (pixels.new_tensor(values).view(3, 1, 1) for values in (mean, std))
    return (pixels - shift) / scale


def sine_positions(height: int, width: int, like: Tensor) -> Tensor:
    """DETR's position embeddings [height * width, 256]: sines and cosines of the row, then of the column."""
    steps = torch.arange(_WIDTH // 4, device=like.device, dtype=torch.float32)
    waves = 10000 ** (steps / (_WIDTH // 4))
    axes = []
    for size in (height, width):
        angle = torch.arange(1, size + 1, device=like.device)[:, None] * (2 * math.pi / size) / waves
        axes.append(torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1))  # [size, 128]
    rows = axes[0][:, None].expand(height, width, -1)
    columns = axes[1][None].expand(height, width, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).to(like.dtype)


def _conv_group_norm(inputs: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, _WIDTH, size, padding=size // 2, bias=False), nn.GroupNorm(32, _WIDTH)
    )
