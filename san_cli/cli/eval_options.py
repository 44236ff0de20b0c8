"""The options that only `san eval` has."""

from pathlib import Path
from typing import Annotated

import typer

from san_cli.cli import options
from san_cli.vocabulary.class_lists import DATASET_NAMES
from san_cli.vocabulary.grammar import complete_vocabulary

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Datasets: coco, voc, pc59, ade150, pc459, ade847 (these are `all`), cityscapes, emoji.",
        autocompletion=options.one_of("all", *DATASET_NAMES),
    ),
]
Split = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Default: the one of the benchmark.", rich_help_panel=options.DATA),
]
Limit = Annotated[int | None, options.limit(options.DATA)]
Predictions = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Score a sem_seg_predictions.json of detectron2, ours or anyone's, without a model.",
        rich_help_panel=options.DATA,
    ),
]
KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        help="Skip and count what can't be evaluated; the report says so.",
        rich_help_panel=options.DATA,
    ),
]
SeveralWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="A checkpoint, or `random`; several for mean ± standard deviation: --weights A B C. "
        "Default: the official one.",
        rich_help_panel=options.MODEL,
    ),
]
Ensemble = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[:SHARE]",
        help="Add the segmentation map of a second model, times the share (default 1).",
        rich_help_panel=options.MODEL,
    ),
]
OtherVocab = Annotated[
    list[str] | None,
    typer.Option(
        "--vocab",
        metavar="TERMS",
        help="Other words for the classes: one class for each label id, in their order; `a|b` for synonyms, "
        "@names.txt for a file.",
        rich_help_panel=options.VOCABULARY,
        autocompletion=complete_vocabulary,
    ),
]
Synonyms = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Several words for each class: lines `id:word,word` or JSON; the likeliest word counts.",
        rich_help_panel=options.VOCABULARY,
    ),
]
Output = Annotated[
    Path | None,
    options.output(
        "Write results.json, results.md, per_class.csv and pictures here, and keep the state for --resume."
    ),
]
SavePredictions = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the label maps as detectron2's sem_seg_predictions.json; for several datasets put "
        "{dataset} in the name.",
        rich_help_panel=options.OUTPUT,
    ),
]
Worst = Annotated[
    int,
    typer.Option(
        metavar="K", min=0, help="Pictures of the K worst images, with -o.", rich_help_panel=options.OUTPUT
    ),
]
Paper = Annotated[
    bool, typer.Option("--paper", help="Add all rows of the paper's Table 2.", rich_help_panel=options.OUTPUT)
]
Json = Annotated[bool, options.json("Print JSON instead of the table.", options.OUTPUT)]
Resume = Annotated[bool, options.resume("Go on from the state that an interrupted run left in -o.")]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Threads that read images. Default: few on a CPU, more for a GPU.",
        rich_help_panel=options.SPEED,
    ),
]
