"""`cvat.xml`: all images of a run in CVAT's own format, "CVAT for images 1.1", streamed.

    <annotations>
      <version>1.1</version>
      <meta><task>… <labels><label><name/><color/>…</label></labels></task></meta>
      <image id="0" name="sub/photo.jpg" width="640" height="480">
        <polygon label="cat" source="auto" occluded="0" points="3,4;…" z_order="0" group_id="1"/>
      </image>
    </annotations>

CVAT finds an image by its name below the folder that was uploaded, without the suffix, and only where there is none
by its number. A label must be one of the task's already, letter for letter, or nothing is imported; of a
label's name CVAT keeps 64 characters. Points are numbers of pixels, as here: (0, 0) is the corner of the first.
Outlines of one region are a group. Images that failed are left out.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import BinaryIO

from san_cli.outputs.annotations.xml_text import xml_text
from san_cli.outputs.colours import colour_of
from san_cli.outputs.record import ImageRecord
from san_cli.regions.split import FoundRegion
from san_cli.text import json_text


def write_cvat(stream: BinaryIO, names: Sequence[str], records: Iterable[ImageRecord]) -> None:
    """Write the outlines of the regions of all `records`; OSError where writing fails."""
    stream.write(
        b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        b"<meta><task><mode>annotation</mode><labels>\n"
    )
    for name in names:
        label = f"<name>{xml_text(name)}</name><color>{_colour(name)}</color><type>any</type>"
        stream.write(f"<label>{label}<attributes></attributes></label>\n".encode())
    stream.write(b"</labels></task></meta>\n")
    found = (record for record in records if record.error is None)
    for number, record in enumerate(found):
        size = f'width="{record.width}" height="{record.height}"'
        stream.write(f'<image id="{number}" name="{xml_text(record.file_name)}" {size}>\n'.encode())
        for polygon in _polygons(names, record.regions):
            stream.write(polygon.encode())
        stream.write(b"</image>\n")
    stream.write(b"</annotations>\n")


def _polygons(names: Sequence[str], regions: Iterable[FoundRegion]) -> Iterator[str]:
    group = count(1)
    for class_id, _, outlines in regions:
        of_group = f' group_id="{next(group)}"' if len(outlines) > 1 else ""
        label = xml_text(names[class_id])
        for outline in outlines:
            points = ";".join(f"{x},{y}" for x, y in zip(outline[::2], outline[1::2], strict=True))
            yield (
                f'<polygon label="{label}" source="auto" occluded="0" points="{points}" z_order="0"{of_group}>'
                "</polygon>\n"
            )


def write_cvat_labels(stream: BinaryIO, names: Sequence[str]) -> None:
    """Write the labels as CVAT's task constructor takes them where it says "Raw"."""
    rows = (
        json_text({"name": name, "color": _colour(name), "type": "any", "attributes": []}) for name in names
    )
    stream.write(("[\n" + ",\n".join(rows) + "\n]\n").encode("ascii"))


def _colour(name: str) -> str:
    return "#" + bytes(colour_of(name)).hex()
