"""The options that only `san train` has."""

from pathlib import Path
from typing import Annotated

import typer

from san_cli.cli import options
from san_cli.vocabulary.class_lists import DATASET_NAMES

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="A dataset whose training split is prepared (see `san data list`).",
        autocompletion=options.one_of(*DATASET_NAMES),
    ),
]
Limit = Annotated[int | None, options.limit(options.DATA)]
ValImages = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Your images to evaluate on, with --val-labels. Default: the training images.",
        rich_help_panel=options.DATA,
    ),
]
ValLabels = Annotated[
    Path | None, typer.Option(metavar="DIR|FILE", help="Their labels.", rich_help_panel=options.DATA)
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="vit-b-16 (default), vit-l-14, tiny, or a preset of your own as a JSON file.",
        autocompletion=options.complete_model,
        rich_help_panel=options.MODEL,
    ),
]
ClipWeights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|hf:OWNER/REPO",
        help="The CLIP to train beside: a state dict with open_clip's names, or a SAN checkpoint, here or on the "
        "Hugging Face hub; `random` for none. Default: OpenAI's. One with plain GELU (LAION's, DataComp's) needs "
        "--set clip.quick_gelu=false.",
        rich_help_panel=options.MODEL,
    ),
]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|RUN|NAME",
        help="Fine-tune this SAN: the official .pth, mmsegmentation's, ours, an adapter (with --clip-weights), a "
        "training's folder for its best model, hf:OWNER/REPO, or a model's name, such as tiny, for its own weights.",
        rich_help_panel=options.MODEL,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change one number or switch of the preset or the recipe, such as decoupled_head=false (Table 7). "
        "Repeatable.",
        rich_help_panel=options.MODEL,
    ),
]
RecipeName = Annotated[
    str, typer.Option("--recipe", metavar="NAME", help="official or paper.", rich_help_panel=options.RECIPE)
]
Iterations = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Default: 60,000.", rich_help_panel=options.RECIPE)
]
Batch = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Images of an iteration, over all processes. Default: 32.",
        rich_help_panel=options.RECIPE,
    ),
]
LearningRate = Annotated[
    float | None, typer.Option("--lr", metavar="X", help="Default: 1e-4.", rich_help_panel=options.RECIPE)
]
Seed = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, max=2**63 - 1, help="Decides everything random.", rich_help_panel=options.RECIPE
    ),
]
Accumulate = Annotated[
    int,
    typer.Option(
        metavar="K",
        min=1,
        help="Do each iteration's images in K parts: less memory, the same result.",
        rich_help_panel=options.SPEED,
    ),
]
ActivationCheckpointing = Annotated[
    bool,
    typer.Option(
        "--checkpoint-activations",
        help="Compute activations again for the backward pass: less memory, slower, the same result.",
        rich_help_panel=options.SPEED,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        max=1024,
        help="Processes that read and augment images. Default: by the number of cores.",
        rich_help_panel=options.SPEED,
    ),
]
Output = Annotated[Path, options.output("Where everything goes.")]
Resume = Annotated[bool, options.resume("Go on from the last checkpoint in -o, to the very same losses.")]
SaveEvery = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Iterations between checkpoints. Default: 5,000, or a tenth of a shorter training.",
        rich_help_panel=options.OUTPUT,
    ),
]
EvaluateEvery = Annotated[
    int | None,
    typer.Option(
        "--eval-every",
        metavar="N",
        min=0,
        help="Iterations between evaluations, 0 for none. Default: as for checkpoints.",
        rich_help_panel=options.OUTPUT,
    ),
]
EvaluateImages = Annotated[
    int,
    typer.Option(
        "--eval-images", metavar="N", min=1, help="How many at most.", rich_help_panel=options.OUTPUT
    ),
]
LogEvery = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Iterations to a line of the log.", rich_help_panel=options.OUTPUT),
]
Keep = Annotated[
    int, typer.Option(metavar="K", min=1, help="The last K checkpoints stay.", rich_help_panel=options.OUTPUT)
]
AdapterOnly = Annotated[
    bool,
    typer.Option(
        "--adapter-only",
        help="Save the trained weights without the frozen CLIP (34 MB instead of 632 for ViT-B/16).",
        rich_help_panel=options.OUTPUT,
    ),
]
TensorBoard = Annotated[
    bool,
    typer.Option("--tensorboard", help="Also write TensorBoard's files.", rich_help_panel=options.OUTPUT),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check data, weights and memory, show the plan, write nothing.",
        rich_help_panel=options.OUTPUT,
    ),
]
