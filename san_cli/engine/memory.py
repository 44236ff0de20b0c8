"""Memory that there is, and that a container grants."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def meminfo() -> dict[str, float]:
    """Return /proc/meminfo in MB; nothing where there is none."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    found = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) * 1024 / 1e6 for words in found if len(words) > 1}


def memory_limit() -> float | None:
    """Return the megabytes that the control group grants, None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        for path in group_files(name):
            with suppress(OSError, ValueError):
                text = path.read_text().strip()
                if text != "max" and int(text) < 1 << 60:
                    return int(text) / 1e6
    return None


def group_files(name: str) -> Iterator[Path]:
    """Yield a file of our control group and of those around it, as far as they are there."""
    root = Path("/sys/fs/cgroup")
    try:
        own = Path("/proc/self/cgroup").read_text().strip().splitlines()[-1].split(":", 2)[2].lstrip("/")
    except (OSError, IndexError):
        own = ""
    folder = root / own
    for place in dict.fromkeys([folder, *folder.parents, root]):
        if (place == root or root in place.parents) and (place / name).is_file():
            yield place / name


def free_memory() -> float:
    """Return the megabytes that this process may still take, as far as that is told; infinite where nothing tells."""
    free = [meminfo().get("MemAvailable", float("inf"))]
    limit = memory_limit()
    if limit is not None:
        with suppress(OSError, IndexError, ValueError):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            free.append(limit - resident / 1e6)
    return max(0.0, min(free))
