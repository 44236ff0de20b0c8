"""`san convert` from labels to the files of another program, one image at a time."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from san_cli.convert.sources import Labelled, LabelMap, Source, of_results, with_images, without_images
from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.image_names import name_key, output_stem
from san_cli.datasets.images import load_image, os_cause
from san_cli.datasets.relabelling import Relabelling
from san_cli.datasets.task import OwnData
from san_cli.errors import ExitCode, SanError, did_you_mean
from san_cli.outputs.annotations.yolo import link_image, link_name, link_suffix, untaken_note
from san_cli.outputs.coco import dataset_info
from san_cli.outputs.picture_files import Picture, class_files, write_picture_file
from san_cli.outputs.places import (
    FILES,
    OUTLINED,
    OUTLINED_TOGETHER,
    YOLO_IMAGES,
    idle_options,
    place_of,
    told_kinds,
    way_to,
)
from san_cli.outputs.record import Found, ImageRecord
from san_cli.outputs.run_files import write_run_files
from san_cli.regions.parts import count_parts
from san_cli.regions.rle import encode_label_map
from san_cli.regions.specks import drop_specks
from san_cli.regions.split import FoundRegion, split
from san_cli.runs.lock import refuse_unusable_folder
from san_cli.runs.voice import Voice
from san_cli.text import nearest, printable, quoted
from san_cli.vocabulary.class_files import read_class_file

KINDS = (
    *("labels", "labels-gray", "overlay", "json", "table", "coco-polygons"),
    *("yolo", "labelme", "label-studio", "cvat", "masks", "cutouts"),
)
_SHOWING = ("overlay", "cutouts")  # the image itself
_NAMING = ("yolo", "labelme", "label-studio")  # where the image is


@dataclass(frozen=True)
class Labels:
    """Labels, in any form that is read."""

    labels: Path
    images: Path | None
    classes: str | None
    ignored: tuple[int, ...] | None = None
    image_name: str | None = None
    label_name: str | None = None
    relabelling: Relabelling | None = None  # of --label-map


@dataclass(frozen=True)
class Plan:
    """Place and kinds of the results."""

    output: Path
    save: str
    regions: bool = False
    min_area: int = 0
    simplify: float = 0.0


def convert(labels: Labels, plan: Plan, voice: Voice) -> ExitCode:
    """Write labels in other forms; returns what the command ends with. SanError for what keeps it from its end."""
    # What is wrong with an option shows first, then what is wrong with a folder, then with the labels.
    save = _kinds(plan.save)
    for note in idle_options(save, regions=plan.regions, simplify=plan.simplify):
        voice.note(note)
    if not labels.labels.exists():
        raise SanError(f"there is nothing at {quoted(labels.labels)}", code=ExitCode.NO_INPUT)
    refuse_unusable_folder(plan.output)
    if plan.output.is_dir() and any(plan.output.iterdir()):
        raise SanError(
            f"there are files in {quoted(plan.output)} already",
            hint="Choose another folder with -o, or empty it.",
        )
    source = _source(labels, save, voice)
    for note in source.notes:
        voice.note(note)
    _refuse_doubles(source.images)
    untaken = [one.name for one in source.images if "yolo" in save and link_suffix(one.name) is None]
    if untaken:
        voice.note(untaken_note(untaken))
    try:
        plan.output.mkdir(parents=True, exist_ok=True)
        failed = _convert_all(source, save, plan, voice)
    except OSError as error:
        raise SanError(
            f"can't write to {quoted(error.filename or plan.output)}: {os_cause(error)}",
            hint="Mend that, remove the folder and run the command again.",
            code=ExitCode.SOME_FAILED,
        ) from error
    except KeyboardInterrupt:
        raise SanError(
            "interrupted",
            hint=f"Remove {quoted(plan.output)} and run the command again.",
            code=ExitCode.INTERRUPTED,
        ) from None
    done = len(source.images) - failed
    counts = f"{done:,} converted" + (f", {failed:,} failed" if failed else "")
    voice.tell(f"{counts}: {printable(str(plan.output))} ({', '.join(told_kinds(save))})")
    return ExitCode.DONE if not failed else ExitCode.SOME_FAILED if done else ExitCode.NO_INPUT


def _convert_all(source: Source, save: Sequence[str], plan: Plan, voice: Voice) -> int:
    """Convert one image after another, and then what concerns all of them; returns how many failed."""
    failed = 0
    total = len(source.images)
    # What files of all images need waits on the disk.
    with tempfile.TemporaryFile(dir=plan.output) as spool, voice.progress("images", total) as step:
        for number, labelled in enumerate(source.images, 1):
            record = _convert_one(labelled, source.classes, save, plan)
            if record.error is not None:
                failed += 1
                voice.warn(f"{printable(record.file_name)}: {record.error}")
            elif "yolo" in save and labelled.image is not None:
                link = plan.output / YOLO_IMAGES / link_name(output_stem(labelled.name), labelled.name)
                link.parent.mkdir(parents=True, exist_ok=True)
                link_image(link, labelled.image)
            spool.write(record.to_json_line().encode("ascii") + b"\n")
            step(number)
        info = {**dataset_info({}), "description": "Labels converted by san"}
        paths = {one.name: one.image or Path(one.name) for one in source.images}
        write_run_files(
            plan.output, save, source.classes, info, lambda: _records(spool), by_region=plan.regions,
            path_of=paths.__getitem__,
        )  # fmt: skip
    return failed


def _kinds(save: str) -> tuple[str, ...]:
    if not save:
        raise SanError(
            "--save is missing: which forms are to be written?", hint=f"There are {', '.join(KINDS)}."
        )
    asked = [kind.strip().lower() for kind in save.split(",")]
    for kind in asked:
        if kind not in KINDS:
            hint = did_you_mean(nearest(kind, KINDS), f"There are {', '.join(KINDS)}.")
            raise SanError(f"--save knows no {quoted(kind)}", hint=hint)
    return tuple(kind for kind in KINDS if kind in asked)


def _source(labels: Labels, save: Sequence[str], voice: Voice) -> Source:
    path, classes, label_name = labels.labels, labels.classes, labels.label_name
    if label_name is None:
        path, own_classes, label_name = of_results(path, voice.note)
        classes = classes or own_classes
    data = OwnData(
        labels.images or path,
        path,
        classes,
        labels.ignored,
        labels.image_name,
        label_name,
        labels.relabelling,
    )
    if labels.images is not None:
        return with_images(data, voice.note)
    needed = [kind for kind in save if kind in (*_SHOWING, *_NAMING)]
    if needed:
        raise SanError(f"{needed[0]} needs the images, too", hint="Give their folder: --images DIR.")
    if labels.ignored is not None or labels.image_name or labels.label_name:
        raise SanError(
            "--ignore, --label-name and --image-name need the images, too",
            hint="Give their folder: --images DIR.",
        )
    groups = None if classes is None else read_class_file(classes).groups
    return without_images(replace(data, groups=groups))


def _refuse_doubles(images: Sequence[Labelled]) -> None:
    """Raise SanError where two images would write the same files on some file system."""
    taken: dict[str, str] = {}
    for one in images:
        other = taken.setdefault(name_key(output_stem(one.name)), one.name)
        if other != one.name:
            raise SanError(
                f"{printable(other)} and {printable(one.name)} would write the same files",
                hint="Rename one of them, or convert them apart.",
            )


def _convert_one(labelled: Labelled, classes: Sequence[str], save: Sequence[str], plan: Plan) -> ImageRecord:
    """Write the image's own files and return its record; OSError where writing fails."""
    try:
        label_map = labelled.read_map()
        shown = labelled.image is not None and bool(set(_SHOWING) & set(save))
        pixels = load_image(labelled.image).pixels if shown and labelled.image is not None else None
    except (SanError, BadImage) as fault:
        return ImageRecord(labelled.name, 0, 0, error=fault.message)
    drop_specks(label_map, plan.min_area)
    found = _found(label_map, save)
    outlines = bool(set(OUTLINED) & set(save))
    regions: tuple[FoundRegion, ...] = ()
    if plan.regions or outlines:
        regions = split(label_map, run_lengths=plan.regions, outlines=outlines, simplify=plan.simplify)
    picture = Picture(labelled.image or Path(labelled.name), pixels, label_map, found, regions)
    stem = output_stem(labelled.name)
    planned = [(kind, place_of(stem, kind), 0) for kind in save if kind in FILES]
    for key, relative, class_id in [*planned, *class_files(stem, save, picture, classes)]:
        path = plan.output / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture_file(
            key.partition("/")[0], path, picture, classes, way_to(picture.path, path.parent), class_id
        )
    height, width = label_map.shape
    kept = regions if plan.regions or set(OUTLINED_TOGETHER) & set(save) else ()
    return ImageRecord(labelled.name, height, width, tuple(found), regions=kept)


def _found(label_map: LabelMap, save: Sequence[str]) -> list[Found]:
    regions = encode_label_map(label_map)
    parts = count_parts(label_map, regions) if "table" in save else {}
    return [Found(class_id, region, parts=parts.get(class_id)) for class_id, region in regions.items()]


def _records(spool: BinaryIO) -> Iterator[ImageRecord]:
    spool.seek(0)
    for line in spool:
        yield ImageRecord.from_json_line(line.decode("ascii"))
    spool.seek(0, os.SEEK_END)
