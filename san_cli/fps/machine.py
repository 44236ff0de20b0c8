"""The machine that the numbers were measured on, and how busy it is."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from san_cli.engine.device import versions
from san_cli.fps.systems import Setup

_GPU_FIELDS = "name,driver_version,power.limit,clocks.sm,clocks.max.sm,temperature.gpu"


def busy(setup: Setup) -> str:
    """Return a sentence if others use so much of the machine that times will be longer, else ""."""
    found = machine(setup)
    if found["load"] is None or found["load"] <= 0.5 * found["cores"]:
        return ""
    return f"the machine is busy (load {found['load']}): times will be longer than it can do"


def machine(setup: Setup) -> dict[str, Any]:
    """Name the hardware, how busy it is, and the versions; JSON values. To be called before the measurement."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": versions(),
    }
    if setup.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(setup.device)
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def gpu_state(setup: Setup) -> dict[str, str] | None:
    """Ask nvidia-smi for power and clocks, on CUDA; None where it doesn't answer."""
    if setup.device.type != "cuda":
        return None
    index = setup.device.index or 0
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(_GPU_FIELDS.split(","), done.stdout.strip().split(", "), strict=False))
