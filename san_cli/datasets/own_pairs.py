"""Images and label maps of the user's own: which belong together, and how the labels are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from san_cli.datasets.catalogue import Pair
from san_cli.datasets.label_scheme import advice, look
from san_cli.datasets.labels import Labels, check_range, label_fault, read_ids
from san_cli.datasets.pairing import LabelFiles, pair_files
from san_cli.datasets.relabelling import IdChange
from san_cli.errors import SanError
from san_cli.text import quoted


@dataclass(frozen=True)
class OwnPair(Pair):
    """A pair whose label holds `ignored` values beside ids: one or several, or none."""

    ignored: tuple[int, ...] = (255,)
    change: IdChange | None = None  # of --label-map

    def read_stored(self) -> Labels:
        """Read the values [H, W] as they are in the file, or as --label-map says; SanError as `read_ids`."""
        if self.change is None:
            return read_ids(self.label)
        return self.change.read(self.label, self.ignored[0] if self.ignored else 255)

    def read_labels(self, classes: int, ignore_label: int) -> Labels:
        """Ids [H, W] below `classes`, or `ignore_label`; SanError with what the label seems to be."""
        for there, missing, what in (
            (self.label, self.image, "image"),
            (self.image, self.label, "label"),
        ):
            if not missing.exists():
                raise label_fault(f"'{there}'", f"has no {what}")
        ids = self.read_stored()
        settled = settled_ids(ids, classes, self.ignored, ignore_label)
        ignored = ignore_label if self.ignored else None
        try:
            check_range(settled, classes, ignored, str(self.label))
        except SanError as fault:
            raise SanError(
                fault.message, hint=advice(look(ids), classes, self.ignored), code=fault.code
            ) from None
        return settled

    def other_size(self, image: tuple[int, int], label: tuple[int, int]) -> SanError:
        """Return the error for a pair where the upright image [H, W] and the label [H, W] differ in size."""
        fault = super().other_size(image, label)
        return SanError(fault.message, hint=self._why_other_size(image, label), code=fault.code)

    def _why_other_size(self, image: tuple[int, int], label: tuple[int, int]) -> str:
        if label == image[::-1] and stored_orientation(self.image) >= 5:
            return (
                "They are equal before the image's EXIF orientation turns it upright: the label was drawn on the "
                "unturned image. Turn the label likewise, or save the image without the orientation."
            )
        if label == image[::-1]:
            return "Width and height are exchanged: turn or transpose the label as its image is."
        if abs(image[0] / label[0] - image[1] / label[1]) < 0.02 * image[0] / label[0]:
            times = image[0] / label[0]
            return (
                f"The image is {times:.3g} times as large: enlarge the label to its size with nearest neighbour "
                "(Image.NEAREST), or take the images that the labels were drawn on."
            )
        return "Are they of the same picture? A label has the size of its image."


def ignored_values(given: Sequence[str] | None) -> tuple[int, ...] | None:
    """Parse --ignore: values, none of them for `none`, None where it is not given. SanError for other words."""
    if not given:
        return None
    words = [word.strip().lower() for text in given for word in text.split(",")]
    if words == ["none"]:
        return ()
    wrong = next((word for word in words if not word.isdecimal() or len(word) > 5 or int(word) > 65535), None)
    if wrong is not None:
        raise SanError(
            f"--ignore {quoted(wrong[:40])} is no value of a label",
            hint="Give a number from 0 to 65535, or `none` where every value is an id; several: --ignore 0 --ignore "
            "255.",
        )
    return tuple(dict.fromkeys(int(word) for word in words))


def settled_ids(ids: Labels, classes: int, ignored: tuple[int, ...], ignore_label: int) -> Labels:
    """Return the ids with `ignore_label` for all that is ignored.

    Where nothing is, 255 is the second of two classes in a map of 0 and 255: what a binary mask is saved as.
    """
    if not ignored and classes == 2 and ids.max() == 255 and ((ids == 0) | (ids == 255)).all():
        return (ids == 255).astype(np.uint8)
    if ignored in ((), (ignore_label,)):
        return ids
    wide = ids if ids.dtype == np.uint16 or ignore_label <= 255 else ids.astype(np.uint16)
    return np.where(np.isin(ids, ignored), wide.dtype.type(ignore_label), wide)


def stored_orientation(path: Path) -> int:
    """Read the EXIF orientation 1 … 8 that turns an image after it is read, 1 where there is none."""
    try:
        with Image.open(path) as image:
            turned = image.format != "TIFF"  # which Pillow turns itself, sizes and all
            value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) if turned else 1
            return value if isinstance(value, int) and 1 <= value <= 8 else 1
    except Exception:  # not this function's to tell
        return 1


@dataclass(frozen=True)
class OwnPairs:
    """Pairs, and notes that the user may want to read about them."""

    pairs: tuple[OwnPair, ...]
    notes: tuple[str, ...] = ()


def list_own_pairs(
    images: Path,
    labels: Path,
    *,
    ignored: tuple[int, ...] = (255,),
    change: IdChange | None = None,
    image_name: str | None = None,
    label_name: str | None = None,
    keep_going: bool = False,
) -> OwnPairs:
    """Pair the images under one folder with the label maps under another by name, see `pair_files`."""
    found = pair_files(
        images, LabelFiles(labels), image_name=image_name, label_name=label_name, keep_going=keep_going
    )
    pairs = tuple(OwnPair(pair.image, pair.label, pair.stem, ignored, change) for pair in found.pairs)
    return OwnPairs(pairs, found.notes)
