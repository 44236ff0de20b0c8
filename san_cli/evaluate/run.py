"""`san eval` from its datasets to its report: every model, or a file of predictions, on every dataset.

    datasets, models (sources.py)  →  images counted (counting.py), kept (state.py)  →  report (result.py, report.py)

Processes started together share each dataset's images out. Their counts are integers and each image is in one part,
so that the sum is that of a single process.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.catalogue import BENCHMARKS, dataset_name
from san_cli.datasets.pairing import NoPartner
from san_cli.datasets.task import Task, dataset_task, other_words, own_task
from san_cli.errors import ExitCode, SanError
from san_cli.evaluate.counting import Counted, Evaluation, count_images
from san_cli.evaluate.pictures import write_pictures
from san_cli.evaluate.plan import Data, Models, Plan
from san_cli.evaluate.published import OFFICIAL_LOG_SOURCE, TABLE_2_SOURCE, paper_rows
from san_cli.evaluate.report import Report, write_report
from san_cli.evaluate.result import EvalResult, nothing_left, result_of
from san_cli.evaluate.state import Counts, State, locked
from san_cli.runs.processes import meet
from san_cli.runs.voice import Voice
from san_cli.text import json_text, printable, quoted
from san_cli.vocabulary.grammar import Vocabulary


def run_evaluations(data: Data, source: Models | Path, plan: Plan) -> Report | None:
    """Evaluate the models, or a file of predictions, on the data; write the report to `plan.output`, if there is one.

    Returns the report, also of a run that ended early after its first result (`Report.ended` says why), and None in a
    process that doesn't lead. SanError where there is nothing to report.
    """
    # The datasets come first, then the places to write: what is wrong there shows before a model is loaded.
    words = other_words(data.vocab, data.synonyms)
    for note in words.notes if words is not None else ():
        plan.voice.note(note)
    tasks, skipped = tasks_of(data, words, plan)
    _refuse_outputs(plan, source, tasks)

    # From here on torchrun's processes go in step, and the leading one alone speaks of the whole.
    plan = replace(plan, processes=meet())
    leads = plan.processes.leads
    if not leads:
        plan = replace(plan, voice=Voice(say=plan.voice.say))
    _tell_before(tasks, plan)

    # Model by model, dataset by dataset. Importing torch takes seconds: only now.
    from san_cli.evaluate.sources import evaluations_of

    found: list[tuple[Evaluation, EvalResult]] = []
    pictures: list[str] = []
    ended: SanError | KeyboardInterrupt | None = None
    with locked(plan.output) if plan.output is not None and leads else nullcontext():
        try:
            for evaluation in evaluations_of(source, tasks, plan):
                started = time.perf_counter()
                counts = count(evaluation, plan)
                if counts is None:
                    continue
                nothing = nothing_left(evaluation.task, counts)
                if nothing is not None:
                    if not plan.keep_going:
                        raise nothing
                    skipped.setdefault(evaluation.task.name, nothing.message)
                    continue
                result = result_of(evaluation, counts, time.perf_counter() - started)
                found.append((evaluation, result))
                pictures += _pictures(evaluation, counts, result, plan)
            plan.processes.leave()
        except (SanError, KeyboardInterrupt) as end:
            # The results before this one may have taken hours: they are reported.
            if not found:
                raise
            ended = end
            why = end.message if isinstance(end, SanError) else "interrupted"
            done = {result.dataset for _, result in found}
            skipped |= {task.name: why for task in tasks if task.name not in done}

        # The report, by the leading process.
        if not leads:
            return None
        if not found:
            first = next(iter(skipped.values()))
            raise SanError(f"none of the datasets is usable; {first}", code=ExitCode.NO_INPUT)
        report = Report(
            tuple(result for _, result in found),
            _settings(found, data, source, plan),
            skipped,
            paper_rows() if plan.paper else (),
            tuple(pictures),
            ended,
        )
        if plan.output is not None:
            with _unwritable(plan.output):
                write_report(plan.output, report)
        return report


def _tell_before(tasks: Sequence[Task], plan: Plan) -> None:
    """Say what there is to know before anything is counted."""
    for task in tasks:
        for note in task.notes:
            plan.voice.note(note)
    if plan.output is not None and not plan.resume and (plan.output / "results.json").exists():
        plan.voice.note(f"the report in {quoted(plan.output)} will be replaced")


def count(evaluation: Evaluation, plan: Plan) -> Counts | None:
    """Count all images of an evaluation, those of earlier runs included with `plan.resume`.

    Returns the counts in the leading process, and None in the others. SanError for a fault of an image, unless
    `plan.keep_going`, and for a fault of another process.
    """
    task, processes = evaluation.task, plan.processes
    images, classes = len(task.pairs), len(task.classes)
    settings = settings_of_counts(evaluation)
    processes.agree("images or settings", hashlib.sha256(json_text(settings).encode()).hexdigest()[:12])

    # The leading process reads what earlier runs counted, or clears it away; then each takes its share of the rest.
    state = State(evaluation.name, plan.output, predictions_path(plan.save_predictions, task))
    counts = Counts.empty(images, classes)

    def begin() -> NDArray[np.bool_]:
        if processes.leads and not state.begin(settings, counts, resume=plan.resume) and plan.resume:
            plan.voice.note(f"{task.name}: nothing to resume in {quoted(plan.output)}: beginning")
        return counts.done

    done = processes.together(begin)[0]
    todo = np.flatnonzero(~done)[processes.rank :: processes.world].tolist()

    # Everyone counts. Image by image that is kept on disk, so that it survives whatever ends this process.
    parts = processes.together(lambda: _count_own(evaluation, plan, state, todo))
    if not processes.leads:
        return None
    for part in parts:
        counts.merge(part)

    # Nothing may be missing, nor would it be but for a fault of ours.
    missing = images - int(counts.done.sum()) - len(counts.skipped)
    if missing:
        raise RuntimeError(f"{missing} images were neither counted nor skipped")
    state.write_predictions(counts.done)
    return counts


def _count_own(evaluation: Evaluation, plan: Plan, state: State, todo: Sequence[int]) -> Counts:
    """Count the images at the positions `todo`."""
    task = evaluation.task
    counts = Counts.empty(len(task.pairs), len(task.classes))
    counting = count_images(evaluation, todo, with_entries=plan.save_predictions is not None)
    try:
        state.open_own(plan.processes.share)
        with closing(counting), plan.voice.progress(task.name, len(task.pairs)) as step:
            for number, image in enumerate(counting, start=1):
                if isinstance(image, Counted):
                    state.append(image)
                    counts.add(image)
                elif plan.keep_going:
                    counts.skipped[image.position] = printable(image.fault.message)
                    plan.voice.say(f"skipped: {image.fault.message}")
                else:
                    raise _with_way_out(image.fault) from image.fault
                step(number, len(todo))
    finally:
        state.close()
    return counts


def _with_way_out(fault: SanError) -> SanError:
    way = "--keep-going skips such images; a run with -o DIR goes on from here with --resume."
    return SanError(fault.message, hint=f"{fault.hint}\n{way}".strip(), code=fault.code)


def settings_of_counts(evaluation: Evaluation) -> dict[str, Any]:
    """Return what the counts depend on."""
    task = evaluation.task
    names = [f"{pair.stem}\0{pair.image.name}\0{pair.label.name}" for pair in task.pairs]
    several = task.ignored is not None and task.ignored != (task.ignore_label,)
    return {
        "dataset": task.name,
        "split": task.split,
        "ignore": list(task.ignored or ()) if several else task.ignore_label,
        "label_map": list(task.relabelled) or None,
        "drawn_labels": task.drawings,
        **evaluation.origin.settings,
        "images": hashlib.sha256("\0\0".join(names).encode("utf-8", "surrogatepass")).hexdigest(),
    }


def tasks_of(data: Data, words: Vocabulary | None, plan: Plan) -> tuple[list[Task], dict[str, str]]:
    """Find the datasets to evaluate, and those that are skipped, with the reason."""
    if data.own is not None:
        try:
            own = own_task(
                data.own, keep_going=plan.keep_going, limit=data.limit, words=words, say=plan.voice.note
            )
        except NoPartner as fault:
            way = "" if plan.keep_going else " Or skip and count it with --keep-going."
            raise SanError(fault.message, hint=fault.hint + way, code=fault.code) from None
        return [own], {}
    tasks: list[Task] = []
    skipped: dict[str, str] = {}
    asked = [name for given in data.names for name in (BENCHMARKS if given == "all" else (given,))]
    for name in dict.fromkeys(dataset_name(name) for name in asked):
        try:
            tasks.append(dataset_task(name, data.root, split=data.split, limit=data.limit, words=words))
        except SanError as error:
            if not plan.keep_going or error.code == ExitCode.USAGE:
                raise
            skipped[name] = error.message
            plan.voice.warn(f"skipped {name}: {error.message}")
    if not tasks:
        first = next(iter(skipped.values()))
        raise SanError(f"none of the datasets is usable; {first}", code=ExitCode.NO_INPUT)
    return tasks, skipped


def predictions_path(path: Path | None, task: Task) -> Path | None:
    """Tell where `--save-predictions` puts those of one dataset."""
    return None if path is None else path.with_name(path.name.replace("{dataset}", task.name))


def _refuse_outputs(plan: Plan, source: Models | Path, tasks: Sequence[Task]) -> None:
    """Raise SanError where something can't be written: said before hours of work."""
    if plan.output is not None:
        try:
            plan.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SanError(
                f"can't use {quoted(plan.output)} as a folder: {error.strerror}", hint="Choose another -o."
            ) from error
    for path in predictions_paths(plan, source, tasks):
        refuse_unwritable(path)


