"""`san predict --dry-run`: what the run would do, how long that would take and how much it would write.

folder and headers (ahead.py)  →  the model, loaded  →  one picture done (forecast.py)  →  lines, or one JSON object
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from san_cli.engine.backend import PYTORCH, check_backend
from san_cli.engine.device import PRECISIONS
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
from san_cli.engine.tiny_world import is_tiny, note_on_words
from san_cli.errors import ExitCode
from san_cli.files import free_megabytes
from san_cli.outputs.places import told_kinds
from san_cli.predict.ahead import Ahead, look_ahead
from san_cli.predict.folder import check_folder, look_into
from san_cli.predict.forecast import Forecast, forecast
from san_cli.predict.request import Job, Model, Plan
from san_cli.predict.settings import as_loaded, with_model
from san_cli.runs.processes import default_workers, own_device
from san_cli.runs.shares import WHOLE
from san_cli.text import counted, duration, json_text, plan_lines, printable
from san_cli.vocabulary.contrast import contrast_to
from san_cli.vocabulary.grammar import Vocabulary

if TYPE_CHECKING:
    from san_cli.predict.run import Checked

_CAUSES = 5  # failures whose cause is told


def tell_plan(checked: "Checked", model: Model, plan: Plan) -> ExitCode:
    """Tell on stdout what a run would do; SanError for what would keep it from beginning."""
    job, summary, processes = checked.job, checked.summary, checked.processes
    if not processes.leads:
        processes.leave()
        return ExitCode.DONE
    backend = check_backend(
        model.backend, model.weights, device=model.device, precision=model.precision, compile=model.compile
    )
    weights = weights_ahead(model.name, model.weights, summary.warn, backend=backend)
    run = look_into(
        plan.output, checked.listing, job.save, checked.settings,
        share=checked.share if processes.world == 1 else WHOLE, processes=processes, overwrite=plan.overwrite,
    )  # fmt: skip
    ahead = look_ahead(run, job, summary.voice, overwrite=plan.overwrite)

    # The model: whether it loads, whether the folder is of another one, and how fast it is here.
    segmenter = _loaded(checked, model, weights, backend)
    if weights.download is None and not plan.overwrite:
        full = with_model(checked.settings, replace(as_loaded(segmenter, model.compile), backend=backend))
        check_folder(plan.output, checked.listing.images, job.save, full)
    summary.warn(note_on_words(segmenter.preset, job.vocabulary))
    job = replace(job, vocabulary=words_on_trial(job.vocabulary, weights, segmenter, summary.warn))
    competing = _competing(job, segmenter)
    start = time.monotonic() - summary.started
    words = words_ahead(segmenter, competing)
    foreseen = None
    if ahead.todo:
        workers = plan.workers or default_workers(segmenter.device.type)
        with summary.voice.progress("trying an image", 1):
            foreseen = forecast(segmenter, job if not words.new else _alone(job, competing), ahead, workers)
    facts = _facts_of_images(checked, plan, ahead) | _facts_of_model(job, competing, segmenter, weights)
    facts["backend"] = backend  # also where PyTorch stands in for it
    if foreseen is not None:
        seconds = {"start": start, "words": words.seconds, "images": foreseen.seconds / processes.world}
        facts |= _facts_of_time(foreseen, seconds, plan.output)
    for line in [json_text(facts)] if plan.jsonl else plan_lines(_rows(facts, plan, words.new)):
        summary.voice.data(line)
    room, size = facts.get("free_megabytes"), facts.get("megabytes")
    if room is not None and size is not None and size > room:
        summary.warn(
            f"the results won't fit: {size:,.0f} MB, and {room:,.0f} MB are free; -o names another folder"
        )
    processes.leave()
    return ExitCode.DONE


def _loaded(checked: "Checked", model: Model, weights: WeightsAhead, backend: str) -> Segmenter:
    """Load the model, or an untrained one in the place of what would be downloaded; PyTorch's if not exported yet."""
    return Segmenter.load(
        weights.model if weights.download else model.name,
        weights.loadable,
        device=own_device(model.device) if backend == PYTORCH else "cpu",
        backend=PYTORCH if weights.exports else backend,
        precision=model.precision,
        templates=checked.templates,
    )


def _competing(job: Job, segmenter: Segmenter) -> Vocabulary:
    """List all classes that may compete; of --only more than do, as what means the same as the words is left out."""
    if not job.options.only:
        return job.vocabulary
    others = contrast_to(job.vocabulary, of_tiny=is_tiny(segmenter.preset))
    return job.vocabulary.with_more(others)


