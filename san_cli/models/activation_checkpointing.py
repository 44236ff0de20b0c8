"""Activation checkpointing: forget what a block computed and compute it again on the way back."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def checkpointed(function: Callable[..., Any], *arguments: Any, wanted: bool) -> Any:
    """Call `function(*arguments)`; where that is `wanted`, the backward pass computes again what is inside."""
    if wanted and torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False)
    return function(*arguments)
