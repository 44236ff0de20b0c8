"""Multiply-adds of the four systems, counted on the graphs that run, with no memory and no time: on `meta` tensors.

Two conventions:

executed    torch's own counter: convolutions, linear layers and matrix products, those inside of fused attention
            included. One multiply-add is 1, so 1 GFLOP here is 10⁹ multiply-adds, as in the paper.
the paper's the one by which Tables 3 and 8 come out: fvcore's, which also counts norms and bilinear resizing a
            little, on the released code's form of SAN (`paper_form`), with an output step of 20 classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from san_cli.engine.mask_blocks import Frame
from san_cli.engine.segmentation_map import segmentation_scores
from san_cli.fps.paper_form import paper_form
from san_cli.fps.published import CLASSES
from san_cli.fps.rivals.maskformer import QUERIES, TEXT_WIDTH
from san_cli.fps.rivals.simseg import CROP, SimSeg
from san_cli.fps.systems import baseline, random_text
from san_cli.models.clip import build_text_tower
from san_cli.models.presets import VIT_B_16, Preset
from san_cli.models.san import SAN

_META = torch.device("meta")
_aten = torch.ops.aten


@dataclass(frozen=True)
class Cost:
    """A system's cost, whatever it runs on; GFLOPs are 10⁹ multiply-adds for one image."""

    params_trainable: int
    params_total: int  # with CLIP's frozen towers, the text tower among them
    gflops_network: float  # executed
    gflops_output: float  # the output step by the plain formula, for the classes asked for
    gflops_paper: float  # the paper's convention, 20 classes
    gflops_paper_network: float  # of that, the network


def cost_of(name: str, preset: Preset, size: int, classes: int) -> Cost:
    """Count one of `SYSTEMS` for a square image of `size` pixels; `preset` is SAN's."""
    with _META:
        model: nn.Module = SAN(preset) if name == "san" else baseline(name)
        text_tower = build_text_tower(preset.clip if name == "san" else VIT_B_16.clip)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for part in (model, text_tower) for p in part.parameters())
    model.eval().requires_grad_(False)
    image = torch.empty(1, 3, size, size, device=_META)
    if isinstance(model, SAN):
        network, as_in_paper = san_run(model, image, classes), san_run(model, image, CLASSES, paper=True)
    else:
        network, as_in_paper = baseline_run(model, image, classes), baseline_run(model, image, CLASSES)
    resizes = 2 if name == "san" else 1  # as the released code of each does
    queries = preset.queries if name == "san" else QUERIES
    paper_network = gflops(as_in_paper, extras=True)
    return Cost(
        trainable,
        total,
        gflops(network),
        gflops(lambda: output_step(queries, size, classes, resizes)),
        paper_network + gflops(lambda: output_step(queries, size, CLASSES, resizes), extras=True),
        paper_network,
    )


def gflops(run: Callable[[], object], *, extras: bool = False) -> float:
    """Count 10⁹ multiply-adds of `run`; with `extras` also what fvcore adds for norms and resizing."""
    counter = FlopCounterMode(display=False, custom_mapping=_FUSED | (_EXTRAS if extras else {}))
    with torch.no_grad(), counter:
        run()
    return counter.get_total_flops() / 2e9  # torch counts a multiply-add as 2


def san_run(model: SAN, image: Tensor, classes: int, *, paper: bool = False) -> Callable[[], object]:
    """SAN's network with its classification, as it runs here or in the form that the paper counted."""
    text = random_text(classes + 1, model.preset.clip.embed_dim, image.device)

    def run() -> object:
        output = paper_form(model, image) if paper else model(image)[0]
        return model.classify(output.region_embeddings, text)

    return run


def baseline_run(model: nn.Module, image: Tensor, classes: int) -> Callable[[], object]:
    """A rival's network; cutting out crops has no multiply-adds, and needs values that `meta` tensors lack."""
    text = random_text(classes, TEXT_WIDTH, image.device)

    def run() -> object:
        if not isinstance(model, SimSeg):
            return model(image, text)
        _, queries = model.proposals(image)
        crops = torch.empty(len(image), QUERIES, 3, CROP, CROP, device=image.device)
        return model.name_masks(queries, crops, text)

    return run


def output_step(queries: int, size: int, classes: int, resizes: int) -> Tensor:
    """The plain output formula on `meta` tensors: masks resized once or twice, squashed, mixed into classes.

    What `segmentation_map` executes is less and depends on the data, as it skips classes that can't win.
    """
    frame = Frame((size, size), (size, size), (size, size))
    mask_logits = torch.empty(queries, size // 4, size // 4, device=_META)  # only what comes out counts
    probabilities = torch.empty(queries, classes, device=_META)
    if resizes == 2:
        return segmentation_scores(mask_logits, probabilities, frame)
    resized = nn.functional.interpolate(
        mask_logits[None], size=frame.output, mode="bilinear", align_corners=False
    )
    return torch.einsum("qc,qhw->chw", probabilities, resized[0].sigmoid())


def _input_elements(each: int) -> Callable[..., int]:
    def count(shape: torch.Size, *_: Any, **__: Any) -> int:
        return 2 * each * shape.numel()

    return count


def _output_elements(each: int) -> Callable[..., int]:
    def count(*_: Any, out_shape: torch.Size, **__: Any) -> int:
        return 2 * each * out_shape.numel()

    return count


def _fused_attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    """Attention in one kernel, from shapes [B, heads, T, width/heads]: both its matrix products, as torch counts."""
    return 2 * query.numel() * key[-2] + 2 * query[:-1].numel() * key[-2] * value[-1]


_FUSED: dict[Any, Any] = {  # the CPU's, which torch's counter knows from 2.15 on
    _aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention,
}
_EXTRAS: dict[Any, Any] = {  # fvcore's count per element
    _aten.native_layer_norm: _input_elements(5),
    _aten.native_group_norm: _input_elements(5),
    _aten.native_batch_norm: _input_elements(2),
    _aten._native_batch_norm_legit_no_training: _input_elements(2),
    _aten.upsample_bilinear2d: _output_elements(4),
    _aten.upsample_nearest2d: _output_elements(1),
}
