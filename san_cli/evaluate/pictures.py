"""The pictures of an evaluation: charts (with matplotlib), and the worst images, prediction beside truth."""

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from san_cli.errors import SanError
from san_cli.evaluate.counting import Evaluation, label_map_of
from san_cli.evaluate.result import ClassResult, EvalResult
from san_cli.evaluate.state import Counts
from san_cli.files import atomic_write
from san_cli.outputs.colours import palette
from san_cli.outputs.legend import PAPER, font
from san_cli.outputs.overlay import render_overlay, write_overlay
from san_cli.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONFUSED_CLASSES = 24
_GAP = 8  # pixels between prediction and truth


def write_pictures(
    output: Path,
    evaluation: Evaluation,
    counts: Counts,
    result: EvalResult,
    *,
    worst: int,
    say: Callable[[str], None],
) -> list[str]:
    """Write all pictures of an evaluation and return their paths relative to `output`.

    Pictures of the worst images that an earlier evaluation left there are removed. OSError where writing fails.
    """
    name, task = evaluation.name, evaluation.task
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    mean = "–" if result.mIoU is None else f"{result.mIoU:.2f} %"
    title = f"{result.title}, {result.weights}: mIoU {mean}"
    written = []
    if charts_are_possible():
        _write_iou_chart(folder / "iou.png", result.per_class, title)
        _write_confusion_chart(folder / "confused.png", counts.confusion, task.classes, title)
        written += [f"{name}/iou.png", f"{name}/confused.png"]
    else:
        say("no charts, as matplotlib is not installed: pip install matplotlib")
    for old in sorted(folder.glob("worst-*.jpg")):
        old.unlink()
    for rank, position in enumerate(_worst_images(counts, worst), start=1):
        file = f"worst-{rank:02d}-{_file_name(task.pairs[position].image.stem)}.jpg"
        try:
            _write_side_by_side(folder / file, evaluation, position, float(counts.image_iou[position]))
            written.append(f"{name}/{file}")
        except SanError as fault:
            say(f"no picture of {printable(task.pairs[position].stem)}: {fault.message}")
    return written


def charts_are_possible() -> bool:
    """Tell whether matplotlib is installed (the extra `report`)."""
    return find_spec("matplotlib") is not None


def _worst_images(counts: Counts, most: int) -> list[int]:
    """Return the places of the images with the lowest mean IoU, worst first; of equal ones the earlier first."""
    scored = np.flatnonzero(~np.isnan(counts.image_iou))
    order = np.argsort(counts.image_iou[scored], kind="stable")[:most]
    return [int(position) for position in scored[order]]


def _write_side_by_side(path: Path, evaluation: Evaluation, position: int, iou: float) -> None:
    """Write two overlays of an image: left under the prediction, right under the truth.

    SanError where image and label can't be read any more, OSError where the file can't be written.
    """
    task = evaluation.task
    label_map, truth = label_map_of(evaluation, position)
    pixels = task.pairs[position].read_image()
    if pixels.shape[:2] != truth.shape:
        raise task.pairs[position].other_size(pixels.shape[:2], truth.shape)
    truth = np.where(truth == task.ignore_label, -1, truth.astype(np.int32))
    halves = [render_overlay(pixels, labels, task.classes) for labels in (label_map, truth)]
    letters = max(12, min(24, halves[0].width // 30))
    top = 2 * letters
    width = sum(half.width for half in halves) + _GAP
    canvas = Image.new("RGB", (width, top + max(half.height for half in halves)), PAPER)
    draw, left = ImageDraw.Draw(canvas), 0
    for half, heading in zip(halves, (f"prediction, IoU {iou:.1f} %", "truth"), strict=True):
        draw.text((left + _GAP, letters), heading, fill=(236, 237, 239), font=font(letters), anchor="lm")
        canvas.paste(half, (left, top))
        left += half.width + _GAP
    write_overlay(path, canvas)


def _file_name(stem: str) -> str:
    """Spell a stem as part of a file name that any system and any page takes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in stem)[:80]


def _write_iou_chart(path: Path, classes: Sequence[ClassResult], title: str) -> None:
    """Draw a bar for every class in the ground truth, the best at the top; OSError where it can't be written."""
    from matplotlib.figure import Figure

    ranked = sorted(
        (one for one in classes if one.IoU is not None), key=lambda one: (one.IoU or 0.0, -one.id)
    )
    figure = Figure(figsize=(8, 1.2 + 0.17 * len(ranked)), layout="constrained")
    axes = figure.add_subplot()
    values = [one.IoU or 0.0 for one in ranked]
    axes.barh(range(len(ranked)), values, color=palette([one.name for one in ranked]) / 255, height=0.8)
    labels = [f"{_short(one.name)}  {value:.1f} %" for one, value in zip(ranked, values, strict=True)]
    axes.set_yticks(range(len(ranked)), labels, fontsize=7, parse_math=False)
    axes.set_ylim(-0.7, len(ranked) - 0.3)
    axes.set_xlim(0, 100)
    axes.set_xlabel("IoU in percent")
    axes.set_title(_short(title, 90), parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    _save(figure, path)


def _write_confusion_chart(
    path: Path, confusion: NDArray[np.int64], names: Sequence[str], title: str
) -> None:
    """Draw a heat map of the classes that are confused most: for each true class, the share of its pixels.

    The row of a class that is predicted, but not in the ground truth, is grey. `confusion` [N+1, N+1] is indexed
    [predicted, truth]. OSError where it can't be written.
    """
    from matplotlib.figure import Figure

    counts = confusion[:-1, :-1]
    wrong = counts - np.diag(np.diagonal(counts))
    cost = wrong.sum(axis=0) + wrong.sum(axis=1)
    chosen = np.argsort(-cost, kind="stable")[: min(_CONFUSED_CLASSES, len(names))]
    truth_pixels = confusion[:, chosen].sum(axis=0)[:, None]
    pixels = counts[np.ix_(chosen, chosen)].T  # [truth, predicted]
    shares = np.where(truth_pixels > 0, 100 * pixels / np.maximum(truth_pixels, 1), np.nan)
    labels = [_short(names[class_id]) for class_id in chosen]
    figure = Figure(figsize=(4 + 0.33 * len(chosen), 3 + 0.33 * len(chosen)), layout="constrained")
    axes = figure.add_subplot(facecolor="0.9")
    shown = axes.imshow(shares, cmap="magma_r", vmin=0, vmax=100)
    for row, column in np.argwhere(shares >= 0.5):
        value = shares[row, column]
        ink = "white" if value > 55 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color=ink)
    axes.set_xticks(range(len(chosen)), labels, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(chosen)), labels, fontsize=7, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title(_short(title, 90), parse_math=False)
    figure.colorbar(shown, ax=axes, label="percent of the true class's pixels", shrink=0.8)
    _save(figure, path)


def _short(name: str, most: int = 28) -> str:
    name = printable(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _save(figure: "Figure", path: Path) -> None:
    with warnings.catch_warnings(), atomic_write(path) as stream:
        warnings.simplefilter("ignore")  # letters that the font lacks
        figure.savefig(stream, format="png", dpi=100, metadata={"Software": None})
