"""The options that only `san eval` has."""

from pathlib import Path
from typing import Annotated

import typer

from san_cli.cli.options import MODEL, VOCABULARY, one_of
from san_cli.vocabulary.class_lists import DATASET_NAMES
from san_cli.vocabulary.grammar import complete_vocabulary

DATA, OUTPUT, SPEED = "Data", "Output", "Speed"

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Datasets: coco, voc, pc59, ade150, pc459, ade847 (these are `all`), cityscapes, emoji.",
        autocompletion=one_of("all", *DATASET_NAMES),
        show_default=False,
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where the datasets are. Default: $SAN_DATASETS, $DETECTRON2_DATASETS or ./datasets.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Default: the one of the benchmark.", rich_help_panel=DATA, show_default=False
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Only the first N images.", rich_help_panel=DATA, show_default=False
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Your own images, with --labels and --classes.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Label maps (PNG, TIFF, BMP, GIF, .npy) under the names of the images; values are ids from 0.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
LabelName = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="How labels are named, {stem} being the image's name: '{stem}_labelIds.png', 'masks/{stem}.png', "
        "'{path}/gt/{stem}.png' with sub-folders.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
ImageName = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="How images are named, where {stem} is only a part: 'img_{stem}.jpg' with --label-name "
        "'mask_{stem}.png'. Others are left out.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The classes of your labels, one a line from id 0 on; `a|b` for synonyms.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID",
        help="The value of your labels that doesn't count, or `none`. Default: 255, or 65535 where 255 is a class. "
        "Repeatable.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Predictions = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Score a sem_seg_predictions.json of detectron2, ours or anyone's, without a model.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        help="Skip and count what can't be evaluated; the report says so.",
        rich_help_panel=DATA,
    ),
]
SeveralWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="A checkpoint, or `random`; several for mean ± standard deviation: --weights A B C. "
        "Default: the official one.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
Ensemble = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[:SHARE]",
        help="Add the segmentation map of a second model, times the share (default 1).",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
OtherVocab = Annotated[
    list[str] | None,
    typer.Option(
        "--vocab",
        metavar="TERMS",
        help="Other words for the classes: one class for each label id, in their order; `a|b` for synonyms, "
        "@names.txt for a file.",
        rich_help_panel=VOCABULARY,
        autocompletion=complete_vocabulary,
        show_default=False,
    ),
]
Synonyms = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Several words for each class: lines `id:word,word` or JSON; the likeliest word counts.",
        rich_help_panel=VOCABULARY,
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Write results.json, results.md, per_class.csv and pictures here, and keep the state for --resume.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
SavePredictions = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the label maps as detectron2's sem_seg_predictions.json; for several datasets put "
        "{dataset} in the name.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Worst = Annotated[
    int,
    typer.Option(metavar="K", min=0, help="Pictures of the K worst images, with -o.", rich_help_panel=OUTPUT),
]
Paper = Annotated[
    bool, typer.Option("--paper", help="Add all rows of the paper's Table 2.", rich_help_panel=OUTPUT)
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of the table.", rich_help_panel=OUTPUT)
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on from the state that an interrupted run left in -o.", rich_help_panel=OUTPUT
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Threads that read images. Default: few on a CPU, more for a GPU.",
        rich_help_panel=SPEED,
        show_default=False,
    ),
]
