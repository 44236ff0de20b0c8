"""`san train --dry-run`: two iterations of a training that is then thrown away, and the plan as they show it."""

import time
from contextlib import closing

from san_cli.engine.device import peak_memory_mb
from san_cli.text import counted, duration, plan_lines, printable
from san_cli.train.recipe import Recipe, differences
from san_cli.train.training import Training


def try_out(training: Training) -> list[str]:
    """Make two iterations, and return the plan's lines; nothing is written."""
    with closing(training.batches()) as batches:
        parts, _ = next(batches)
        first = training.trainer.step(0, parts)
        # The second is timed, reading the data included: by then the optimiser's state is there.
        before = time.perf_counter()
        again = next(batches, None)
        training.trainer.step(1, parts if again is None else again[0])
        seconds = time.perf_counter() - before
    return _plan(training, first.losses, seconds)


def _plan(training: Training, losses: dict[str, float], seconds: float) -> list[str]:
    """Return parameters by part, schedule, memory and time, `seconds` an iteration; a line each."""
    recipe, data = training.recipe, training.data
    other = differences(recipe)
    trained = _parameters_by_part(training)
    frozen = sum(p.numel() for p in training.trainer.model.san.parameters()) - sum(trained.values())
    images, classes = counted(len(data.source), "image"), counted(len(data.vocabulary), "class")
    evaluated = f"{printable(data.validation_name)}, every {counted(training.evaluate_every, 'iteration')}"
    processes, parts = counted(training.processes.world, "process"), counted(training.plan.accumulate, "part")
    rows = [
        ("data", f"{printable(data.name)}: {images}, {classes}"),
        ("evaluated on", evaluated if training.evaluate_every else "nothing"),
        ("model", f"{printable(training.start.preset.name)}, input {training.start.preset.input_size} px"),
        ("recipe", "official" + (f"; but {', '.join(other)}" if other else "")),
        ("trained", ""),
        *((f"  {name}", f"{count:>11,}") for name, count in trained.items()),
        ("frozen", f"{frozen:>13,} (image tower alone)"),
        ("optimiser", f"{_optimisers(training)}, {_decay(training)}, clip {recipe.clip_norm:g}"),
        ("schedule", _schedule(recipe)),
        ("batch", f"{counted(recipe.batch, 'image')}: {processes} x {parts}"),
        ("device", f"{training.processes.device}, {str(training.trainer.precision).removeprefix('torch.')}"),
        ("first losses", "  ".join(f"{name} {value:.4g}" for name, value in losses.items())),
        ("memory", f"{peak_memory_mb(training.processes.device):,.0f} MB peak"),
        ("time", f"{seconds:.2f} s an iteration, {duration(seconds * recipe.iterations)} in all"),
    ]
    return plan_lines(rows)


def _parameters_by_part(training: Training) -> dict[str, int]:
    """Count the trainable numbers of each part of the network."""
    counts: dict[str, int] = {}
    for name, parameter in training.trainer.parameters.items():
        part = name.split(".")[0] if name.count(".") == 0 else ".".join(name.split(".")[:2])
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def _schedule(recipe: Recipe) -> str:
    falling = f"lr {recipe.learning_rate:g} x (1 - i / {recipe.iterations:,})^{recipe.poly_power:g}"
    return f"{falling}, rising over the first {recipe.warm_up:,}" if recipe.warm_up else falling


def _optimisers(training: Training) -> str:
    _adamw, *muon = training.trainer.optimizers
    matrices = sum(len(group["params"]) for one in muon for group in one.param_groups)
    rate = training.recipe.muon_learning_rate
    return f"Muon at {rate:g} for {matrices} matrices, AdamW" if matrices else "AdamW"


def _decay(training: Training) -> str:
    groups = [group for optimizer in training.trainer.optimizers for group in optimizer.param_groups]
    decayed = [group for group in groups if group["weight_decay"]]
    return f"weight decay {training.recipe.weight_decay:g} on {len(decayed)} of {len(groups)} tensors"
