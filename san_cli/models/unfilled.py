"""Building a network whose parameters get no values, as those of a file are to take their place.

That is what PyTorch's meta device is for. But drawing or scaling numbers there makes PyTorch import its compiler and
SymPy first, nearly 900 modules, which takes as long as importing PyTorch itself. Where there are no numbers nothing
needs to be drawn.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# By a number; which of them it is depends on PyTorch's version.
_SCALING = (Tensor.mul, Tensor.__mul__, Tensor.__rmul__)


@contextmanager
def unfilled() -> Iterator[None]:
    """Make the parameters of the modules built in the block tensors of the meta device: shapes without numbers."""
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Passes over what would fill a tensor with random numbers, or scale it: its shape stays what it is."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if function is torch.randn:
            return torch.empty(*args, **named, device="meta")
        if function is nn.init.normal_:
            return named["tensor"]
        if function in _SCALING:
            return args[0]
        return function(*args, **named)
