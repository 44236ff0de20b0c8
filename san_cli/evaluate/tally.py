"""What an evaluation has counted so far: enough to go on from, to add to another's, and to report."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from san_cli.engine.metrics import Confusion, empty_confusion

STAGES = ("data", "model", "label_map", "metric")


@dataclass
class Tally:
    """The counts over some of a dataset's images, by their place in its list. Tallies of disjoint parts add."""

    confusion: Confusion  # [N+1, N+1], [predicted, truth]
    done: NDArray[np.bool_]  # [images]
    image_iou: NDArray[
        np.float64
    ]  # [images] mean IoU of the classes in the image; NaN: not done, or no truth
    failed: dict[int, str]  # images that were skipped, and why
    seconds: dict[str, float]  # by stage
    is_whole: bool = True  # False while an image is being added: Ctrl-C may come between two statements

    def add_image(self, position: int, confusion: Confusion, iou: float) -> None:
        """Count an image that is not counted yet. After an exception the tally is not whole."""
        self.is_whole = False
        self.confusion += confusion
        self.image_iou[position] = iou
        self.done[position] = True
        self.is_whole = True

    def add(self, other: "Tally") -> None:
        """Take in the counts of another part. ValueError if an image is in both."""
        if self.done.shape != other.done.shape or self.confusion.shape != other.confusion.shape:
            raise ValueError("the parts are of different datasets")
        if (self.done & other.done).any():
            raise ValueError("an image would count twice")
        self.confusion += other.confusion
        self.image_iou[other.done] = other.image_iou[other.done]
        self.done |= other.done
        self.failed |= other.failed
        for stage in STAGES:
            self.seconds[stage] += other.seconds[stage]


def empty_tally(images: int, classes: int) -> Tally:
    """Nothing counted yet."""
    return Tally(
        empty_confusion(classes),
        np.zeros(images, bool),
        np.full(images, np.nan),
        {},
        dict.fromkeys(STAGES, 0.0),
    )


def pack_tally(tally: Tally) -> bytes:
    """A tally as bytes (npz, nothing pickled); the matrix by its non-zero cells, which are few."""
    cells = np.flatnonzero(tally.confusion)
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        cells=cells.astype(np.uint32),
        pixels=tally.confusion.ravel()[cells],
        classes=np.int64(len(tally.confusion) - 1),
        done=np.packbits(tally.done),
        images=np.int64(len(tally.done)),
        image_iou=tally.image_iou,
        failed_at=np.array(list(tally.failed), np.int64),
        failed_why=np.frombuffer("\n".join(tally.failed.values()).encode(), np.uint8),
        seconds=np.array([tally.seconds[stage] for stage in STAGES]),
    )
    return stream.getvalue()


def unpack_tally(data: bytes) -> Tally:
    """The inverse. ValueError, KeyError or OSError for other bytes; nothing is unpickled."""
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        tally = empty_tally(int(held["images"]), int(held["classes"]))
        tally.confusion.ravel()[held["cells"]] = held["pixels"]
        tally.done[:] = np.unpackbits(held["done"], count=len(tally.done)).astype(bool)
        tally.image_iou[:] = held["image_iou"]
        reasons = held["failed_why"].tobytes().decode().split("\n")
        tally.failed |= dict(zip(held["failed_at"].tolist(), reasons, strict=False))
        tally.seconds |= dict(zip(STAGES, held["seconds"].tolist(), strict=True))
    return tally
