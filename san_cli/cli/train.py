"""`san train`: train a side adapter, or fine-tune a model."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from san_cli.cli import console, options
from san_cli.cli import train_options as own
from san_cli.cli.misplaced import own_labels_given, refuse_idle
from san_cli.cli.progress import voice_of
from san_cli.cli.train_progress import training_progress
from san_cli.errors import ExitCode, SanError
from san_cli.text import printable, quoted


def train(
    name: own.Name = None,
    data_root: options.DataRoot = None,
    images: options.Images = None,
    labels: options.Labels = None,
    classes: options.Classes = None,
    ignore: options.Ignore = None,
    label_map: options.LabelMap = None,
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
    activation_checkpointing: own.ActivationCheckpointing = False,
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
        _refuse_contradictions(name, images, labels, classes, val_images, val_labels)
        of_own = {
            "--ignore": ignore, "--label-map": label_map, "--label-name": label_name, "--image-name": image_name,
        }  # fmt: skip
        refuse_idle(of_own, "labels of your own", idle=name is not None)

        from san_cli.datasets.own_pairs import ignored_values
        from san_cli.datasets.relabelling import read_relabelling
        from san_cli.datasets.task import OwnData
        from san_cli.train.plan import Data, Model, Plan
        from san_cli.train.recipe import get_recipe
        from san_cli.train.run import run_training

        own_data = held_out = None
        if images is not None and labels is not None:
            own_data = OwnData(
                images,
                labels,
                classes,
                ignored_values(ignore),
                image_name,
                label_name,
                read_relabelling(label_map),
            )
        if val_images is not None and val_labels is not None:
            held_out = (val_images, val_labels)
        lines = run_training(
            Data(name, data_root, own_data, held_out, limit),
            Model(model, clip_weights, init_from, settings or (), templates),
            get_recipe(recipe, iterations, batch, learning_rate),
            Plan(
                output, resume, dry_run, seed, device, precision, accumulate, activation_checkpointing, workers,
                save_every, evaluate_every, evaluate_images, log_every, keep, adapter_only, tensorboard,
                quiet, voice_of(quiet, bars=not quiet), partial(training_progress, quiet=quiet),
            ),
        )  # fmt: skip
        if lines:
            console.write(lines)


def _refuse_contradictions(
    name: str | None,
    images: Path | None,
    labels: Path | None,
    classes: str | None,
    val_images: Path | None,
    val_labels: Path | None,
) -> None:
    """Raise SanError for options that don't go together."""
    own = own_labels_given(images, labels, classes)
    if own and name:
        raise SanError("a dataset and --images can't be trained on in one go", hint="Give one of them.")
    if not own and not name:
        raise SanError(
            "nothing to train on",
            hint="Name a dataset, such as `san train coco`, or give --images, --labels and --classes.",
        )
    if name is not None and _is_path(name):
        raise SanError(
            f"{quoted(name)} is a {'folder' if Path(name).is_dir() else 'file'}, and no dataset is called so",
            hint="For data of your own give --images DIR, --labels DIR and --classes FILE.",
        )
    if (val_images is None) != (val_labels is None):
        raise SanError("--val-images and --val-labels belong together", hint="Give both.")
    if val_images is not None and name:
        raise SanError(
            "--val-images goes with --images", hint=f"{printable(name)} has a split of its own for that."
        )


def _is_path(name: str) -> bool:
    """Tell whether there is a file or folder of that name, and no dataset."""
    from san_cli.datasets.catalogue import dataset_name

    try:
        dataset_name(name)
        return False
    except SanError:
        return os.path.exists(name)  # noqa: PTH110 (False for what is no path at all)


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
