"""How much memory a training has taken at most."""

import sys

import torch


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
