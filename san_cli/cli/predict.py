"""`san predict`: its options, and one call."""

from pathlib import Path
from typing import Annotated

import typer

from san_cli.cli import options
from san_cli.cli.misplaced import may_be_word, refuse_stray_words
from san_cli.cli.progress import voice_of
from san_cli.datasets.bad_image import MAX_PIXELS
from san_cli.errors import SanError
from san_cli.vocabulary.grammar import complete_vocabulary

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Images, folders, archives (.zip, .tar, .tar.gz), quoted patterns ('photos/**/*.jpg', "
        "'shards/{000..099}.tar'), or - for a list of paths on stdin.",
        show_default=False,
    ),
]
List = Annotated[
    list[str] | None,
    typer.Option(
        "--list",
        metavar="FILE[:COLUMN]",
        help="Take the inputs that a file lists: one path a line, or in a column of a .csv, .tsv or .jsonl "
        "(--list photos.csv:path). Repeatable.",
        rich_help_panel=options.INPUT,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive/--no-recursive", help="Enter the folders below a folder.", rich_help_panel=options.INPUT
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave out files and folders of this name ('*.png', masks), or of this path below the folder "
        "('a/*/b.jpg', '**' for any folders). Repeatable.",
        rich_help_panel=options.INPUT,
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null", "-0", help="Paths on stdin end with NUL (find -print0).", rich_help_panel=options.INPUT
    ),
]
Limit = Annotated[int | None, options.limit(options.INPUT)]
MaxPixels = Annotated[
    int, typer.Option(metavar="N", min=1, help="Refuse larger images.", rich_help_panel=options.INPUT)
]
MaxBytes = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Refuse larger files; by default those over 256 MiB that have few pixels.",
        rich_help_panel=options.INPUT,
    ),
]
Range = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LO,HI|auto",
        help="Values that become black and white, in images of more than 8 bits; auto: the 1st and 99th "
        "percentile of each image.",
        rich_help_panel=options.INPUT,
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Bands to show, counted from 1; one for grey. Others are left out, transparency too.",
        rich_help_panel=options.INPUT,
    ),
]
FailFast = Annotated[
    bool,
    typer.Option("--fail-fast", help="Stop at the first input that fails.", rich_help_panel=options.INPUT),
]

Show = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Keep only these classes in the results; the others still compete for pixels. Repeatable.",
        rich_help_panel=options.VOCABULARY,
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help='Let the learned "no object" compete too, as a class of this name.',
        rich_help_panel=options.VOCABULARY,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Find these, written as for --vocab, and nothing else: everyday classes (of tiny its own) compete, and "
        "what they win stays unlabelled. Repeatable.",
        autocompletion=complete_vocabulary,
        rich_help_panel=options.VOCABULARY,
    ),
]
MinScore = Annotated[
    str,
    typer.Option(
        metavar="SCORE",
        help="Leave pixels unlabelled whose winning score is lower: a number, or 'dog=0.4,*=0.2' by class.",
        rich_help_panel=options.VOCABULARY,
    ),
]
MinConfidence = Annotated[
    str,
    typer.Option(
        metavar="SHARE",
        help="Leave pixels unlabelled whose confidence, the winner's share of all scores there, is lower: 0 to 1, or "
        "by class.",
        rich_help_panel=options.VOCABULARY,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say which classes compete.", rich_help_panel=options.VOCABULARY),
]

Output = Annotated[Path, options.output("Folder of the results.")]
Save = Annotated[
    str,
    typer.Option(
        metavar="KINDS",
        help="Results to write, joined by commas: overlay (JPEG), labels (index PNG), json "
        "(predictions.json: COCO with RLE masks), html (index.html: a page to look through them all), labels-gray "
        "(label maps without palette), scores (confidence, 16-bit PNG), table (areas.csv, summary.csv), parquet, "
        "geojson (polygons, of pictures that lie on a map), masks and cutouts (PNGs by class); for annotation tools "
        "coco-polygons, yolo, labelme, label-studio, cvat; shards: of an archive's images what is theirs goes into "
        "a tar; or none.",
        rich_help_panel=options.OUTPUT,
        autocompletion=options.some_of(
            "overlay",
            "labels",
            "json",
            "html",
            "labels-gray",
            "scores",
            "table",
            "parquet",
            "geojson",
            "coco-polygons",
            "yolo",
            "labelme",
            "label-studio",
            "cvat",
            "masks",
            "cutouts",
            "shards",
            alone="none",
        ),
    ),
]
Jsonl = Annotated[
    bool,
    typer.Option(
        "--jsonl",
        help="Print one JSON object per input on stdout, in order; with masks if json is saved.",
        rich_help_panel=options.OUTPUT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Do everything anew and replace what is there. Without it a run into the same folder does only "
        "what is missing, has changed or failed.",
        rich_help_panel=options.OUTPUT,
    ),
]

Batch = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Images of equal size, or windows of one, per forward pass.",
        rich_help_panel=options.SPEED,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Threads that decode, and as many that write; by default as many as pay.",
        rich_help_panel=options.SPEED,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N|auto",
        help="Do part I of N of the list; the part that ends last merges the results. auto: the part that torchrun, "
        "Slurm's job array or $SAN_SHARD says. Under torchrun the list is split without it.",
        autocompletion=options.one_of("auto"),
        rich_help_panel=options.SPEED,
    ),
]
DryRun = Annotated[
    bool, options.dry_run("Say what would be done, how long it takes and how large the results are.")
]
Like = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Take vocabulary, model and all other settings of the run in that folder; options given beside it "
        "stand in for the run's.",
        rich_help_panel=options.INPUT,
    ),
]


