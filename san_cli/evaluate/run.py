"""An evaluation from its start to its result: alone or in a team, begun anew or resumed.

In a team the leader says which images earlier runs have done, everybody counts a share of the rest, and the
leader adds up the integer matrices. Sums of integers don't depend on their order, and each image is in exactly one
part (which `Tally.add` checks), so the result is that of a single process.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.task import Task
from san_cli.errors import ExitCode, SanError
from san_cli.evaluate.counting import Counted, count_images
from san_cli.evaluate.map_source import MapSource
from san_cli.evaluate.prediction_parts import PredictionSpool
from san_cli.evaluate.state import EvalState
from san_cli.evaluate.tally import Tally, empty_tally, pack_tally, unpack_tally
from san_cli.runs.shares import WHOLE
from san_cli.runs.team import Team
from san_cli.text import json_text

_SAVE_EVERY_S = 30.0
_PIECE = 1 << 22  # bytes: the store that a team shares takes up to 8 MiB at a time


@dataclass(frozen=True)
class EvalPlan:
    """How an evaluation is done; none of it changes what it finds."""

    name: str  # of the evaluation, in the names of files
    output: Path | None = None
    resume: bool = False
    keep_going: bool = False
    workers: int = 1
    predictions: Path | None = None  # where to write them
    team: Team | None = None

    @property
    def leads(self) -> bool:
        """Whether this process is the one that reports."""
        return self.team is None or self.team.leads


def run_evaluation(
    plan: EvalPlan,
    task: Task,
    source: MapSource,
    settings: Mapping[str, Any],
    on_image: Callable[[Counted, int, int], None],
) -> Tally | None:
    """Evaluate a task; the tally over all its images, in a team for the leader alone (None for the others).

    `settings` are what the counts depend on. `on_image(image, done, of)` is called after each of our images.
    """
    images, classes = len(task.pairs), len(task.classes)
    settings = {**settings, "images": _digest_of_pairs(task)}
    state = EvalState(plan.output, plan.name) if plan.output is not None else None
    share = WHOLE if plan.team is None else plan.team.share
    spool = None
    if plan.predictions is not None:
        spool = PredictionSpool(plan.predictions, share, kept=None if state is None else state.predictions)
    before = empty_tally(images, classes)
    if plan.leads:
        if state is not None:
            before = state.start(settings, images, classes, resume=plan.resume)
        if spool is not None and not before.done.any():
            spool.discard()
        elif spool is not None and (before.done & ~spool.known(images)).any():
            raise SanError(
                "the run to go on from did not keep all its predictions, or they are damaged",
                hint="Start anew without --resume, or leave out --save-predictions.",
            )
    done = _agree(plan, settings, before.done)
    own = empty_tally(images, classes)
    todo = np.flatnonzero(~done)[share.index :: share.count].tolist()
    try:
        _count(plan, task, source, todo, own, state, spool, on_image)
    except SanError as error:
        _tell_fault(plan, error)
        raise
    if plan.team is not None and not plan.leads:
        _tell_pieces(plan.team, f"{plan.name}/part", b"+" + pack_tally(own))
        return None
    before.add(own)
    if plan.team is not None:
        _hear_others(plan.team, plan.name, before)
    missing = images - int(before.done.sum()) - len(before.failed)
    if missing:
        raise RuntimeError(f"{missing} images were neither counted nor skipped")
    if spool is not None:
        if (before.done & ~spool.known(images)).any():
            raise SanError(
                "predictions of other processes are missing",
                hint="--save-predictions needs a folder that all machines share.",
            )
        spool.finish(images)
    return before


def _count(
    plan: EvalPlan,
    task: Task,
    source: MapSource,
    todo: list[int],
    own: Tally,
    state: EvalState | None,
    spool: PredictionSpool | None,
    on_image: Callable[[Counted, int, int], None],
) -> None:
    """Our share; saved every so often, and in the end however it comes."""
    share = WHOLE if plan.team is None else plan.team.share

    def save() -> None:
        if spool is not None:
            spool.flush()
        if state is not None and own.is_whole and own.done.any():
            state.save(own, share)

    counting = count_images(
        task, source, todo, own,
        workers=plan.workers, keep_going=plan.keep_going,
        keep_entries=None if spool is None else spool.append,
    )  # fmt: skip
    saved = time.monotonic()
    try:
        with closing(counting):
            for number, image in enumerate(counting, start=1):
                on_image(image, number, len(todo))
                if time.monotonic() - saved >= _SAVE_EVERY_S:
                    save()
                    saved = time.monotonic()
    finally:
        save()
        if spool is not None:
            spool.close()


def _digest_of_pairs(task: Task) -> str:
    names = [f"{pair.stem}\0{pair.image.name}\0{pair.label.name}" for pair in task.pairs]
    return hashlib.sha256("\0\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()


def _agree(plan: EvalPlan, settings: Mapping[str, Any], done: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which images [images] need not be done, as the leader knows; SanError if it evaluates something else."""
    if plan.team is None:
        return done
    digest = hashlib.sha256(json_text(dict(settings)).encode()).digest()
    if plan.team.leads:
        _tell_pieces(plan.team, f"{plan.name}/start", digest + np.packbits(done).tobytes())
        return done
    heard = _hear_pieces(plan.team, f"{plan.name}/start", 0)
    if heard[:32] != digest:
        raise SanError(
            f"process {plan.team.share.index} sees other images or settings than process 0",
            hint="All machines need the same files and the same command line.",
        )
    return np.unpackbits(np.frombuffer(heard[32:], np.uint8), count=len(done)).astype(bool)


def _tell_fault(plan: EvalPlan, fault: SanError) -> None:
    """Let the leader know, which would wait for our part forever otherwise."""
    if plan.team is not None and not plan.team.leads:
        _tell_pieces(plan.team, f"{plan.name}/part", b"-" + fault.message.encode("utf-8", "replace"))


def _hear_others(team: Team, name: str, tally: Tally) -> None:
    """Add what the others counted."""
    for index in range(1, team.share.count):
        part = _hear_pieces(team, f"{name}/part", index)
        if part[:1] == b"-":
            raise SanError(
                f"process {index} stopped: {part[1:].decode()}",
                hint="Mend it and add --resume, or skip such images with --keep-going.",
                code=ExitCode.SOME_FAILED,
            )
        tally.add(unpack_tally(part[1:]))


def _tell_pieces(team: Team, what: str, data: bytes) -> None:
    pieces = range(0, len(data), _PIECE)
    for number, start in enumerate(pieces):
        team.tell(f"{what}/{number}", data[start : start + _PIECE])
    team.tell(what, str(len(pieces)).encode())


def _hear_pieces(team: Team, what: str, index: int) -> bytes:
    count = int(team.hear(what, index))
    return b"".join(team.hear(f"{what}/{number}", index) for number in range(count))