def _alone(job: Job, competing: Vocabulary) -> Job:
    """Return as much work without the choice that `only` makes, for which all words must be known."""
    if not job.options.only:
        return job
    options = replace(job.options, only=False, show=job.vocabulary.names)
    return replace(job, vocabulary=competing, options=options)


def _facts_of_images(checked: "Checked", plan: Plan, ahead: Ahead) -> dict[str, Any]:
    failing = [*ahead.failing, *checked.listing.failures]
    return {
        "dry_run": True,
        "output": str(plan.output),
        "save": list(checked.job.save),
        "images": ahead.images,
        "done_before": ahead.done,
        "to_do": len(ahead.todo),
        "will_fail": [{"file_name": one.name, "error": one.cause} for one in failing],
        "changed_results": ahead.changed,
        "inputs_gone": ahead.gone,
        "shard": f"{checked.share.index + 1}/{checked.share.count}" if plan.shard else None,
        "processes": checked.processes.world,
    }


def _facts_of_model(
    job: Job, competing: Vocabulary, segmenter: Segmenter, weights: WeightsAhead
) -> dict[str, Any]:
    return {
        "classes": list(job.classes),
        "competing": len(competing),
        "model": segmenter.preset.name,
        **weights.facts,
        "device": str(segmenter.device),
        "precision": next(name for name, dtype in PRECISIONS.items() if dtype == segmenter.precision),
    }


def _facts_of_time(foreseen: Forecast, seconds: Mapping[str, float], output: Path) -> dict[str, Any]:
    return {
        "seconds": round(sum(seconds.values()), 1),
        "seconds_by": {name: round(value, 1) for name, value in seconds.items()},
        "measured": foreseen.basis,
        "megabytes": None if foreseen.size is None else round(foreseen.size / 1e6, 3),
        "free_megabytes": free_megabytes(output),
        "memory_megabytes": whole_megabytes(foreseen.memory_mb),
    }


def _rows(facts: Mapping[str, Any], plan: Plan, new_words: int) -> Iterator[tuple[str, str]]:
    """Yield what the plan says, line by line."""
    part = f"share {facts['shard']}: " if facts["shard"] else ""
    among = f", shared by {facts['processes']} processes" if facts["processes"] > 1 else ""
    yield "images", f"{part}{counted(facts['images'], 'image')}{among}"
    again = " (--overwrite: all anew)" if plan.overwrite else ""
    yield "  done before", f"{facts['done_before']:,}{again}"
    yield "  to do", f"{facts['to_do']:,}"
    yield "  will fail", f"{len(facts['will_fail']):,}"
    for failure in facts["will_fail"][:_CAUSES]:
        yield "", f"{printable(failure['file_name'])}: {printable(failure['error'])}"
    if len(facts["will_fail"]) > _CAUSES:
        yield "", f"and {len(facts['will_fail']) - _CAUSES:,} more"
    if facts["changed_results"]:
        yield "  left alone", f"{counted(facts['changed_results'], 'result')} that somebody has changed"
    if facts["inputs_gone"]:
        yield "  removed", f"results of {counted(facts['inputs_gone'], 'input')} that are gone"
    yield from rows_of_classes(facts["classes"])
    if facts["competing"] > len(facts["classes"]):
        yield (
            "  competing, unseen",
            f"up to {facts['competing'] - len(facts['classes']):,} others, and no object",
        )
    yield from rows_of_model(facts)
    yield "results", f"{printable(facts['output'])} ({', '.join(told_kinds(facts['save'])) or 'nothing'})"
    if "seconds" not in facts:
        yield (
            "time",
            "nothing to do" if not facts["to_do"] else "unknown: none of the images tried can be read",
        )
        return
    by = facts["seconds_by"]
    words = f", {duration(by['words'])} for {counted(new_words, 'new word')}" if new_words else ""
    yield "time", f"about {duration(facts['seconds'])}: {duration(by['start'])} to start{words},"
    yield "", f"{duration(by['images'])} for the images ({facts['measured']})"
    free = "" if facts["free_megabytes"] is None else f"; {facts['free_megabytes']:,.0f} MB are free"
    yield "disk", ("unknown" if facts["megabytes"] is None else f"about {facts['megabytes']:,.1f} MB") + free
    if facts["memory_megabytes"] is not None:
        yield "memory", f"{facts['memory_megabytes']:,} MB peak, with one image"
