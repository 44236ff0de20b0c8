"""`san status`: its options, and one call."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from san_cli.cli import console, options
from san_cli.text import counted, duration, json_text, printable, quoted

if TYPE_CHECKING:
    from san_cli.predict.status import Counts, Status

_SHOWN = 10  # failures

Output = Annotated[
    Path, typer.Argument(metavar="OUT", help="Folder of results of `san predict`.", show_default=False)
]


def status(
    output: Output,
    json: Annotated[bool, options.json("Print one JSON object, with all failures.")] = False,
) -> None:
    """Tell how far a folder of `san predict` is: done, failed, missing, by shard, and whether somebody is at work.

    It reads what the runs there have kept, and may be asked while they run, from any machine. Exit code 0 says
    that everything is done, 3 that inputs are missing or have failed, 4 that no run is there.

    \b
    Examples:
      san status san-out
      san status /shared/out --json | jq '.missing'
      san status out || sbatch job.sh
    """
    from san_cli.predict.status import status_of

    found = status_of(output)
    if json:
        console.write_line(json_text(_as_json(found)))
    else:
        console.write(console.aligned(_rows(found)))
        _tell(found)
    raise typer.Exit(found.exit_code)


def _rows(found: "Status") -> list[list[str]]:
    shards = [_row(str(share), counts) for share, counts in found.shards.items()]
    return [["SHARD", "DONE", "FAILED", "MISSING", "RUNNING"], *shards, _row("all", found.whole)]


def _row(name: str, counts: "Counts") -> list[str]:
    numbers = (counts.done, counts.failed, counts.missing)
    running = {True: "yes", False: "no", None: "unknown"}[counts.running]
    return [name, *("?" if number is None else f"{number:,}" for number in numbers), running]


def _tell(found: "Status") -> None:
    for name, cause in found.failures[:_SHOWN]:
        console.say(f"failed: {printable(name)}: {printable(cause)}")
    if len(found.failures) > _SHOWN:
        console.say(f"and {counted(len(found.failures) - _SHOWN, 'other')} (--json names all)")
    whole, idle = found.whole, found.idle_s
    last = "" if idle is None else f", the last image {duration(idle)} ago"
    if whole.running:
        console.say(f"at work{last}")
    elif whole.missing is None:
        console.say(f"what is missing isn't known: {quoted(found.output)} keeps no list of its inputs{last}")
    elif whole.missing:
        console.say(f"{counted(whole.missing, 'image')} missing{last}: the same command goes on")
    elif not found.merged:
        console.say(f"nothing is missing but the files about all images{last}: the same command makes them")
    else:
        console.say("all is done" if not whole.failed else "nothing is missing")


def _as_json(found: "Status") -> dict[str, object]:
    return {
        "output": str(found.output),
        "images": None if found.whole.missing is None else sum(_numbers(found.whole)),
        **_counts(found.whole),
        "merged": found.merged,
        "idle_s": None if found.idle_s is None else round(found.idle_s, 1),
        "shards": [{"shard": str(share), **_counts(counts)} for share, counts in found.shards.items()],
        "failures": [{"input": name, "error": cause} for name, cause in found.failures],
    }


def _numbers(counts: "Counts") -> tuple[int, int, int]:
    return counts.done, counts.failed, counts.missing or 0


def _counts(counts: "Counts") -> dict[str, object]:
    return {
        "done": counts.done,
        "failed": counts.failed,
        "missing": counts.missing,
        "running": counts.running,
    }
