"""Speed and quality against work, as a picture. Needs matplotlib."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.errors import SanError
from san_cli.files import atomic_write
from san_cli.fps.measure import Row, SizeResult
from san_cli.fps.systems import LABELS, SYSTEMS
from san_cli.text import quoted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = dict(zip(SYSTEMS, ("#c0392b", "#2471a3", "#1e8449", "#7d3c98"), strict=True))
_MARKERS = dict(zip(SYSTEMS, "osv^", strict=True))


def refuse_without_matplotlib() -> None:
    """SanError where matplotlib, of the extra `report`, is missing."""
    if find_spec("matplotlib") is None:
        raise SanError("--plot needs matplotlib", hint="Install it: pip install matplotlib")


def write_plot(path: Path, results: Sequence[SizeResult], title: str) -> None:
    """Draw FPS against GFLOPs, and the paper's mIoU where it has one, as a PNG; SanError if it can't be written."""
    from matplotlib.figure import Figure

    rows = [(result.size, row) for result in results for row in result.rows]
    with_miou = [(size, row) for size, row in rows if row.paper.miou is not None]
    panels = 2 if with_miou else 1
    figure = Figure(figsize=(5.6 * panels, 4.4), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    speed = [(row, row.fps, _name(row, size, len(results) > 1)) for size, row in rows]
    _scatter(axes[0], speed, "images a second")
    axes[0].set_yscale("log")
    if with_miou:
        quality = [(row, row.paper.miou or 0.0, _name(row, size, False)) for size, row in with_miou]
        _scatter(axes[1], quality, "mIoU on ADE20K-150 in the paper, percent")
    figure.suptitle(title, fontsize=10, parse_math=False)
    try:
        with warnings.catch_warnings(), atomic_write(path) as stream:
            warnings.simplefilter("ignore")  # letters that the font lacks
            figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    except OSError as error:
        raise SanError(
            f"can't write {quoted(path)}: {error.strerror}", hint="Choose another file."
        ) from error


def _scatter(axes: "Axes", points: "Sequence[tuple[Row, float, str]]", quantity: str) -> None:
    for system in SYSTEMS:
        own = sorted((p for p in points if p[0].case.system == system), key=lambda p: p[0].cost.gflops_paper)
        below = system == "ovseg"  # as SimSeg is at the same place
        x, y = [row.cost.gflops_paper for row, _, _ in own], [value for _, value, _ in own]
        axes.plot(x, y, color=_COLOURS[system], marker=_MARKERS[system], linewidth=1, markersize=6)
        for row, value, name in own:
            axes.annotate(
                name,
                (row.cost.gflops_paper, value),
                xytext=(0, -9 if below else 8),
                textcoords="offset points",
                fontsize=8,
                ha="center",
                va="top" if below else "bottom",
            )
    axes.set_xscale("log")
    axes.set_xlabel("GFLOPs (multiply-adds by the paper's convention)")
    axes.set_ylabel(quantity)
    axes.margins(0.22)
    axes.grid(which="both", alpha=0.25)


def _name(row: Row, size: int, sized: bool) -> str:
    at = f" {size}" if sized else ""
    return f"{LABELS[row.case.system]}{at}" + (f"\nCLIP {row.case.clip_size}" if row.case.clip_size else "")
