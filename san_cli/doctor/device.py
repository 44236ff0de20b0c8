"""The device that `--device auto` takes, and why it is that one."""

import os
import shutil
from pathlib import Path
from typing import Any

from san_cli.doctor.finding import Finding


def device() -> Finding:
    """Name the device, and what is there that PyTorch doesn't use. Needs torch."""
    import torch

    from san_cli.engine.device import choose_device, choose_precision

    chosen = choose_device()
    precision = str(choose_precision("auto", chosen)).removeprefix("torch.")
    built = (
        f"CUDA {torch.version.cuda}" if torch.version.cuda else "ROCm" if torch.version.hip else "CPU alone"
    )
    facts: dict[str, Any] = {
        "device": str(chosen),
        "precision": precision,
        "torch_built_for": built,
        "driver": _has_driver(),
        "gpus": [_gpu(number) for number in range(torch.cuda.device_count())]
        if chosen.type == "cuda"
        else [],
        "mps": torch.backends.mps.is_available(),
    }
    gpus = ", ".join(f"{one['name']} ({one['megabytes']:,} MB)" for one in facts["gpus"])
    why, hint = _why_not_cuda(built, driver=facts["driver"]) if chosen.type == "cpu" else ("", "")
    told = f"{chosen}{f': {gpus}' if gpus else ''}, {precision}{f' ({why})' if why else ''}"
    return Finding("device", told + (f"; {hint}" if hint else ""), facts)


def _gpu(number: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(number)
    return {
        "name": properties.name,
        "megabytes": properties.total_memory // 10**6,
        "capability": f"{properties.major}.{properties.minor}",
        "bf16": torch.cuda.is_bf16_supported(),
    }


def _has_driver() -> bool:
    """Tell whether NVIDIA's driver is there, whatever PyTorch makes of it."""
    return Path("/proc/driver/nvidia/version").is_file() or shutil.which("nvidia-smi") is not None


def _why_not_cuda(built: str, *, driver: bool) -> tuple[str, str]:
    """Say why the CPU computes, and what would change that, if anything."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") and driver:
        return "CUDA_VISIBLE_DEVICES hides the GPUs", "unset it to use them"
    if driver and built == "CPU alone":
        return (
            "there is an NVIDIA driver, and PyTorch is built for the CPU alone",
            "https://pytorch.org has the command that installs one for CUDA",
        )
    if driver:
        return (
            f"there is an NVIDIA driver, and PyTorch ({built}) sees no GPU",
            "the driver may be too old for it, or the container may lack --gpus all; nvidia-smi says more",
        )
    return "no GPU found", ""
