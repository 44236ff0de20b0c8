"""The four systems of Table 3, built to be measured: uint8 images on the device in, label maps out.

Weights and text embeddings are random, as efficiency depends on the architecture alone. All four end in the same
output step, so that they differ by their networks only.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from san_cli.engine.device import choose_device, choose_precision, reuse_freed_memory
from san_cli.engine.mask_blocks import Frame
from san_cli.engine.segmentation_map import SegmentationMap, segmentation_map
from san_cli.fps.clock import StageClock
from san_cli.fps.rivals.maskclip import MaskCLIP
from san_cli.fps.rivals.simseg import SimSeg
from san_cli.models.presets import Preset
from san_cli.models.san import SAN, normalise

LABELS = {"san": "SAN", "simseg": "SimSeg", "ovseg": "OvSeg", "maskclip": "MaskCLIP"}
SYSTEMS = tuple(LABELS)


@dataclass(frozen=True)
class Setup:
    """The device, precision and sizes that systems are built for."""

    device: torch.device
    precision: torch.dtype
    classes: int
    batch: int = 1
    compile: bool = False


@dataclass(frozen=True)
class System:
    """A system that is ready to run."""

    name: str
    preset: Preset | None  # SAN's
    model: nn.Module
    run: Callable[[Tensor], list[SegmentationMap]]  # of uint8 [B, 3, H, W] on the device
    clock: StageClock
    built_s: float

    @property
    def weights_mb(self) -> float:
        """The memory of its parameters and buffers in 10⁶ bytes."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6


def setup_for(device: str, precision: str, classes: int, batch: int, compile: bool) -> Setup:
    """Resolve names from the command line to a set-up. Raises SanError for those that aren't possible."""
    where = choose_device(device)
    if where.type == "cpu":
        reuse_freed_memory()
    return Setup(where, choose_precision(precision, where), classes, batch, compile)


def baseline(name: str) -> nn.Module:
    """Build the network of one of the paper's rivals, untrained, on the default device."""
    return MaskCLIP() if name == "maskclip" else SimSeg(finetune_clip=name == "ovseg")


def build(name: str, preset: Preset, setup: Setup) -> System:
    """One of `SYSTEMS`, untrained; `preset` is SAN's."""
    start = time.perf_counter()
    torch.manual_seed(0)
    model = SAN(preset) if name == "san" else baseline(name)
    clock = StageClock(setup.device)
    run = _san_run(model, clock, setup) if isinstance(model, SAN) else _baseline_run(model, clock, setup)
    return System(name, preset if name == "san" else None, model, run, clock, time.perf_counter() - start)


def random_images(size: int, setup: Setup) -> Tensor:
    """uint8 [B, 3, size, size] on the device."""
    torch.manual_seed(0)
    return torch.randint(0, 256, (setup.batch, 3, size, size), dtype=torch.uint8).to(setup.device)


def _san_run(model: SAN, clock: StageClock, setup: Setup) -> Callable[[Tensor], list[SegmentationMap]]:
    background, scale = model.background_embedding.data, model.logit_scale.data
    model.eval().to(device=setup.device, dtype=setup.precision)
    model.background_embedding.data = background.float().to(setup.device)
    model.logit_scale.data = scale.float().to(setup.device)
    text = model.with_background(random_text(setup.classes, background.shape[1], setup.device)).detach()
    if not setup.compile:
        clock.mark_before(model.side_adapter.patch_embed, "clip")
        clock.mark_before(model.mask_decoder, "side adapter")
        clock.mark_after(model.mask_decoder, "mask decoder")
    network = torch.compile(model) if setup.compile else model

    def run(pixels: Tensor) -> list[SegmentationMap]:
        output = network(normalise(pixels).to(setup.precision))[0]
        probabilities = model.classify(output.region_embeddings, text).softmax(dim=-1)[..., :-1]
        clock.mark("network" if setup.compile else "recognition")
        return _label_maps(output.mask_logits, probabilities, pixels, clock)

    return _measured(run, setup)


def _baseline_run(
    model: nn.Module, clock: StageClock, setup: Setup
) -> Callable[[Tensor], list[SegmentationMap]]:
    model.eval().to(device=setup.device, dtype=setup.precision)
    assert isinstance(model, SimSeg | MaskCLIP)
    text = random_text(setup.classes, 512, setup.device)
    parts = [model] if isinstance(model, MaskCLIP) else [model.proposals, model.clip]
    for part in parts if setup.compile else []:
        part.compile()
    if not setup.compile:
        clock.mark_after(model.proposals, "proposals")
        if isinstance(model, SimSeg):
            clock.mark_before(model.clip, "crops")
        for attention in model.rma.values() if isinstance(model, MaskCLIP) else []:
            clock.mark_before(attention, "clip")
            clock.mark_after(attention, "mask attention")

    def run(pixels: Tensor) -> list[SegmentationMap]:
        mask_logits, probabilities = model(pixels.to(setup.precision), text)
        clock.mark("network" if setup.compile else "clip")
        return _label_maps(mask_logits, probabilities, pixels, clock)

    return _measured(run, setup)


def _measured(
    run: Callable[[Tensor], list[SegmentationMap]], setup: Setup
) -> Callable[[Tensor], list[SegmentationMap]]:
    """`run` under the switches of `Segmenter`."""

    def measured(pixels: Tensor) -> list[SegmentationMap]:
        reduced = setup.precision != torch.float32
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=reduced):
            return run(pixels)

    return measured


def _label_maps(
    mask_logits: Tensor, probabilities: Tensor, pixels: Tensor, clock: StageClock
) -> list[SegmentationMap]:
    """Run the output step, the same for all systems: label maps at the size of the input."""
    size = (pixels.shape[2], pixels.shape[3])
    maps = [
        segmentation_map(masks.float(), classes.float(), Frame(size, size, size))
        for masks, classes in zip(mask_logits, probabilities, strict=True)
    ]
    clock.mark("output")
    return maps


def random_text(classes: int, width: int, device: torch.device) -> Tensor:
    """Normalised float32 [classes, width] in place of text embeddings, the same in every run."""
    return F.normalize(torch.randn(classes, width, generator=torch.Generator().manual_seed(0)), dim=-1).to(
        device
    )
