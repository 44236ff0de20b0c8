"""Charts of an evaluation: the IoU of every class, and which classes are taken for which. Needs matplotlib."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from san_cli.evaluate.report_data import ClassResult
from san_cli.files import atomic_write
from san_cli.outputs.colours import palette
from san_cli.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONFUSED_CLASSES = 24


def charts_are_possible() -> bool:
    """Whether matplotlib is installed (the extra `report`)."""
    return find_spec("matplotlib") is not None


def write_iou_chart(path: Path, classes: Sequence[ClassResult], title: str) -> None:
    """A bar for every class in the ground truth, the best at the top; OSError where it can't be written."""
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


def write_confusion_chart(path: Path, confusion: NDArray[np.int64], names: Sequence[str], title: str) -> None:
    """A heat map of the classes that are confused most: for each true class, the share of its pixels.

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
