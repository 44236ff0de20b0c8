"""The tables of `san fps` on a terminal of any width: columns that don't fit go into a table of their own below."""

import io
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from san_cli.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from san_cli.fps.measure import SizeResult
    from san_cli.fps.report import Context

_BETWEEN, _EDGES = 3, 2  # columns of space
_NARROWEST_STAGES = 25  # their cells may be folded
_WIDE = 200  # columns where nobody looks at a terminal

Rows = Sequence[Sequence[str]]


def tables(results: "Sequence[SizeResult]", context: "Context") -> str:
    """All results, each size's tables one below the other; nothing in them is cut."""
    from rich.console import Console

    from san_cli.fps import report

    text = io.StringIO()
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else _WIDE
    no_color = "NO_COLOR" in os.environ
    out = Console(file=text, width=width, force_terminal=on_terminal, no_color=no_color, highlight=False)
    for result in results:
        title = report.title(result, context)
        timing = report.timing_rows(result)
        alone = [[column] for column in range(1, len(timing[0]))]
        for rows, groups in ((report.efficiency_rows(result), report.EFFICIENCY_GROUPS), (timing, alone)):
            for columns in fitting(rows, groups, width):
                _print_table(out, [[row[column] for column in columns] for row in rows], title)
                title = ""
    return text.getvalue()


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
    return min(widest, _NARROWEST_STAGES) if _may_fold(rows[0][column]) else widest


def _may_fold(header: str) -> bool:
    return header == "stages ms"


def _print_table(out: "Console", rows: Rows, title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column, header in enumerate(rows[0]):
        left = column == 0 or _may_fold(header)
        table.add_column(
            Text(header),
            justify="left" if left else "right",
            no_wrap=not left,
            overflow="fold",
            min_width=len(header),
        )
    for row in rows[1:]:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out.print(table)
