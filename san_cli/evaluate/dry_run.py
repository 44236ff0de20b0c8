"""`san eval --dry-run`: what would be evaluated, with which model, and how long that takes; nothing is written."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from san_cli.datasets.task import Task, other_words
from san_cli.engine.backend import PYTORCH
from san_cli.engine.device import PRECISIONS, peak_memory_mb
from san_cli.engine.ensemble import Member, check_members, parse_member
from san_cli.engine.outlook import (
    WeightsAhead,
    rows_of_classes,
    rows_of_model,
    weights_ahead,
    whole_megabytes,
    words_ahead,
    words_on_trial,
)
from san_cli.engine.segmenter import Segmenter
from san_cli.errors import ExitCode, SanError
from san_cli.evaluate.counting import Counted, Evaluation, count_images
from san_cli.evaluate.plan import Data, Models, Plan
from san_cli.evaluate.run import predictions_path, predictions_paths, settings_of_counts, tasks_of
from san_cli.evaluate.sources import backend_of, evaluation_of, evaluations_of, load_segmenter
from san_cli.evaluate.state import STATE_FOLDER, Counts, State
from san_cli.files import free_megabytes
from san_cli.runs.lock import locked, refuse_unusable_folder
from san_cli.runs.processes import meet
from san_cli.text import counted, duration, plan_lines, printable, quoted

_TRIED = 5  # images, where some can't be read


@dataclass(frozen=True)
class _Loaded:
    """The models that are tried: of several weights the first."""

    members: list[Member]
    ahead: list[WeightsAhead]  # the weights that they have, or would have
    facts: dict[str, Any]

    @property
    def is_real(self) -> bool:
        """Whether the first is what it would be, not an untrained one in the place of a download."""
        return self.ahead[0].download is None


def look_ahead(data: Data, source: Models | Path, plan: Plan, *, started: float) -> dict[str, Any] | None:
    """Tell what an evaluation would do, for `plan_of`, and as JSON; None in a process that doesn't lead.

    `started` is when the command was (time.monotonic). SanError for what would keep it from beginning.
    """
    words = other_words(data.vocab, data.synonyms)
    for note in words.notes if words is not None else ():
        plan.voice.note(note)
    tasks, skipped = tasks_of(data, words, plan)
    _refuse_outputs(plan, source, tasks)
    plan = replace(plan, processes=meet())
    if not plan.processes.leads:
        plan.processes.leave()
        return None
    for task in tasks:
        for note in task.notes:
            plan.voice.note(note)
    loaded = _load(source, plan) if isinstance(source, Models) else None
    begun = time.monotonic()
    if loaded is None:
        assert isinstance(source, Path)
        evaluations = list(evaluations_of(source, tasks, plan))
    else:
        assert isinstance(source, Models)
        tried = [_on_trial(task, loaded, plan) for task in tasks]
        evaluations = [evaluation_of(source, 0, loaded.members, task, plan) for task in tried]
    times = len(source.weights) if isinstance(source, Models) else 1
    rows = [_of_dataset(evaluation, loaded, plan, times) for evaluation in evaluations]
    known = [row["seconds"] for row in rows if row["seconds"] is not None]
    images = None if len(known) < len(rows) else sum(known) / plan.processes.world
    seconds = {"start": begun - started, "images": images}
    plan.processes.leave()
    return {
        "dry_run": True,
        "output": None if plan.output is None else str(plan.output),
        "datasets": rows,
        "skipped": skipped,
        "predictions": None if isinstance(source, Models) else str(source),
        **({} if loaded is None else loaded.facts),
        "processes": plan.processes.world,
        "seconds": None if images is None else round(images + seconds["start"], 1),
        "seconds_by": {name: None if one is None else round(one, 1) for name, one in seconds.items()},
        "megabytes": round(sum(row["megabytes"] or 0 for row in rows), 3),
        "free_megabytes": None if plan.output is None else free_megabytes(plan.output),
        "memory_megabytes": None
        if loaded is None
        else whole_megabytes(peak_memory_mb(loaded.members[0].segmenter.device)),
    }


def plan_of(facts: Mapping[str, Any]) -> list[str]:
    """Return the lines of what `look_ahead` has found."""
    return plan_lines(_rows(facts))


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for one in facts["datasets"]:
        before = f", {one['done_before']:,} done before" if one["done_before"] else ""
        yield "dataset", f"{one['dataset']} {one['split']}: {counted(one['images'], 'image')}{before}"
        yield from rows_of_classes(one["classes"])
        if one["seconds"] is None:
            yield "  time", "nothing to do" if not one["to_do"] else f"unknown: {printable(one['fault'])}"
        else:
            new = f", {counted(one['new_words'], 'new word')} among it" if one["new_words"] else ""
            yield "  time", f"about {duration(one['seconds'])}{new} (one image was done for it)"
    for name, why in facts["skipped"].items():
        yield "skipped", f"{name}: {printable(why)}"
    if facts["predictions"] is None:
        yield from rows_of_model(facts)
        if len(facts["trials"]) > 1:
            yield "trials", ", ".join(map(printable, facts["trials"]))
    else:
        yield "predictions", printable(facts["predictions"])
    yield "results", "on the terminal" if facts["output"] is None else printable(facts["output"])
    if facts["seconds"] is not None:
        yield "time", f"about {duration(facts['seconds'])}: {duration(facts['seconds_by']['start'])} to start"
    if facts["output"] is not None:
        free = "" if facts["free_megabytes"] is None else f"; {facts['free_megabytes']:,} MB are free"
        yield "disk", f"about {facts['megabytes']:,.1f} MB, and the report{free}"
    if facts["memory_megabytes"] is not None:
        yield "memory", f"{facts['memory_megabytes']:,} MB peak"


def _refuse_outputs(plan: Plan, source: Models | Path, tasks: Sequence[Task]) -> None:
    """Raise SanError where something couldn't be written, or another evaluation is at it; nothing is touched."""
    for path in predictions_paths(plan, source, tasks):
        if path.is_dir():
            raise SanError(f"--save-predictions {quoted(path)} is a folder", hint="Name a .json file.")
        if not os.access(path.parent, os.W_OK | os.X_OK) and path.parent.exists():
            raise SanError(f"can't write {quoted(path)}", hint="Choose another --save-predictions.")
    if plan.output is None:
        return
    refuse_unusable_folder(plan.output)
    if (plan.output / STATE_FOLDER / "lock").is_file():
        with locked(plan.output / STATE_FOLDER, plan.output, "san eval"):
            pass


