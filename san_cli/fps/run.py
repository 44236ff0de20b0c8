"""`san fps` from what was asked to what it found: all is checked first, then measured, then the files are written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from san_cli.errors import SanError
from san_cli.fps.context import Context, busy, in_context
from san_cli.fps.csv_file import append_csv, refuse_unusable_files
from san_cli.fps.end_to_end import Folder, FolderRate, folder_rate
from san_cli.fps.measure import SizeResult, cases_at, measure
from san_cli.fps.plot import write_plot
from san_cli.fps.report import title
from san_cli.fps.systems import setup_for
from san_cli.models.presets import get_preset
from san_cli.runs.voice import Voice


@dataclass(frozen=True)
class Plan:
    """Request to `san fps`: what to measure, and where to write it."""

    systems: Sequence[str]
    sizes: Sequence[int]  # pixels; none: the preset's
    clip_sizes: Sequence[int]  # pixels; none: the preset's
    model: str  # SAN's
    classes: int
    batch: int
    device: str
    precision: str
    compile: bool
    folder: Folder | None  # also timed from files to files
    csv: Path | None
    plot: Path | None
    command: Sequence[str]


@dataclass(frozen=True)
class Measured:
    """Findings of a measurement."""

    results: Sequence[SizeResult]
    context: Context
    folder: FolderRate | None


def measure_systems(plan: Plan, voice: Voice) -> Measured:
    """Measure what is planned; SanError where it can't be done, before minutes of measuring as far as can be told."""
    # What can't be measured, or written, is refused.
    refuse_unusable_files(plan.csv, plan.plot)
    preset = get_preset(plan.model)
    sizes = plan.sizes or [preset.input_size]
    for size in sizes:
        cases_at(size, plan.systems, preset, plan.clip_sizes)
    setup = setup_for(plan.device, plan.precision, plan.classes, plan.batch, plan.compile)
    if warning := busy(setup):
        voice.warn(warning)

    # The networks, on random images and weights.
    with voice.progress("calls", len(plan.systems)) as step:
        try:
            results, context = in_context(
                lambda: measure(sizes, plan.systems, preset, plan.clip_sizes, setup, step),
                preset,
                setup,
                plan.command,
            )
        except (RuntimeError, MemoryError) as error:
            known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
            if not known and "DefaultCPUAllocator" not in str(error):
                raise
            raise SanError(
                "not enough memory for this measurement",
                hint="Take a smaller --batch or --size, or fewer --systems at a time.",
            ) from error
    if plan.csv is not None:
        append_csv(plan.csv, results, context)
    if plan.plot is not None:
        write_plot(plan.plot, results, title(results[0], context))

    # The whole program, on a folder of images.
    rate = None
    if plan.folder is not None:
        with voice.progress("images", 1) as step:
            rate = folder_rate(plan.folder, preset, setup, plan.precision, step, voice.warn)
    return Measured(results, context, rate)
