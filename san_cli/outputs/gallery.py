"""`--save html`: a page to look through a run, opened straight from the disk.

    DIR/index.html                 the page; style and script are part of it
    DIR/html/data.js               what it shows; a script, as a page from a file can't fetch
    DIR/html/STEM.photo.jpg        the image, small (thumbnails.py)
    DIR/html/STEM.classes.png      its classes, to be laid over it

Nothing comes from a network, and the page's content security policy lets nothing. `data.js` is one call:

    gallery({"version", "classes": [[name, colour]], "about": [[label, value]], "links": {kind: suffix}},
    [[name, stem, height, width, [class id, area, …]],    an image, its classes by descending area
     [name, cause],                                       an input that failed
     …]);

`name` is for reading: inert, on one line. `stem` is for addresses: percent-encoded, of results below DIR.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from san_cli.files import atomic_write
from san_cli.outputs.colours import colour_of
from san_cli.outputs.record import ImageRecord
from san_cli.text import json_text, printable

PAGE, FOLDER = "index.html", "html"
DATA = f"{FOLDER}/data.js"
PHOTO_SUFFIX, CLASSES_SUFFIX = ".photo.jpg", ".classes.png"  # below FOLDER
_SCRIPTS = ("model.js", "elements.js", "layout.js", "grid.js", "legend.js", "detail.js", "page.js")


def write_gallery(
    output: Path,
    *,
    info: Mapping[str, Any],
    classes: Sequence[str],
    links: Mapping[str, str],
    records: Iterable[ImageRecord],
    stem_of: Callable[[str], str],
) -> None:
    """Write the page and its data into `output`, whose `FOLDER` must exist; the thumbnails come image by image.

    `info` is what `coco.dataset_info` gives, `classes` the names that regions' ids index, `links` the kind and
    suffix of other results to link to; `stem_of` gives the name, without suffix, of an image's results.
    `records` is gone through once, one record in memory at a time. The bytes depend on the arguments alone.
    OSError where writing fails.
    """
    with atomic_write(output / DATA) as stream:
        write_data(stream, info=info, classes=classes, links=links, records=records, stem_of=stem_of)
    with atomic_write(output / PAGE) as stream:
        stream.write(page_text().encode("utf-8"))


def write_data(
    stream: BinaryIO,
    *,
    info: Mapping[str, Any],
    classes: Sequence[str],
    links: Mapping[str, str],
    records: Iterable[ImageRecord],
    stem_of: Callable[[str], str],
) -> None:
    """Write `data.js`; the arguments are those of `write_gallery`."""
    head = {
        "version": info["version"],
        "classes": [[printable(name), "#{:02x}{:02x}{:02x}".format(*colour_of(name))] for name in classes],
        "about": list(_about(info["san"])),
        "links": dict(links),
    }
    stream.write(f"gallery({json_text(head)},\n[".encode("ascii"))
    separator = ""
    for record in records:
        stream.write((separator + json_text(_row(record, stem_of))).encode("ascii"))
        separator = ",\n"
    stream.write(b"]);\n")


def page_text() -> str:
    """`index.html`: the same for every run of this version."""
    script = "".join(_part(name) for name in _SCRIPTS)
    style = _part("page.css")
    policy = (
        "default-src 'none'; img-src 'self' file: data:; base-uri 'none'; form-action 'none'; "
        f"script-src 'self' file: {_digest(script)}; style-src {_digest(style)}"
    )
    page = _part("page.html")
    for place, text in (("policy", policy), ("style", style), ("script", script)):
        page = page.replace(f"{{{{{place}}}}}", text, 1)
    return page


def _part(name: str) -> str:
    return (resources.files("san_cli.outputs") / "gallery_page" / name).read_text("utf-8")


def _digest(text: str) -> str:
    """What a content security policy calls this very text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _row(record: ImageRecord, stem_of: Callable[[str], str]) -> list[object]:
    name = printable(record.file_name)
    if record.error is not None:
        return [name, printable(record.error)]
    largest_first = sorted(record.regions, key=lambda entry: (-entry[2].area, entry[0]))
    areas = [value for class_id, _, region in largest_first for value in (class_id, region.area)]
    return [name, quote(os.fsencode(stem_of(record.file_name))), record.height, record.width, areas]


def _about(settings: Mapping[str, Any]) -> Iterator[list[str]]:
    """What made the results, for the foot of the page; what a run doesn't say is left out."""
    if "model" in settings:
        yield ["Model", str(settings["model"])]
    if settings.get("weights"):
        yield ["Weights", str(settings["weights"])[:12]]
    if "precision" in settings and "device" in settings:
        yield ["Precision", f"{settings['precision']} on {settings['device']}"]
    if "vocab" in settings:
        yield ["Vocabulary", _counted(len(settings["vocab"]), "class", "classes")]
    if "templates" in settings:
        yield ["Prompts", _counted(len(settings["templates"]), "template", "templates")]
    if settings.get("show") is not None:
        yield ["Shown", _counted(len(settings["show"]), "class", "classes")]
    if settings.get("background") is not None:
        yield ["Background", printable(str(settings["background"]))]
    if settings.get("min-score"):
        yield ["Least score", f"{settings['min-score']:g}"]


def _counted(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