def _load(models: Models, plan: Plan) -> _Loaded:
    """Load the first of the models, with the second of an ensemble; all weights are looked for."""
    ahead = [_ahead(models, models.model, weights, plan) for weights in models.weights]
    first = ahead[0]
    loaded = [first]
    name = models.model if first.download is None else first.model
    members = [Member(_load_one(models, name, first))]
    if models.ensemble is not None:
        file, share = parse_member(models.ensemble)
        second = _ahead(models, None, file, plan)
        members.append(Member(_load_one(models, second.model, second), share))
        loaded.append(second)
    check_members(members)
    segmenter = members[0].segmenter
    facts = {
        "model": segmenter.preset.name,
        **first.facts,
        "trials": [one.facts["weights"] for one in ahead],
        "device": str(segmenter.device),
        "backend": backend_of(models, models.weights[0]),
        "precision": next(name for name, dtype in PRECISIONS.items() if dtype == segmenter.precision),
    }
    return _Loaded(members, loaded, facts)


def _ahead(models: Models, model: str | None, weights: str | None, plan: Plan) -> WeightsAhead:
    return weights_ahead(model, weights, plan.voice.warn, backend=backend_of(models, weights))


def _load_one(models: Models, name: str | None, ahead: WeightsAhead) -> Segmenter:
    """Load a model; PyTorch's where it isn't exported yet."""
    tried = replace(models, backend=PYTORCH) if ahead.exports else models
    return load_segmenter(tried, name, ahead.loadable, _silent)


def _on_trial(task: Task, loaded: _Loaded, plan: Plan) -> Task:
    """Return the task with the words that the models at hand can be tried with. SanError for another model's."""
    words = task.vocabulary
    for member, weights in zip(loaded.members, loaded.ahead, strict=True):
        words = words_on_trial(words, weights, member.segmenter, plan.voice.warn)
    return replace(task, vocabulary=words)


def _silent(_: str) -> None:
    """Say nothing of weights that are loaded for the time alone."""


def _of_dataset(evaluation: Evaluation, loaded: _Loaded | None, plan: Plan, times: int) -> dict[str, Any]:
    """Tell what there is to do of a dataset, `times` over; an image of it is done for the time."""
    task, images = evaluation.task, len(evaluation.task.pairs)
    counts = Counts.empty(images, len(task.classes))
    if plan.resume and plan.output is not None and (loaded is None or loaded.is_real):
        state = State(evaluation.name, plan.output, predictions_path(plan.save_predictions, task))
        state.take_up(settings_of_counts(evaluation), counts)
    done = int(counts.done.sum())
    words = [words_ahead(member.segmenter, task.vocabulary) for member in loaded.members] if loaded else []
    facts: dict[str, Any] = {
        "dataset": task.name,
        "split": task.split,
        "images": images,
        "done_before": done,
        "to_do": images - done,
        "classes": list(task.classes),
        "new_words": max((one.new for one in words), default=0),
        "seconds": None,
        "megabytes": None,
    }
    if done == images:
        return facts
    todo = [position for position in range(images) if not counts.done[position]]
    with plan.voice.progress(f"trying an image of {task.name}", 1):
        tried = _tried(evaluation, todo[:_TRIED], with_entries=plan.save_predictions is not None)
    if isinstance(tried, SanError):
        if not plan.keep_going:
            raise tried
        return facts | {"fault": tried.message}
    seconds = times * (sum(tried.seconds) * len(todo) + sum(one.seconds for one in words))
    size = len(todo) * (len(tried.entries) + 16 * len(tried.cells) + 100) / 1e6
    return facts | {"seconds": round(seconds, 1), "megabytes": round(size, 3)}


def _tried(evaluation: Evaluation, positions: Sequence[int], *, with_entries: bool) -> Counted | SanError:
    """Evaluate the first of some pairs that can be; returns it with its seconds, or why none can."""
    fault = SanError("no image", code=ExitCode.NO_INPUT)
    for position in positions:
        for _ in range(2):  # as in the first pass all memory is new
            started = time.perf_counter()
            (image,) = count_images(evaluation, [position], with_entries=with_entries)
            if isinstance(image, Counted):
                image = replace(image, seconds=(time.perf_counter() - started,))
        if isinstance(image, Counted):
            return image
        fault = image.fault
    return fault
