"""Device, precision and memory to compute with, and the versions of the packages behind the numbers."""

import ctypes
import platform
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version

import torch

from san_cli import __version__
from san_cli.errors import SanError, did_you_mean
from san_cli.text import quoted

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h
_PACKAGES = ("torch", "numpy", "pillow", "open_clip_torch")

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What other programs call them: only for a hint, as a wrong guess would cost more than asking.
_DEVICES_ELSEWHERE = {"gpu": "cuda", "nvidia": "cuda", "": "cuda:N", "metal": "mps", "none": "cpu"}
_PRECISIONS_ELSEWHERE = {
    **dict.fromkeys(("float32", "32", "full", "float", "tf32"), "fp32"),
    **dict.fromkeys(("bfloat16", "bf", "16", "half", "amp", "mixed"), "bf16"),
    "float16": "fp16",
}


def choose_device(name: str = "auto") -> torch.device:
    """Choose a device: `auto` takes CUDA, then Apple's MPS, then the CPU. SanError for one that isn't there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        meant = _DEVICES_ELSEWHERE.get(re.sub(r"[\d:]+$", "", name.casefold()))
        hint = did_you_mean(meant, "Use auto, cpu, cuda, cuda:N or mps.")
        raise SanError(f"unknown device {quoted(name)}", hint=hint) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise SanError(f"device '{name}' is not supported", hint="Use auto, cpu, cuda, cuda:N or mps.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SanError(
            f"device '{name}' was asked for, but PyTorch sees {torch.cuda.device_count()} CUDA devices",
            hint="Use --device cpu, or check the driver and CUDA_VISIBLE_DEVICES.",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SanError("device 'mps' was asked for, but it is not available here", hint="Use --device cpu.")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Choose a precision: `auto` is float32, bfloat16 on CUDA. SanError for an unknown name or fp16 on the CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in PRECISIONS:
        meant = _PRECISIONS_ELSEWHERE.get(name.casefold())
        hint = did_you_mean(meant, "Use auto, fp32, bf16 or fp16.")
        raise SanError(f"unknown precision {quoted(name)}", hint=hint)
    if name == "fp16" and device.type == "cpu":
        raise SanError(
            "fp16 on the CPU is slower than fp32 and overflows", hint="Use --precision bf16 or fp32."
        )
    return PRECISIONS[name]


def without_tf32(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Keep CUDA's convolutions in float32 from TensorFloat-32; on CPUs nothing is to be kept.

    There several threads would mix these flags up, which are the process's.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=precision != torch.float32)


def reuse_freed_memory() -> None:
    """Tell glibc to reuse freed memory instead of returning it to the kernel; elsewhere do nothing.

    By default every large tensor is mapped, page-faulted and unmapped at each call (0.5-0.8 s an image for the
    official ViT-B/16 on a CPU). In return the process keeps its peak, which may be some 10 % higher. It concerns
    the whole process, so it is only done for models on the CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak so far in MB: of the GPU's memory on CUDA, otherwise of this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # macOS counts bytes


def versions() -> dict[str, str]:
    """Name the versions, for reports: ours, Python's, and of the packages that the numbers may depend on."""
    found = {"san": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def wait_for(device: torch.device) -> None:
    """Wait for a device to end its work, for those who take the time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
