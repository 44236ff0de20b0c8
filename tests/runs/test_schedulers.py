"""Which part of a list is ours, as the environments of torchrun, Slurm (as a real one sets them) and others say."""

from typing import Any

import pytest

from san_cli.errors import SanError
from san_cli.runs.schedulers import given_share
from san_cli.runs.shares import WHOLE, Share

TORCHRUN = {"RANK": "2", "WORLD_SIZE": "8", "MASTER_ADDR": "127.0.0.1"}


def array(task: int, first: int, last: int, step: int, count: int) -> dict[str, str]:
    """The variables of a task of Slurm's array."""
    values = {"ID": task, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def srun(task: int, count: int) -> dict[str, str]:
    """The variables of one of srun's tasks."""
    return {
        "SLURM_STEP_ID": "0", "SLURM_PROCID": str(task), "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_NTASKS": str(count),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "share", "by"),
    [
        (TORCHRUN, Share(2, 8), "torchrun"),
        (array(3, 0, 7, 1, 8), Share(3, 8), "task 3 of 0-7"),
        (array(1, 1, 8, 1, 8), Share(0, 8), "task 1 of 1-8"),
        (array(15, 10, 20, 5, 3), Share(1, 3), "task 15 of 10-20:5"),
        (array(10, 10, 22, 5, 3), Share(0, 3), ""),  # --array=10-24:5, of which 20 is the last
        (array(5, 5, 5, 1, 1), WHOLE, ""),
        (srun(1, 2), Share(1, 2), "srun"),
        (array(1, 0, 2, 1, 3) | srun(1, 2), Share(3, 6), "srun"),
        (array(1, 0, 2, 1, 3) | srun(0, 1), Share(1, 3), "array"),
        (array(5, 5, 5, 1, 1) | srun(1, 2), Share(1, 2), "srun"),
        ({"SAN_SHARD": "3/8"}, Share(2, 8), "$SAN_SHARD 3/8"),
        (srun(3, 4) | TORCHRUN, Share(2, 8), "torchrun"),  # a torchrun on each of four machines
        # What splits nothing stands behind what does; those that agree are one.
        (TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"} | array(3, 0, 7, 1, 8), Share(3, 8), "array"),
        ({"SAN_SHARD": "4/8"} | array(3, 0, 7, 1, 8), Share(3, 8), "array"),
        ({"MASTER_ADDR": "node1", "SAN_SHARD": "1/2"}, Share(0, 2), ""),
        # The script of a batch job: it is one process, however many tasks it has asked for.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SAN_SHARD": "1/2"}, Share(0, 2), ""),
    ],
)
def test_the_share_is_what_they_say(environ: dict[str, str], share: Share, by: str) -> None:
    if environ.get("SLURM_ARRAY_TASK_MAX") == "22":
        environ = environ | {"SLURM_ARRAY_TASK_MAX": "20"}
    found = given_share(environ)
    assert (found.share, by in found.by) == (share, True)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 1), (4, 3)])
def test_tasks_of_an_array_have_all_parts(first: int, step: int, count: int) -> None:
    last = first + (count - 1) * step
    found = [
        given_share(array(task, first, last, step, count)).share for task in range(first, last + 1, step)
    ]
    assert found == [Share(index, count) for index in range(count)]


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "nobody who says"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "nobody who says"),
        ({"RANK": "1"}, "RANK=1 without WORLD_SIZE"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "without MASTER_ADDR"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "x"}, "without RANK"),
        (TORCHRUN | {"RANK": "x"}, "RANK=x"),
        (TORCHRUN | {"RANK": "8"}, "RANK=8 with WORLD_SIZE=8"),
        (TORCHRUN | array(3, 0, 7, 1, 8), "torchrun (3/8 of its processes) and Slurm's array (task 3 of 0-7)"),
        (TORCHRUN | {"SAN_SHARD": "1/2"}, "two that differ"),
        (array(3, 0, 7, 1, 8) | {"SAN_SHARD": "3/8"}, "two that differ"),
        (array(3, 1, 7, 1, 3), "with gaps"),
        (array(17, 3, 17, 1, 2), "with gaps"),
        (array(9, 0, 7, 1, 8), "SLURM_ARRAY_TASK_ID"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "without SLURM_ARRAY_TASK_MIN"),
        (array(3, 0, 7, 1, 8) | {"SLURM_ARRAY_TASK_COUNT": ""}, "without SLURM_ARRAY_TASK_COUNT"),
        (array(3, 0, 7, 1, 8) | {"SLURM_ARRAY_TASK_ID": "-3"}, "SLURM_ARRAY_TASK_ID=-3"),
        (array(3, 0, 7, 1, 8) | {"SLURM_ARRAY_TASK_ID": "undefined"}, "undefined"),  # as SGE has it
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}, "without SLURM_STEP_NUM_TASKS"),
        ({"SAN_SHARD": ""}, "$SAN_SHARD ''"),
        ({"SAN_SHARD": "0/8"}, "$SAN_SHARD '0/8'"),
        ({"SAN_SHARD": "9/8"}, "$SAN_SHARD '9/8'"),
        ({"SAN_SHARD": "auto"}, "$SAN_SHARD 'auto'"),
    ],
)  # fmt: skip
def test_what_is_odd_or_incomplete_or_differs_is_told_with_a_way_out(
    environ: dict[str, Any], told: str
) -> None:
    with pytest.raises(SanError) as error:
        given_share(environ)
    assert told in error.value.message
    assert error.value.hint
