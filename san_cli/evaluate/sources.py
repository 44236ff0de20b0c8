"""Whose label maps are evaluated: those of models, loaded one after the other, or those of a file."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from san_cli.datasets.task import Task
from san_cli.engine.alike_words import word_notes
from san_cli.engine.backend import PYTORCH, RUNTIMES, check_backend
from san_cli.engine.ensemble import Ensemble, Member, check_members, parse_member
from san_cli.engine.outlook import refuse_words_before_loading
from san_cli.engine.segmenter import Segmenter
from san_cli.errors import SanError
from san_cli.evaluate.counting import Evaluation, Origin
from san_cli.evaluate.detectron2_json import (
    PredictedMaps,
    category_convention,
    image_stem,
    index_predictions,
)
from san_cli.evaluate.plan import Models, Plan
from san_cli.runs.processes import default_workers, own_device
from san_cli.text import printable
from san_cli.vocabulary.learned_words import fingerprints
from san_cli.vocabulary.templates import templates as template_set


def evaluations_of(source: Models | Path, tasks: Sequence[Task], plan: Plan) -> Iterator[Evaluation]:
    """Evaluate models, loading one after the other, or a file of predictions; each on all tasks."""
    return _of_models(source, tasks, plan) if isinstance(source, Models) else _of_file(source, tasks, plan)


def _of_models(models: Models, tasks: Sequence[Task], plan: Plan) -> Iterator[Evaluation]:
    for task in tasks:
        for weights in models.weights:
            refuse_words_before_loading(task.vocabulary, models.model, weights)
    second: list[Member] = []
    if models.ensemble is not None:
        file, share = parse_member(models.ensemble)
        second.append(Member(_loaded(models, None, file, plan), share))
    for trial in range(len(models.weights)):
        members = [Member(_loaded(models, models.model, models.weights[trial], plan)), *second]
        check_members(members)
        for task in tasks:
            evaluation = evaluation_of(models, trial, members, task, plan)
            with plan.processes.leader_first(
                f"{evaluation.name}/embedded"
            ):  # the others find them in the cache
                _embed(members, task, plan)
            yield evaluation


def evaluation_of(
    models: Models, trial: int, members: Sequence[Member], task: Task, plan: Plan
) -> Evaluation:
    """Return the evaluation on a task of loaded models, whose first has the weights of that number, from 0."""
    segmenter, weights = members[0].segmenter, models.weights[trial]
    preset, device = segmenter.preset.name, segmenter.device
    precision = str(segmenter.precision).removeprefix("torch.")
    settings = {
        "weights": [[member.segmenter.weights_sha256, member.share] for member in members],
        "templates": list(template_set(models.templates)),
        "precision": precision,
        "device": device.type,
        "words": [list(entry.words) for entry in task.vocabulary.entries],
        "learned": fingerprints(task.vocabulary.learned),
        "tile": models.tile,
        "backend": backend_of(models, weights),
    }
    origin = Origin(
        preset,
        weights or own_weights(preset),
        segmenter.weights_sha256,
        settings,
        notes=_notes(models),
        comparable=models.ensemble is None and models.tile is None and models.templates == "vild",
        device=_device_name(segmenter),
        precision=precision,
    )
    name = task.name if len(models.weights) == 1 else f"{task.name}.{trial + 1}"
    workers = plan.workers or default_workers(device.type)
    return Evaluation(name, task, Ensemble(members, task.vocabulary, models.tile), origin, workers)


def _notes(models: Models) -> tuple[str, ...]:
    """Say what a reader of the numbers has to know."""
    notes = [f"ensemble with {printable(models.ensemble)}"] if models.ensemble else []
    if models.tile is not None:
        notes.append(
            f"large images were seen through windows (--tile {models.tile}), not whole as in the benchmarks"
        )
    return tuple(notes)


def own_weights(model: str) -> str:
    """Call the weights that a model has when nobody names any: the published ones, or ours."""
    return f"{model}'s own" if model == "tiny" else "official"


def _device_name(segmenter: Segmenter) -> str:
    device = segmenter.device
    if segmenter.backend in RUNTIMES:
        return f"{device} ({RUNTIMES[segmenter.backend]})"
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _loaded(models: Models, model: str | None, weights: str | None, plan: Plan) -> Segmenter:
    """Load one of the models; one process before the others where it may leave an ONNX file for them."""
    is_exported = backend_of(models, weights) != PYTORCH
    with plan.processes.leader_first(f"loaded/{weights}") if is_exported else nullcontext():
        return load_segmenter(models, model, weights, plan.voice.warn)


def load_segmenter(
    models: Models, model: str | None, weights: str | None, say: Callable[[str], None]
) -> Segmenter:
    """Load one of the models that are evaluated. SanError where that fails."""
    backend = backend_of(models, weights)
    return Segmenter.load(
        model,
        weights,
        device=own_device(models.device) if backend == PYTORCH else models.device,
        precision=models.precision,
        templates=models.templates,
        backend=backend,
        say=say,
    )


def backend_of(models: Models, weights: str | None) -> str:
    """Choose what runs the network of some weights. SanError for what can't be."""
    return check_backend(
        models.backend, weights, device=models.device, precision=models.precision, compile=False
    )


def _embed(members: Sequence[Member], task: Task, plan: Plan) -> None:
    for member in members:
        with plan.voice.progress("embedding words", len(task.vocabulary.words)) as step:
            embedded = member.segmenter.embed(task.vocabulary, step)
        length = member.segmenter.preset.clip.context_length
        for note in word_notes(task.vocabulary, embedded, member.segmenter.templates, length):
            plan.voice.note(f"{task.name}: {note}")


def _of_file(path: Path, tasks: Sequence[Task], plan: Plan) -> Iterator[Evaluation]:
    index = index_predictions(path)
    for task in tasks:
        stems = Counter(image_stem(str(pair.image)) for pair in task.pairs)
        twice = [stem for stem, number in stems.items() if number > 1]
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
        for note in notes:
            plan.voice.note(f"{task.name}: {note}")
        origin = Origin(None, str(path), None, {"predictions": index.sha256}, notes=tuple(notes))
        yield Evaluation(task.name, task, PredictedMaps(index, train_ids), origin)
