"""`san vocab`: which vocabularies there are, and which classes an expression stands for."""

import json
from typing import Annotated

import typer

from san_cli.cli import console
from san_cli.vocabulary import (
    DATASET_NAMES,
    complete_vocabulary,
    format_line,
    load_dataset_vocabulary,
    parse_vocabulary,
)

app = typer.Typer(help="List the built-in vocabularies or show the classes of any.", no_args_is_help=True)


def _write(lines: list[str]) -> None:
    """Print on stdout in UTF-8 whatever the locale: a names file read back must hold the same names."""
    typer.echo("\n".join(lines).encode("utf-8"))


@app.command("list")
def list_vocabularies() -> None:
    """List the built-in vocabularies: name, number of classes, title."""
    known = [load_dataset_vocabulary(name) for name in DATASET_NAMES]
    width = max(map(len, DATASET_NAMES))
    _write([f"{dataset.name:<{width}}  {len(dataset.classes):>3}  {dataset.title}" for dataset in known])


@app.command("show")
def show_vocabulary(
    expression: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="What --vocab takes: dataset names, class names, a|b, @file.txt, joined by + or a comma; "
            "-name removes.",
            autocompletion=complete_vocabulary,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: each class with its words.")] = False,
) -> None:
    """Show the classes of a vocabulary, one per line: saved to a file, a vocabulary again (@file.txt)."""
    vocabulary, notes = parse_vocabulary(expression)
    for text in notes:
        console.note(text)
    if as_json:
        rows = [{"name": entry.name, "words": list(entry.words)} for entry in vocabulary.entries]
        _write([json.dumps(rows, ensure_ascii=False, indent=1)])
    else:
        _write([format_line(entry) for entry in vocabulary.entries])
