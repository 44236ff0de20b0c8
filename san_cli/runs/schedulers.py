"""The share of a list that whoever started us has in mind for us: torchrun, Slurm, or $SAN_SHARD."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from san_cli.errors import SanError
from san_cli.runs.shares import WHOLE, Share, parse_share

SAN_SHARD = "SAN_SHARD"
_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR")
_ARRAY = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT"))
_STEP = (
    "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
)  # of srun's tasks; SLURM_NTASKS is set where nothing is split, too
_BY_HAND = "Say it yourself: --shard 3/8 is the third of eight parts."


@dataclass(frozen=True)
class Given:
    """A share, and in words who gives it."""

    share: Share
    by: str


def given_share(environ: Mapping[str, str] = os.environ) -> Given:
    """Return the share that the environment gives us: torchrun's, else Slurm's, else that of $SAN_SHARD.

    SanError where there is none, where its variables are odd or incomplete, and where two of them differ. One that
    splits nothing, such as torchrun's of one process, stands behind one that does.
    """
    torchrun = _torchrun(environ)
    # On several machines it is srun that starts a torchrun on each: its tasks are those, not the parts.
    alone = torchrun is None or torchrun.share == WHOLE
    slurm = _slurm(_array(environ), _tasks(environ) if alone else None)
    found = [given for given in (torchrun, slurm, _own(environ)) if given is not None]
    if not found:
        raise SanError(
            "--shard auto finds nobody who says which part is ours: no torchrun, no job array of Slurm, no "
            f"${SAN_SHARD}",
            hint=f"Under another scheduler set {SAN_SHARD}=3/8 for the third of eight parts, or give --shard 3/8. "
            "Tasks of Slurm are those of `sbatch --array=1-8`, or started with `srun`.",
        )
    splitting = [given for given in found if given.share.count > 1] or found
    if len({given.share for given in splitting}) > 1:
        raise SanError(
            f"--shard auto finds two that differ: {' and '.join(given.by for given in splitting)}",
            hint="Let one of them share out the list: leave out the other, or unset its variables. Or say it "
            "yourself: --shard 3/8.",
        )
    return splitting[0]


def _torchrun(environ: Mapping[str, str]) -> Given | None:
    if not any(name in environ for name in _TORCHRUN[:2]):  # MASTER_ADDR alone is in many a script
        return None
    rank, world = (_number(environ, name, _TORCHRUN) for name in _TORCHRUN[:2])
    _number(environ, "MASTER_ADDR", _TORCHRUN, is_text=True)
    share = _part(rank, world, "RANK", "WORLD_SIZE")
    return Given(share, f"torchrun ({share} of its processes)")


def _slurm(array: Given | None, tasks: Given | None) -> Given | None:
    """The share of a task of an array, of a task of `srun`, or of one in the other."""
    if array is None or tasks is None or WHOLE in (array.share, tasks.share):
        return tasks if array is None or (tasks is not None and array.share == WHOLE) else array
    outer, inner = array.share, tasks.share
    share = Share(outer.index * inner.count + inner.index, outer.count * inner.count)
    return Given(share, f"{array.by}, {tasks.by}")


def _array(environ: Mapping[str, str]) -> Given | None:
    if _ARRAY[0] not in environ:
        return None
    task, first, last, step, count = (_number(environ, name, _ARRAY) for name in _ARRAY)
    steps, off = divmod(task - first, max(step, 1))
    # An array by enumeration, such as 1,3,7, doesn't tell its tasks how many come before each.
    if count > 1 and (off or last - first != (count - 1) * max(step, 1)):
        raise SanError(
            f"--shard auto can't tell which part is task {task}'s: of the numbers {first} to {last} Slurm's array "
            f"has {count}, with gaps",
            hint=f"Number them without gaps: sbatch --array=1-{count}. Any number of tasks goes on with what others "
            "have left: what is done stays done.",
        )
    share = WHOLE if count == 1 else _part(steps, count, _ARRAY[0], _ARRAY[4])
    return Given(share, f"Slurm's array (task {task} of {first}-{last}{f':{step}' if step > 1 else ''})")


def _tasks(environ: Mapping[str, str]) -> Given | None:
    """The share among the tasks that one `srun` started; a batch script is none, though it has some variables."""
    if "SLURM_STEP_ID" not in environ and "SLURM_STEPID" not in environ:
        return None
    task, count = (_number(environ, name, _STEP) for name in _STEP)
    share = _part(task, count, *_STEP)
    return Given(share, f"srun ({share} of its tasks)")


def _own(environ: Mapping[str, str]) -> Given | None:
    text = environ.get(SAN_SHARD)
    if text is None:
        return None
    return Given(
        parse_share(text, f"${SAN_SHARD}", f"Write {SAN_SHARD}=i/n with i from 1 to n."),
        f"${SAN_SHARD} {text}",
    )


def _number(environ: Mapping[str, str], name: str, group: tuple[str, ...], *, is_text: bool = False) -> int:
    """Return a variable of a group that belongs together; SanError where it is missing or no number."""
    text = environ.get(name)
    if not text:
        there = ", ".join(f"{other}={environ[other]}" for other in group if environ.get(other))
        raise SanError(
            f"--shard auto finds {there or group[0]} without {name}", hint=f"Unset the rest. {_BY_HAND}"
        )
    if is_text:
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise SanError(f"--shard auto can't read {name}={text}", hint=_BY_HAND)
    return int(text)


def _part(index: int, count: int, index_name: str, count_name: str) -> Share:
    try:
        return Share(index, count)
    except SanError as error:
        raise SanError(
            f"--shard auto finds {index_name}={index} with {count_name}={count}",
            hint=_BY_HAND,
        ) from error
