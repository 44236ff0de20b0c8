"""Context that all numbers of a measurement share: the machine, how busy it was, and what was set."""

import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from san_cli.engine.device import PRECISIONS, versions
from san_cli.fps.measure import text_ms_per_word
from san_cli.fps.systems import Setup
from san_cli.models.presets import Preset

_GPU_FIELDS = "name,driver_version,power.limit,clocks.sm,clocks.max.sm,temperature.gpu"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Context:
    """All rows have this in common."""

    setup: Setup
    precision: str
    threads: int
    text_ms_per_word: float
    machine: Mapping[str, Any]  # JSON values
    gpu_state: Mapping[str, str] | None
    command: Sequence[str]


def in_context(
    measure: Callable[[], _T], preset: Preset, setup: Setup, command: Sequence[str]
) -> tuple[_T, Context]:
    """Return what `measure` does, and what its numbers have in common."""
    machine = _machine(setup)  # its load is that of others only as long as nothing runs here
    found = measure()
    context = Context(
        setup,
        precision=next(name for name, dtype in PRECISIONS.items() if dtype == setup.precision),
        threads=torch.get_num_threads(),
        gpu_state=_gpu_state(setup),  # before anything else: clocks fall as soon as a GPU is idle
        text_ms_per_word=text_ms_per_word(preset, setup),
        machine=machine,
        command=command,
    )
    return found, context


def busy(setup: Setup) -> str:
    """Return a sentence if others use so much of the machine that times will be longer, else ""."""
    found = _machine(setup)
    if found["load"] is None or found["load"] <= 0.5 * found["cores"]:
        return ""
    return f"the machine is busy (load {found['load']}): times will be longer than it can do"


def _machine(setup: Setup) -> dict[str, Any]:
    """Name the hardware, how busy it is, and the versions; JSON values. To be called before the measurement."""
    found: dict[str, Any] = {
        "processor": processor_name(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": versions(),
    }
    if setup.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(setup.device)
    return found


def processor_name() -> str:
    """Return the processor's name as its maker gives it, else its kind."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu_state(setup: Setup) -> dict[str, str] | None:
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
