"""Timing several systems in one process: warmed up, interleaved, and summed up by medians."""

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from san_cli.fps.clock import synchronise
from san_cli.fps.systems import Setup, System

SECONDS_EACH = 20.0  # of timed calls of a system; one that takes longer is called once
_MOST_CALLS = 200
# A first call that takes longer is the measurement, so that a slow machine ends within minutes.
_PATIENCE_S = 45.0
# Whichever is reached first; twice at least where the first call compiles.
_WARM_UP_CALLS, _WARM_UP_S = 10, 3.0
CONFIDENCE = 0.95
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Call:
    """One call: a batch."""

    milliseconds: float
    stages: dict[str, float]  # milliseconds


@dataclass(frozen=True)
class Timing:
    """Timed calls of one system; milliseconds a call, i.e. a batch."""

    median: float
    p10: float
    p90: float
    interval: tuple[float, float] | None  # of the median at CONFIDENCE; None with too few calls for one
    calls: int
    warmed_up: bool  # False: the one call was the first
    stages: dict[str, float]  # the median of each
    peak_memory_mb: float | None  # its weights and the most that a call adds


def time_systems(
    systems: Sequence[System], pixels: Tensor, setup: Setup, step: Callable[[int, int], None]
) -> list[Timing]:
    """Time the systems on uint8 images [B, 3, H, W]; `step` hears (calls done, calls planned)."""
    peaks, warm = [], []
    for number, system in enumerate(systems):
        peak, call = warm_up(system, pixels, setup)
        peaks.append(None if peak is None else peak + system.weights_mb)
        warm.append(call)
        step(number + 1, len(systems))
    order = interleaved([_calls(call.milliseconds / 1000) for call in warm])
    timed: list[list[Call]] = [[] for _ in systems]
    for done, index in enumerate(order, start=1):
        timed[index].append(time_call(systems[index], pixels, setup))
        step(done, len(order))
    return [
        summary(calls or [first], peak, warmed_up=bool(calls))
        for calls, first, peak in zip(timed, warm, peaks, strict=True)
    ]


def _calls(seconds: float) -> int:
    """Return the number of timed calls for a system whose call takes so long."""
    return 0 if seconds > _PATIENCE_S else min(_MOST_CALLS, max(1, math.floor(SECONDS_EACH / seconds)))


def warm_up(system: System, pixels: Tensor, setup: Setup) -> tuple[float | None, Call]:
    """Call the system a few times; how much memory the last of these calls adds, and that call."""
    least, start = (2 if setup.compile else 1), time.perf_counter()
    calls: list[Call] = []
    while True:
        peak = peak_growth_mb(lambda: calls.append(time_call(system, pixels, setup)), setup.device)
        enough = len(calls) >= _WARM_UP_CALLS or time.perf_counter() - start > _WARM_UP_S
        if enough and len(calls) >= least:
            return peak, calls[-1]


def peak_growth_mb(run: Callable[[], object], device: torch.device) -> float | None:
    """Run `run` and return by how many 10⁶ bytes the memory in use grew at most; None where that can't be told.

    On CUDA that is what tensors take. On Linux it is resident memory: the kernel's high-water mark is reset
    first, after the allocator has given back what it kept from others' calls.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    try:
        if device.type != "cpu":
            raise OSError
        _give_back_free_memory()
        _RESET.write_text("5")
        resident = _status("VmRSS")
    except OSError:
        run()
        return None
    run()
    return (_status("VmHWM") - resident) / 1e6


def _give_back_free_memory() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, TypeError) as error:  # another C library keeps less, or another system
        raise OSError from error


def _status(field: str) -> int:
    """A size in bytes from Linux's account of this process."""
    lines = _STATUS.read_text().splitlines()
    kib = next(line for line in lines if line.startswith(f"{field}:")).split()[1]
    return int(kib) * 1024


def time_call(system: System, pixels: Tensor, setup: Setup) -> Call:
    """One call, from images on the device to label maps."""
    synchronise(setup.device)
    start = time.perf_counter()
    system.clock.start()
    system.run(pixels)
    synchronise(setup.device)
    return Call((time.perf_counter() - start) * 1000, system.clock.milliseconds())


def interleaved(calls: Sequence[int]) -> list[int]:
    """Return an order of systems in which each is called so many times, spread evenly over the whole."""
    turns = [((turn + 0.5) / count, index) for index, count in enumerate(calls) for turn in range(count)]
    return [index for _, index in sorted(turns)]


def summary(calls: Sequence[Call], peak: float | None, *, warmed_up: bool) -> Timing:
    """Medians and percentiles over the calls."""
    milliseconds = [call.milliseconds for call in calls]
    p10, p90 = np.percentile(milliseconds, [10, 90])
    return Timing(
        statistics.median(milliseconds),
        float(p10),
        float(p90),
        median_interval(milliseconds),
        len(calls),
        warmed_up,
        {stage: statistics.median(call.stages[stage] for call in calls) for stage in calls[0].stages},
        peak,
    )


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Two of the values between which the median lies at CONFIDENCE, whatever the distribution; None below 6.

    The number of values under the true median is binomial, so the interval is one of order statistics.
    """
    count, outside, rank = len(values), 0.0, 0
    while 2 * (outside := outside + math.comb(count, rank) / 2**count) <= 1 - CONFIDENCE:
        rank += 1
    if rank == 0:
        return None
    ordered = sorted(values)
    return ordered[rank - 1], ordered[count - rank]
