"""`san eval`: its options, checked, and what it prints."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from san_cli.cli import console, options
from san_cli.cli.misplaced import own_labels_given, refuse_idle, refuse_stray_words
from san_cli.cli.progress import voice_of
from san_cli.errors import ExitCode, SanError
from san_cli.text import json_text, printable
from san_cli.vocabulary.class_lists import DATASET_NAMES
from san_cli.vocabulary.grammar import complete_vocabulary, nearest

_WIDE = 180  # columns where nobody looks at a terminal
_WORST = 8  # pictures

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
    typer.Option(
        metavar="NAME",
        help="Default: the one of the benchmark. emoji has val, val-2, val-3, and mosaics: larger pictures of "
        "val's scenes, for --tile.",
        rich_help_panel=options.DATA,
    ),
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
        "@names.txt for a file, @names.txt+@mine.words for learned words.",
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
    int | None,
    typer.Option(
        metavar="K",
        min=0,
        help="Pictures of the K worst images, with -o. Default: 8.",
        rich_help_panel=options.OUTPUT,
        show_default=False,
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
DryRun = Annotated[
    bool, options.dry_run("Check data and weights, say what would be evaluated and how long it takes.")
]


def evaluate(
    names: Names = None,
    data_root: options.DataRoot = None,
    split: Split = None,
    limit: Limit = None,
    images: options.Images = None,
    labels: options.Labels = None,
    classes: options.Classes = None,
    ignore: options.Ignore = None,
    label_map: options.LabelMap = None,
    label_name: options.LabelName = None,
    image_name: options.ImageName = None,
    predictions: Predictions = None,
    keep_going: KeepGoing = False,
    model: options.Model = None,
    weights: SeveralWeights = None,
    ensemble: Ensemble = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    vocab: OtherVocab = None,
    synonyms: Synonyms = None,
    templates: options.Templates = "vild",
    tile: options.Tile = "off",
    backend: options.Backend = "auto",
    output: Output = None,
    save_predictions: SavePredictions = None,
    worst: Worst = None,
    paper: Paper = False,
    as_json: Json = False,
    resume: Resume = False,
    workers: Workers = None,
    dry_run: DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate on the paper's benchmarks, or on labels of your own.

    Prints mIoU by both rules in use, fwIoU, mACC and pACC, beside the numbers of
    the official log and of the paper where they are comparable.

    \b
    Examples:
      san eval --images examples/scenes --labels examples/labels \\
        --classes examples/classes.txt --model tiny
      san eval voc pc59 --data-root /data -o report
      san eval all --weights san_vit_b_16.pth --json
      san eval ade847 --synonyms ade847_with_prompt_eng.txt
      san eval emoji --split mosaics --tile auto --model tiny
      san eval coco --predictions sem_seg_predictions.json
      torchrun --nproc-per-node 8 -m san_cli eval all -o report
    """
    with _interruptible(output):
        from san_cli.engine.tiling import parse_tile

        names, weights = _sort_out(names or [], weights or [])
        own, windows = own_labels_given(images, labels, classes), parse_tile(tile)
        of_own = {
            "--ignore": ignore, "--label-map": label_map, "--label-name": label_name, "--image-name": image_name,
        }  # fmt: skip
        of_models = {
            "--weights": weights, "--ensemble": ensemble, "--model": model, "--vocab": vocab,
            "--synonyms": synonyms, "--templates": templates if templates != "vild" else None,
            "--tile": windows, "--backend": backend if backend != "auto" else None,
        }  # fmt: skip
        refuse_idle(of_own, "labels of your own", idle=not own)
        refuse_idle({"--split": split, "--data-root": data_root}, "datasets", idle=own)
        refuse_idle(of_models, "models; --predictions are scored without one", idle=predictions is not None)
        refuse_idle({"--worst": worst}, "the report of -o DIR", idle=output is None)
        _refuse_contradictions(names, own, resume, output)
        refuse_stray_words(names, lambda name: name != "all" and not nearest(name, DATASET_NAMES))

        from san_cli.datasets.own_pairs import ignored_values
        from san_cli.datasets.relabelling import read_relabelling
        from san_cli.datasets.task import OwnData
        from san_cli.evaluate.plan import Data, Models, Plan
        from san_cli.evaluate.report import print_report, report_json
        from san_cli.evaluate.run import run_evaluations

        own_data = None
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
        data = Data(names, data_root, split, own_data, limit, vocab, synonyms)
        models = Models(model, weights or [None], ensemble, device, precision, templates, windows, backend)
        voice = voice_of(quiet, bars=not quiet and not as_json)
        most = _WORST if worst is None else worst
        plan = Plan(output, resume, keep_going, workers, save_predictions, most, paper, voice=voice)
        if dry_run:
            started = time.monotonic()
            from san_cli.evaluate.dry_run import look_ahead, plan_of

            facts = look_ahead(data, predictions or models, plan, started=started)
            if facts is not None:
                console.write([json_text(facts)] if as_json else plan_of(facts))
            raise typer.Exit(ExitCode.DONE)
        report = run_evaluations(data, predictions or models, plan)
        if report is None:  # torchrun would end the leading process if another one ended with an error
            raise typer.Exit(ExitCode.DONE)
        if as_json:
            typer.echo(report_json(report))
        else:
            out = console.rich_console(_WIDE)
            out.begin_capture()
            print_report(report, out, console.print_table)
            typer.echo(out.end_capture().encode("utf-8"), nl=False)
        if output is not None and not quiet and not as_json:
            console.say(f"report: {printable(str(output))} (results.md, results.json, per_class.csv)")
        if report.ended is not None:
            raise report.ended
        raise typer.Exit(ExitCode.SOME_FAILED if report.is_partial else ExitCode.DONE)


def _sort_out(names: list[str], weights: list[str]) -> tuple[list[str], list[str]]:
    """Sort out datasets and weights, as of `--weights A B C` the parser gives B and C to the datasets."""
    from san_cli.datasets.catalogue import CATALOGUE

    def is_file(name: str) -> bool:
        known = name.casefold() in CATALOGUE or name == "all"
        return not known and (name == "random" or "." in name or Path(name).exists())

    if not weights:
        return names, weights
    files = [name for name in names if is_file(name)]
    return [name for name in names if name not in files], [*weights, *files]


def _refuse_contradictions(names: list[str], own: bool, resume: bool, output: Path | None) -> None:
    if own and names:
        raise SanError("datasets and --images can't be evaluated in one go", hint="Run `san eval` twice.")
    if not own and not names:
        raise SanError(
            "nothing to evaluate",
            hint="Name datasets, such as `san eval voc`, or give --images and --labels.",
        )
    if resume and output is None:
        raise SanError("--resume needs the folder of the interrupted run", hint="Add -o DIR.")


@contextmanager
def _interruptible(output: Path | None) -> Iterator[None]:
    """Tell an interrupted run the way on."""
    try:
        yield
    except KeyboardInterrupt:
        hint = "With -o DIR a run can be resumed." if output is None else "Add --resume to go on."
        raise SanError("interrupted", hint=hint, code=ExitCode.INTERRUPTED) from None
