"""What there is to compute with, as files tell it: without PyTorch, which takes a second to import."""

import sys
from pathlib import Path

# Device nodes of whatever PyTorch may compute on beside the CPU: NVIDIA's (in WSL, on Tegra, too) and AMD's.
_NODES = ("nvidia*", "dxg", "nvhost*", "nvmap", "nvgpu", "kfd")
# How much faster than in float32 the network is in bfloat16, by the processor's flag for units that multiply it.
_BFLOAT16 = {"amx_bf16": 2.7, "avx512_bf16": 1.5}


def may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """Tell whether PyTorch may find another device than the CPU; where nothing tells, it may."""
    if sys.platform != "linux" or not devices.is_dir():
        return True
    return any(found for pattern in _NODES for found in devices.glob(pattern))


def cpu_info(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Read what Linux says of the processor, of its last core; nothing elsewhere."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def cpu_flags(info: dict[str, str]) -> frozenset[str]:
    """Name what a processor can, by Linux's names; none where that isn't known."""
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def bfloat16_hint(flags: frozenset[str]) -> str:
    """Say that bfloat16 is faster on a processor that has units for it; "" for any other."""
    gain = next((gain for flag, gain in _BFLOAT16.items() if flag in flags), None)
    if gain is None:
        return ""
    return f"this processor has bfloat16 units: --precision bf16 is about {gain:g}× faster"
