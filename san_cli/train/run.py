"""`san train` from its options to its end.

data (data.py)  →  first weights (start.py)  →  folder (folder.py)  →  iterations (training.py)  →  model.safetensors
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from san_cli.datasets.check import check_training_data
from san_cli.datasets.source import PairSource
from san_cli.engine.alike_words import word_notes
from san_cli.engine.device import choose_device, choose_precision
from san_cli.engine.text_embeddings import TextTower, embed_words
from san_cli.engine.tiny_world import note_on_words
from san_cli.errors import ExitCode, SanError
from san_cli.runs.processes import ProcessGroup, joined, restarted
from san_cli.runs.voice import Voice
from san_cli.text import printable
from san_cli.train.data import TrainingData, augmentation_of, training_data
from san_cli.train.dry_run import try_out
from san_cli.train.folder import held_folder, newest_checkpoint, refuse_folder
from san_cli.train.loader import check_split
from san_cli.train.overrides import overridden
from san_cli.train.plan import Data, Model, Plan
from san_cli.train.recipe import Recipe
from san_cli.train.settings import check_settings, settings_of
from san_cli.train.start import asked_preset, first_weights, refuse_odd_weights, with_files
from san_cli.train.stop_request import stop_request
from san_cli.train.tensorboard import noted, summary_writer
from san_cli.train.training import Training
from san_cli.train.validation import evaluated_images
from san_cli.train.watch import Report, unwatched
from san_cli.vocabulary.templates import templates
from san_cli.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def run_training(data: Data, model: Model, recipe: Recipe, plan: Plan) -> list[str]:
    """Train into `plan.output`; of a dry run the plan's lines are returned.

    SanError for whatever keeps the training from its end, a request to stop included.
    """
    # What is wrong with an option shows first: no weights are read for that.
    model = with_files(model, say=plan.voice.tell)
    prompts = templates(model.templates)
    refuse_odd_weights(model, adapter_only=plan.adapter_only)
    writer = summary_writer() if plan.tensorboard else None

    # A training that is gone on with is the last checkpoint's model; torchrun's restart round goes on by itself.
    goes_on = not plan.dry_run and (plan.resume or restarted())
    checkpoint = newest_checkpoint(plan.output) if goes_on else None
    preset, recipe = overridden(asked_preset(model, checkpoint), recipe, model.settings)
    augmentation_of(recipe, preset)  # refuses a size that can't be trained at
    labelled = training_data(data)

    with joined(choose_device(plan.device)) as processes:
        # The leading one of several processes speaks for all.
        if not processes.leads:
            plan = replace(plan, quiet=True, voice=Voice(), watched=unwatched)
        for text in labelled.notes:
            plan.voice.note(text)
        if data.own is not None and data.held_out is None and plan.evaluate_every != 0:
            plan.voice.note(
                "without --val-images scores are on the training images, and better than on others"
            )
        of_tiny = note_on_words(preset, labelled.vocabulary) if labelled.name != "emoji" else None
        if of_tiny is not None:
            plan.voice.tell(f"warning: {of_tiny}")
        check_split(recipe.batch, processes.world, plan.accumulate)

        # The same training is gone on with, by processes that see the same. Without a checkpoint it begins anew, but
        # not as another one: the best model so far would be lost.
        precision = str(choose_precision(plan.precision, processes.device))
        settings = settings_of(preset, recipe, labelled, model, seed=plan.seed, precision=precision)
        if checkpoint is not None or (goes_on and (plan.output / "best.safetensors").exists()):
            check_settings(plan.output, settings)
        if not plan.dry_run:  # last of the options: it may be meant for another training
            refuse_folder(plan.output, goes_on=goes_on)
        processes.agree("where they go on from", checkpoint.name if checkpoint else "the beginning")
        processes.agree("settings or data", json.dumps(settings["data"] | settings["recipe"], sort_keys=True))

        start = first_weights(model, preset, plan.seed, checkpoint, say=plan.voice.tell)
        if plan.dry_run:
            training = _prepared(plan, recipe, labelled, start, prompts, processes)
            lines = try_out(training)
            return lines if processes.leads else []
        with held_folder(plan.output, settings, checkpoint, processes, goes_on=goes_on):
            training = _prepared(plan, recipe, labelled, start, prompts, processes)
            if checkpoint is not None:
                training.resume(checkpoint, start)
                plan.voice.tell(f"going on after iteration {training.position.step:,}")
            elif plan.resume:
                plan.voice.tell("nothing to resume yet: beginning")
            _train(training, writer if processes.leads else None)
    return []


def _prepared(
    plan: Plan,
    recipe: Recipe,
    data: TrainingData,
    start: Checkpoint,
    prompts: tuple[str, ...],
    processes: ProcessGroup,
) -> Training:
    """Return the training before its first iteration: words embedded, some of the data read."""
    text = _embed(plan.voice, start, data, prompts, processes)
    for note in word_notes(data.vocabulary, text, prompts, start.preset.clip.context_length):
        plan.voice.note(note)
    if processes.leads:
        _check_data(plan, data)
    processes.wait()
    return Training(plan, recipe, data, start, text, processes)


def _embed(
    voice: Voice, start: Checkpoint, data: TrainingData, prompts: tuple[str, ...], processes: ProcessGroup
) -> Tensor:
    """Embed the classes' words; the leading process does, the others find them in the cache."""
    tower, words = TextTower(start.preset.clip, lambda: start.part("text")), data.vocabulary.words
    if processes.leads:
        with voice.progress("embedding class names", len(words)) as step:
            embed_words(tower, words, prompts, processes.device, step)
    processes.wait()
    return embed_words(tower, words, prompts, processes.device)


def _check_data(plan: Plan, data: TrainingData) -> None:
    """Read some of the data, and say which classes never occur there. SanError for what can't be trained on."""
    names = data.vocabulary.names
    with plan.voice.progress("checking images", len(data.source)) as step:
        checked = check_training_data(data.source, names, data.ignore_label, step=step)
    plan.voice.tell(f"data: {checked.sentence}")

    # Of images to evaluate on those that will be: hours later would be late.
    held_out = data.validation
    if isinstance(held_out, PairSource) and held_out != data.source and plan.evaluate_every != 0:
        chosen = evaluated_images(len(held_out), plan.evaluate_images)
        evaluated = replace(held_out, pairs=tuple(held_out.pairs[index] for index in chosen))
        check_training_data(evaluated, names, data.ignore_label)


def _train(training: Training, writer: "type[SummaryWriter] | None") -> None:
    """Train to the end, shown to whoever watches. SanError where it was stopped."""
    plan, total, first = training.plan, training.recipe.iterations, training.position.step
    with (
        stop_request(quiet=plan.quiet) as asked,
        plan.watched(total, first) as watch,
        noted(plan.output / "tensorboard", first, writer) as note,
    ):

        def on_report(report: Report) -> None:
            watch.report(report)
            note(report)

        ended = training.run(replace(watch, report=on_report), asked)
    if ended.stopped:
        raise SanError(
            f"stopped after iteration {ended.iteration:,} of {total:,}",
            hint="The checkpoint is complete: the same command with --resume goes on.",
            code=ExitCode.INTERRUPTED,
        )
    best = f", best mIoU {ended.best_mIoU:.2f} % (best.safetensors)" if ended.best_mIoU >= 0 else ""
    plan.voice.tell(f"done: {printable(str(ended.weights))}{best}")
