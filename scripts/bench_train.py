"""Time and peak memory of a training step, and what the frozen CLIP costs of it.

    python scripts/bench_train.py [--model vit-b-16] [--batch 1] [--steps 3] [--device auto] [--precision auto]

Each row is a process of its own, so that peaks don't mix; weights, images and labels are random (8 regions an
image), loss and optimiser real. Rows: the step as `san train` makes it; with --checkpoint-activations; with
CLIP's positions frozen as well (Table 9), where nothing of CLIP is kept for the backward pass; and, as the
baseline that the ratios are taken to, with all of CLIP trained, i.e. everything kept.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import torch

from san_cli.engine.device import choose_device, choose_precision, peak_memory_mb, reuse_freed_memory
from san_cli.fps.timing import peak_growth_mb
from san_cli.models.presets import get_preset
from san_cli.runs.processes import ProcessGroup
from san_cli.train.model import TrainedModel
from san_cli.train.recipe import Recipe
from san_cli.train.step import MicroBatch, Trainer
from san_cli.train.targets import targets_of
from san_cli.vocabulary.grammar import vocabulary_of_names
from san_cli.weights.checkpoint import random_checkpoint

ROWS = {
    "all of CLIP trained (baseline)": "whole",
    "san train": "plain",
    "san train --checkpoint-activations": "checkpointing",
    "san train --set train_clip_positions=false": "frozen",
}
CLASSES, REGIONS = 171, 8


def parts(preset_size: int, batch: int, device: torch.device) -> MicroBatch:
    """Noise, with labels in `REGIONS` stripes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch, 3, preset_size, preset_size), dtype=torch.uint8, generator=generator)
    stripes = torch.arange(preset_size) * REGIONS // preset_size
    labels = stripes[None].expand(preset_size, -1).contiguous()
    targets = targets_of(labels, CLASSES, 255)
    moved = replace(targets, label_map=labels.to(device), classes=targets.classes.to(device))
    return MicroBatch(images.to(device), (moved,) * batch, tuple(range(batch)), ("noise",) * batch)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """One row: median seconds of a step, the process's peak, and what a step needs beside weights and moments."""
    device = choose_device(options.device)
    if device.type == "cpu":
        reuse_freed_memory()
    preset = get_preset(options.model)
    if options.row == "frozen":
        preset = replace(preset, train_clip_positions=False)
    vocabulary = vocabulary_of_names([f"class {number}" for number in range(CLASSES)])
    text = torch.nn.functional.normalize(torch.randn(CLASSES, preset.clip.embed_dim), dim=-1).to(device)
    recipe = Recipe("bench", batch=options.batch)
    model = TrainedModel(random_checkpoint(preset), text, vocabulary, recipe).to(device)
    model.san.activation_checkpointing = options.row == "checkpointing"
    if options.row == "whole":
        model.san.visual.requires_grad_(True)
    trainer = Trainer(
        model, recipe, 0, choose_precision(options.precision, device), ProcessGroup(device=device)
    )
    batch, seconds = parts(preset.input_size, options.batch, device), []
    trainer.step(0, [batch])  # from here on the optimiser's moments are there
    model.zero_grad(set_to_none=True)
    growth = peak_growth_mb(lambda: trainer.step(1, [batch]), device)
    for number in range(options.steps):
        start = time.perf_counter()
        trainer.step(2 + number, [batch])
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds),
        "peak": peak_memory_mb(device),
        "step": growth or float("nan"),
        "trained_m": sum(p.numel() for p in trainer.parameters.values()) / 1e6,
        "frozen_mb": sum(p.numel() for p in model.parameters() if not p.requires_grad) * 4 / 1e6,
    }


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="vit-b-16")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options)))
        return
    device = choose_device(options.device)
    where = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    print(f"torch {torch.__version__}, {device}, {where}, {options.model}, batch {options.batch}")
    print("| | s a step | peak MB | a step's own MB | trained M | frozen weights MB | time | a step's own |")
    print("|---|---|---|---|---|---|---|---|")
    base: dict[str, float] = {}
    for title, row in ROWS.items():
        command = [sys.executable, __file__, *sys.argv[1:], "--row", row]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        base = base or found
        print(
            f"| {title} | {found['seconds']:.2f} | {found['peak']:,.0f} | {found['step']:,.0f} "
            f"| {found['trained_m']:.2f} | {found['frozen_mb']:.0f} "
            f"| {found['seconds'] / base['seconds']:.2f} | {found['step'] / base['step']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
