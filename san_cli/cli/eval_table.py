"""What `san eval` prints on stdout: tables, or JSON."""

import io
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from san_cli.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from san_cli.evaluate.report_data import EvalResult, Trials

_WIDE = 180  # columns where nobody looks at a terminal


def print_json(
    results: "Sequence[EvalResult]", trials: "Sequence[Trials]", skipped: Sequence[tuple[str, str]]
) -> None:
    """The results as JSON; `trials` only where there are several weights, skipped datasets where there are any."""
    from san_cli.evaluate.report import trials_json
    from san_cli.evaluate.report_data import result_json
    from san_cli.text import json_text

    document: dict[str, Any] = {"results": [result_json(result) for result in results]}
    if trials:
        document["trials"] = [trials_json(one) for one in trials]
    if skipped:
        document["skipped_datasets"] = [{"dataset": name, "why": why} for name, why in skipped]
    typer.echo(json_text(document))


def print_tables(
    results: "Sequence[EvalResult]",
    trials: "Sequence[Trials]",
    quoted: Sequence[Sequence[str]],
    skipped: Sequence[tuple[str, str]],
    settings: Mapping[str, Any],
) -> None:
    """The table of results, what is to be known about it, and quoted rows apart from it."""
    from rich.console import Console

    from san_cli.evaluate.report import RULES, skip_lines, summary_rows, trials_line

    text = io.StringIO()
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else _WIDE
    out = Console(
        file=text, width=width, force_terminal=on_terminal, no_color="NO_COLOR" in os.environ, highlight=False
    )
    _print_table(out, summary_rows(results), "Results")
    for line in skip_lines(results, skipped):
        out.print(printable(line), style="bold red", markup=False)
    for one in trials:
        out.print(printable(trials_line(one)), markup=False)
    for result in results:
        for note in result.notes:
            out.print(printable(f"{result.dataset}: {note}"), markup=False)
    if any(result.rules_differ for result in results):
        out.print(RULES, markup=False)
    if quoted:
        from san_cli.evaluate.published import TABLE_2_SOURCE

        _print_table(out, quoted, TABLE_2_SOURCE)
    for result in results:
        times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items())
        out.print(printable(f"{result.dataset}: {times}"), markup=False)
    out.print(_footer(results, settings), markup=False)
    typer.echo(text.getvalue().encode("utf-8"), nl=False)


def _footer(results: "Sequence[EvalResult]", settings: Mapping[str, Any]) -> str:
    models = dict.fromkeys(
        f"{result.model}, weights {(result.weights_sha256 or '')[:12]}" for result in results if result.model
    )
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    where = f"{settings['device']}, {settings['precision']}" if settings["device"] else "no model"
    return printable("; ".join([*models, where, versions]))


def _print_table(out: "Console", rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, cell in enumerate(rows[0]):
        table.add_column(Text(cell), justify="left" if number == 0 else "right")
    for row in rows[1:]:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out.print(table)
