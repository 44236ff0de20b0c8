"""`san weights`: list, get, path, verify and convert checkpoints."""

import os
from pathlib import Path
from typing import Annotated

import typer

from san_cli.cli import console
from san_cli.cli.options import complete_model
from san_cli.errors import ExitCode, SanError, did_you_mean
from san_cli.text import nearest, printable

app = typer.Typer(
    help="""Find, download, check and convert model weights.

    \b
    Examples:
      san weights list
      san weights get vit-b-16
    """,
    no_args_is_help=True,
)


_Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Model name, as in `san weights list`.", autocompletion=complete_model
    ),
]


@app.command("list")
def list_weights() -> None:
    """Show every model with its file, size, sha256, whether that is right, and where it is.

    \b
    CHECK:
      published  the authors' own file, to the byte
      sealed     has the sha256 that its header states
      unknown    nothing tells what it should be
      damaged    isn't what it should be

    \b
    Example:
      san weights list
    """
    from san_cli.models.presets import PRESETS

    rows = [("MODEL", "FILE", "SIZE", "SHA256", "CHECK", "WHERE"), *(_row(name) for name in PRESETS)]
    console.write(console.aligned(rows))


@app.command()
def get(name: _Name) -> None:
    """Download a model's published weights, unless they are here already, and print the path.

    It goes into $SAN_HOME/downloads (~/.cache/san/downloads).

    \b
    Examples:
      san weights get tiny
      san weights get vit-b-16
      HF_ENDPOINT=https://MIRROR san weights get vit-l-14
    """
    from san_cli.weights.find import find_weights, locate_weights

    model = _known(name)
    before = locate_weights(model)
    found = find_weights(model, None, say=console.say)
    if found == before:
        console.say(f"{model} is here already; nothing was downloaded")
    _print_path(found)


@app.command()
def path(name: _Name) -> None:
    """Print the path of a model's weights on this machine; nothing is downloaded.

    \b
    Example:
      san weights path tiny
    """
    from san_cli.weights.find import check_is_weights, weights_here

    found = weights_here(_known(name))
    check_is_weights(found)
    _print_path(found)


@app.command()
def verify(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE", help="Default: every model that is here.", autocompletion=complete_model
        ),
    ] = None,
) -> None:
    """Hash weights again and load them: content, names, shapes and finite values must be right.

    \b
    Examples:
      san weights verify
      san weights verify tiny my-model.safetensors
    """
    from san_cli.models.presets import PRESETS
    from san_cli.weights.find import locate_weights, weights_here

    paths = [weights_here(name) if name in PRESETS else Path(name) for name in what or []]
    if not what:
        paths = [found for found in map(locate_weights, PRESETS) if found is not None]
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
        raise typer.Exit(ExitCode.USAGE if failed == len(paths) else ExitCode.SOME_FAILED)


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="Official checkpoint (.pth), or an adapter of `san train`."),
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File to write (.safetensors).")],
    clip_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The CLIP of an adapter, as for `san train`. Default: OpenAI's.",
            show_default=False,
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Store float16: half the size, nearly the same results.")
    ] = False,
) -> None:
    """Convert an official .pth, or an adapter with its CLIP, into a safetensors file that is a whole model.

    \b
    Examples:
      san weights convert weights/tiny.safetensors half.safetensors --half
      san weights convert san_vit_b_16.pth b.safetensors
      san weights convert adapter.safetensors b.safetensors --clip-weights clip.pt
    """
    from san_cli.files import sweep_stale
    from san_cli.weights.find import check_is_weights

    _refuse_target(target)
    check_is_weights(source)

    # Only now, as importing torch takes seconds.
    from san_cli.weights.adapter import is_adapter, read_model
    from san_cli.weights.checkpoint import in_half_precision, write_checkpoint

    if clip_weights is not None and not is_adapter(source):
        raise SanError(
            f"'{source}' brings its own CLIP", hint="--clip-weights is for adapters; leave it out."
        )
    sweep_stale(target.parent, below=False)  # what a conversion that was killed left there
    model = read_model(source, None, clip_weights, say=console.say)
    write_checkpoint(in_half_precision(model, source) if half else model, target)
    _print_path(target)


def _refuse_target(target: Path) -> None:
    """Raise SanError unless `target` is a new .safetensors file in a folder that can be written to."""
    if target.is_dir():
        raise SanError(f"'{target}' is a folder", hint=f"Name the file in it: {target / 'model.safetensors'}")
    if target.suffix != ".safetensors":
        raise SanError(
            f"the converted file must end in .safetensors, not '{target.name}'",
            hint=f"Name it {target.with_suffix('.safetensors') if target.name else 'model.safetensors'}",
        )
    if os.path.lexists(target):
        raise SanError(f"'{target}' exists already", hint="Delete it first, or choose another name.")
    if not target.parent.is_dir():
        raise SanError(f"no folder '{target.parent}' to write to", hint="Make it first: mkdir -p FOLDER")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise SanError(f"the folder '{target.parent}' can't be written to", hint="Choose another one.")


def _known(name: str) -> str:
    """Find the model's name, or the name of the preset in a JSON file. Raises SanError, with the nearest name."""
    from san_cli.models.presets import PRESETS, get_preset

    if name in PRESETS or name.endswith(".json"):
        return get_preset(name).name
    if name.endswith((".pth", ".safetensors")) or os.sep in name:
        raise SanError(
            f"unknown model '{name}': that is a file's name",
            hint="A file needs no download: name it with --weights FILE, or check it: san weights verify FILE",
        )
    hint = did_you_mean(nearest(name, PRESETS), f"Known models: {', '.join(PRESETS)}.")
    raise SanError(f"unknown model '{name}'", hint=hint)


def _row(name: str) -> tuple[str, str, str, str, str, str]:
    from san_cli.weights.file_hash import states_hash, weights_sha256
    from san_cli.weights.find import file_names, locate_weights
    from san_cli.weights.hub import OFFICIAL, megabytes

    found, official = locate_weights(name), OFFICIAL.get(name)
    if found is None:
        if official is None:
            return name, file_names(name)[0], "-", "-", "-", "not here"
        return name, official.filename, megabytes(official.size), official.sha256[:12], "-", "not here"
    size, sha256 = "?", "-"
    try:
        length = found.stat().st_size
        size = megabytes(length)
        sha256 = weights_sha256(found)
        if official is not None and sha256 == official.sha256:
            check = "published"
        elif states_hash(found):
            check = "sealed"
        else:
            check = "damaged" if official is not None and length == official.size else "unknown"
    except OSError as error:
        check = error.strerror or "unreadable"
    except SanError:  # `san weights verify` says more
        check = "damaged"
    return name, printable(found.name), size, sha256[:12], printable(check), printable(str(found))


def _verified(file: Path) -> str:
    """Write one line about a good file. Raises SanError about any other."""
    from san_cli.weights.find import verify_sha256

    sha256, same_as = verify_sha256(file)

    # Only now, as importing torch takes seconds.
    from san_cli.weights.checkpoint import check_finite, read_checkpoint

    checkpoint = read_checkpoint(file)
    check_finite(checkpoint.state, file)
    count = len(checkpoint.state)
    return printable(f"ok  {sha256}  {file}  ({checkpoint.preset.name}, {count} tensors, {same_as})")


def _print_path(path: Path) -> None:
    typer.echo(os.fsencode(path.absolute()))  # as bytes: exact for any file name
