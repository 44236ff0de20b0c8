"""`san train`: its options, and how it ends. What it does is in `train_work`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from san_cli.cli import options
from san_cli.cli import train_options as own
from san_cli.cli.train_work import Request, refuse_contradictions, run
from san_cli.errors import ExitCode, SanError


def train(
    name: own.Name = None,
    data_root: options.DataRoot = None,
    images: options.Images = None,
    labels: options.Labels = None,
    classes: options.Classes = None,
    ignore: options.Ignore = None,
    label_name: options.LabelName = None,
    image_name: options.ImageName = None,
    val_images: own.ValImages = None,
    val_labels: own.ValLabels = None,
    limit: own.Limit = None,
    model: own.Model = None,
    clip_weights: own.ClipWeights = None,
    init_from: own.InitFrom = None,
    settings: own.Settings = None,
    templates: options.Templates = "vild",
    recipe: own.RecipeName = "official",
    iterations: own.Iterations = None,
    batch: own.Batch = None,
    learning_rate: own.LearningRate = None,
    seed: own.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    accumulate: own.Accumulate = 1,
    recompute: own.Recompute = False,
    workers: own.Workers = None,
    output: own.Output = Path("san-train"),
    resume: own.Resume = False,
    save_every: own.SaveEvery = None,
    evaluate_every: own.EvaluateEvery = None,
    evaluate_images: own.EvaluateImages = 100,
    log_every: own.LogEvery = 20,
    keep: own.Keep = 2,
    adapter_only: own.AdapterOnly = False,
    tensorboard: own.TensorBoard = False,
    dry_run: own.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a side adapter on a frozen CLIP, as in the paper, or on your own labels.

    \b
    Examples:
      san train --images examples/scenes --labels examples/labels \\
        --classes examples/classes.txt --init-from tiny --batch 2 --dry-run
      san train coco --data-root /data -o run
      san train --images photos --labels labels --classes names.txt \\
        --init-from san_vit_b_16.pth --iterations 2000
      torchrun --nproc-per-node 8 -m san_cli train coco -o run
      san train coco -o run --resume
    """
    with _explained():
        refuse_contradictions(name, images, labels, classes, val_images, val_labels)
        run(
            Request(
                name=name,
                data_root=data_root,
                images=images,
                labels=labels,
                classes=classes,
                ignore=ignore,
                label_name=label_name,
                image_name=image_name,
                val_images=val_images,
                val_labels=val_labels,
                limit=limit,
                model=model,
                clip_weights=clip_weights,
                init_from=init_from,
                settings=tuple(settings or ()),
                templates=templates,
                recipe=recipe,
                iterations=iterations,
                batch=batch,
                learning_rate=learning_rate,
                seed=seed,
                device=device,
                precision=precision,
                accumulate=accumulate,
                recompute=recompute,
                workers=workers,
                output=output,
                resume=resume,
                save_every=save_every,
                evaluate_every=evaluate_every,
                evaluate_images=evaluate_images,
                log_every=log_every,
                keep=keep,
                adapter_only=adapter_only,
                tensorboard=tensorboard,
                dry_run=dry_run,
                quiet=quiet,
            )
        )


@contextmanager
def _explained() -> Iterator[None]:
    """Tell an interrupted run the way on."""
    try:
        yield
    except KeyboardInterrupt:
        raise SanError(
            "interrupted",
            hint="If there is a checkpoint, the same command with --resume goes on from it.",
            code=ExitCode.INTERRUPTED,
        ) from None
