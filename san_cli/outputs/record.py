"""The record of one image that is kept once its files are written: enough for every report over the whole run."""

import json
from dataclasses import dataclass

from san_cli.outputs.rle import Region


@dataclass(frozen=True)
class ImageRecord:
    """One input: its regions, or the reason why it has none.

    `file_name` is the path relative to the input root, with `/`; height and width are those of the displayed
    image (EXIF orientation applied), 0 where `error` says that there was none to be had.
    `regions` holds (class id from 0, mean score or None, region), ascending by id, in Python's own numbers.
    """

    file_name: str
    height: int
    width: int
    regions: tuple[tuple[int, float | None, Region], ...] = ()
    error: str | None = None

    def to_json_line(self) -> str:
        """Return the record as one line of plain ASCII without a line end; `from_json_line` gives an equal one."""
        regions = [[class_id, score, r.counts, r.area, r.bbox] for class_id, score, r in self.regions]
        fields = [self.file_name, self.height, self.width, regions, self.error]
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json_line(cls, line: str) -> "ImageRecord":
        """Read a record written by `to_json_line`; ValueError for any other line, a torn one included."""
        try:
            file_name, height, width, regions, error = json.loads(line)
            return cls(
                file_name,
                height,
                width,
                tuple(
                    (class_id, score, Region(counts, area, tuple(bbox)))
                    for class_id, score, counts, area, bbox in regions
                ),
                error,
            )
        except (TypeError, ValueError) as damage:
            raise ValueError(f"not the record of an image: {line[:60]!r}") from damage
