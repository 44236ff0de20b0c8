"""`san weights`: list, get, path, verify, convert and push checkpoints."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from san_cli.cli import console
from san_cli.cli.options import complete_model, json
from san_cli.errors import ExitCode, SanError, did_you_mean
from san_cli.text import json_text, nearest, printable

if TYPE_CHECKING:
    from san_cli.weights.survey import Survey

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
        metavar="NAME",
        help="Model name, as in `san weights list`, or hf:OWNER/REPO (then @REVISION, /FILE) on the hub.",
        autocompletion=complete_model,
    ),
]


@app.command("list")
def list_weights(as_json: Annotated[bool, json("Print JSON: sizes in bytes, whole hashes.")] = False) -> None:
    """Show every model with its file, size, sha256, whether that is right, and where it is.

    \b
    CHECK:
      published  the authors' own file, to the byte
      sealed     has the sha256 that its header states
      unknown    nothing tells what it should be
      damaged    isn't what it should be

    \b
    Examples:
      san weights list
      san weights list --json | jq -r '.[].path'
    """
    from san_cli.models.presets import PRESETS
    from san_cli.weights.survey import survey_weights

    found = [survey_weights(name) for name in PRESETS]
    if as_json:
        console.write([json_text([one.facts for one in found])])
        return
    rows = [("MODEL", "FILE", "SIZE", "SHA256", "CHECK", "WHERE"), *map(_row, found)]
    console.write(console.aligned(rows))


@app.command()
def get(name: _Name) -> None:
    """Download a model's published weights, or a file on the hub, unless it is here already; print the path.

    It goes into $SAN_HOME/downloads (~/.cache/san/downloads).

    \b
    Examples:
      san weights get tiny
      san weights get vit-b-16
      san weights get hf:OWNER/REPO
      HF_ENDPOINT=https://MIRROR san weights get vit-l-14
    """
    from san_cli.weights.find import find_weights, locate_weights, named_file
    from san_cli.weights.hub_name import hub_name

    if hub_name(name) is not None:
        _print_path(named_file(name, say=console.say))
        return
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
    from san_cli.weights.hub_name import hub_name
    from san_cli.weights.repository import hub_file_here

    on_hub = hub_name(name)
    found = weights_here(_known(name)) if on_hub is None else hub_file_here(on_hub)
    check_is_weights(found)
    _print_path(found)


@app.command()
def verify(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="A model's name, a file, a folder of `san train`, hf:OWNER/REPO. Default: every model that is here.",
            autocompletion=complete_model,
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
    from san_cli.weights.find import locate_weights, named_file, weights_here

    names = what or [name for name in PRESETS if locate_weights(name) is not None]
    if not names:
        raise SanError("no weights here to verify", hint="Download some: san weights get vit-b-16")
    failed = 0
    for name in names:
        try:
            found = weights_here(name) if name in PRESETS else named_file(name, say=console.say)
            typer.echo(_verified(found))
        except SanError as error:
            failed += 1
            console.error(error.message, error.hint)
    if failed:
        raise typer.Exit(ExitCode.USAGE if failed == len(names) else ExitCode.SOME_FAILED)


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A checkpoint of another program (see docs/weights.md), or an adapter of `san train`.",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File to write (.safetensors).")],
    clip_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The CLIP of an adapter, or of a checkpoint without its text tower, as for `san train`. Default: "
            "OpenAI's.",
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
    from san_cli.weights.find import check_is_weights, named_file

    _refuse_target(target)
    source = named_file(source, say=console.say)
    check_is_weights(source)
    if clip_weights is not None:
        clip_weights = named_file(clip_weights, say=console.say, clip=True)

    # Only now, as importing torch takes seconds.
    from san_cli.weights.adapter import brings_its_clip, read_model
    from san_cli.weights.checkpoint import in_half_precision, write_checkpoint

    if clip_weights is not None and brings_its_clip(source):
        raise SanError(
            f"'{source}' brings its own CLIP", hint="--clip-weights is for adapters; leave it out."
        )
    sweep_stale(target.parent, below=False)  # what a conversion that was killed left there
    model = read_model(source, None, clip_weights, say=console.say)
    write_checkpoint(in_half_precision(model, source) if half else model, target)
    _print_path(target)


@app.command()
def push(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|RUN",
            help="The weights: a file, or a folder of `san train`, whose best model it is.",
        ),
    ],
    target: Annotated[
        str, typer.Argument(metavar="hf:OWNER/REPO", help="The repository; it is made if there is none.")
    ],
    license: Annotated[
        str,
        typer.Option(metavar="NAME", help="What the card says others may do: mit, apache-2.0, cc-by-4.0 …"),
    ] = "unknown",
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the card and what would be sent; nothing is.")
    ] = False,
) -> None:
    """Upload weights to the Hugging Face hub, with a model card; print the name they have there.

    They are sent as safetensors: another program's file is converted first. A card that is there already stays.
    HF_TOKEN must be a token that may write (or log in: hf auth login).

    \b
    Examples:
      san weights push weights/tiny.safetensors hf:me/scenes --dry-run
      san weights push run hf:me/my-classes --private --license mit
      san predict photos --weights hf:me/my-classes
    """
    from san_cli.weights.hub_name import hub_name

    named = hub_name(target if ":" in target else f"hf:{target}")
    if named is None:
        raise SanError(f"'{target}' is a file", hint="The second is the repository: hf:OWNER/REPO")

    # Only now, as importing torch takes seconds.
    from san_cli.weights import push as pushing

    told = pushing.push(source, named, license=license, private=private, dry_run=dry_run, say=console.say)
    typer.echo(printable(told) if not dry_run else told, nl=not dry_run)


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


def _row(one: "Survey") -> tuple[str, ...]:
    from san_cli.weights.hub import megabytes

    size = "-" if one.path is None else "?"
    if one.bytes is not None:
        size = megabytes(one.bytes)
    sha256 = "-" if one.sha256 is None else one.sha256[:12]
    check = "-" if one.path is None else printable(one.check)
    where = "not here" if one.path is None else printable(str(one.path))
    return one.model, printable(one.file), size, sha256, check, where


def _verified(file: Path) -> str:
    """Write one line about a good file. Raises SanError about any other."""
    from san_cli.weights.find import verify_sha256

    sha256, same_as = verify_sha256(file)

    # Only now, as importing torch takes seconds.
    from san_cli.weights.adapter import is_adapter, read_adapter
    from san_cli.weights.checkpoint import check_finite, read_checkpoint

    checkpoint = read_adapter(file) if is_adapter(file) else read_checkpoint(file)
    check_finite(checkpoint.state, file)
    model = f"{'an adapter of ' * is_adapter(file)}{checkpoint.preset.name}"
    return printable(f"ok  {sha256}  {file}  ({model}, {len(checkpoint.state)} tensors, {same_as})")


def _print_path(path: Path) -> None:
    typer.echo(os.fsencode(path.absolute()))  # as bytes: exact for any file name
