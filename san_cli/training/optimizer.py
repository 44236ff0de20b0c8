"""How each tensor is trained (Sec. 4.2): learning rate and weight decay."""

from typing import Any

from torch import nn

from san_cli.models.side_adapter import Fusion

_EMBEDDINGS = (
    "side_adapter.positions",
    "side_adapter.query_embed",
    "side_adapter.query_positions",
    "visual.positional_embedding",
)


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, *, exempt: bool = True
) -> list[dict[str, Any]]:
    """A group for AdamW for each trainable tensor: `params`, `name`, `lr`, `weight_decay`.

    With `exempt` (the official configuration) layer norms and embeddings don't decay; the norms of the fusion
    layers, all biases and the background embedding do. Without (the paper) everything decays.
    """
    exempted = _undecayed(model) if exempt else frozenset()
    return [
        {"params": [p], "name": name, "lr": lr, "weight_decay": 0.0 if name in exempted else weight_decay}
        for name, p in model.named_parameters()
        if p.requires_grad
    ]


def poly_lr(base: float, step: int, total: int, power: float = 0.9) -> float:
    """The learning rate of a step, counted from 0, on its way down to 0 at `total`."""
    return base * (1 - step / total) ** power


def _undecayed(model: nn.Module) -> frozenset[str]:
    """Names of the embeddings and of the layer norms' tensors, except in fusion layers."""
    modules = dict(model.named_modules())
    fused = {id(fusion.norm) for fusion in modules.values() if isinstance(fusion, Fusion)}
    norms = [n for n, m in modules.items() if isinstance(m, nn.LayerNorm) and id(m) not in fused]
    return frozenset(_EMBEDDINGS) | {f"{norm}.{part}" for norm in norms for part in ("weight", "bias")}
