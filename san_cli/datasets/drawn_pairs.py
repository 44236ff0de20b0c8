"""Images with drawn labels as pairs: shapes are painted at the image's size when the pair is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.annotations.drawings import Drawing, Drawn
from san_cli.datasets.annotations.shapes import NOTHING, Size, label_map_of
from san_cli.datasets.catalogue import Pair
from san_cli.datasets.images import displayed_size
from san_cli.datasets.labels import Labels, label_fault
from san_cli.datasets.own_pairs import stored_orientation
from san_cli.errors import SanError
from san_cli.text import printable


@dataclass(frozen=True)
class DrawnPair(Pair):
    """An image and what is drawn on it; `ids` by `word_key` of the names, NOTHING for what doesn't count."""

    drawn: Drawn | None = None
    ids: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    rest: int = NOTHING  # the class of what no shape covers

    def read_labels(self, classes: int, ignore_label: int) -> Labels:
        """Ids [H, W] of the upright image, or `ignore_label`; SanError with what is wrong with image or labels."""
        label_map, _ = self.paint()
        small = classes <= 256 and ignore_label <= 255
        return np.where(label_map < 0, ignore_label, label_map).astype(np.uint8 if small else np.uint16)

    def paint(self) -> tuple[NDArray[np.integer], Drawing]:
        """Paint the label map [H, W], and give what it is of; SanError (code SOME_FAILED) with what is wrong."""
        if not self.image.exists():
            raise label_fault(f"'{self.label}'", f"has no image '{self.image.name}'")
        if self.drawn is None or not self.label.exists():
            raise label_fault(f"'{self.image}'", "has no label")
        drawing = self.drawn.read()
        size = displayed_size(self.image)
        if size is None:  # the header doesn't say, or there is none: the whole image tells
            height, width = self.read_image().shape[:2]
            size = height, width
        return self._painted(drawing, size), drawing

    def _painted(self, drawing: Drawing, size: Size) -> NDArray[np.integer]:
        if drawing.size not in (None, size):
            assert drawing.size is not None
            raise self.other_size(size, drawing.size)
        try:
            return label_map_of(drawing.shapes, size, self.ids, rest=self.rest)
        except KeyError as error:
            told = (
                f"now holds a shape of class {printable(str(error))}, which it didn't when it was first read"
            )
            raise label_fault(str(self.label), told) from None
        except ValueError as error:
            raise label_fault(f"{self.label}, of {self.image.name},", f"can't be drawn: {error}") from None

    def other_size(self, image: tuple[int, int], label: tuple[int, int]) -> SanError:
        """Return the error for an upright image [H, W] and labels that were drawn on one of another size."""
        fault = super().other_size(image, label)
        hint = "Are they of the same picture? Take the images that the labels were drawn on."
        if label == image[::-1]:
            hint = "Width and height are exchanged: was the image turned since?"
            if stored_orientation(self.image) >= 5:
                hint = (
                    "They are equal before the image's EXIF orientation turns it upright: the labels were drawn on "
                    "the unturned image. Save the image without the orientation, as it was shown."
                )
        return SanError(fault.message, hint=hint, code=fault.code)
