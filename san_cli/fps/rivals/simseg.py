"""SimSeg and OvSeg: cut every proposal out of the image and show it to CLIP, 100 crops an image.

From the official code of both, whose graphs are the same: SimSeg's CLIP is frozen and its prompt learned, OvSeg's
CLIP is fine-tuned (the paper's row leaves its mask prompts out). Text embeddings are an input here; SimSeg's code
recomputes them in every forward pass, which is not reproduced.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from san_cli.fps.rivals.maskformer import TEXT_WIDTH, MaskFormer, normalise
from san_cli.models.clip import build_image_tower, clip_features, image_block
from san_cli.models.presets import VIT_B_16
from san_cli.models.san import PIXEL_MEAN, PIXEL_STD

CROP = VIT_B_16.clip.image_size  # pixels
# CLIP up to the first block and nothing after it.
STEM = replace(VIT_B_16, name="stem", feature_layers=12, recognition_layers=12, fusion=())
_TEMPERATURE = 100.0
_PROMPT_TOKENS = 16


class SimSeg(nn.Module):
    """MaskFormer's proposals, each named by its query's embedding and by CLIP's of the crop; or OvSeg."""

    def __init__(self, finetune_clip: bool = False) -> None:
        super().__init__()
        self.proposals = MaskFormer()
        self.clip = ImageEncoder().requires_grad_(finetune_clip)
        self.no_object = nn.Parameter(torch.randn(1, TEXT_WIDTH))
        if not finetune_clip:  # goes through CLIP's text tower, whose output is an input here
            self.prompt = nn.Parameter(torch.randn(_PROMPT_TOKENS, VIT_B_16.clip.text_width))
        # Of classes seen in training, as all are here. OvSeg gives 0.7 to what its own CLIP says of the crops.
        self.query_weight = 0.3 if finetune_clip else 0.8

    def forward(self, pixels: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits [B, 100, H/4, W/4] and class probabilities [B, 100, C].

        `pixels` [B, 3, H, W], 0..255, sides multiples of 32; `text` [C, 512], normalised.
        """
        mask_logits, queries = self.proposals(pixels)
        crops = [cut_out(image, masks) for image, masks in zip(pixels, mask_logits, strict=True)]
        return mask_logits, self.name_masks(queries, torch.stack(crops), text)

    def name_masks(self, queries: Tensor, crops: Tensor, text: Tensor) -> Tensor:
        """Class probabilities [B, 100, C] of query embeddings [B, 100, 512] and crops [B, 100, 3, 224, 224]."""
        seen = torch.stack([self.clip(image) for image in crops])
        by_query, by_crop = self._probabilities(queries, text), self._probabilities(seen, text)
        return by_query**self.query_weight * by_crop ** (1 - self.query_weight)

    def _probabilities(self, embeddings: Tensor, text: Tensor) -> Tensor:
        classes = F.normalize(torch.cat([text, self.no_object.to(text.dtype)]), dim=-1)
        cosines = F.normalize(embeddings.to(text.dtype), dim=-1) @ classes.T
        return (_TEMPERATURE * cosines).softmax(dim=-1)[..., :-1]


def cut_out(image: Tensor, mask_logits: Tensor) -> Tensor:
    """Cut out what each mask shows of an image, at CLIP's input size: [100, 3, 224, 224], normalised.

    `image` [3, H, W], 0..255; `mask_logits` [100, h, w]. The tight box around a mask, CLIP's mean colour outside
    of the mask, stretched to a square. An empty mask, which the official code skips, shows the whole image, so
    that the work doesn't depend on the weights. One mask after another, as in the official code.
    """
    masks = (
        F.interpolate(mask_logits[None], size=image.shape[1:], mode="bilinear", align_corners=False)[0] > 0
    )
    image = normalise(image, PIXEL_MEAN, PIXEL_STD)  # the mean colour is 0
    crops = []
    for mask in masks:
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        shown = image
        if len(rows):
            top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
            shown = image[:, top:bottom, left:right] * mask[top:bottom, left:right]
        crops.append(F.interpolate(shown[None], size=(CROP, CROP), mode="bicubic", align_corners=False))
    return torch.cat(crops)


class ImageEncoder(nn.Module):
    """CLIP ViT-B/16's image tower from pixels to the common space, with our attention but every block in full."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = build_image_tower(VIT_B_16.clip)

    def forward(self, image: Tensor) -> Tensor:
        """Image features [B, 512], not normalised, of normalised images [B, 3, h, w]."""
        tokens = clip_features(self.visual, image, STEM)[0][0]
        for block in self.visual.transformer.resblocks:
            tokens = image_block(block, tokens)
        return self.visual.ln_post(tokens[:, 0]) @ self.visual.proj
