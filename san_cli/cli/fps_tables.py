"""The tables of `san fps` on a terminal of any width: columns that don't fit go into a table of their own below."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from san_cli.cli import console
from san_cli.text import printable

if TYPE_CHECKING:
    from san_cli.fps.measure import SizeResult
    from san_cli.fps.report import Context

_BETWEEN, _EDGES = 3, 2  # columns of space
_FOLDABLE = ("stages ms",)
_NARROWEST_STAGES = 25
_WIDE = 200  # columns where nobody looks at a terminal

Rows = Sequence[Sequence[str]]


def tables(results: "Sequence[SizeResult]", context: "Context") -> str:
    """All results, each size's tables one below the other; nothing in them is cut."""
    from san_cli.fps import report

    out = console.rich_console(_WIDE)
    out.begin_capture()
    for result in results:
        title = report.title(result, context)
        timing = report.timing_rows(result)
        alone = [[column] for column in range(1, len(timing[0]))]
        for rows, groups in ((report.efficiency_rows(result), report.EFFICIENCY_GROUPS), (timing, alone)):
            for columns in fitting(rows, groups, out.width):
                cells = [[row[column] for column in columns] for row in rows]
                console.print_table(out, cells, title, foldable=_FOLDABLE)
                title = ""
    return out.end_capture()


def fitting(rows: Rows, groups: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    """The columns of each table, none wider than `width` where that can be: column 0, and as many groups as fit."""
    taken = [_width(rows, column) for column in range(len(rows[0]))]
    found: list[list[int]] = []
    left = 0
    for group in groups:
        needed = sum(taken[column] + _BETWEEN for column in group)
        if not found or needed > left:
            found.append([0])
            left = width - taken[0] - _EDGES
        found[-1] += group
        left -= needed
    return found


def _width(rows: Rows, column: int) -> int:
    widest = max(len(printable(row[column])) for row in rows)
    return min(widest, _NARROWEST_STAGES) if rows[0][column] in _FOLDABLE else widest
