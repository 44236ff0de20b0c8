"""`san weights`: list, get, path, verify and convert checkpoints."""

import os
from pathlib import Path
from typing import Annotated

import typer

from san_cli.cli import console
from san_cli.errors import ExitCode, SanError
from san_cli.inert import inert

app = typer.Typer(help="Find, download, check and convert model weights.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Model name, as in `san weights list`.")]


@app.command("list")
def list_weights() -> None:
    """Show every model with its file, size, sha256 and where it is."""
    from san_cli.models.presets import PRESETS

    rows = [("MODEL", "FILE", "SIZE", "SHA256", "WHERE"), *(_row(name) for name in PRESETS)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        typer.echo("  ".join([*cells, row[4]]))


@app.command()
def get(name: _Name) -> None:
    """Download a model's published weights, unless they are here already, and print the path."""
    from san_cli.models.presets import get_preset
    from san_cli.weights import find_weights

    _print_path(find_weights(get_preset(name).name, None, say=console.say))


@app.command()
def path(name: _Name) -> None:
    """Print the path of a model's weights on this machine; nothing is downloaded."""
    from san_cli.weights import check_is_weights

    found = weights_here(name)
    check_is_weights(found)
    _print_path(found)


@app.command()
def verify(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="NAME|FILE", help="Default: every model that is here.")
    ] = None,
) -> None:
    """Hash weights again and load them: content, names, shapes and finite values must be right."""
    from san_cli.models.presets import PRESETS

    paths = [weights_here(name) if name in PRESETS else Path(name) for name in what or []]
    if not what:
        paths = [found for found in map(_locate, PRESETS) if found is not None]
    if not paths:
        raise SanError("no weights here to verify", hint="Download some: san weights get vit-b-16")
    failed = 0
    for file in paths:
        try:
            typer.echo(_verified(file))
        except SanError as error:
            failed += 1
            console.error(error.message, error.hint)
    if failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Official checkpoint (.pth), or an adapter of `san train`.")],
    target: Annotated[Path, typer.Argument(help="File to write (.safetensors).")],
    clip_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The CLIP of an adapter, as for `san train`. Default: OpenAI's, through open_clip.",
            show_default=False,
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Store float16: half the size, nearly the same results.")
    ] = False,
) -> None:
    """Convert an official .pth, or an adapter with its CLIP, into a safetensors file that is a whole model."""
    from san_cli.models.adapter import is_adapter, read_model
    from san_cli.models.checkpoint import in_half_precision, read_checkpoint, write_checkpoint
    from san_cli.weights import check_is_weights

    if target.suffix != ".safetensors":
        raise SanError(f"the converted file must end in .safetensors, not '{target.name}'")
    if os.path.lexists(target):
        raise SanError(f"'{target}' exists already", hint="Delete it first, or choose another name.")
    if not target.parent.is_dir():
        raise SanError(f"no folder '{target.parent}' to write to", hint="Make it first: mkdir -p FOLDER")
    check_is_weights(source)
    if is_adapter(source):
        model = read_model(source, None, clip_weights, say=console.say)
    elif clip_weights is not None:
        raise SanError(
            f"'{source}' brings its own CLIP", hint="--clip-weights is for adapters; leave it out."
        )
    else:
        model = read_checkpoint(source)
    write_checkpoint(in_half_precision(model, source) if half else model, target)
    _print_path(target)


def _row(name: str) -> tuple[str, str, str, str, str]:
    from san_cli.hub import OFFICIAL, megabytes
    from san_cli.weights import file_names, weights_sha256

    found, official = _locate(name), OFFICIAL.get(name)
    if found is not None:
        try:
            size, sha256 = megabytes(found.stat().st_size), weights_sha256(found)[:12]
        except OSError as error:
            size, sha256 = "?", error.strerror or "unreadable"
        except SanError:  # `san weights verify` says more
            size, sha256 = megabytes(found.stat().st_size), "damaged"
        return name, inert(found.name), size, sha256, inert(str(found))
    if official is not None:
        return name, official.filename, megabytes(official.size), official.sha256[:12], "not here"
    return name, file_names(name)[0], "-", "-", "not here"


def _locate(name: str) -> Path | None:
    """The model's weights on this machine, as `san predict` would find them without `--weights`."""
    from san_cli.hub import OFFICIAL, cached_copy
    from san_cli.weights import local_weights

    return local_weights(name) or (cached_copy(OFFICIAL[name]) if name in OFFICIAL else None)


def weights_here(name: str) -> Path:
    """The model's weights on this machine; SanError where there are none. Nothing is downloaded."""
    from san_cli.hub import OFFICIAL
    from san_cli.models.presets import PRESETS, get_preset

    preset = get_preset(name).name
    found = _locate(preset)
    if found is not None:
        return found
    if preset in OFFICIAL:
        hint = f"Download them: san weights get {preset}"
    elif preset in PRESETS:
        hint = "They come with san: install it again."
    else:
        hint = f"Put {preset}.safetensors into $SAN_WEIGHTS or weights/."
    raise SanError(f"no weights of {preset} on this machine", hint=hint)


def _verified(file: Path) -> str:
    """One line about a good file. Raises SanError about any other."""
    from san_cli.models.checkpoint import check_finite, read_checkpoint
    from san_cli.weights import verify_sha256

    sha256, same_as = verify_sha256(file)
    checkpoint = read_checkpoint(file)
    check_finite(checkpoint.state, file)
    count = len(checkpoint.state)
    return inert(f"ok  {sha256}  {file}  ({checkpoint.preset.name}, {count} tensors, {same_as})")


def _print_path(path: Path) -> None:
    typer.echo(os.fsencode(path.absolute()))  # as bytes: exact for any file name
