"""Memory that a training runs out of."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from san_cli.errors import ExitCode, SanError


@contextmanager
def explaining_memory() -> Iterator[None]:
    """Say what helps where memory runs out. SanError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        on_gpu = isinstance(error, torch.cuda.OutOfMemoryError)
        if not on_gpu and not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise SanError(
            "out of memory on the GPU" if on_gpu else "out of memory",
            hint="Use --accumulate 2 (or more), --checkpoint-activations or a smaller --batch: the first two change "
            "nothing but the time.",
            code=ExitCode.SOME_FAILED,
        ) from error
