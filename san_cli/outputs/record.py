"""The record of one image that is kept once its files are written: enough for every report over the whole run."""

import json
from dataclasses import dataclass
from typing import NamedTuple

from san_cli.regions.rle import Region
from san_cli.regions.split import FoundRegion


class Found(NamedTuple):
    """A class that an image has pixels of."""

    class_id: int  # from 0
    region: Region
    score: float | None = None  # mean over its pixels
    confidence: float | None = None  # the same, in 0…1
    parts: int | None = None  # connected regions that its pixels form, where they were counted


@dataclass(frozen=True)
class ImageRecord:
    """One input: what was found, or the reason why nothing was.

    `file_name` is the path relative to the input root, with `/`; height and width are those of the displayed
    image (EXIF orientation applied), 0 where `error` says that there was none to be had. `found` is ascending by
    id, in Python's own numbers. `uncertain` is the share of its pixels with little confidence; `notes` say what
    reading the image did to it.
    """

    file_name: str
    height: int
    width: int
    found: tuple[Found, ...] = ()
    error: str | None = None
    uncertain: float | None = None
    notes: tuple[str, ...] = ()
    regions: tuple[FoundRegion, ...] = ()  # where they were asked for: by class, then by their first pixels

    @property
    def largest_first(self) -> list[Found]:
        """List what was found by descending area."""
        return sorted(self.found, key=lambda one: (-one.region.area, one.class_id))

    @property
    def unlabelled(self) -> int:
        """Count the pixels without a class."""
        return self.height * self.width - sum(one.region.area for one in self.found)

    def to_json_line(self) -> str:
        """Return the record as one line of plain ASCII without a line end; `from_json_line` gives an equal one."""
        found = [
            [class_id, score, confidence, parts, region.counts, region.area, region.bbox]
            for class_id, region, score, confidence, parts in self.found
        ]
        regions = [
            [class_id, region.counts, region.area, region.bbox, outlines]
            for class_id, region, outlines in self.regions
        ]
        fields = [
            self.file_name,
            self.height,
            self.width,
            found,
            self.error,
            self.uncertain,
            self.notes,
            regions,
        ]
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json_line(cls, line: str) -> "ImageRecord":
        """Read a record written by `to_json_line`; ValueError for any other line, a torn one included."""
        try:
            file_name, height, width, found, error, uncertain, notes, regions = json.loads(line)
            return cls(
                file_name,
                height,
                width,
                tuple(
                    Found(class_id, Region(counts, area, tuple(bbox)), score, confidence, parts)
                    for class_id, score, confidence, parts, counts, area, bbox in found
                ),
                error,
                uncertain,
                tuple(notes),
                tuple(
                    FoundRegion(class_id, Region(counts, area, tuple(bbox)), tuple(map(tuple, outlines)))
                    for class_id, counts, area, bbox, outlines in regions
                ),
            )
        except (TypeError, ValueError) as damage:
            raise ValueError(f"not the record of an image: {line[:60]!r}") from damage
