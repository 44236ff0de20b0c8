"""The pictures of an evaluation: charts, and the worst images with prediction and truth side by side."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from san_cli.datasets.task import Task
from san_cli.errors import SanError
from san_cli.evaluate.charts import charts_are_possible, write_confusion_chart, write_iou_chart
from san_cli.evaluate.counting import label_map_of, worst_images
from san_cli.evaluate.map_source import MapSource
from san_cli.evaluate.report_data import EvalResult
from san_cli.evaluate.side_by_side import write_side_by_side
from san_cli.evaluate.tally import Tally
from san_cli.text import printable


def write_pictures(
    output: Path,
    name: str,
    task: Task,
    source: MapSource,
    tally: Tally,
    result: EvalResult,
    *,
    worst: int,
    say: Callable[[str], None],
) -> list[str]:
    """Write all pictures of an evaluation called `name` and return their paths relative to `output`.

    Pictures of the worst images that an earlier evaluation left there are removed. OSError where writing fails.
    """
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    mean = "–" if result.mIoU is None else f"{result.mIoU:.2f} %"
    title = f"{result.title}, {result.weights}: mIoU {mean}"
    written = []
    if charts_are_possible():
        write_iou_chart(folder / "iou.png", result.per_class, title)
        write_confusion_chart(folder / "confused.png", tally.confusion, task.classes, title)
        written += [f"{name}/iou.png", f"{name}/confused.png"]
    else:
        say("no charts, as matplotlib is not installed: pip install matplotlib")
    for old in sorted(folder.glob("worst-*.jpg")):
        old.unlink()
    for rank, position in enumerate(worst_images(tally, worst), start=1):
        file = f"worst-{rank:02d}-{_file_name(task.pairs[position].image.stem)}.jpg"
        try:
            _write_one(folder / file, task, source, position, float(tally.image_iou[position]))
            written.append(f"{name}/{file}")
        except SanError as fault:
            say(f"no picture of {printable(task.pairs[position].stem)}: {fault.message}")
    return written


def _write_one(path: Path, task: Task, source: MapSource, position: int, iou: float) -> None:
    label_map, truth = label_map_of(task, source, position)
    pixels = task.pairs[position].read_image()
    if pixels.shape[:2] != truth.shape:
        raise task.pairs[position].other_size(pixels.shape[:2], truth.shape)
    truth = np.where(truth == task.ignore_label, -1, truth.astype(np.int32))
    write_side_by_side(path, pixels, label_map, truth, task.classes, f"IoU {iou:.1f} %")


def _file_name(stem: str) -> str:
    """A stem as part of a file name that any system and any page takes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in stem)[:80]
