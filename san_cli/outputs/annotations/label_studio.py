"""`label-studio.json`, tasks with predictions, and `label-studio.xml`, the labelling interface that they need.

    [{"id", "data": {"image": "/data/local-files/?d=home/me/photos/sub/photo.jpg"},
      "predictions": [{"model_version", "score",
                       "result": [{"id", "type": "polygonlabels", "from_name": "label", "to_name": "image",
                                   "original_width", "original_height", "image_rotation": 0,
                                   "value": {"points": [[x, y], …], "closed": true, "polygonlabels": ["cat"]},
                                   "score"}]}]}]

Points are percent of the image's sides, 0 at the outer edge of the first pixel. Label Studio knows no polygon of
several outlines: each is a result of its own. `score` is the confidence of the class, and its mean over the image's
pixels. Images that failed are left out; `id` is the place among all inputs, as in predictions.json.

The address is that of Label Studio's local files: a path below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, which is `/`
where nobody says otherwise. An image is shown where LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED is true and the project
has a local storage with its folder, or one above; and this can't be that root itself.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from san_cli import __version__
from san_cli.outputs.annotations.fractions import fractions
from san_cli.outputs.annotations.xml_text import xml_text
from san_cli.outputs.colours import colour_of
from san_cli.outputs.record import ImageRecord
from san_cli.text import json_text

_LOCAL_FILES = "/data/local-files/?d="


def write_tasks(
    stream: BinaryIO,
    names: Sequence[str],
    records: Iterable[ImageRecord],
    *,
    path_of: Callable[[str], str] = str,
    model_version: str = f"san {__version__}",
) -> None:
    """Write a task for each of `records`, with the outlines of its regions; OSError where writing fails.

    `path_of` gives the path of an image below the root of Label Studio's local files, by its name (`below_root`).
    """
    separator = "[\n"
    for number, record in enumerate(records, start=1):
        if record.error is not None:
            continue
        data = {"image": _LOCAL_FILES + _quoted(path_of(record.file_name))}
        prediction = json_text({"model_version": model_version, **_rounded("score", _mean_score(record))})
        stream.write(
            f'{separator}{{"id":{number},"data":{json_text(data)},'
            f'"predictions":[{prediction[:-1]},"result":['.encode("ascii")
        )
        between = "\n"
        for result in _results(names, record):
            stream.write((between + result).encode("ascii"))
            between = ",\n"
        stream.write(b"]}]}")
        separator = ",\n"
    stream.write(b"\n]\n" if separator == ",\n" else b"[]\n")


def below_root(path: Path) -> str:
    """Return the absolute path of a file without the root that it begins with, with `/`."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow links)
    return absolute.relative_to(absolute.anchor).as_posix()


def _quoted(name: str) -> str:
    """Write a name for an address: bytes that aren't UTF-8 as what they are."""
    try:
        return quote(name, errors="surrogateescape")
    except UnicodeEncodeError:  # Windows has other surrogates
        return quote(name, errors="surrogatepass")


def _results(names: Sequence[str], record: ImageRecord) -> Iterator[str]:
    """Yield the JSON of each outline."""
    across, down = fractions(record.width, 100), fractions(record.height, 100)
    scores = scores_of(record)
    number = 0
    for class_id, _, outlines in record.regions:
        label = json_text([names[class_id]])
        score = json_text(_rounded("score", scores.get(class_id)))[1:]
        for outline in outlines:
            number += 1
            points = ",".join(
                f"[{across[x]},{down[y]}]" for x, y in zip(outline[::2], outline[1::2], strict=True)
            )
            yield (
                f'{{"id":"r{number}","type":"polygonlabels","from_name":"label","to_name":"image",'
                f'"original_width":{record.width},"original_height":{record.height},"image_rotation":0,'
                f'"value":{{"points":[{points}],"closed":true,"polygonlabels":{label}}}'
                f"{',' if score != '}' else ''}{score}"
            )


def scores_of(record: ImageRecord) -> dict[int, float | None]:
    """Return the confidence of each class found, 0 to 1, by id; its score where that isn't known."""
    return {
        found.class_id: found.score if found.confidence is None else found.confidence
        for found in record.found
    }


def _mean_score(record: ImageRecord) -> float | None:
    """The mean over the pixels that have a class."""
    scores = scores_of(record)
    known = [
        (found.region.area, score) for found in record.found if (score := scores[found.class_id]) is not None
    ]
    pixels = sum(area for area, _ in known)
    return sum(area * score for area, score in known) / pixels if pixels else None


def _rounded(key: str, value: float | None) -> Mapping[str, float]:
    return {} if value is None else {key: round(value, 6)}


def write_config(stream: BinaryIO, names: Sequence[str]) -> None:
    """Write the labelling interface: polygons in the colours that the classes have in our pictures."""
    stream.write(
        b'<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        b'  <PolygonLabels name="label" toName="image" strokeWidth="1" pointSize="small" opacity="0.4">\n'
    )
    for name in names:
        colour = bytes(colour_of(name)).hex()
        stream.write(f'    <Label value="{xml_text(name)}" background="#{colour}"/>\n'.encode())
    stream.write(b"  </PolygonLabels>\n</View>\n")
