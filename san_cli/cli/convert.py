"""`san convert`: its options, and one call."""

from pathlib import Path
from typing import Annotated

import typer

from san_cli.cli import options
from san_cli.cli.progress import voice_of

Labels = Annotated[
    Path,
    typer.Argument(
        metavar="LABELS",
        help="A folder of results of `san predict`, or whatever --labels takes elsewhere: label maps, labelme, YOLO, "
        "COCO, CVAT, Label Studio.",
        show_default=False,
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the images. Labels in one file that gives their sizes do without, but for overlay, cutouts, "
        "yolo, labelme and label-studio.",
        rich_help_panel=options.DATA,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Names of the classes, one a line, from id 0 on; by default those that the labels list.",
        rich_help_panel=options.DATA,
    ),
]
Save = Annotated[
    str,
    typer.Option(
        metavar="KINDS",
        help="Forms to write, joined by commas: labels (index PNG), labels-gray, overlay, json (COCO with RLE), "
        "table, coco-polygons, yolo, labelme, label-studio, cvat, masks, cutouts.",
        rich_help_panel=options.OUTPUT,
        show_default=False,
        autocompletion=options.some_of(
            "labels", "labels-gray", "overlay", "json", "table", "coco-polygons", "yolo", "labelme", "label-studio",
            "cvat", "masks", "cutouts", alone="labels",
        ),
    ),
]  # fmt: skip


def convert(
    labels: Labels,
    save: Save = "",
    output: Annotated[Path, options.output("Folder of the results.")] = Path("san-converted"),
    images: Images = None,
    classes: Classes = None,
    ignore: options.Ignore = None,
    label_map: options.LabelMap = None,
    label_name: options.LabelName = None,
    image_name: options.ImageName = None,
    regions: options.Regions = False,
    min_area: options.MinArea = 0,
    simplify: options.Simplify = 0.0,
    quiet: options.Quiet = False,
) -> None:
    """Turn labels into another program's form, without a model.

    \b
    Examples:
      san convert examples/labels --images examples/scenes \\
        --classes examples/classes.txt --save labelme
      san convert san-out --images photos --save yolo -o for-yolo
      san convert corrected --images photos --save cvat,coco-polygons
      san convert instances.json --save labels --min-area 50
      san convert masks --images photos --classes names.txt \\
        --label-map 255=1 --save labelme
    """
    from san_cli.convert import run as job
    from san_cli.datasets.own_pairs import ignored_values
    from san_cli.datasets.relabelling import read_relabelling

    raise typer.Exit(
        job.convert(
            job.Labels(
                labels,
                images,
                classes,
                ignored_values(ignore),
                image_name,
                label_name,
                read_relabelling(label_map),
            ),
            job.Plan(output, save, regions, min_area, simplify),
            voice_of(quiet, bars=not quiet),
        )
    )
