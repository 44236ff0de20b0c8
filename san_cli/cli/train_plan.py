"""What `san train --dry-run` prints: the plan, on stdout."""

from typing import TYPE_CHECKING

import typer

from san_cli.text import counted, duration, printable

if TYPE_CHECKING:
    from san_cli.train.recipe import Recipe
    from san_cli.train.run import Training
    from san_cli.train.trial import Trial


def print_plan(training: "Training", trial: "Trial") -> None:
    """Parameters by group, schedule, memory and time."""
    from san_cli.train.recipe import differences

    plan, recipe, data = training.plan, training.plan.recipe, training.data
    other = differences(recipe)
    total = sum(p.numel() for p in training.trainer.model.san.parameters())
    lines = [
        (
            "data",
            f"{printable(data.name)}: {counted(len(data.source), 'image')}, {counted(len(data.vocabulary), 'class')}",
        ),
        (
            "evaluated on",
            f"{printable(data.validation_name)}, every {counted(plan.evaluate_every, 'iteration')}"
            if plan.evaluate_every
            else "nothing",
        ),
        ("model", f"{printable(training.start.preset.name)}, input {training.start.preset.input_size} px"),
        ("recipe", "official" + (f"; but {', '.join(other)}" if other else "")),
        ("trained", ""),
        *((f"  {name}", f"{count:>11,}") for name, count in parameters_by_part(training).items()),
        ("frozen", f"{total - sum(parameters_by_part(training).values()):>13,} (image tower alone)"),
        ("optimiser", f"{_optimisers(training)}, {_decay(training)}, clip {recipe.clip_norm:g}"),
        ("schedule", _schedule(recipe)),
        (
            "batch",
            f"{counted(recipe.batch, 'image')}: {counted(training.processes.world, 'process')} x "
            f"{counted(plan.accumulate, 'part')}",
        ),
        ("device", f"{training.processes.device}, {str(plan.precision).removeprefix('torch.')}"),
        ("first losses", "  ".join(f"{name} {value:.4g}" for name, value in trial.losses.items())),
        ("memory", f"{trial.memory_mb:,.0f} MB peak"),
        ("time", f"{trial.seconds:.2f} s an iteration, {duration(trial.seconds * recipe.iterations)} in all"),
    ]
    for name, value in lines:
        typer.echo(f"{name:<24}{value}")


def parameters_by_part(training: "Training") -> dict[str, int]:
    """How many trainable numbers each part of the network has."""
    counts: dict[str, int] = {}
    for name, parameter in training.trainer.parameters.items():
        part = name.split(".")[0] if name.count(".") == 0 else ".".join(name.split(".")[:2])
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def _schedule(recipe: "Recipe") -> str:
    falling = f"lr {recipe.learning_rate:g} x (1 - i / {recipe.iterations:,})^{recipe.poly_power:g}"
    return f"{falling}, rising over the first {recipe.warm_up:,}" if recipe.warm_up else falling


def _optimisers(training: "Training") -> str:
    _adamw, *muon = training.trainer.optimizers
    matrices = sum(len(group["params"]) for one in muon for group in one.param_groups)
    rate = training.plan.recipe.muon_learning_rate
    return f"Muon at {rate:g} for {matrices} matrices, AdamW" if matrices else "AdamW"


def _decay(training: "Training") -> str:
    groups = [group for optimizer in training.trainer.optimizers for group in optimizer.param_groups]
    decayed = [group for group in groups if group["weight_decay"]]
    return f"weight decay {training.plan.recipe.weight_decay:g} on {len(decayed)} of {len(groups)} tensors"
