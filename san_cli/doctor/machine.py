"""The machine: cores, threads, memory, what the CPU can, limits of the system."""

import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from san_cli.doctor.finding import Finding
from san_cli.engine.hardware import bfloat16_hint, cpu_flags, cpu_info
from san_cli.engine.memory import group_files, meminfo, memory_limit
from san_cli.files import free_megabytes
from san_cli.text import counted

# What speeds matrix products up, by its name in /proc/cpuinfo.
_ABILITIES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 bf16",
    "avx512_vnni": "AVX-512 VNNI",
    "amx_bf16": "AMX bf16",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "bf16",
}
_FEW_FILES = 256  # open ones: a pipeline with many threads has more
_LITTLE_MEMORY = 1500  # MB: ViT-B/16 takes 1,250


def system() -> Finding:
    """Name operating system, architecture and Python."""
    names = {
        "system": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "executable": sys.executable or "",
    }
    return Finding("system", f"{names['system']}, Python {names['python']} ({names['executable']})", names)


def cores() -> Finding:
    """Count the cores: there, ours to use, and what a container is limited to; and threads."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _core_limit()
    facts: dict[str, Any] = {
        "cores": os.cpu_count(),
        "usable_cores": own,
        "limit_of_the_container": limit,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "torch_threads": _torch_threads(),
    }
    told = f"{counted(os.cpu_count() or 1, 'core')}, {own} ours"
    told += "" if limit is None else f", limited to {limit:g} by the container"
    told += f"; PyTorch takes {counted(facts['torch_threads'], 'thread')}" if facts["torch_threads"] else ""
    threads = facts["torch_threads"] or 0
    if limit is not None and threads > 2 * max(1.0, limit):
        told += f" (more than it gets: OMP_NUM_THREADS={max(1, round(limit))} is faster)"
    if facts["OMP_NUM_THREADS"]:
        told += f"; OMP_NUM_THREADS={facts['OMP_NUM_THREADS']}"
    return Finding("cores", told, facts)


def _torch_threads() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None or not hasattr(torch, "get_num_threads") else int(torch.get_num_threads())


def _core_limit() -> float | None:
    """Return the cores that the control group grants, None without a limit."""
    for path in group_files("cpu.max"):
        quota, _, period = path.read_text().partition(" ")
        if quota != "max":
            return int(quota) / int(period)
    for path in group_files("cpu/cpu.cfs_quota_us"):
        quota_us = int(path.read_text())
        if quota_us > 0:
            return quota_us / int(path.with_name("cpu.cfs_period_us").read_text())
    return None


def memory() -> Finding:
    """Tell how much memory there is, is free, and is granted by a container."""
    sizes = meminfo()
    total, free = sizes.get("MemTotal"), sizes.get("MemAvailable")
    if total is None and hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    limit = memory_limit()
    facts = {
        "megabytes": total and round(total),
        "free_megabytes": free and round(free),
        "limit_of_the_container_megabytes": limit and round(limit),
    }
    told = f"{total:,.0f} MB" if total else "unknown"
    told += f", {free:,.0f} MB free" if free else ""
    told += f", {limit:,.0f} MB for the container" if limit else ""
    least = min(one for one in (free, limit, 1e12) if one)
    if least < _LITTLE_MEMORY:
        told += " (little: ViT-B/16 takes 1,250 MB)"
    return Finding("memory", told, facts)


def processor() -> Finding:
    """Name the CPU and what of it speeds matrix products up."""
    info = cpu_info()
    flags = cpu_flags(info)
    abilities = [name for flag, name in _ABILITIES.items() if flag in flags]
    model = info.get("model name") or platform.processor() or platform.machine()
    told = f"{model}: {', '.join(abilities) if abilities else 'abilities unknown'}"
    slow = bool(flags) and not any("bf16" in name for name in abilities)
    told += " (no bf16, so --precision bf16 need not be faster)" if slow else ""
    hint = bfloat16_hint(flags)
    told += f" ({hint})" if hint else ""
    return Finding("processor", told, {"model": model, "abilities": abilities})


def open_files() -> Finding:
    """Tell how many files a process may have open."""
    try:
        import resource
    except ImportError:  # Windows
        return Finding("open files", "no limit known", {"limit": None})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = f"up to {soft:,}" if soft != resource.RLIM_INFINITY else "no limit"
    hint = "" if soft >= _FEW_FILES or soft < 0 else " (few: ulimit -n 4096 lets a run have more threads)"
    return Finding("open files", told + hint, {"limit": soft, "most": hard})


def temporary() -> Finding:
    """Tell where temporary files go, and whether they can."""
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        return Finding(
            "temporary files", "nowhere", {"folder": None}, fault=f"there is no folder for temporary files: {error}",
            hint="Set TMPDIR to a folder that can be written to.",
        )  # fmt: skip
    free = free_megabytes(Path(folder))
    told = folder if free is None else f"{folder}, {free:,} MB free"
    return Finding("temporary files", told, {"folder": folder, "free_megabytes": free})


def files_here() -> Finding:
    """Tell whether results can be written where the command was called, which is where they go by default."""
    folder = Path.cwd()
    writable = os.access(folder, os.W_OK | os.X_OK)
    free = free_megabytes(folder)
    told = f"{folder}{'' if writable else ', which can not be written to (-o names another)'}"
    told += "" if free is None else f", {free:,} MB free"
    return Finding(
        "working folder", told, {"folder": str(folder), "writable": writable, "free_megabytes": free}
    )
