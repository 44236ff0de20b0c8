"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from san_cli.vocabulary.grammar import complete_vocabulary

Complete = Callable[[str], list[str]]  # what was typed to what the shell offers


def one_of(*names: str) -> Complete:
    """Complete to one of `names`."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete.casefold())]


def some_of(*names: str, alone: str) -> Complete:
    """Complete the last part of a list joined by commas to one of `names` that isn't in it yet, or to `alone`."""

    def complete(incomplete: str) -> list[str]:
        head, comma, last = incomplete.rpartition(",")
        left = [name for name in names if name not in head.split(",")] if comma else [*names, alone]
        return [head + comma + name for name in left if name.startswith(last)]

    return complete


def complete_model(incomplete: str) -> list[str]:
    """Complete to the names of the presets; a preset in a file is left to the shell."""
    from san_cli.models.presets import PRESETS

    return one_of(*PRESETS)(incomplete)


def complete_weights(incomplete: str) -> list[str]:
    """Complete to what is no file; with nothing typed yet the shell's own files are worth more."""
    return one_of("random", "hf:")(incomplete) if incomplete else []


# The panels of --help, and what of an option is the same in every command that has it.
INPUT, DATA, MODEL, VOCABULARY, RECIPE = "Input", "Data", "Model", "Vocabulary", "Recipe"
OUTPUT, SPEED = "Output", "Speed"


def output(help: str) -> Any:
    """Declare --output, a folder."""
    return typer.Option("--output", "-o", metavar="DIR", help=help, rich_help_panel=OUTPUT)


def resume(help: str) -> Any:
    """Declare --resume."""
    return typer.Option("--resume", help=help, rich_help_panel=OUTPUT)


def json(help: str, panel: str | None = None) -> Any:
    """Declare --json, which prints on stdout what a program reads."""
    return typer.Option("--json", help=help, rich_help_panel=panel)


def dry_run(help: str, panel: str | None = OUTPUT) -> Any:
    """Declare --dry-run."""
    return typer.Option("--dry-run", help=f"{help} Nothing is written.", rich_help_panel=panel)


def given_on_command_line(context: typer.Context) -> set[str]:
    """List the options that the user has given, by their names without dashes in front ("min-area")."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {
        name.replace("_", "-")
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    }


def limit(panel: str) -> Any:
    """Declare --limit, images."""
    return typer.Option(metavar="N", min=1, help="Only the first N images.", rich_help_panel=panel)


Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="vit-b-16, vit-l-14, or tiny, which comes with san and knows emoji, not photographs. By default "
        "the one in the weights file, vit-b-16 if none is named.",
        rich_help_panel=MODEL,
        autocompletion=complete_model,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|RUN|hf:OWNER/REPO",
        help="A checkpoint (ours, the authors', mmsegmentation's), a folder of `san train` for its best model, "
        "hf:OWNER/REPO (then @REVISION, /FILE) on the Hugging Face hub, or `random` for benchmarks. By default "
        "looked for in $SAN_WEIGHTS, weights/ and the Hugging Face cache, then downloaded.",
        rich_help_panel=MODEL,
        autocompletion=complete_weights,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or mps.",
        rich_help_panel=MODEL,
        autocompletion=one_of("auto", "cpu", "cuda", "mps"),
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto (bf16 on CUDA, else fp32), fp32, bf16 or fp16.",
        rich_help_panel=MODEL,
        autocompletion=one_of("auto", "fp32", "bf16", "fp16"),
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Look at large pictures through overlapping windows of so many pixels a side; auto: at the scale of "
        "training, where a picture would be seen at less than half its size; off: whole, as in the benchmarks.",
        rich_help_panel=MODEL,
        autocompletion=one_of("auto", "off"),
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the network first (torch.compile): pays for thousands of images of few sizes on a GPU.",
        rich_help_panel=MODEL,
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What runs the network: pytorch, or, on the CPU, onnx (ONNX Runtime) or openvino, for which the weights "
        "are exported once. By default onnx for --weights FILE.onnx, of `san export`, else pytorch.",
        rich_help_panel=MODEL,
        autocompletion=one_of("auto", "pytorch", "onnx", "openvino"),
    ),
]
Vocab = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TERMS",
        help="Classes that compete: dataset names (coco, ade150, ade847, pc59, pc459, voc, cityscapes, "
        "emoji), class names, `a|b` for synonyms, @names.txt, @mine.words (learned), joined by + or a "
        "comma; -name removes. Repeatable. Default: coco, with the model tiny emoji.",
        rich_help_panel=VOCABULARY,
        autocompletion=complete_vocabulary,
    ),
]
Templates = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Prompt templates: vild, imagenet, photo, name, or @file.txt.",
        rich_help_panel=VOCABULARY,
        autocompletion=one_of("vild", "imagenet", "photo", "name"),
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where the datasets are. Default: $SAN_DATASETS, $DETECTRON2_DATASETS or ./datasets.",
        rich_help_panel=DATA,
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Your own images, with --labels and --classes.", rich_help_panel=DATA),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR|FILE",
        help="Label maps (PNG, TIFF, BMP, GIF, .npy) under the names of the images; values are ids from 0. Or drawn "
        "labels: labelme JSON, a YOLO folder, a COCO or Label Studio JSON, a CVAT XML; names decide the class.",
        rich_help_panel=DATA,
    ),
]
LabelName = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="How labels are named, {stem} being the image's name: '{stem}_labelIds.png', 'masks/{stem}.png', "
        "'{path}/gt/{stem}.png' with sub-folders.",
        rich_help_panel=DATA,
    ),
]
ImageName = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="How images are named, where {stem} is only a part: 'img_{stem}.jpg' with --label-name "
        "'mask_{stem}.png'. Others are left out.",
        rich_help_panel=DATA,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The classes of your labels, one a line from id 0 on; `a|b` for synonyms. COCO, CVAT, YOLO and Label "
        "Studio name theirs, if this is left out.",
        rich_help_panel=DATA,
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID",
        help="The value of your labels that doesn't count, or `none`. Default: 255, or 65535 where 255 is a class. "
        "Repeatable.",
        rich_help_panel=DATA,
    ),
]
LabelMap = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE|OLD=NEW",
        help="What stands for what in your labels: an id, range of ids, colour or name = an id, class or `ignore`: "
        "255=1, 1-150=0-149, '128,0,0=road', 'truck=ignore'. Repeatable.",
        rich_help_panel=DATA,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with every error.")]

# What becomes of connected regions.
Regions = Annotated[
    bool,
    typer.Option(
        "--regions",
        help="Each connected region of a class for itself in predictions.json (and --jsonl).",
        rich_help_panel=OUTPUT,
    ),
]
MinArea = Annotated[
    int,
    typer.Option(
        metavar="PIXELS",
        min=0,
        help="Give smaller regions, specks, to the class that surrounds them most; in all results.",
        rich_help_panel=VOCABULARY,
    ),
]
Simplify = Annotated[
    float,
    typer.Option(
        metavar="PX",
        min=0,
        max=1000,
        help="Fewer corners in the polygons: no border moves by more, and regions that touch still do. 0: exact.",
        rich_help_panel=OUTPUT,
    ),
]
