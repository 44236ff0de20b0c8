"""`san fps`: its options, checked, and what it prints."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from san_cli.cli import console, options
from san_cli.cli.progress import voice_of
from san_cli.errors import SanError, did_you_mean
from san_cli.fps.published import CLASSES
from san_cli.runs.voice import Voice
from san_cli.text import nearest, printable
from san_cli.vocabulary.grammar import Vocabulary, complete_vocabulary, parse_vocabulary

if TYPE_CHECKING:
    from san_cli.fps.end_to_end import Folder
    from san_cli.fps.run import Measured
    from san_cli.fps.systems import Setup

_SYSTEMS = ("san", "simseg", "ovseg", "maskclip")
_KINDS = ("overlay", "labels", "json")  # of results that --end-to-end writes
_WIDE = 200  # columns where nobody looks at a terminal

Systems = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="san, simseg, ovseg, maskclip, joined by commas; or all.",
        autocompletion=options.some_of(*_SYSTEMS, alone="all"),
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        min=1,
        max=8192,
        help="Side of the square input image.",
        show_default="the model's own, 640",
    ),
]
Sizes = Annotated[str | None, typer.Option(metavar="LIST", help="Several sizes, such as 320,640,1024.")]
ClipSize = Annotated[
    str | None,
    typer.Option(
        metavar="LIST", help="SAN with CLIP inputs of these sizes, such as 192,224,320,448,640 (Table 8)."
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="SAN's: vit-b-16, vit-l-14 or tiny.",
        autocompletion=options.complete_model,
    ),
]
Batch = Annotated[int, typer.Option(metavar="N", min=1, max=4096, help="Images of a call.")]
Classes = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=30_000,
        help="Classes that compete.",
        rich_help_panel=options.VOCABULARY,
        show_default="20",
    ),
]
Vocab = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TERMS",
        help="As many classes as this vocabulary has, written as for `san predict`.",
        rich_help_panel=options.VOCABULARY,
        autocompletion=complete_vocabulary,
    ),
]
EndToEnd = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Also time `san predict` on the images there, from files to files (classes: --vocab, or voc).",
    ),
]
Json = Annotated[bool, options.json("Print JSON, one object per size.", options.OUTPUT)]
Markdown = Annotated[
    bool, typer.Option("--markdown", help="Print tables in Markdown.", rich_help_panel=options.OUTPUT)
]
Csv = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Append a line for every row.", rich_help_panel=options.OUTPUT),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.png",
        help="Draw FPS, and the paper's mIoU, against GFLOPs. Needs matplotlib.",
        rich_help_panel=options.OUTPUT,
    ),
]


def fps(
    systems: Systems = "san",
    size: Size = None,
    sizes: Sizes = None,
    clip_size: ClipSize = None,
    model: ModelName = "vit-b-16",
    batch: Batch = 1,
    classes: Classes = None,
    vocab: Vocab = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile: options.Compile = False,
    end_to_end: EndToEnd = None,
    as_json: Json = False,
    markdown: Markdown = False,
    csv: Csv = None,
    plot: Plot = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure parameters, GFLOPs and FPS: the paper's Tables 3 and 8 on this machine.

    All systems run in one process, interleaved, with random weights; the paper's
    numbers stand beside ours. On two CPU cores `--systems all` takes some minutes.

    \b
    Examples:
      san fps --model tiny
      san fps --systems all --markdown
      san fps --clip-size 192,224,320,448,640 --plot table8.png
      san fps --model vit-l-14 --classes 847 --sizes 320,640,1024 --json
      san fps --device cuda --batch 8 --compile --csv runs.csv
      san fps --end-to-end photos/ --vocab coco
    """
    _refuse_contradictions(size, sizes, classes, vocab, end_to_end, as_json, markdown)
    asked = _systems(systems)
    clip_sizes = [] if clip_size is None else _numbers("--clip-size", clip_size)
    if clip_sizes and "san" not in asked:
        raise SanError("--clip-size is about SAN", hint="Add san to --systems.")
    if clip_sizes and end_to_end is not None:
        raise SanError("--end-to-end runs SAN at its own CLIP size", hint="Leave out --clip-size.")
    pixels = [size] if size is not None else [] if sizes is None else _numbers("--sizes", sizes)
    vocabulary = parse_vocabulary(vocab or ["voc"])
    for text in vocabulary.notes if not quiet else ():
        console.note(text)

    from san_cli.fps.run import Plan, measure_systems

    plan = Plan(
        systems=asked,
        sizes=pixels,
        clip_sizes=clip_sizes,
        model=model,
        classes=classes or (CLASSES if vocab is None else len(vocabulary)),
        batch=batch,
        device=device,
        precision=precision,
        compile=compile,
        folder=None if end_to_end is None else _folder(end_to_end, vocabulary),
        csv=csv,
        plot=plot,
        command=("san", *sys.argv[1:]),
    )
    _print(measure_systems(plan, voice_of(quiet, bars=not quiet)), as_json=as_json, markdown=markdown)