def predictions_paths(plan: Plan, source: Models | Path, tasks: Sequence[Task]) -> list[Path]:
    """List where the predictions go; SanError where several of them would be one file."""
    if plan.save_predictions is None:
        return []
    if isinstance(source, Models) and len(source.weights) > 1:
        raise SanError("--save-predictions is for one --weights", hint="Run `san eval` once for each.")
    if len(tasks) > 1 and "{dataset}" not in plan.save_predictions.name:
        raise SanError(
            "--save-predictions names one file for several datasets",
            hint="Put {dataset} into the name, such as predictions-{dataset}.json.",
        )
    paths = (predictions_path(plan.save_predictions, task) for task in tasks)
    return [path for path in paths if path is not None]


def refuse_unwritable(path: Path) -> None:
    """Raise SanError where predictions can't be written to `path`."""
    if path.is_dir():
        raise SanError(f"--save-predictions {quoted(path)} is a folder", hint="Name a .json file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.probe-{os.getpid()}")
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise SanError(
            f"can't write {quoted(path)}: {error.strerror or error}",
            hint="Choose another --save-predictions.",
        ) from error


def _settings(
    found: Sequence[tuple[Evaluation, EvalResult]], data: Data, source: Models | Path, plan: Plan
) -> dict[str, Any]:
    """Tell how the numbers came about."""
    from san_cli.engine.device import versions

    results = [result for _, result in found]
    models = source if isinstance(source, Models) else None
    last = found[-1][0].origin
    words = "--vocab" if data.vocab else "the datasets' own"
    return {
        "weights": [
            {"dataset": r.dataset, "weights": r.weights, "sha256": r.weights_sha256} for r in results
        ],
        "ensemble": None if models is None else models.ensemble,
        "templates": "vild" if models is None else models.templates,
        "tile": "off" if models is None or models.tile is None else models.tile,
        "words": data.synonyms or words,
        "device": last.device,
        "precision": last.precision,
        "processes": plan.processes.world,
        "predictions": None if models is not None else str(source),
        "keep_going": plan.keep_going,
        **({"official log": OFFICIAL_LOG_SOURCE} if any(result.logged for result in results) else {}),
        **({"paper": TABLE_2_SOURCE} if plan.paper or any(result.paper for result in results) else {}),
        "versions": versions(),
    }


def _pictures(evaluation: Evaluation, counts: Counts, result: EvalResult, plan: Plan) -> list[str]:
    if plan.output is None:
        return []
    with _unwritable(plan.output):
        return write_pictures(plan.output, evaluation, counts, result, worst=plan.worst, say=plan.voice.note)


@contextmanager
def _unwritable(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SanError(
            f"can't write the report to {quoted(output)}: {error.strerror or error}",
            hint="Make room, then run again with --resume: nothing is evaluated twice.",
            code=ExitCode.SOME_FAILED,
        ) from error