def predict(
    context: typer.Context,
    inputs: Inputs = None,
    output: Output = Path("san-out"),
    vocab: options.Vocab = None,
    only: Only = None,
    show: Show = None,
    background: Background = None,
    min_score: MinScore = "0",
    min_confidence: MinConfidence = "0",
    min_area: options.MinArea = 0,
    verbose: Verbose = False,
    templates: options.Templates = "vild",
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile: options.Compile = False,
    backend: options.Backend = "auto",
    tile: options.Tile = "off",
    save: Save = "overlay,labels,json",
    regions: options.Regions = False,
    simplify: options.Simplify = 0.0,
    jsonl: Jsonl = False,
    overwrite: Overwrite = False,
    list: List = None,
    recursive: Recursive = True,
    exclude: Exclude = None,
    null: Null = False,
    limit: Limit = None,
    range: Range = None,
    bands: Bands = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_bytes: MaxBytes = None,
    fail_fast: FailFast = False,
    like: Like = None,
    batch: Batch = 1,
    workers: Workers = None,
    shard: Shard = None,
    dry_run: DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Segment images: overlays, label maps and one predictions.json for all.

    The tree of the inputs is mirrored under the output folder. The same command
    again does only what is missing or has changed, so that an interrupted run
    goes on where it stopped.

    \b
    Examples:
      san predict examples/scenes --model tiny
      san predict photos --vocab coco+"golden retriever"
      san predict photos --only dog,leash --save table,html
      san predict scans --tile auto --batch 4
      san predict photos --save labelme,yolo --min-area 100 --simplify 1
      san predict street.jpg --vocab cityscapes+graffiti --show graffiti
      san predict more-photos --like found -o more-found
      san predict 'photos/**/*.jpg' -o out --vocab @names.txt --save labels
      san predict 'shards/{000..099}.tar' --save labels,json,shards
      find . -name '*.png' -print0 | san predict - -0 --jsonl --save none
      torchrun --nproc-per-node 8 -m san_cli predict photos/ --batch 8
    """
    inputs = inputs or []
    if not inputs and not list:
        raise SanError("INPUT is missing", hint="For example: san predict examples/scenes --model tiny")
    refuse_stray_words(inputs, may_be_word)

    from san_cli.predict import request
    from san_cli.predict.like import Request, like_run
    from san_cli.predict.run import predict as job

    voice = voice_of(quiet, bars=not quiet)
    asked = Request(
        request.Inputs(
            inputs, recursive, exclude or (), null, limit, range, bands, max_pixels, max_bytes, list or ()
        ),
        request.Words(vocab, show, background, min_score, templates, min_confidence, only, min_area, verbose),
        request.Model(model, weights, device, precision, compile, tile, backend),
        request.Plan(
            output, save, regions, simplify, jsonl, overwrite, fail_fast, batch, workers, shard, dry_run
        ),
    )
    if like is not None:
        asked = like_run(like, asked, options.given_on_command_line(context), voice)
    raise typer.Exit(job(*asked, voice))
