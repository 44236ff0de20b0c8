"""Optimiser of each tensor (Sec. 4.2): learning rate and weight decay."""

from typing import Any

import torch
from torch import nn

from san_cli.errors import SanError
from san_cli.models.side_adapter import Fusion
from san_cli.train.recipe import Recipe

_EMBEDDINGS = (
    "side_adapter.positions",
    "side_adapter.query_embed",
    "side_adapter.query_positions",
    "visual.positional_embedding",
)
# Blocks, fusions and heads: what Muon may train. Stem and embeddings aren't maps between features.
_INNER = ("side_adapter.blocks.", "side_adapter.fusions.", "mask_decoder.")


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, *, exempt: bool = True
) -> list[dict[str, Any]]:
    """Return a group for an optimiser for each trainable tensor: `params`, `name`, `lr`, `weight_decay`.

    With `exempt` (the official configuration) layer norms and embeddings don't decay; the norms of the fusion
    layers, all biases and the background embedding do. Without (the paper) everything decays.
    """
    exempted = _undecayed(model) if exempt else frozenset()
    return [
        {"params": [p], "name": name, "lr": lr, "weight_decay": 0.0 if name in exempted else weight_decay}
        for name, p in model.named_parameters()
        if p.requires_grad
    ]


def optimizers_of(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for all that is trained; with `recipe.muon_learning_rate` Muon beside it, for `_INNER`'s matrices.

    Each group has its `peak` learning rate beside `lr`, which the schedule changes. SanError without Muon in PyTorch.
    """
    groups = parameter_groups(
        model, recipe.learning_rate, recipe.weight_decay, exempt=not recipe.decay_everything
    )
    muon = []
    if recipe.muon_learning_rate:
        muon = [group | {"lr": recipe.muon_learning_rate} for group in groups if _is_inner_matrix(group)]
        groups = [group for group in groups if not _is_inner_matrix(group)]
    for group in (*groups, *muon):
        group["peak"] = group["lr"]
    adamw = torch.optim.AdamW(groups, foreach=True)
    if not muon:
        return [adamw]
    if not hasattr(torch.optim, "Muon"):
        raise SanError(
            f"muon_learning_rate needs PyTorch 2.9 or newer, and this is {torch.__version__}",
            hint="Leave it out: AdamW then trains everything, as in the paper.",
        )
    # Its updates are as large as AdamW's usually are, so that rates mean about the same for both.
    return [adamw, torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw")]


def _is_inner_matrix(group: dict[str, Any]) -> bool:
    """Tell whether a group is a linear layer's weight within `_INNER`; the bias's scale, 1 × 1, has no directions."""
    (parameter,) = group["params"]
    return parameter.ndim == 2 and min(parameter.shape) > 1 and group["name"].startswith(_INNER)


def poly_lr(base: float, step: int, total: int, power: float = 0.9, warm_up: int = 0) -> float:
    """Return the learning rate of a step, from 0: after `warm_up` steps upwards on its way down to 0 at `total`."""
    return base * (1 - step / total) ** power * min(1.0, (step + 1) / max(warm_up, 1))


def _undecayed(model: nn.Module) -> frozenset[str]:
    """Names of the embeddings and of the layer norms' tensors, except in fusion layers."""
    modules = dict(model.named_modules())
    fused = {id(fusion.norm) for fusion in modules.values() if isinstance(fusion, Fusion)}
    norms = [n for n, m in modules.items() if isinstance(m, nn.LayerNorm) and id(m) not in fused]
    return frozenset(_EMBEDDINGS) | {f"{norm}.{part}" for norm in norms for part in ("weight", "bias")}
