"""`predictions.json`: all images of a run as one COCO dataset, streamed.

    {"info": {"description", "version", "date_created", "san": {…}},
     "licenses": [],
     "categories": [{"id", "name", "supercategory"}],           every class asked for; id = label map's value + 1
     "images": [{"id", "file_name", "height", "width",          id = place among all inputs, from 1
                 "uncertain", "notes"}],                        ours, notes where there are some
     "annotations": [{"id", "image_id", "category_id", "segmentation": {"size", "counts"},
                      "area", "bbox", "iscrowd": 0, "score",    one per class and image, or per region
                      "mean_confidence"}],                      ours; FiftyOne has a use of its own for `confidence`
     "failures": [{"file_name", "error"}]}                      ours; readers of COCO ignore it

Chosen so that pycocotools, CVAT, datumaro, FiftyOne and supervision all read it: CVAT and datumaro lose a
category with id 0, FiftyOne drops an object without a box, COCOeval ignores regions with `iscrowd` 1.

In `coco-polygons.json` an annotation is a region, and its `segmentation` a list of outlines [x, y, x, y, …]. `area`
and `bbox` are those of the pixels; a region's `score` and `mean_confidence` are those of its class in the image.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import BinaryIO, Literal

from san_cli import __version__
from san_cli.errors import SanError
from san_cli.outputs.record import Found, ImageRecord
from san_cli.text import json_text


def dataset_info(san: Mapping[str, object]) -> dict[str, object]:
    """Return the `info` object; `san` says what made the predictions: model, weights, vocabulary, options.

    The date is that of `SOURCE_DATE_EPOCH` (seconds; SanError if it isn't a number) or empty, as equal inputs
    must give equal bytes.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    try:
        date = datetime.fromtimestamp(int(epoch), timezone.utc).strftime("%Y-%m-%d") if epoch else ""
    except (ValueError, OverflowError, OSError):
        raise SanError(
            f"SOURCE_DATE_EPOCH is not a number of seconds: {epoch!r}",
            hint="Unset it, or set it to e.g. 1700000000.",
        ) from None
    return {
        "description": "Semantic segmentation predicted by san (Side Adapter Network)",
        "version": __version__,
        "date_created": date,
        "san": {"category_id": "value in the label maps (id in classes.json) + 1", **san},
    }


def write_coco(
    stream: BinaryIO,
    *,
    info: Mapping[str, object],
    categories: Sequence[str],
    records: Callable[[], Iterator[ImageRecord]],
    objects: Literal["classes", "regions", "polygons"] = "classes",
) -> None:
    """Write the dataset; `records()` gives all images in input order and is called once for each of two
    passes.

    `objects` are the classes of each image, its regions as run lengths, or these as polygons. One record at a time
    is held in memory, and the failures. The bytes depend on the arguments alone.
    """
    failures: list[dict[str, object]] = []
    stream.write(f'{{"info":{json_text(dict(info))},\n"licenses":[]'.encode("ascii"))
    _write_array(stream, "categories", _categories(categories))
    _write_array(stream, "images", _images(records(), failures))
    _write_array(stream, "annotations", _annotations(records(), objects))
    _write_array(stream, "failures", failures)
    stream.write(b"}\n")


def _write_array(stream: BinaryIO, key: str, items: Iterable[dict[str, object]]) -> None:
    """Write a member of the top object, one item per line."""
    stream.write(f',\n"{key}":['.encode("ascii"))
    separator = "\n"
    for item in items:
        stream.write((separator + json_text(item)).encode("ascii"))
        separator = ",\n"
    stream.write(b"]")


def _categories(names: Sequence[str]) -> Iterator[dict[str, object]]:
    for category_id, name in enumerate(names, start=1):
        yield {"id": category_id, "name": name, "supercategory": ""}


def _images(records: Iterator[ImageRecord], failures: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Yield the images in turn; those that failed go to `failures` instead."""
    for image_id, record in enumerate(records, start=1):
        if record.error is None:
            image: dict[str, object] = {
                "id": image_id,
                "file_name": record.file_name,
                "height": record.height,
                "width": record.width,
            }
            if record.uncertain is not None:
                image["uncertain"] = round(record.uncertain, 6)
            if record.notes:
                image["notes"] = list(record.notes)
            yield image
        else:
            notes = {"notes": list(record.notes)} if record.notes else {}
            failures.append({"file_name": record.file_name, "error": record.error, **notes})


def _annotations(records: Iterator[ImageRecord], objects: str) -> Iterator[dict[str, object]]:
    annotation_id = 0
    for image_id, record in enumerate(records, start=1):
        for found, segmentation in _segmentations(record, objects):
            annotation_id += 1
            annotation: dict[str, object] = {
                "id": annotation_id,
                "image_id": image_id,
                "category_id": found.class_id + 1,
                "segmentation": segmentation,
                "area": found.region.area,
                "bbox": list(found.region.bbox),
                "iscrowd": 0,
            }
            if found.score is not None:
                annotation["score"] = round(found.score, 6)
            if found.confidence is not None:
                annotation["mean_confidence"] = round(found.confidence, 6)
            yield annotation


def _segmentations(record: ImageRecord, objects: str) -> Iterator[tuple[Found, object]]:
    """Yield each object of an image, and what says where it is."""
    size = [record.height, record.width]
    if objects == "classes":
        for found in record.found:
            yield found, {"size": size, "counts": found.region.counts}
        return
    classes = {found.class_id: found for found in record.found}
    for class_id, region, outlines in record.regions:
        found = classes.get(class_id, Found(class_id, region))._replace(region=region)
        if objects == "regions":
            yield found, {"size": size, "counts": region.counts}
        elif outlines:
            yield found, [list(outline) for outline in outlines]
