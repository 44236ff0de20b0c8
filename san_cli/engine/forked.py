"""PyTorch's threads in a process that was forked from one that has used them: gone, and waited for.

GNU's OpenMP (libgomp), which PyTorch's wheels bring, keeps its threads between calls. A forked process, such as those
of `multiprocessing.Pool` on Linux, inherits the account of them but not the threads, and its first parallel operation
waits forever. With one thread nothing is parallel.
"""

import os
import warnings
from pathlib import Path

import torch

_used = _lost = False


def settle_threads() -> None:
    """Before anything parallel: take one thread, and say so, where the others were lost in a fork."""
    global _used, _lost
    if _lost:
        _lost = False
        if torch.get_num_threads() > 1 and _has_libgomp():
            torch.set_num_threads(1)
            warnings.warn(
                "this process was forked from one in which PyTorch had threads, and goes on with one thread; "
                'multiprocessing.get_context("spawn") starts processes that have their own',
                RuntimeWarning,
                stacklevel=3,
            )
    _used = _used or torch.get_num_threads() > 1


def _lose() -> None:
    global _lost
    _lost = _lost or _used


def _has_libgomp() -> bool:
    """Tell whether the OpenMP in use may be GNU's; others begin their threads anew after a fork."""
    try:
        return "libgomp" in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux
        return False


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_lose)
