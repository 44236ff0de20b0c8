"""The work of `san eval`: every model on every dataset, or a file of predictions."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from san_cli.cli import console
from san_cli.cli.progress import progress
from san_cli.errors import ExitCode, SanError
from san_cli.text import printable, quoted

if TYPE_CHECKING:
    from san_cli.datasets.task import Task
    from san_cli.engine.ensemble import Member
    from san_cli.engine.segmenter import Segmenter
    from san_cli.evaluate.map_source import MapSource
    from san_cli.evaluate.report_data import EvalResult
    from san_cli.evaluate.run import EvalPlan
    from san_cli.evaluate.tally import Tally
    from san_cli.runs.team import Team


@dataclass(frozen=True)
class Request:
    """What was asked for, beyond the tasks."""

    model: str | None
    weights: tuple[str | None, ...]
    ensemble: str | None
    device: str
    precision: str
    templates: str
    output: Path | None
    save_predictions: Path | None
    predictions: Path | None
    keep_going: bool
    resume: bool
    worst: int
    workers: int | None
    quiet: bool
    team: "Team | None"

    @property
    def leads(self) -> bool:
        """Whether this process is the one that reports."""
        return self.team is None or self.team.leads


@dataclass
class Found:
    """What was found, model after model, and the datasets that were skipped, with the reason."""

    results: "list[EvalResult]" = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    device: str = ""
    precision: str = ""


def predictions_path(path: Path, task: "Task") -> Path:
    """Where `--save-predictions` puts those of one dataset."""
    return path.with_name(path.name.replace("{dataset}", task.name))


def score_predictions(request: Request, tasks: "Sequence[Task]", found: Found) -> None:
    """Score a file of predictions."""
    from san_cli.evaluate.detectron2_json import image_stem, index_predictions
    from san_cli.evaluate.map_source import PredictedMaps, category_convention

    assert request.predictions is not None
    index = index_predictions(request.predictions)
    for task in tasks:
        stems = Counter(image_stem(str(pair.image)) for pair in task.pairs)
        twice = [stem for stem, count in stems.items() if count > 1]
        if twice:
            raise SanError(
                f"{task.name} has several images called {printable(twice[0])}: a prediction could be of either",
                hint="Images are matched by their names without folder and extension; evaluate one folder at a "
                "time.",
            )
        train_ids, convention = category_convention(index.category_ids, len(task.classes), task.dataset_ids)
        others = len(index.spans.keys() - stems.keys())
        notes = [convention]
        if others:
            notes.append(f"{others:,} images of the file are not in the dataset and don't count")
        if request.leads and not request.quiet:
            for note in notes:
                console.note(f"{task.name}: {note}")
        _evaluate(
            request, task, PredictedMaps(index, train_ids), found, {"predictions": index.sha256},
            name=task.name, model=None, weights=str(request.predictions), sha=None, workers=1,
            notes=tuple(notes),
        )  # fmt: skip


def run_models(request: Request, tasks: "Sequence[Task]", found: Found) -> None:
    """Every weights file on every dataset."""
    from san_cli.engine.ensemble import Member, check_members, parse_member
    from san_cli.evaluate.map_source import ModelMaps
    from san_cli.runs.processes import default_workers
    from san_cli.vocabulary.templates import templates as template_set

    second: list[Member] = []
    if request.ensemble is not None:
        file, share = parse_member(request.ensemble)
        second.append(Member(_load(request, None, file), share))
    for trial, weights in enumerate(request.weights, start=1):
        segmenter = _load(request, request.model, weights)
        members = [Member(segmenter), *second]
        check_members(members)
        found.device = _device_name(segmenter.device)
        found.precision = str(segmenter.precision).removeprefix("torch.")
        for task in tasks:
            name = task.name if len(request.weights) == 1 else f"{task.name}.{trial}"
            _embed(request, members, task, name)
            settings = {
                "weights": [[member.segmenter.weights_sha256, member.share] for member in members],
                "templates": list(template_set(request.templates)),
                "precision": found.precision,
                "device": segmenter.device.type,
                "words": [list(entry.words) for entry in task.vocabulary.entries],
            }
            ensemble = () if not second else (f"ensemble with {printable(str(request.ensemble))}",)
            _evaluate(
                request, task, ModelMaps(members, task.vocabulary), found, settings,
                name=name, model=segmenter.preset.name, weights=weights or _own_weights(segmenter.preset.name),
                sha=segmenter.weights_sha256, notes=ensemble,
                workers=request.workers or default_workers(segmenter.device.type),
            )  # fmt: skip


def _own_weights(model: str) -> str:
    """What the weights are called that a model has when nobody names any: the published ones, or ours."""
    return f"{model}'s own" if model == "tiny" else "official"


def _load(request: Request, model: str | None, weights: str | None) -> "Segmenter":
    import torch

    from san_cli.engine.segmenter import Segmenter
    from san_cli.runs.team import local_rank

    device, devices = request.device, torch.cuda.device_count()
    if device in ("auto", "cuda") and devices > 1:
        device = f"cuda:{local_rank() % devices}"
    say = console.warn if request.leads else lambda _: None
    return Segmenter.load(
        model, weights, device=device, precision=request.precision, templates=request.templates, say=say
    )


def _embed(request: Request, members: "Sequence[Member]", task: "Task", name: str) -> None:
    """Have the words embedded; in a team by the leader, the others find them in the cache."""
    from san_cli.engine.alike_words import word_notes

    team = request.team
    if team is not None and not team.leads:
        team.hear(f"{name}/embedded")
    for member in members:
        with progress("embedding words", len(task.vocabulary.words), quiet=request.quiet) as step:
            embedded = member.segmenter.embed(task.vocabulary, step)
        length = member.segmenter.preset.clip.context_length
        for note in word_notes(task.vocabulary, embedded, member.segmenter.templates, length):
            if request.leads:
                console.note(f"{task.name}: {note}")
    if team is not None and team.leads:
        team.tell(f"{name}/embedded")


def _evaluate(
    request: Request,
    task: "Task",
    source: "MapSource",
    found: Found,
    settings: dict[str, Any],
    *,
    name: str,
    model: str | None,
    weights: str,
    sha: str | None,
    workers: int,
    notes: tuple[str, ...],
) -> None:
    """One dataset with one source of label maps."""
    from san_cli.evaluate.counting import nothing_left
    from san_cli.evaluate.result import result_of
    from san_cli.evaluate.run import EvalPlan

    predictions = None
    if request.save_predictions is not None:
        predictions = predictions_path(request.save_predictions, task)
    plan = EvalPlan(
        name, request.output, request.resume, request.keep_going, workers, predictions, request.team
    )
    settings = {"dataset": task.name, "split": task.split, "ignore": task.ignore_label, **settings}
    if task.ignored is not None and task.ignored != (task.ignore_label,):
        settings["ignore"] = list(task.ignored)
    started = time.perf_counter()
    tally = _counted(request, plan, task, source, settings)
    if tally is None:
        return
    fault = nothing_left(task, tally)
    if fault is not None:
        if not request.keep_going:
            raise fault
        if task.name not in dict(found.skipped):
            found.skipped.append((task.name, fault.message))
        return
    result = result_of(
        task, tally,
        model=model, weights=weights, weights_sha256=sha, notes=notes,
        total_seconds=time.perf_counter() - started,
        comparable=request.ensemble is None and request.templates == "vild",
    )  # fmt: skip
    found.results.append(result)
    if request.output is not None:
        found.pictures += _pictures(request.output, name, task, source, tally, result, request.worst)


def _counted(
    request: Request, plan: "EvalPlan", task: "Task", source: "MapSource", settings: dict[str, Any]
) -> "Tally | None":
    from san_cli.evaluate.run import run_evaluation

    with progress(task.name, len(task.pairs), quiet=request.quiet or not request.leads) as step:

        def on_image(image: Any, done: int, of: int) -> None:
            step(done, of)
            if image.fault is not None:
                console.say(f"skipped: {image.fault}")

        return run_evaluation(plan, task, source, settings, on_image)


def _pictures(
    output: Path,
    name: str,
    task: "Task",
    source: "MapSource",
    tally: "Tally",
    result: "EvalResult",
    worst: int,
) -> list[str]:
    from san_cli.evaluate.pictures import write_pictures

    try:
        return write_pictures(output, name, task, source, tally, result, worst=worst, say=console.note)
    except OSError as error:
        raise unwritable(output, error) from error


def _device_name(device: Any) -> str:
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def unwritable(output: Path, error: OSError) -> SanError:
    """What to say where the report can't be written."""
    return SanError(
        f"can't write the report to {quoted(output)}: {error.strerror or error}",
        hint="Make room, then run again with --resume: nothing is evaluated twice.",
        code=ExitCode.SOME_FAILED,
    )
