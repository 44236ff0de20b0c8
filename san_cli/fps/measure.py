"""From what was asked to results: every size in turn, all systems of a size interleaved."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from san_cli.errors import SanError
from san_cli.fps.flops import Cost, cost_of
from san_cli.fps.published import PaperRow, paper_row
from san_cli.fps.systems import LABELS, Setup, System, build, random_images
from san_cli.fps.timing import Timing, time_systems
from san_cli.models.presets import PAD_TO, Preset
from san_cli.models.text import TextEncoder
from san_cli.vocabulary.templates import templates
from san_cli.weights.checkpoint import random_checkpoint

_WORDS = ("cat", "traffic light", "golden retriever")


@dataclass(frozen=True)
class Case:
    """One row: a system, and for SAN its preset with the CLIP input size in it."""

    system: str
    preset: Preset
    clip_size: int | None  # pixels; None for the rivals

    @property
    def label(self) -> str:
        """The system's name in tables."""
        of_san = f" {self.preset.name}, CLIP {self.clip_size}" if self.system == "san" else ""
        return LABELS[self.system] + of_san


@dataclass(frozen=True)
class Row:
    """A case, measured at one size."""

    case: Case
    cost: Cost
    timing: Timing
    paper: PaperRow
    fps: float  # images a second
    built_s: float


@dataclass(frozen=True)
class SizeResult:
    """All rows of one input size."""

    size: int  # pixels
    rows: tuple[Row, ...]

    @property
    def san(self) -> Row | None:
        """The row that the others are compared with: SAN's with the preset's own CLIP size, else its first."""
        ours = [row for row in self.rows if row.case.system == "san"]
        default = [row for row in ours if row.paper.fps is not None]
        return next(iter(default + ours), None)


def cases_at(size: int, systems: Sequence[str], preset: Preset, clip_sizes: Sequence[int]) -> list[Case]:
    """List the cases of an input size; SAN once for every CLIP size, by default for the preset's.

    Raises SanError for sizes that the networks can't take.
    """
    if size < PAD_TO or size % PAD_TO:
        raise SanError(f"size {size} is not possible", hint=f"Sizes are multiples of {PAD_TO} pixels.")
    cases = []
    for system in systems:
        if system != "san":
            cases.append(Case(system, preset, None))
        elif not clip_sizes:
            preset.check_input(size)
            cases.append(Case(system, preset, math.floor(size * preset.clip_scale)))
        else:
            cases += [Case(system, at_clip_size(preset, size, clip), clip) for clip in clip_sizes]
    return cases


def at_clip_size(preset: Preset, size: int, clip_size: int) -> Preset:
    """`preset` with the scale at which an input of `size` pixels is shown to CLIP at `clip_size` (Table 8)."""
    patch = preset.clip.patch_size
    if clip_size < patch or clip_size % patch:
        raise SanError(
            f"CLIP can't take an input of {clip_size} pixels", hint=f"CLIP sizes are multiples of {patch}."
        )
    scale = clip_size / size
    if math.floor(size * scale) < clip_size:  # the quotient was rounded down
        scale = math.nextafter(scale, math.inf)
    return dataclasses.replace(preset, clip_scale=scale)


def measure(
    sizes: Sequence[int],
    systems: Sequence[str],
    preset: Preset,
    clip_sizes: Sequence[int],
    setup: Setup,
    step: Callable[[int, int], None],
) -> list[SizeResult]:
    """Count and time the systems at every size. `step` hears (calls done, calls planned) of the present size."""
    planned = [(size, cases_at(size, systems, preset, clip_sizes)) for size in sizes]
    built: dict[Case, System] = {}
    results = []
    for size, cases in planned:
        for case in cases:
            key = dataclasses.replace(case, clip_size=None)  # SAN of one scale serves every size
            if key not in built:
                built[key] = build(case.system, case.preset, setup)
        ready = [built[dataclasses.replace(case, clip_size=None)] for case in cases]
        timings = time_systems(ready, random_images(size, setup), setup, step)
        rows = [
            Row(
                case,
                cost_of(case.system, case.preset, size, setup.classes),
                timing,
                paper_row(case.system, case.preset.name, size, case.clip_size),
                1000 * setup.batch / timing.median,
                system.built_s,
            )
            for case, system, timing in zip(cases, ready, timings, strict=True)
        ]
        results.append(SizeResult(size, tuple(rows)))
    return results


def text_ms_per_word(preset: Preset, setup: Setup) -> float:
    """Time the embedding of a word in the 14 templates, which no FPS includes; milliseconds."""
    prompts = templates("vild")
    encoder = TextEncoder(preset.clip, random_checkpoint(preset).part("text"), setup.device)
    encoder.embed(_WORDS[0], prompts)
    start = time.perf_counter()
    for _ in encoder.embed_each(_WORDS, prompts):
        pass  # each ends on the CPU, so it is waited for
    return (time.perf_counter() - start) * 1000 / len(_WORDS)
