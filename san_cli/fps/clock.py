"""A clock of the device's own for the boundaries between the stages of a system."""

import time

import torch
from torch import nn


class StageClock:
    """Marks the ends of stages while a system runs; on CUDA by events, so that nothing waits for a mark."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []

    def start(self) -> None:
        """Forget the marks of the run before."""
        self._marks = [("", self._now())]

    def mark(self, stage: str) -> None:
        """End `stage`: all since the mark before belongs to it."""
        self._marks.append((stage, self._now()))

    def mark_before(self, module: nn.Module, stage: str) -> None:
        """Mark the end of `stage` whenever `module` begins."""
        module.register_forward_pre_hook(lambda *_: self.mark(stage))

    def mark_after(self, module: nn.Module, stage: str) -> None:
        """Mark the end of `stage` whenever `module` ends."""
        module.register_forward_hook(lambda *_: self.mark(stage))

    def milliseconds(self) -> dict[str, float]:
        """Sum up the time in each stage, in the order of their first ends; the device must have been waited for."""
        found: dict[str, float] = {}
        for (_, before), (stage, after) in zip(self._marks, self._marks[1:], strict=False):
            found[stage] = found.get(stage, 0.0) + _milliseconds(before, after)
        return found

    def _now(self) -> "float | torch.cuda.Event":
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event
        synchronise(self._device)
        return time.perf_counter()


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _milliseconds(before: "float | torch.cuda.Event", after: "float | torch.cuda.Event") -> float:
    if isinstance(before, float) and isinstance(after, float):
        return (after - before) * 1000
    assert isinstance(before, torch.cuda.Event) and isinstance(after, torch.cuda.Event)
    return before.elapsed_time(after)
