"""A folder in which all is done already: a run that has nothing to do ends without PyTorch and without its model.

The model is known by its file's hash, so that files tell whether the results are those that this run would make. It
says and writes what it would have, had it loaded the model. Where files leave anything open, the model is loaded.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.engine.backend import PYTORCH
from san_cli.engine.hardware import may_have_gpu
from san_cli.engine.onnx_file import is_onnx
from san_cli.engine.tiny_world import note_on_words
from san_cli.errors import ExitCode, SanError
from san_cli.models.presets import get_preset
from san_cli.predict.folder import Run, all_records, end_run, open_run
from san_cli.predict.kept_notes import kept_notes
from san_cli.predict.request import Model, Plan, Words
from san_cli.predict.settings import ModelRun, kept_settings, with_model
from san_cli.predict.summary import run_line
from san_cli.runs.settings import other_settings
from san_cli.weights.file_hash import weights_sha256
from san_cli.weights.find import local_weights, weights_or_source
from san_cli.weights.header import known_preset
from san_cli.weights.hub_name import hub_name

if TYPE_CHECKING:
    from san_cli.predict.run import Checked

# What a run computes in on the CPU, by what --precision says.
_ON_CPU = {"auto": "fp32", "fp32": "fp32", "bf16": "bf16"}


def end_if_finished(checked: "Checked", words: Words, model: Model, plan: Plan) -> ExitCode | None:
    """End a run that has nothing to do, and say so; None, and nothing is said, where it has, or may have.

    SanError where what concerns all images can't be written.
    """
    job, listing, summary = checked.job, checked.listing, checked.summary
    alone = checked.processes.world == 1 and checked.share.count == 1
    # Words of others are refused, and what competes is listed, by the model.
    if not alone or plan.overwrite or words.verbose or job.vocabulary.learned:
        return None
    warnings: list[str] = []
    with ExitStack() as stack:
        try:
            found, notes = kept_settings(plan.output), kept_notes(plan.output)
            if found is None or notes is None or other_settings(found, checked.settings):
                return None
            known = _known_model(model, warnings)
            if known is None or other_settings(found, settings := with_model(checked.settings, known)):
                return None
            run = stack.enter_context(open_run(plan.output, listing, job.save, settings))
        except (SanError, OSError):  # which is told in its turn, once the model is loaded
            return None
        if not _is_finished(run):
            return None

        for text in warnings:
            summary.warn(text)
        summary.voice.tell(run_line(known, model, len(job.classes), len(listing.images)))
        summary.warn(note_on_words(known.preset, job.vocabulary))
        for text in notes:
            summary.voice.note(text)
        summary.done_before = len(listing.images)
        if plan.jsonl:
            from san_cli.predict.run import json_line

            for one, record, exif_orientation in all_records(run):
                summary.voice.data(json_line(plan.output, job, one, record, exif_orientation))
        ending = end_run(run, job.classes)
    summary.end(ending, job.classes, checked.share)
    return summary.exit_code(ending)


def _is_finished(run: Run) -> bool:
    """Tell whether all images are done; where somebody has edited a result since, there is something to say."""
    return all(run.is_done(image) and not run.edited(image) for image in run.listing.images)


def _known_model(model: Model, warnings: list[str]) -> ModelRun | None:
    """Find out what would run, as far as files tell, and what would be said of its weights; None where they don't.

    That is so of the CPU where no GPU is to be had, and of weights here that say which model they are. SanError or
    OSError for weights that can't be found or read.
    """
    precision = _ON_CPU.get(model.precision)
    on_cpu = model.device == "cpu" or (model.device == "auto" and not may_have_gpu())
    if precision is None or not on_cpu or model.compile or model.backend not in ("auto", PYTORCH):
        return None
    asked = None if model.name is None else get_preset(model.name)
    named = model.weights or local_weights(get_preset(model.name or "vit-b-16").name)
    if named is not None and (named == "random" or is_onnx(named) or hub_name(str(named)) is not None):
        return None
    path = weights_or_source(get_preset(model.name or "vit-b-16").name, model.weights, say=warnings.append)
    if not isinstance(path, Path):  # to be downloaded
        return None
    sha256 = weights_sha256(path)
    preset = known_preset(path, sha256)
    if preset is None or asked not in (None, preset):
        return None
    return ModelRun(preset, sha256, "cpu", precision, model.compile, PYTORCH)
