"""Tensors in another precision, without the memory of both: what was read of a file for one is given back."""

import ctypes
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

_DONTNEED = getattr(mmap, "MADV_DONTNEED", None)


def converted(state: Mapping[str, Tensor], device: torch.device, precision: torch.dtype) -> dict[str, Tensor]:
    """Convert tensors one by one; those that are as wanted already are not copied.

    The pages of a memory-mapped file that a tensor lay in leave this process's memory, where the system can do that;
    they come back when they are read.
    """
    mapped = _mapped_files()
    found = {}
    for name, tensor in state.items():
        found[name] = tensor.to(device=device, dtype=precision)
        if found[name] is not tensor:
            _give_back(tensor, mapped)
    return found


def _mapped_files() -> list[tuple[int, int]]:
    """List from where to where in this process's memory files are mapped; none where the system doesn't say."""
    found = []
    try:
        for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
            span, _, _, _, inode, *_ = line.split(maxsplit=5)
            if inode != "0":
                start, end = span.split("-")
                found.append((int(start, 16), int(end, 16)))
    except (OSError, ValueError):
        pass
    return found


def _give_back(tensor: Tensor, mapped: Sequence[tuple[int, int]]) -> None:
    """Give the whole pages of a tensor in one of the `mapped` files back; any other memory would lose its content."""
    if _DONTNEED is None or tensor.device.type != "cpu" or not tensor.is_contiguous():
        return
    start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    if not any(first <= start and end <= last for first, last in mapped):
        return
    start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if start < end:
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(_DONTNEED)
        )
