"""Files of one segmented image, as `san predict` writes them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.datasets.images import as_rgb_array
from san_cli.engine.given import ImageLike, given_image
from san_cli.errors import SanError, WrongType, did_you_mean
from san_cli.outputs.picture_files import Picture, class_files, write_picture_file
from san_cli.outputs.places import BY_CLASS, OUTLINED, place_of, way_to
from san_cli.outputs.record import Found
from san_cli.regions.rle import encode_label_map
from san_cli.regions.split import split
from san_cli.text import nearest

if TYPE_CHECKING:
    import numpy as np

    from san_cli.engine.results import Segmentation

KINDS = ("overlay", "labels", "labels-gray", "scores", "labelme", "yolo", "masks", "cutouts")
_SHOWING = ("overlay", "cutouts")  # the image itself


def save_results(
    made: "Segmentation", path: str | os.PathLike[str], kinds: Sequence[str] | None, image: ImageLike | None
) -> dict[str, Path]:
    """Write files of these kinds, see `Segmentation.save`."""
    if kinds is None:
        kinds = ("labels",) if image is None else ("overlay", "labels")
    _check_kinds(made, kinds, image)
    folder, stem = Path(path).parent, Path(path).name
    label_map = made.label_map
    outlines = bool(set(OUTLINED) & set(kinds))
    picture = Picture(
        Path(image) if isinstance(image, str | os.PathLike) else Path(stem),
        pixels_of(made, image) if image is not None and set(_SHOWING) & set(kinds) else None,
        label_map,
        [
            Found(
                class_id, region, float(made.class_scores[class_id]), float(made.class_confidences[class_id])
            )
            for class_id, region in encode_label_map(label_map).items()
        ],
        split(label_map, outlines=True) if outlines else (),
        made.confidence,
    )
    planned = [(kind, place_of(stem, kind), 0) for kind in kinds if kind not in BY_CLASS]
    planned += class_files(stem, kinds, picture, made.vocabulary)
    written: dict[str, Path] = {}
    for key, relative, class_id in planned:
        kind, file = key.partition("/")[0], folder / relative
        file.parent.mkdir(parents=True, exist_ok=True)
        write_picture_file(kind, file, picture, made.vocabulary, way_to(picture.path, file.parent), class_id)
        written[kind] = file.parent if kind in BY_CLASS else file
    return written


def pixels_of(made: "Segmentation", image: ImageLike) -> "np.ndarray":
    """Read the pixels [H, W, 3] of the image that was segmented. SanError where it has another size."""
    pixels = as_rgb_array(given_image(image)).pixels
    if pixels.shape[:2] != made.label_map.shape:
        (height, width), (high, wide) = pixels.shape[:2], made.label_map.shape
        raise SanError(
            f"the image has {width} × {height} pixels, its label map {wide} × {high}",
            hint="Give the image that was segmented.",
        )
    return pixels


def _check_kinds(made: "Segmentation", kinds: Sequence[str], image: ImageLike | None) -> None:
    if isinstance(kinds, str):
        raise WrongType("`kinds` is a list of them, not one string", hint=f"Write kinds=[{kinds!r}].")
    for kind in kinds:
        if kind not in KINDS:
            hint = did_you_mean(
                nearest(kind, KINDS), f"There are {', '.join(KINDS)}; `san predict` has more."
            )
            raise SanError(f"one image can't be saved as {kind!r}", hint=hint)
    if image is None and set(_SHOWING) & set(kinds):
        raise SanError("overlays and cutouts show the image", hint="Give it, too: save(path, kinds, image).")
    if "labelme" in kinds and not isinstance(image, str | os.PathLike):
        raise SanError(
            "a labelme file names its image", hint="Give the image's path: save(path, kinds, path_of_image)."
        )
    if "scores" in kinds and made.confidence is None:
        raise SanError("no confidence was kept", hint="Segment with MapOptions(keep_scores=True).")
