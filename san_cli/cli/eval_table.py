"""What `san eval` prints on stdout: tables, or JSON."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from san_cli.cli import console
from san_cli.text import printable

if TYPE_CHECKING:
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
    from san_cli.evaluate.report import RULES, skip_lines, summary_rows, trials_line

    out = console.rich_console(_WIDE)
    out.begin_capture()
    console.print_table(out, summary_rows(results), "Results")
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

        console.print_table(out, quoted, TABLE_2_SOURCE)
    for result in results:
        times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items())
        out.print(printable(f"{result.dataset}: {times}"), markup=False)
    out.print(_footer(results, settings), markup=False)
    typer.echo(out.end_capture().encode("utf-8"), nl=False)


def _footer(results: "Sequence[EvalResult]", settings: Mapping[str, Any]) -> str:
    models = dict.fromkeys(
        f"{result.model}, weights {(result.weights_sha256 or '')[:12]}" for result in results if result.model
    )
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    where = f"{settings['device']}, {settings['precision']}" if settings["device"] else "no model"
    return printable("; ".join([*models, where, versions]))
