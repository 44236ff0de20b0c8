"""`--save html`: a page to look through a run, opened straight from the disk.

    DIR/index.html                 the page; style and script are part of it
    DIR/html/data.js               what it shows; a script, as a page from a file can't fetch
    DIR/html/STEM.photo.jpg        the image, small (`write_photo`)
    DIR/html/STEM.classes.png      its classes, to be laid over it (`write_layer`)

The layer is a PNG of flat class colours, not a second photograph: a tenth of the bytes, its opacity is the
reader's to choose, and the page can pick out one class by its colour.

Nothing comes from a network, and the page's content security policy lets nothing. `data.js` is one call:

    gallery({"version", "classes": [[name, colour]], "about": [[label, value]], "links": {kind: suffix}},
    [[name, stem, height, width, [class id, area, confidence, …], uncertain, [note, …]],    an image
     [name, cause],                                                                       an input that failed
     …]);

`name`, `cause` and `note` are for reading: printable, on one line. `stem` is for addresses: percent-encoded, of
results below DIR. An image's classes are in order of descending area. Confidences and `uncertain`, the share of the
pixels with little confidence, are in 0…1, or null where a record doesn't tell them; without notes there is no list.

Only the rows in sight are in the document. Of 5,000 images that is usable after 0.4 s, and frames take 17 to 21 ms
while one scrolls (scripts/check_gallery.py, Chromium 156). All of them with `loading=lazy` and
`content-visibility: auto` took 6.7 s; items that CSS places and an IntersectionObserver fills 1.5 s, frames of 70 to
135 ms and 1.2 s to filter.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from san_cli.files import atomic_write
from san_cli.outputs.colours import colour_of
from san_cli.outputs.large import averaged, is_large, nearest
from san_cli.outputs.record import ImageRecord
from san_cli.text import counted, json_text, printable

PAGE, FOLDER = "index.html", "html"
DATA = f"{FOLDER}/data.js"
PHOTO_SUFFIX, CLASSES_SUFFIX = ".photo.jpg", ".classes.png"  # below FOLDER
_SCRIPTS = ("model.js", "elements.js", "layout.js", "grid.js", "legend.js", "detail.js", "page.js")
LONGEST_SIDE = 640
_PLACES = 3  # of the shares in `data.js`: more than the page shows
_UNLABELLED, _OUTLINE, _FIRST_CLASS = 0, 1, 2  # in a layer
_LAYER_CLASSES = 256 - _FIRST_CLASS


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

    `info` is what `coco.dataset_info` gives, `classes` the names that class ids index, `links` the kind and
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
    """Return `index.html`, the same for every run of this version."""
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
    """Return the name of this very text in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _row(record: ImageRecord, stem_of: Callable[[str], str]) -> list[object]:
    name = printable(record.file_name)
    if record.error is not None:
        return [name, printable(record.error)]
    stem = quote(os.fsencode(stem_of(record.file_name)))
    found = [
        value
        for one in record.largest_first
        for value in (one.class_id, one.region.area, _rounded(one.confidence))
    ]
    row = [name, stem, record.height, record.width, found, _rounded(record.uncertain)]
    return [*row, list(map(printable, record.notes))] if record.notes else row


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, _PLACES)


def _about(settings: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the settings that the foot of the page shows; those that a run doesn't tell are left out."""
    if "model" in settings:
        yield ["Model", str(settings["model"])]
    if settings.get("weights"):
        yield ["Weights", str(settings["weights"])[:12]]
    if "precision" in settings and "device" in settings:
        yield ["Precision", f"{settings['precision']} on {settings['device']}"]
    if "vocab" in settings:
        yield ["Vocabulary", counted(len(settings["vocab"]), "class")]
    if "templates" in settings:
        yield ["Prompts", counted(len(settings["templates"]), "template")]
    if settings.get("show") is not None:
        yield ["Shown", counted(len(settings["show"]), "class")]
    if settings.get("background") is not None:
        yield ["Background", printable(str(settings["background"]))]
    if settings.get("only"):
        yield ["Competing", "a built-in contrast, unseen"]
    for option, label in (("min-score", "Least score"), ("min-confidence", "Least confidence")):
        limit = settings.get(option)
        if limit:
            yield [label, "by class" if isinstance(limit, Mapping) else f"{limit:g}"]


def write_photo(path: Path, image: NDArray[np.uint8]) -> None:
    """Write `image` [H, W, 3] as a JPEG, made smaller if its longest side is above `LONGEST_SIDE`."""
    height, width = image.shape[:2]
    size = thumbnail_size(height, width)
    photo = averaged(image, size) if is_large(height, width) else Image.fromarray(image)
    if photo.size != size[::-1]:
        photo = photo.resize(size[::-1], Image.Resampling.BICUBIC, reducing_gap=2.0)
    with atomic_write(path) as stream:
        photo.save(stream, "JPEG", quality=80)


def write_layer(path: Path, label_map: NDArray[np.integer], names: Sequence[str]) -> None:
    """Write `label_map` [H, W], ids in `names`, -1 where unlabelled, as a PNG of `write_photo`'s size.

    Opaque class colours with white outlines between them; what is unlabelled is transparent, and so are the
    smallest classes where there are more than 254.
    """
    labels = nearest(label_map, thumbnail_size(*label_map.shape))
    area = np.bincount(np.add(labels, 1, dtype=np.intp).ravel(), minlength=len(names) + 1)[1:]
    shown = np.argsort(-area, kind="stable")[: min(_LAYER_CLASSES, np.count_nonzero(area))]
    index = np.full(len(names) + 1, _UNLABELLED, np.uint8)
    index[shown] = np.arange(_FIRST_CLASS, _FIRST_CLASS + len(shown))  # -1, the last one, stays unlabelled
    layer = index[labels]
    layer[_outlines(labels)] = _OUTLINE
    picture = Image.fromarray(layer)
    picture.putpalette(bytes([0, 0, 0, 255, 255, 255]) + bytes(v for i in shown for v in colour_of(names[i])))
    with atomic_write(path) as stream:
        picture.save(stream, "PNG", transparency=_UNLABELLED)


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the thumbnail of an image."""
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _outlines(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the pixels [H, W] whose neighbour below or to the right is of another class."""
    edges = np.zeros(labels.shape, bool)
    edges[:-1] = labels[1:] != labels[:-1]
    edges[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    return edges
