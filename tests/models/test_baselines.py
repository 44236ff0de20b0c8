"""The systems of Table 3: their sizes to the last parameter, and what their parts compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from san_cli.fps.flops import gflops
from san_cli.fps.rivals.maskclip import MaskCLIP, RelativeMaskAttention
from san_cli.fps.rivals.maskformer import MaskFormer, ResNet101c, normalise, sine_positions
from san_cli.fps.rivals.simseg import ImageEncoder, SimSeg, cut_out
from san_cli.fps.systems import baseline, random_text
from san_cli.models.san import PIXEL_MEAN, PIXEL_STD

META = torch.device("meta")


def on_meta(make: type[nn.Module]) -> nn.Module:
    with META:
        return make().eval()


def parameters(model: nn.Module, trained: bool = True) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained)


def test_trainable_parameters_are_those_of_the_official_code() -> None:
    assert parameters(on_meta(MaskFormer)) == 61_067_200
    assert parameters(on_meta(RelativeMaskAttention)) == 986_368
    assert parameters(on_meta(ImageEncoder)) == 86_192_640
    with META:
        simseg, ovseg, maskclip = (baseline(name) for name in ("simseg", "ovseg", "maskclip"))
    assert parameters(simseg) == 61_075_904  # + "no object" 512 + prompt 8,192; the paper: 61.1 M
    assert parameters(ovseg) == 147_260_352  # + "no object" 512 + CLIP's image tower; the paper: 147.2 M
    assert parameters(maskclip) == 63_039_936  # + two blocks of relative mask attention; the paper: 63.1 M


def test_batch_norms_are_frozen() -> None:
    backbone = on_meta(ResNet101c)
    assert parameters(backbone) == 42_518_208
    assert parameters(backbone, trained=False) == 42_518_208 + 105_728


def test_multiply_adds_of_the_parts() -> None:
    proposals, encoder = (
        on_meta(MaskFormer).requires_grad_(False),
        on_meta(ImageEncoder).requires_grad_(False),
    )
    image, crop = torch.empty(1, 3, 640, 640, device=META), torch.empty(1, 3, 224, 224, device=META)
    assert gflops(lambda: proposals(image)) == pytest.approx(120.537, rel=1e-5)
    assert gflops(lambda: proposals(image), extras=True) == pytest.approx(120.939, rel=1e-4)  # fvcore
    assert gflops(lambda: encoder(crop)) == pytest.approx(17.5635, rel=1e-5)
    assert gflops(lambda: encoder(crop), extras=True) == pytest.approx(17.58237, rel=1e-5)  # fvcore


def test_backbone_strides_and_dilations() -> None:
    backbone = on_meta(ResNet101c)
    shapes = [tuple(level.shape) for level in backbone(torch.empty(2, 3, 64, 96, device=META))]
    assert shapes == [(2, 256, 16, 24), (2, 512, 8, 12), (2, 1024, 4, 6), (2, 2048, 2, 3)]
    assert [block.middle.conv.dilation[0] for block in backbone.stages[3]] == [1, 2, 4]
    assert backbone.stages[1][0].middle.conv.stride == (2, 2)  # in the 3 × 3


def test_proposals_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    model = MaskFormer().eval().requires_grad_(False)
    pixels = torch.rand(2, 3, 64, 96) * 255
    masks, classes = model(pixels)
    assert masks.shape == (2, 100, 16, 24) and classes.shape == (2, 100, 512)
    alone, _ = model(pixels[1:])
    assert torch.allclose(masks[1:], alone, atol=1e-4 * float(masks.abs().max()))


def test_positions_tell_rows_from_columns() -> None:
    places = sine_positions(3, 5, torch.empty(0)).view(3, 5, 256)
    assert (places[:, :1, :128] == places[:, :, :128]).all()  # the first half is the row
    assert (places[:1, :, 128:] == places[:, :, 128:]).all()  # the second the column
    flat = places.flatten(0, 1)
    assert torch.cdist(flat, flat).fill_diagonal_(1).min() > 0.1  # no two places are alike


def test_a_crop_is_the_tight_box_with_the_mean_colour_outside_of_the_mask() -> None:
    image = torch.rand(3, 64, 64) * 255
    logits = torch.full((2, 64, 64), -1.0)
    logits[0, 8:24, 16:48] = 1.0
    logits[0, 8:16, 16:24] = -1.0  # a corner that is in the box and not in the mask
    crops = cut_out(image, logits)
    shown = normalise(image, PIXEL_MEAN, PIXEL_STD)
    masked = shown[:, 8:24, 16:48].clone()
    masked[:, :8, :8] = 0
    expected = F.interpolate(masked[None], size=(224, 224), mode="bicubic", align_corners=False)[0]
    assert torch.equal(crops[0], expected)
    whole = F.interpolate(shown[None], size=(224, 224), mode="bicubic", align_corners=False)[0]
    assert torch.equal(crops[1], whole)  # an empty mask costs as much as any other


class Constant(nn.Module):
    """Stands for a network too large for a test."""

    def __init__(self, *values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, _: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.values if len(self.values) > 1 else self.values[0]


def test_simseg_mixes_both_classifiers() -> None:
    torch.manual_seed(0)
    with META:
        model = SimSeg()
    model.no_object = nn.Parameter(F.normalize(torch.randn(1, 512), dim=-1))
    text, queries, seen = (
        random_text(4, 512, torch.device("cpu")),
        torch.randn(1, 100, 512),
        torch.randn(100, 512),
    )
    model.proposals, model.clip = Constant(torch.randn(1, 100, 8, 8), queries), Constant(seen)
    with torch.no_grad():
        masks, probabilities = model(torch.rand(1, 3, 32, 32) * 255, text)
        classes = torch.cat([text, model.no_object])
    by_query, by_crop = (
        (100 * F.normalize(embeddings, dim=-1) @ classes.T).softmax(dim=-1)[:, :4]
        for embeddings in (queries[0], seen)
    )
    assert masks.shape == (1, 100, 8, 8)
    assert torch.allclose(probabilities[0], by_query**0.8 * by_crop**0.2, atol=1e-6)


@pytest.fixture(scope="module")
def small_maskclip() -> MaskCLIP:
    """MaskCLIP with a small CLIP input; its weights are as large as ever."""
    torch.manual_seed(0)
    return MaskCLIP(clip_input=64).eval().requires_grad_(False)


def test_a_mask_of_everything_is_named_like_the_image(small_maskclip: MaskCLIP) -> None:
    """Without relative mask attention such a mask token goes the way of [CLS], so shared keys are exact."""
    image, text = torch.rand(1, 3, 64, 64) * 255, random_text(5, 512, torch.device("cpu"))
    everything = Constant(torch.ones(1, 100, 16, 16), torch.empty(0))
    proposals, rma = small_maskclip.proposals, small_maskclip.rma
    small_maskclip.proposals, small_maskclip.rma = everything, nn.ModuleDict()
    try:
        masks, probabilities = small_maskclip(image, text)
    finally:
        small_maskclip.proposals, small_maskclip.rma = proposals, rma
    with META:
        encoder = ImageEncoder()
    encoder.visual = small_maskclip.visual
    features = F.normalize(encoder(normalise(image, PIXEL_MEAN, PIXEL_STD)), dim=-1)
    assert torch.allclose(
        probabilities[0], (100 * features @ text.T).softmax(dim=-1).expand(100, -1), atol=1e-4
    )
    assert (masks == 1).all()


def test_relative_mask_attention_by_loops(small_maskclip: MaskCLIP) -> None:
    attention = small_maskclip.rma["6"]
    torch.manual_seed(1)
    query, key, value = torch.randn(1, 12, 2, 64), torch.randn(1, 12, 5, 64), torch.randn(1, 12, 5, 64)
    patches, masks = torch.randn(1, 4, 768), torch.randn(1, 2, 32, 32)
    inside = torch.tensor([[True, True, False, True, True], [True, False, False, True, True]])[None, None]
    seen, residual = attention(query, key, value, patches, masks, inside)
    for mask in range(2):
        embedded = attention.norm(
            attention.embed(masks[:, mask : mask + 1].tanh())[0].flatten(1).T
        )  # [4, 768]
        relative = attention.relative_key(patches[0])
        for head in (0, 7):
            of_head = slice(64 * head, 64 * head + 64)
            scores = key[0, head] @ query[0, head, mask]
            scores[1:] = (scores[1:] + (embedded[:, of_head] * relative[:, of_head]).sum(dim=1)) / 2
            scores[~inside[0, 0, mask]] = float("-inf")
            expected = (scores / 8).softmax(dim=0) @ value[0, head]
            assert torch.allclose(seen[0, head, mask], expected, atol=1e-5)
        for patch, (top, left) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
            pair = query[0, :, mask].flatten() * key[0, :, 1 + patch].flatten()
            square = attention.refine(F.gelu(pair)).view(16, 16)
            assert torch.allclose(residual[0, mask, top : top + 16, left : left + 16], square, atol=1e-5)


def test_maskclip_from_image_to_masks_and_classes(small_maskclip: MaskCLIP) -> None:
    pixels, text = torch.rand(2, 3, 64, 32) * 255, random_text(7, 512, torch.device("cpu"))
    masks, probabilities = small_maskclip(pixels, text)
    assert masks.shape == (2, 100, 16, 8) and probabilities.shape == (2, 100, 7)
    assert masks.isfinite().all() and torch.allclose(probabilities.sum(dim=-1), torch.ones(2, 100), atol=1e-5)
