"""`san fps`: what the user asked for is checked, then measured, then shown."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from san_cli.cli import console, options
from san_cli.cli.fps_tables import tables
from san_cli.cli.progress import progress
from san_cli.errors import SanError, did_you_mean
from san_cli.text import nearest, printable, quoted
from san_cli.vocabulary.grammar import complete_vocabulary

if TYPE_CHECKING:
    from san_cli.fps.end_to_end import FolderRate
    from san_cli.fps.measure import SizeResult
    from san_cli.fps.report import Context
    from san_cli.fps.systems import Setup
    from san_cli.models.presets import Preset
    from san_cli.vocabulary.grammar import Vocabulary

_CLASSES = 20  # with which the paper's GFLOPs come out

Systems = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="san, simseg, ovseg, maskclip, joined by commas; or all.",
        autocompletion=options.some_of("san", "simseg", "ovseg", "maskclip", alone="all"),
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
    pixels = [] if sizes is None else _numbers("--sizes", sizes)
    if size is not None:
        pixels = [size]
    vocabulary = _vocabulary(vocab, quiet)
    _refuse_outputs(csv, plot)
    if end_to_end is not None:
        _refuse_folder(end_to_end, clip_sizes)

    from san_cli.fps.measure import cases_at
    from san_cli.fps.systems import setup_for
    from san_cli.models.presets import get_preset

    preset = get_preset(model)
    pixels = pixels or [preset.input_size]
    for one in pixels:
        cases_at(one, asked, preset, clip_sizes)  # refuses what can't be done before anything is measured
    number = classes or (_CLASSES if vocab is None else len(vocabulary))
    setup = setup_for(device, precision, number, batch, compile)
    results, context = _measured(pixels, asked, preset, clip_sizes, setup, quiet)
    _keep(results, context, csv, plot)
    folder = None
    if end_to_end is not None:
        folder = _folder(end_to_end, vocabulary, preset, setup, device, precision, quiet)
    _show(results, context, folder, as_json=as_json, in_markdown=markdown)


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


def _refuse_outputs(csv: Path | None, plot: Path | None) -> None:
    """Before minutes of measuring, not after."""
    for path in (csv, plot):
        fault = "" if path is None else _why_unwritable(path)
        if fault:
            raise SanError(f"can't write {quoted(path)}: {fault}", hint="Choose another file.")
    if csv is not None:
        from san_cli.fps.csv_file import refuse_other_columns

        refuse_other_columns(csv)
    if plot is not None:
        from san_cli.fps.plot import refuse_without_matplotlib

        refuse_without_matplotlib()


def _why_unwritable(path: Path) -> str:
    """What keeps us from writing that file, empty if nothing does."""
    try:
        if path.is_dir():
            return "it is a folder"
        if path.exists() and not path.is_file():
            return "it is no file"  # and a pipe would be waited for
        folder = path.absolute().parent
        if not folder.is_dir():
            return "its folder doesn't exist"
        writable = os.access(path if path.exists() else folder, os.W_OK)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return "" if writable else "no permission"


def _refuse_folder(folder: Path, clip_sizes: list[int]) -> None:
    """Before minutes of measuring, not after."""
    from san_cli.predict.input_notes import nothing_usable
    from san_cli.predict.inputs import discover

    if clip_sizes:
        raise SanError("--end-to-end runs SAN at its own CLIP size", hint="Leave out --clip-size.")
    listing = discover([str(folder)], say=lambda _: None)
    if not listing.images:
        raise nothing_usable(listing.failures)


def _systems(text: str) -> list[str]:
    """The systems named, in the order of naming."""
    known = ("san", "simseg", "ovseg", "maskclip")
    asked = [name.strip().lower() for name in text.split(",")]
    for name in asked:
        if name not in (*known, "all"):
            hint = did_you_mean(nearest(name, known), f"There are {', '.join(known)}, or all.")
            raise SanError(f"--systems knows no '{name}'", hint=hint)
    return list(dict.fromkeys(one for name in asked for one in (known if name == "all" else (name,))))


def _numbers(option: str, text: str) -> list[int]:
    """Positive whole numbers joined by commas, each once."""
    found = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 8192 for part in found):
        raise SanError(f"{option} '{text}' is no list of sizes", hint="Sizes are in pixels, such as 320,640.")
    return list(dict.fromkeys(int(part) for part in found))


def _vocabulary(vocab: list[str] | None, quiet: bool) -> "Vocabulary":
    from san_cli.vocabulary.grammar import parse_vocabulary

    vocabulary = parse_vocabulary(vocab or ["voc"])
    for text in vocabulary.notes if not quiet else ():
        console.note(text)
    return vocabulary


def _measured(
    pixels: list[int],
    systems: list[str],
    preset: "Preset",
    clip_sizes: list[int],
    setup: "Setup",
    quiet: bool,
) -> "tuple[list[SizeResult], Context]":
    import torch

    from san_cli.engine.device import PRECISIONS
    from san_cli.fps.machine import gpu_state, machine
    from san_cli.fps.measure import measure, text_ms_per_word
    from san_cli.fps.report import Context

    before = machine(setup)
    if before["load"] is not None and before["load"] > 0.5 * before["cores"]:
        console.warn(f"the machine is busy (load {before['load']}): times will be longer than it can do")
    with progress("calls", len(systems), quiet=quiet) as step:
        try:
            results = measure(pixels, systems, preset, clip_sizes, setup, step)
        except (RuntimeError, MemoryError) as error:
            known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
            if not known and "DefaultCPUAllocator" not in str(error):
                raise
            raise SanError(
                "not enough memory for this measurement",
                hint="Take a smaller --batch or --size, or fewer --systems at a time.",
            ) from error
    context = Context(
        setup,
        precision=next(name for name, dtype in PRECISIONS.items() if dtype == setup.precision),
        threads=torch.get_num_threads(),
        gpu_state=gpu_state(setup),
        text_ms_per_word=text_ms_per_word(preset, setup),
        machine=before,
        command=("san", *sys.argv[1:]),
    )
    return results, context


def _folder(
    folder: Path,
    vocabulary: "Vocabulary",
    preset: "Preset",
    setup: "Setup",
    device: str,
    precision: str,
    quiet: bool,
) -> "FolderRate":
    from san_cli.fps.end_to_end import folder_rate

    with progress("images", 1, quiet=quiet) as step:
        return folder_rate(
            folder, vocabulary, preset,
            device=device, precision=precision, batch=setup.batch, compile=setup.compile,
            say=console.warn, step=step,
        )  # fmt: skip


def _show(
    results: "Sequence[SizeResult]",
    context: "Context",
    folder: "FolderRate | None",
    *,
    as_json: bool,
    in_markdown: bool,
) -> None:
    """Print the results on stdout."""
    from dataclasses import asdict

    from san_cli.fps import report
    from san_cli.text import json_text

    if as_json:
        for result in results:
            ending = {} if folder is None else {"folder": asdict(folder)}
            typer.echo(json_text(report.result_json(result, context) | ending))
        return
    lines = report.footer(context, folder)
    if in_markdown:
        sizes = [report.markdown(result, context) for result in results]
        text = "\n".join(sizes) + "\n" + "\n".join(f"- {printable(line)}" for line in lines) + "\n"
    else:
        text = tables(results, context) + "\n".join(printable(line) for line in lines) + "\n"
    typer.echo(text.encode("utf-8"), nl=False)


def _keep(results: "Sequence[SizeResult]", context: "Context", csv: Path | None, plot: Path | None) -> None:
    """Write the files that were asked for."""
    from san_cli.fps import report

    if csv is not None:
        from san_cli.fps.csv_file import append_csv

        append_csv(csv, results, context)
    if plot is not None:
        from san_cli.fps.plot import write_plot

        try:
            write_plot(plot, results, report.title(results[0], context))
        except OSError as error:
            raise SanError(f"can't write '{plot}': {error.strerror}", hint="Choose another file.") from error
