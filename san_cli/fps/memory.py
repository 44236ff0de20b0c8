"""The most memory that a call needs, though others' memory is in the same process."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_growth_mb(run: Callable[[], object], device: torch.device) -> float | None:
    """By how many 10⁶ bytes the memory in use grows at most while `run` runs; None where that can't be told.

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
