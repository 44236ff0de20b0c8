"""`predictions.json`: all images of a run as one COCO dataset, streamed.

    {"info": {"description", "version", "date_created", "san": {…}},
     "licenses": [],
     "categories": [{"id", "name", "supercategory"}],           every class asked for; id = label map's value + 1
     "images": [{"id", "file_name", "height", "width",          id = place among all inputs, from 1
                 "uncertain", "notes"}],                        ours, notes where there are some
     "annotations": [{"id", "image_id", "category_id", "segmentation": {"size", "counts"},
                      "area", "bbox", "iscrowd": 0, "score",    one per class and image
                      "confidence"}],                           ours
     "failures": [{"file_name", "error"}]}                      ours; readers of COCO ignore it

Chosen so that pycocotools, CVAT, datumaro, FiftyOne and supervision all read it: CVAT and datumaro lose a
category with id 0, FiftyOne drops an object without a box, COCOeval ignores regions with `iscrowd` 1.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import BinaryIO

from san_cli import __version__
from san_cli.errors import SanError
from san_cli.outputs.record import ImageRecord
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
) -> None:
    """Write the dataset; `records()` gives all images in input order and is called once for each of two
    passes.

    One record at a time is held in memory, and the failures. The bytes depend on the arguments alone.
    """
    failures: list[dict[str, object]] = []
    stream.write(f'{{"info":{json_text(dict(info))},\n"licenses":[]'.encode("ascii"))
    _write_array(stream, "categories", _categories(categories))
    _write_array(stream, "images", _images(records(), failures))
    _write_array(stream, "annotations", _annotations(records()))
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


def _annotations(records: Iterator[ImageRecord]) -> Iterator[dict[str, object]]:
    annotation_id = 0
    for image_id, record in enumerate(records, start=1):
        for class_id, region, score, confidence, _ in record.found:
            annotation_id += 1
            annotation: dict[str, object] = {
                "id": annotation_id,
                "image_id": image_id,
                "category_id": class_id + 1,
                "segmentation": {"size": [record.height, record.width], "counts": region.counts},
                "area": region.area,
                "bbox": list(region.bbox),
                "iscrowd": 0,
            }
            if score is not None:
                annotation["score"] = round(score, 6)
            if confidence is not None:
                annotation["confidence"] = round(confidence, 6)
            yield annotation
