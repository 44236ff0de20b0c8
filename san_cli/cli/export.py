"""`san export`: its options, and one call."""

from pathlib import Path
from typing import Annotated

import typer

from san_cli.cli import options
from san_cli.cli.progress import voice_of

Onnx = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the image network as an ONNX file, for any vocabulary and images of any size (needs onnx and "
        "onnxscript).",
        rich_help_panel=options.OUTPUT,
    ),
]
Text = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the words of --vocab as rows of numbers, a NumPy archive (.npz): the network's other input.",
        rich_help_panel=options.OUTPUT,
    ),
]


def export(
    onnx: Onnx = None,
    text: Text = None,
    vocab: options.Vocab = None,
    templates: options.Templates = "vild",
    model: options.Model = None,
    weights: options.Weights = None,
    quiet: options.Quiet = False,
) -> None:
    """Write the model and a vocabulary for programs that have no PyTorch.

    A file that was written here before is replaced; any other is left alone.

    \b
    Examples:
      san export --model tiny --text words.npz --vocab 'camel,pretzel'
      san export --model tiny --onnx tiny.onnx
      san export --weights san_vit_b_16.pth --onnx b.onnx --text coco.npz
      san predict photos --weights b.onnx
    """
    from san_cli.export import run as job

    raise typer.Exit(
        job.export(job.Wanted(onnx, text, model, weights, vocab, templates), voice_of(quiet, bars=not quiet))
    )
