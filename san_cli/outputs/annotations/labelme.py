"""labelme's JSON of an image (`labelme/photo.json`), which X-AnyLabeling opens as well.

    {"version", "flags": {},
     "shapes": [{"label",                  name of the class
                 "points": [[x, y], …],    corners of pixels; (0, 0) is the corner of the first
                 "group_id",               the same number for outlines of one region, null where it has but one
                 "description": "", "shape_type": "polygon", "flags": {}, "mask": null,
                 "score"}],                X-AnyLabeling's: confidence of the class, 0 to 1; labelme keeps it
     "imagePath",                          from the folder of this file, with `/`
     "imageData": null,                    so the image is read from its path
     "imageHeight", "imageWidth"}          of the displayed image: labelme refuses a file where they differ

Shapes don't overlap, so their order decides nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import MappingProxyType

from san_cli.files import atomic_write
from san_cli.regions.split import FoundRegion
from san_cli.text import json_text

_VERSION = "5.5.0"  # of labelme, since when shapes have had these fields


def write_labelme(
    path: Path,
    image_path: str,
    size: tuple[int, int],
    names: Sequence[str],
    regions: Iterable[FoundRegion],
    scores: Mapping[int, float | None] = MappingProxyType({}),
) -> None:
    """Write the regions of an image of `size` = (H, W) with their outlines; `scores` are those of classes, by id.

    `image_path` leads from `path`'s folder to the image. OSError where writing fails.
    """
    with atomic_write(path) as stream:
        stream.write(f'{{"version":"{_VERSION}","flags":{{}},\n"shapes":['.encode())
        separator = "\n"
        for shape in _shapes(names, regions, scores):
            stream.write((separator + shape).encode("ascii"))
            separator = ",\n"
        ends = {"imagePath": image_path, "imageData": None, "imageHeight": size[0], "imageWidth": size[1]}
        stream.write(f"],\n{json_text(ends)[1:]}\n".encode("ascii"))


def _shapes(
    names: Sequence[str], regions: Iterable[FoundRegion], scores: Mapping[int, float | None]
) -> Iterator[str]:
    group = count(1)
    for class_id, _, outlines in regions:
        score = scores.get(class_id)
        ends = json_text(
            {
                "group_id": next(group) if len(outlines) > 1 else None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
                **({} if score is None else {"score": round(score, 6)}),
            }
        )
        for outline in outlines:
            points = ",".join(f"[{x},{y}]" for x, y in zip(outline[::2], outline[1::2], strict=True))
            yield f'{{"label":{json_text(names[class_id])},"points":[{points}],{ends[1:]}'
