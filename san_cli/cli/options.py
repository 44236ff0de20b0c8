"""Options that several commands share."""

from typing import Annotated

import typer

from san_cli.vocabulary import complete_vocabulary

MODEL = "Model"
VOCABULARY = "Vocabulary"

Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="vit-b-16 or vit-l-14; by default the one in the weights file, vit-b-16 if none is named.",
        rich_help_panel=MODEL,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="A checkpoint (official .pth or our .safetensors), or `random` for benchmarks. By default "
        "looked for in $SAN_WEIGHTS, weights/ and the Hugging Face cache, then downloaded.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=MODEL)
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="auto (bf16 on CUDA, else fp32), fp32, bf16 or fp16.", rich_help_panel=MODEL
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
Vocab = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TERMS",
        help="Classes that compete: dataset names (coco, ade150, ade847, pc59, pc459, voc, cityscapes), "
        "class names, `a|b` for synonyms, @names.txt, joined by + or a comma; -name removes. Repeatable. "
        "Default: coco.",
        rich_help_panel=VOCABULARY,
        autocompletion=complete_vocabulary,
        show_default=False,
    ),
]
Templates = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Prompt templates: vild, imagenet, photo, name, or @file.txt.",
        rich_help_panel=VOCABULARY,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with every error.")]
