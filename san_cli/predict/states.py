"""States of an image on its way through the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.images import LoadedImage
from san_cli.engine.segmentation_map import SegmentationMap
from san_cli.engine.tiling import Tiling
from san_cli.outputs.record import ImageRecord
from san_cli.predict.journal import Source
from san_cli.predict.results import Written

Ms = Mapping[str, float]  # stage → milliseconds; a batch's are shared out


@dataclass(frozen=True)
class Outcome:
    """One image, done now or before."""

    record: ImageRecord  # of an image done before: without its regions, unless they were asked for
    exif_orientation: int = 1
    done_before: bool = False
    windows: int = 1  # through which it was seen
    ms: Ms = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    highest: tuple[float, int] = (0.0, 0)  # the largest winning score and its class, of an image done now
    surest: tuple[float, int] = (0.0, 0)  # the largest confidence and its class


@dataclass(frozen=True)
class Planned:
    """An image that is to go through the pipeline."""

    position: int  # in the list
    is_wanted: bool  # the other images of a batch are computed again only because they share a forward pass
    ends_batch: bool
    before: int  # wanted images of the batches before


@dataclass(frozen=True)
class Large:
    """An image that is to be decoded once those before it are saved: memory is for one so large at a time."""

    planned: Planned


@dataclass(frozen=True)
class Loaded:
    """An image that is decoded."""

    planned: Planned
    source: Source
    image: LoadedImage
    seen: NDArray[np.uint8] | Tiling  # whole, [h, w, 3] at the network's size, or through these windows
    ms: Ms


@dataclass(frozen=True)
class Segmented:
    """An image with its label map."""

    planned: Planned
    source: Source
    image: LoadedImage
    made: SegmentationMap
    windows: int
    ms: Ms


@dataclass(frozen=True)
class Failed:
    """An image that comes to nothing, and why."""

    planned: Planned
    source: Source
    cause: str
    exif_orientation: int
    notes: tuple[str, ...]
    ms: Ms
    windows: int = 1


@dataclass(frozen=True)
class Saved:
    """An image whose files are written, still under temporary names, or that failed."""

    position: int
    written: Mapping[str, Written]  # by kind
    line: bytes  # for the journal
    outcome: Outcome
