"""The files that concern all pictures, by kind, made from their records; memory doesn't grow with these."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from san_cli.files import atomic_write
from san_cli.outputs.annotations.cvat import write_cvat, write_cvat_labels
from san_cli.outputs.annotations.label_studio import below_root, write_config, write_tasks
from san_cli.outputs.annotations.yolo import write_data_yaml
from san_cli.outputs.coco import write_coco
from san_cli.outputs.label_map import write_class_table
from san_cli.outputs.places import CLASSES, PREDICTIONS, run_files
from san_cli.outputs.record import ImageRecord
from san_cli.outputs.tables import TABLES

Records = Callable[[], Iterator[ImageRecord]]


def write_run_files(
    output: Path,
    save: Sequence[str],
    classes: Sequence[str],
    info: Mapping[str, object],
    records: Records,
    *,
    by_region: bool,
    path_of: Callable[[str], Path],
) -> None:
    """Write all of them into `output` but the gallery; `records()` gives all inputs in order, as often as asked.

    `info` is that of COCO datasets; `by_region` predictions.json has an annotation for each region. `path_of` gives
    the path of an image by its file name. OSError where writing fails.
    """
    if CLASSES in run_files(save):
        write_class_table(output / CLASSES, classes)
    if "json" in save:
        with atomic_write(output / PREDICTIONS) as stream:
            objects: Literal["regions", "classes"] = "regions" if by_region else "classes"
            write_coco(stream, info=info, categories=classes, records=records, objects=objects)
    if "coco-polygons" in save:
        with atomic_write(output / "coco-polygons.json") as stream:
            write_coco(stream, info=info, categories=classes, records=records, objects="polygons")
    if "yolo" in save:
        (output / "yolo").mkdir(exist_ok=True)
        with atomic_write(output / "yolo" / "data.yaml") as stream:
            write_data_yaml(stream, classes)
    if "label-studio" in save:
        with atomic_write(output / "label-studio.json") as stream:
            write_tasks(stream, classes, records(), path_of=lambda name: below_root(path_of(name)))
        with atomic_write(output / "label-studio.xml") as stream:
            write_config(stream, classes)
    if "cvat" in save:
        with atomic_write(output / "cvat.xml") as stream:
            write_cvat(stream, classes, records())
        with atomic_write(output / "cvat-labels.json") as stream:
            write_cvat_labels(stream, classes)
    for kind, write in TABLES.items():
        for name, table in write.items() if kind in save else ():
            with atomic_write(output / name) as stream:
                table(stream, classes=classes, records=records())
