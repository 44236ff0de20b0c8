"""Peak memory of a training."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from san_cli.errors import ExitCode, SanError


def peak_memory_mb(device: torch.device) -> float:
    """Peak so far in MB: of the GPU's memory on CUDA, otherwise of this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # macOS counts bytes


@contextmanager
def explaining_memory() -> Iterator[None]:
    """Say what helps where memory runs out. SanError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        on_gpu = isinstance(error, torch.cuda.OutOfMemoryError)
        if not on_gpu and not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise SanError(
            "out of memory on the GPU" if on_gpu else "out of memory",
            hint="Use --accumulate 2 (or more), --checkpoint-activations or a smaller --batch: the first two change "
            "nothing but the time.",
            code=ExitCode.SOME_FAILED,
        ) from error
