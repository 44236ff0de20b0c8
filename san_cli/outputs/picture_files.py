"""The files of one picture, by kind."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from san_cli.errors import SanError
from san_cli.outputs.annotations.labelme import write_labelme
from san_cli.outputs.annotations.masks import file_names, write_cutout, write_mask
from san_cli.outputs.annotations.yolo import write_yolo_labels
from san_cli.outputs.gallery import write_layer, write_photo
from san_cli.outputs.geojson import write_geojson
from san_cli.outputs.label_map import write_confidence, write_gray_label_map, write_label_map
from san_cli.outputs.label_tiff import GeoTags, write_label_tiff
from san_cli.outputs.overlay import overlay_note, render_overlay, write_overlay
from san_cli.outputs.places import BY_CLASS, class_key, place_of
from san_cli.outputs.record import Found
from san_cli.regions.split import FoundRegion


@dataclass(frozen=True)
class Picture:
    """All that a picture's own files are made from."""

    path: str | os.PathLike[str]  # of the image
    pixels: NDArray[np.uint8] | None  # [H, W, 3]; None where no kind is asked for that shows them
    label_map: NDArray[np.integer]  # [H, W], -1 where unlabelled
    found: Sequence[Found]
    regions: Sequence[FoundRegion] = ()  # with outlines, where a kind is asked for that has some
    confidence: NDArray[np.float32] | None = None  # [H, W]
    geo_tags: GeoTags | None = None  # where on earth it lies


def class_files(
    stem: str, save: Sequence[str], picture: Picture, names: Sequence[str]
) -> Iterator[tuple[str, str, int]]:
    """Yield key, path and class of the files that a picture has for each of its classes."""
    files = file_names(names)
    for kind in BY_CLASS:
        for found in picture.found if kind in save else ():
            key = class_key(kind, files[found.class_id])
            yield key, place_of(stem, key), found.class_id


def write_picture_file(
    kind: str, path: Path, picture: Picture, names: Sequence[str], image_path: str, class_id: int = 0
) -> str | None:
    """Write one file; returns a word on what it is, or the reason why there can't be such a one.

    `image_path` leads to the image from where the file will stand, `class_id` is the class of a mask or cutout.
    OSError where writing fails.
    """
    label_map, pixels = picture.label_map, picture.pixels
    size = label_map.shape[0], label_map.shape[1]
    if kind == "geojson":
        return _write_geojson(path, picture, names)
    if kind == "labels":
        write_label_map(path, label_map, names)
    elif kind == "labels-gray":
        write_gray_label_map(path, label_map, names)
    elif kind == "scores":
        assert picture.confidence is not None, "asked for with the scores"
        write_confidence(path, picture.confidence)
    elif kind == "labels-tiff":
        assert picture.geo_tags, "only pictures with a place have it"
        write_label_tiff(path, label_map, names, picture.geo_tags)
    elif kind == "labelme":
        scores = {one.class_id: one.confidence for one in picture.found}
        write_labelme(path, image_path, size, names, picture.regions, scores)
    elif kind == "yolo":
        write_yolo_labels(path, size, picture.regions)
    elif kind == "masks":
        write_mask(path, label_map, class_id)
    elif kind == "thumbnail_classes":
        write_layer(path, label_map, names)
    else:
        assert pixels is not None, "asked for with these kinds"
        return _write_shown(kind, path, pixels, label_map, names, class_id)
    return None


def _write_shown(
    kind: str,
    path: Path,
    pixels: NDArray[np.uint8],
    label_map: NDArray[np.integer],
    names: Sequence[str],
    class_id: int,
) -> str | None:
    """Write a file that shows the picture itself."""
    if kind == "overlay":
        write_overlay(path, render_overlay(pixels, label_map, names))
        return overlay_note(*label_map.shape)
    if kind == "cutouts":
        write_cutout(path, pixels, label_map, class_id)
    else:
        write_photo(path, pixels)
    return None


def _write_geojson(path: Path, picture: Picture, names: Sequence[str]) -> str | None:
    try:
        return write_geojson(path, picture.label_map, names, picture.found, picture.geo_tags)
    except SanError as fault:  # a coordinate system that nobody knows: all else of the picture stands
        return f"no GeoJSON: {fault.message}"
