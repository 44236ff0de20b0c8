"""One optimisation step over all processes and micro-batches (Sec. 4.2)."""

import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from san_cli.runs.processes import ProcessGroup
from san_cli.train.losses import Normalisers, normalisers_of
from san_cli.train.model import TrainedModel, trainable
from san_cli.train.optimizer import optimizers_of, poly_lr
from san_cli.train.points import seeded_draw
from san_cli.train.recipe import Recipe
from san_cli.train.targets import Targets


@dataclass(frozen=True)
class MicroBatch:
    """Some of a step's images, on the device."""

    images: Tensor  # uint8 [B, 3, H, W]
    targets: tuple[Targets, ...]
    slots: tuple[int, ...]  # each image's place in the whole step's batch
    names: tuple[str, ...]  # for messages


@dataclass(frozen=True)
class StepResult:
    """The outcome of a step, the same in all processes."""

    losses: dict[str, float]  # unweighted terms of Eq. 5 (ce, mask, dice, ce_0, …) and `total`, weighted
    gradient_norm: float  # before clipping
    learning_rate: float  # AdamW's
    updated: bool  # False: loss or gradient were not finite, and nothing was changed
    offending: tuple[str, ...]  # images whose loss was not finite
    stop: bool  # some process was asked to end


class Trainer:
    """Model, optimisers and loss scale: what changes from step to step."""

    def __init__(
        self, model: TrainedModel, recipe: Recipe, seed: int, precision: torch.dtype, processes: ProcessGroup
    ) -> None:
        self.model, self.recipe, self.seed, self.precision = model, recipe, seed, precision
        self.processes = processes
        self.optimizers = optimizers_of(model.san, recipe)
        self.parameters = trainable(model.san)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=precision == torch.float16)
        self.network: nn.Module = model
        if processes.world > 1:
            # The query embeddings' gradients are slices; that they are copied is no news to the user.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            self.network = DistributedDataParallel(model)  # which has no buffers

    def step(self, number: int, parts: Sequence[MicroBatch], *, stop: bool = False) -> StepResult:
        """Make step `number` (from 0) with this process's part of the batch.

        The losses are divided by sums over the whole batch, so that it doesn't matter how it is split up. That
        differs from the official code in one place: there each process divides its cross-entropy by its own
        sum of class weights.
        """
        # What the losses are divided by is known before the first of them, so that gradients just add up.
        totals, stop = self._normalisers(parts, stop)
        rate = self._schedule(number)

        # One micro-batch after the other: forward, matching, backward. Random points depend on seed, step and slot.
        self.model.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        offending: list[str] = []
        for index, part in enumerate(parts):
            draw = seeded_draw(self.seed, number, part.slots, part.images.device)
            with self._synchronised(last=index == len(parts) - 1):
                loss = self.network(part.images, part.targets, totals, draw, self.precision)
                # DistributedDataParallel averages over the processes; the losses' parts add up.
                self.scaler.scale(loss.total * self.processes.world).backward()
            for name, term in {**loss.terms, "total": loss.total}.items():
                sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach()
            finite = loss.per_image.isfinite().tolist()
            offending += [name for name, fine in zip(part.names, finite, strict=True) if not fine]

        # Everybody's losses: all processes must come to the same decision on whether they are finite.
        losses = dict(zip(sums, self.processes.sums(*(float(value) for value in sums.values())), strict=True))
        norm, updated = self._update(losses["total"])
        if not updated:
            found = self.processes.gather(offending)
            offending = [name for names in found for name in names]
        return StepResult(losses, norm, rate, updated, tuple(offending), stop)

    def _schedule(self, number: int) -> float:
        """Set every learning rate to that of step `number`; AdamW's is returned."""
        total, power, warm_up = self.recipe.iterations, self.recipe.poly_power, self.recipe.warm_up
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = poly_lr(group["peak"], number, total, power, warm_up)
        return poly_lr(self.recipe.learning_rate, number, total, power, warm_up)

    def _normalisers(self, parts: Sequence[MicroBatch], stop: bool) -> tuple[Normalisers, bool]:
        """Return the divisors of the whole step's losses, and whether any process was asked to stop."""
        own = normalisers_of(
            [t for part in parts for t in part.targets], self.model.san.preset.queries, self.model.weights
        )
        masks, class_weight, stops = self.processes.sums(own.masks, own.class_weight, float(stop))
        return Normalisers(masks, class_weight), stops > 0

    def _synchronised(self, *, last: bool) -> AbstractContextManager[None]:
        """Exchange gradients once a step, after its last micro-batch."""
        if isinstance(self.network, DistributedDataParallel) and not last:
            return self.network.no_sync()
        return nullcontext()

    def _update(self, loss: float) -> tuple[float, bool]:
        """Clip, then move the weights if everything is finite: the gradient's norm, and whether."""
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.clip_norm))
        finite = math.isfinite(norm) and math.isfinite(loss)
        if finite:
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
        self.scaler.update()
        return norm, finite
