"""`san data`: list the benchmarks, prepare their archives, check what is there."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from san_cli.cli import console
from san_cli.cli.options import Quiet, json, one_of
from san_cli.cli.progress import progress
from san_cli.errors import ExitCode, SanError
from san_cli.text import counted, json_text, printable
from san_cli.vocabulary.class_lists import DATASET_NAMES

if TYPE_CHECKING:
    from san_cli.datasets.catalogue import Dataset
    from san_cli.datasets.check import CheckedDataset

app = typer.Typer(
    help="""List, prepare and check the benchmarks' data.

    \b
    Examples:
      san data list
      san data prepare voc --from VOCtrainval_11-May-2012.tar --to datasets
      san data check voc
    """,
    no_args_is_help=True,
)

_SHOWN = 20
_EMOJI_TITLE = "Emoji scenes, rendered as they are read"

_Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A name of `san data list`.", autocompletion=one_of(*DATASET_NAMES)),
]
_DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="ROOT",
        help="Folder that holds coco/, VOC2012/ and so on. Default: $SAN_DATASETS, $DETECTRON2_DATASETS, "
        "./datasets.",
        show_default=False,
    ),
]


@app.command("list")
def list_datasets(
    data_root: _DataRoot = None, as_json: Annotated[bool, json("Print JSON: pairs that are there.")] = False
) -> None:
    """Show every benchmark: its classes, what of it is prepared, and where to get it.

    \b
    Examples:
      san data list
      san data list --data-root /data
      san data list --json | jq '.[] | select(.splits.val.state == "whole")'
    """
    from san_cli.datasets.catalogue import CATALOGUE, EMOJI, find_root
    from san_cli.datasets.emoji.pairs import SCENES
    from san_cli.vocabulary.class_lists import load_dataset_vocabulary
    from san_cli.vocabulary.emoji_concepts import concepts

    root = find_root(data_root)
    if as_json:
        console.write(
            [json_text([*(_facts(dataset, root) for dataset in CATALOGUE.values()), _facts_of_emoji()])]
        )
        return
    rows = [("NAME", "CLASSES", "VAL", "TRAIN", "TITLE")]
    for dataset in CATALOGUE.values():
        classes = len(load_dataset_vocabulary(dataset.name).classes)
        states = [_state(dataset, split, root) for split in ("val", "train")]
        rows.append((dataset.name, str(classes), states[0], states[1], dataset.title))
    rows.append((EMOJI, str(len(concepts())), f"{SCENES:,}", "rendered", _EMOJI_TITLE))
    for line in console.aligned(rows):
        _print(line)
    for dataset in CATALOGUE.values():
        _print("")
        _print(f"{dataset.name}: san data prepare {dataset.name} --from ARCHIVE… --to {_quoted(root)}")
        for line in dataset.sources:
            _print(f"  {line}")


@app.command()
def prepare(
    name: _Name,
    more: Annotated[list[Path] | None, typer.Argument(metavar="SOURCE", hidden=True)] = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="An archive as downloaded (.zip, .tar, .tar.gz), the folder that it was unpacked to, or a "
            "single file of it. Repeatable; several may follow one --from.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="ROOT",
            help="Dataset root to write into. Default: $SAN_DATASETS, $DETECTRON2_DATASETS, ./datasets.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT", help="val, train or all; by default what the sources hold.", show_default=False
        ),
    ] = "",
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Files at a time; 0 means one per core.")
    ] = 0,
    quiet: Quiet = False,
) -> None:
    """Convert a benchmark's official files into images and label maps of train ids.

    Archives are read where they are, nothing is unpacked, and the sources are never changed. Files that are
    there and right are kept, so after an interruption the same command goes on.

    \b
    Examples:
      san data prepare voc --from VOCtrainval_11-May-2012.tar --to datasets
      san data prepare coco --from val2017.zip stuffthingmaps_trainval2017.zip
    """
    from san_cli.datasets.catalogue import EMOJI, dataset_name, find_root, get_dataset
    from san_cli.prepare.run import prepare as prepare_dataset

    if dataset_name(name) == EMOJI:
        raise SanError(
            f"{EMOJI} is rendered as it is read", hint=f"There is nothing to prepare: san eval {EMOJI}"
        )
    dataset = get_dataset(name)
    given = [*(sources or []), *(more or [])]
    if not given:
        raise SanError(
            "nothing to prepare from",
            hint=f"Name what was downloaded: san data prepare {dataset.name} --from ARCHIVE…\n"
            + "\n".join(f"  {line}" for line in dataset.sources),
        )
    root = to if to is not None else find_root(None)
    splits = {"": None, "all": tuple(dataset.splits)}.get(split, (split,))
    with progress(f"preparing {dataset.name}", 1, quiet=quiet) as step:
        done = prepare_dataset(dataset, given, root, splits, workers=workers, warn=console.warn, step=step)
    for result in done:
        _print(
            f"{dataset.name} {result.split}: {counted(result.pairs, 'pair')} in {root} "
            f"({counted(result.written, 'file')} written, {result.kept:,} kept"
            + (f", {result.left_out:,} labels without any class left out)" if result.left_out else ")")
        )


@app.command()
def check(
    name: _Name,
    data_root: _DataRoot = None,
    split: Annotated[
        str, typer.Option(metavar="SPLIT", help="val, train or all; of emoji also val-2, val-3 and mosaics.")
    ] = "val",
    quiet: Quiet = False,
) -> None:
    """Check a prepared benchmark: pairs, sizes, label values, classes.

    \b
    Examples:
      san data check emoji
      san data check voc --data-root /data --split all
    """
    from san_cli.datasets.catalogue import EMOJI, dataset_name, find_root, get_dataset
    from san_cli.datasets.check import check_dataset
    from san_cli.datasets.emoji.pairs import SPLITS

    if dataset_name(name) == EMOJI:
        for each in SPLITS if split == "all" else (split,):
            _check_emoji(each)
        return
    dataset, root = get_dataset(name), find_root(data_root)
    failed = checked_any = False
    for each in dataset.splits if split == "all" else (split,):
        try:
            with progress(f"checking {dataset.name} {each}", 1, quiet=quiet) as step:
                checked = check_dataset(dataset, each, root, step=step)
        except SanError as error:
            if error.code == ExitCode.USAGE:
                raise
            console.error(error.message, error.hint)
            failed = True
            continue
        checked_any = True
        _report(dataset, each, checked)
        failed = failed or bool(checked.faults)
    if failed:
        raise typer.Exit(ExitCode.SOME_FAILED if checked_any else ExitCode.NO_INPUT)


def _check_emoji(split: str) -> None:
    """Its scenes are rendered as they are read: one shows whether everything for it is here."""
    from san_cli.datasets.catalogue import EMOJI
    from san_cli.datasets.task import dataset_task

    task = dataset_task(EMOJI, None, split=split)
    task.pairs[0].read_image()
    _print(
        f"{EMOJI} {split}: {counted(len(task.pairs), 'picture')}, rendered as they are read; "
        f"{len(task.classes)} classes"
    )


def _report(dataset: "Dataset", split: str, checked: "CheckedDataset") -> None:
    for fault in checked.faults[:_SHOWN]:
        console.error(fault.message, fault.hint)
    if len(checked.faults) > _SHOWN:
        console.say(f"… and {len(checked.faults) - _SHOWN:,} more")
    if checked.known_pairs is not None and checked.pairs != checked.known_pairs:
        console.warn(
            f"{dataset.name} {split} has {counted(checked.pairs, 'pair')}, the official data {checked.known_pairs:,}"
        )
    if checked.unexpected:
        console.warn(
            f"{len(checked.unexpected)} classes do not occur that should: {_some(checked.unexpected)}"
        )
    classes = len(checked.images_with)
    absent = f" (not: {_some(checked.absent)})" if checked.absent else ""
    _print(
        f"{dataset.name} {split}: {counted(checked.pairs, 'pair')}, {len(checked.faults):,} at fault, "
        f"{classes - len(checked.absent)} of {classes} classes occur{absent}"
    )


def _state(dataset: "Dataset", split: str, root: Path) -> str:
    """Return what of a split is there, as a cell of the table."""
    facts = _facts_of_split(dataset, split, root)
    if facts["pairs"] is None:
        return str(facts["state"])
    return f"{facts['pairs']:,}" + ("" if facts["state"] == "whole" else f" of {facts['known_pairs']:,}")


def _facts_of_split(dataset: "Dataset", split: str, root: Path) -> dict[str, Any]:
    """Return what of a split is there: its state, and how many pairs of how many."""
    from san_cli.datasets.catalogue import list_pairs

    where = dataset.splits[split]
    try:
        pairs = len(list_pairs(dataset, split, root))
    except SanError:
        state = "incomplete" if (root / where.labels).is_dir() else "not here"
        return {"state": state, "pairs": None, "known_pairs": where.count}
    state = "whole" if where.count in (None, pairs) else "other number"
    return {"state": state, "pairs": pairs, "known_pairs": where.count}


def _facts(dataset: "Dataset", root: Path) -> dict[str, Any]:
    """Return a benchmark as JSON."""
    from san_cli.vocabulary.class_lists import load_dataset_vocabulary

    return {
        "name": dataset.name,
        "title": dataset.title,
        "classes": len(load_dataset_vocabulary(dataset.name).classes),
        "root": str(root),
        "splits": {split: _facts_of_split(dataset, split, root) for split in dataset.splits},
        "sources": list(dataset.sources),
    }


def _facts_of_emoji() -> dict[str, Any]:
    """Return the emoji scenes, which are rendered as they are read, as JSON."""
    from san_cli.datasets.catalogue import EMOJI
    from san_cli.datasets.emoji.pairs import SPLITS, scene_pairs
    from san_cli.vocabulary.emoji_concepts import concepts

    counts = {split: len(scene_pairs(split)) for split in SPLITS}
    return {
        "name": EMOJI,
        "title": _EMOJI_TITLE,
        "classes": len(concepts()),
        "root": None,
        "splits": {name: {"state": "whole", "pairs": n, "known_pairs": n} for name, n in counts.items()},
        "sources": [],
    }


def _some(names: tuple[str, ...], most: int = 10) -> str:
    """The first names; those of ADE20K have commas in them."""
    return "; ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _quoted(path: Path) -> str:
    return shlex.quote(printable(str(path)))


def _print(text: str) -> None:
    typer.echo(printable(text).encode("utf-8"))