def _refuse_contradictions(
    size: int | None,
    sizes: str | None,
    classes: int | None,
    vocab: list[str] | None,
    end_to_end: Path | None,
    as_json: bool,
    markdown: bool,
) -> None:
    if as_json and markdown:
        raise SanError("--json and --markdown both want stdout", hint="Give one of them.")
    if sizes is not None and size is not None:
        raise SanError("--size and --sizes both say the size", hint="Give one of them.")
    if vocab is not None and classes is not None:
        raise SanError("--vocab and --classes both say how many classes there are", hint="Give one of them.")
    if end_to_end is not None and classes is not None:
        raise SanError("--end-to-end needs names, not --classes", hint="Give --vocab instead.")


def _systems(text: str) -> list[str]:
    """Parse the systems named, in the order of naming."""
    asked = [name.strip().lower() for name in text.split(",")]
    for name in asked:
        if name not in (*_SYSTEMS, "all"):
            hint = did_you_mean(nearest(name, _SYSTEMS), f"There are {', '.join(_SYSTEMS)}, or all.")
            raise SanError(f"--systems knows no '{name}'", hint=hint)
    return list(dict.fromkeys(one for name in asked for one in (_SYSTEMS if name == "all" else (name,))))


def _numbers(option: str, text: str) -> list[int]:
    """Parse positive whole numbers joined by commas, each once."""
    found = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 8192 for part in found):
        raise SanError(f"{option} '{text}' is no list of sizes", hint="Sizes are in pixels, such as 320,640.")
    return list(dict.fromkeys(int(part) for part in found))


def _folder(path: Path, vocabulary: Vocabulary) -> "Folder":
    """List the images that `san predict` is to be timed on; SanError where there are none."""
    from san_cli.engine.map_options import MapOptions
    from san_cli.engine.segmenter import Segmenter
    from san_cli.fps.end_to_end import Folder
    from san_cli.predict.input_hints import nothing_usable
    from san_cli.predict.inputs import discover
    from san_cli.predict.request import Job
    from san_cli.predict.run import predict_folder

    listing = discover([str(path)], say=console.warn)
    if not listing.images:
        raise nothing_usable(listing.failures)
    voice = Voice(warn=console.warn)

    def predict(segmenter: Segmenter, setup: "Setup", output: Path) -> Iterator[Mapping[str, float] | None]:
        job = Job(vocabulary, MapOptions(), _KINDS, setup.batch)
        for made in predict_folder(listing, output, job, segmenter, compile=setup.compile, voice=voice):
            yield made.ms if made.record.error is None else None

    return Folder([image.path for image in listing.images], vocabulary, predict)


def _print(found: "Measured", *, as_json: bool, markdown: bool) -> None:
    """Print JSON, Markdown, or tables as wide as the terminal, nothing in them cut, and the lines below them."""
    from san_cli.fps import report

    results, context, folder = found.results, found.context, found.folder
    if as_json:
        console.write(report.json_lines(results, context, folder))
        return
    if markdown:
        console.write([report.markdown(results, context, folder)])
        return
    out = console.rich_console(_WIDE)
    out.begin_capture()
    for result in results:
        title = report.title(result, context)
        for rows in report.tables(result, out.width):
            console.print_table(out, rows, title, foldable=report.FOLDABLE)
            title = ""
    lines = [printable(line) for line in report.footer(context, folder)]
    console.write([out.end_capture() + lines[0], *lines[1:]])
