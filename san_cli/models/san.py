"""The Side Adapter Network, top to bottom as in the paper's Figure 2.

Shapes: B images, N queries, C classes, D the space that images and texts share, H × W the padded network
input in pixels, h × w CLIP's grid of patches, L decoded side-adapter layers (1 when predicting).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from san_cli.models.activation_checkpointing import checkpointed
from san_cli.models.clip import build_image_tower, clip_features, recognise_regions
from san_cli.models.mask_decoder import MaskDecoder
from san_cli.models.presets import PAD_TO, Preset
from san_cli.models.side_adapter import SideAdapter

PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)  # CLIP's mean and std times 255, RGB
PIXEL_STD = (68.5005327, 66.6321579, 70.32316305)


@dataclass(frozen=True)
class SanOutput:
    """Proposals and regions of a batch, from one decoded side-adapter layer."""

    mask_logits: Tensor  # [B, N, H/16, W/16]
    region_embeddings: Tensor  # [B, N, D], normalised
    attention_bias: Tensor  # [B, heads, N, H/16, W/16], before it is pooled to CLIP's grid


class SAN(nn.Module):
    """A frozen CLIP image tower with a side adapter attached (Sec. 3)."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.activation_checkpointing = False  # for training in little memory
        self.visual = build_image_tower(preset.clip)
        self.side_adapter = SideAdapter(preset)
        self.mask_decoder = MaskDecoder(preset)
        self.background_embedding = nn.Parameter(
            torch.randn(1, preset.clip.embed_dim) * preset.clip.embed_dim**-0.5
        )
        self.logit_scale = nn.Parameter(torch.tensor(4.6052), requires_grad=False)  # ln 100
        self.visual.requires_grad_(False)
        self.visual.positional_embedding.requires_grad_(preset.train_clip_positions)  # Table 9

    def forward(self, image: Tensor, all_supervised: bool = False) -> list[SanOutput]:
        """Propose masks and embed the region behind each, in one pass over CLIP.

        `image` [B, 3, H, W] is the output of `normalise`. Returns one output per decoded layer, the final
        layer first: only that one, or with `all_supervised` also those of deep supervision (Sec. 4.2).
        """
        # CLIP's shallow blocks see a smaller image (asymmetric input resolution, Table 8); their features are fused
        # into the side adapter (Table 4).
        clip_image = _scaled(image, self.preset.clip_scale)
        features, grid = clip_features(self.visual, clip_image, self.preset, self.activation_checkpointing)
        layers = self.side_adapter(image, features, grid, all_supervised, self.activation_checkpointing)

        # A side-adapter layer's query tokens and pixel tokens are decoded into proposals and biases (Eq. 1, 2).
        decoded = [self.mask_decoder(queries, pixels) for queries, pixels in layers]
        masks, biases = zip(*decoded, strict=True)  # L times [B, N, H/16, W/16] and [B, heads, N, H/16, W/16]

        # [SLS] tokens carry the biases through CLIP's last blocks (Eq. 3, Fig. 4). They don't see each other, so
        # those of all decoded layers go together, and the image's own tokens make the way once.
        looking = torch.cat(biases, dim=2)  # [B, heads, L*N, H/16, W/16]
        through = (self.visual, features, grid, looking, self.preset)
        regions = checkpointed(
            recognise_regions, *through, wanted=self.activation_checkpointing
        )  # [B, L*N, D]
        embeddings = F.normalize(regions.float(), dim=-1).split(self.preset.queries, dim=1)
        return [SanOutput(*parts) for parts in zip(masks, embeddings, biases, strict=True)][::-1]

    def classify(self, region_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """Classify regions: logits [B, N, C+1], float32, cosine similarity times CLIP's temperature.

        `text_embeddings` [C+1, D] are normalised; the last row is the learned background.
        """
        return self.logit_scale.float().exp() * region_embeddings @ text_embeddings.transpose(0, 1)

    def with_background(self, word_embeddings: Tensor) -> Tensor:
        """Append the learned "no object" embedding to [C, D]: normalised text embeddings [C+1, D], float32."""
        rows = torch.cat([word_embeddings, self.background_embedding.float().to(word_embeddings.device)])
        return F.normalize(rows, dim=-1)


def normalise(pixels: Tensor) -> Tensor:
    """Normalise uint8 RGB [..., 3, H, W] to the network's input, padded right and bottom to multiples of 32.

    The padding is zero after normalising, i.e. the mean colour, as the official code pads.
    """
    mean = torch.tensor(PIXEL_MEAN, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD, device=pixels.device).view(3, 1, 1)
    height, width = pixels.shape[-2:]
    return F.pad((pixels.float() - mean) / std, (0, -width % PAD_TO, 0, -height % PAD_TO))


def _scaled(image: Tensor, scale: float) -> Tensor:
    """Resize an image [B, 3, H, W] bilinearly, to the same bits whatever the number of threads.

    PyTorch's CPU kernel for planes rounds otherwise in several threads than in one; that for interleaved channels,
    of which it wants four, doesn't.
    """
    if image.device.type == "cpu":
        image = F.pad(image, (0, 0, 0, 0, 0, 1)).contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False)
    return resized[:, :3].contiguous()
