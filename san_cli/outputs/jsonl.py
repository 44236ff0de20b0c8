"""`--jsonl`: one JSON object per input on stdout, in input order; failed inputs are lines too."""

from collections.abc import Mapping, Sequence

from san_cli.outputs.record import ImageRecord
from san_cli.text import json_text


def image_line(
    record: ImageRecord,
    names: Sequence[str],
    *,
    input: str,
    exif_orientation: int,
    outputs: Mapping[str, str],
    ms: Mapping[str, float],
    by_region: bool,
) -> str:
    """Return the line of one input, plain ASCII without a line end.

    Keys: path (relative, with `/`; the results are named after it), input (the path that opens the file from
    where the command ran), width, height (displayed pixels) and exif_orientation (1 to 8), all three null if it
    failed; uncertain (share of its pixels whose confidence is below 0.5); classes (largest first: id from 0 as in
    the label map, category_id as in predictions.json, which is one more, name, score, confidence, area in pixels,
    fraction of the image, bbox (x, y, width, height), and the COCO RLE where the record has it), with `by_region`
    regions (by class: id, category_id, name, area, bbox, RLE), notes (what reading the image did to it), outputs
    (kind → path), ms (stage → milliseconds) and, if it failed, error.
    """
    failed = record.error is not None
    line: dict[str, object] = {
        "path": record.file_name,
        "input": input,
        "width": None if failed else record.width,
        "height": None if failed else record.height,
        "exif_orientation": None if failed else exif_orientation,
        "uncertain": _rounded(record.uncertain),
        "classes": _classes(record, names),
        **({"regions": _regions(record, names)} if by_region else {}),
        "notes": list(record.notes),
        "outputs": dict(outputs),
        "ms": {stage: round(time, 1) for stage, time in ms.items()},
    }
    if failed:
        line["error"] = record.error
    return json_text(line)


def _classes(record: ImageRecord, names: Sequence[str]) -> list[dict[str, object]]:
    size = [record.height, record.width]
    classes = []
    for class_id, region, score, confidence, _ in record.largest_first:
        entry: dict[str, object] = {
            "id": class_id,
            "category_id": class_id + 1,
            "name": names[class_id],
            "score": _rounded(score),
            "confidence": _rounded(confidence),
            "area": region.area,
            "fraction": round(region.area / (record.height * record.width), 6),
            "bbox": list(region.bbox),
        }
        if region.counts:
            entry["segmentation"] = {"size": size, "counts": region.counts}
        classes.append(entry)
    return classes


def _regions(record: ImageRecord, names: Sequence[str]) -> list[dict[str, object]]:
    size = [record.height, record.width]
    return [
        {
            "id": class_id,
            "category_id": class_id + 1,
            "name": names[class_id],
            "area": region.area,
            "bbox": list(region.bbox),
            **({"segmentation": {"size": size, "counts": region.counts}} if region.counts else {}),
        }
        for class_id, region, _ in record.regions
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
