"""What `san train` does, step by step: cheap checks first, then data and weights, then the training."""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from san_cli.cli import console
from san_cli.cli.progress import progress
from san_cli.cli.stop_request import stop_request
from san_cli.cli.train_board import noted, summary_writer
from san_cli.cli.train_progress import training_progress
from san_cli.errors import ExitCode, SanError, did_you_mean
from san_cli.text import nearest, printable, quoted

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter

    from san_cli.models.presets import Preset
    from san_cli.runs.processes import ProcessGroup
    from san_cli.train.data import TrainingData
    from san_cli.train.recipe import Recipe
    from san_cli.train.run import Report, Training, TrainPlan
    from san_cli.weights.checkpoint import Checkpoint

Say = Callable[[str], None]
_RESULTS = ("model.safetensors", "best.safetensors", "metrics.jsonl")


@dataclass(frozen=True)
class Request:
    """The options of `san train`, None where the user said nothing."""

    name: str | None
    data_root: Path | None
    images: Path | None
    labels: Path | None
    classes: str | None
    ignore: list[str] | None
    label_name: str | None
    image_name: str | None
    val_images: Path | None
    val_labels: Path | None
    limit: int | None
    model: str | None
    clip_weights: str | None
    init_from: Path | None
    settings: tuple[str, ...]
    templates: str
    recipe: str
    iterations: int | None
    batch: int | None
    learning_rate: float | None
    seed: int
    device: str
    precision: str
    accumulate: int
    recompute: bool
    workers: int | None
    output: Path
    resume: bool
    save_every: int | None
    evaluate_every: int | None
    evaluate_images: int
    log_every: int
    keep: int
    adapter_only: bool
    tensorboard: bool
    dry_run: bool
    quiet: bool

    @property
    def clip_file(self) -> Path | None:
        """The file that --clip-weights names, if it names one."""
        return None if self.clip_weights in (None, "random") else Path(str(self.clip_weights))


def run(request: Request) -> None:
    """Train as asked. Raises SanError."""
    from san_cli.engine.alike_words import word_notes
    from san_cli.engine.tiny_world import note_on_words
    from san_cli.vocabulary.templates import templates

    request = _with_file_of_model(request)
    prompts = templates(request.templates)
    _refuse_odd_weights(request)
    board = summary_writer() if request.tensorboard else None
    checkpoint = _newest_checkpoint(request) if _goes_on(request) else None
    preset, recipe = _preset_and_recipe(request, checkpoint)
    data = _data(request)
    with _processes(request.device) as processes:
        say = console.say if processes.leads and not request.quiet else _silent
        for note in data.notes:
            say(f"note: {note}")
        if request.images is not None and request.val_images is None and request.evaluate_every != 0:
            say("note: without --val-images scores are on the training images, and better than on others")
        of_tiny = note_on_words(preset, data.vocabulary) if data.name != "emoji" else None
        if of_tiny is not None:
            say(f"warning: {of_tiny}")
        plan = _plan(request, recipe, processes)
        settings = _settings(request, plan, preset, data, checkpoint)
        if not request.dry_run:
            _refuse_folder(request)
        processes.agree("where they go on from", checkpoint.name if checkpoint else "the beginning")
        processes.agree("settings or data", json.dumps(settings["data"] | settings["recipe"], sort_keys=True))
        start = _start(request, preset, checkpoint, say)
        _settle_folder(request, settings, checkpoint, processes)
        text = _embed(request, start, data, prompts, processes)
        for note in word_notes(data.vocabulary, text, prompts, start.preset.clip.context_length):
            say(f"note: {note}")
        _check_data(request, data, processes, say)
        training = _training(plan, data, start, text, processes, say)
        if request.dry_run:
            _dry_run(training)
        else:
            _train(request, training, start, checkpoint, board, say)


def refuse_contradictions(
    name: str | None,
    images: Path | None,
    labels: Path | None,
    classes: str | None,
    val_images: Path | None,
    val_labels: Path | None,
) -> None:
    """SanError for options that don't go together."""
    given = [value is not None for value in (images, labels, classes)]
    if any(given) and not all(given):
        raise SanError("--images, --labels and --classes belong together", hint="Give all three.")
    if any(given) and name:
        raise SanError("a dataset and --images can't be trained on in one go", hint="Give one of them.")
    if not any(given) and not name:
        raise SanError(
            "nothing to train on",
            hint="Name a dataset, such as `san train coco`, or give --images, --labels and --classes.",
        )
    if name is not None and _is_path(name):
        raise SanError(
            f"{quoted(name)} is a {'folder' if Path(name).is_dir() else 'file'}, and no dataset is called so",
            hint="For data of your own give --images DIR, --labels DIR and --classes FILE.",
        )
    if (val_images is None) != (val_labels is None):
        raise SanError("--val-images and --val-labels belong together", hint="Give both.")
    if val_images is not None and name:
        raise SanError(
            "--val-images goes with --images", hint=f"{printable(name)} has a split of its own for that."
        )


def _is_path(name: str) -> bool:
    """Whether there is a file or folder of that name, and no dataset."""
    from san_cli.datasets.catalogue import dataset_name

    try:
        dataset_name(name)
        return False
    except SanError:
        return os.path.exists(name)  # noqa: PTH110 (False for what is no path at all)


def _with_file_of_model(request: Request) -> Request:
    """A model's name after --init-from (`tiny`) stands for its weights on this machine; nothing is downloaded."""
    from san_cli.models.presets import PRESETS
    from san_cli.weights.find import weights_here

    asked = request.init_from
    if asked is None or asked.suffix or asked.exists():
        return request
    if str(asked) not in PRESETS:
        near = nearest(str(asked), PRESETS)
        raise SanError(
            f"--init-from: there is no file and no model {quoted(asked)}",
            hint=did_you_mean(near) or f"Known models: {', '.join(PRESETS)}.",
        )
    return replace(request, init_from=weights_here(str(asked)))


def _refuse_odd_weights(request: Request) -> None:
    """SanError for a CLIP that contradicts what else was asked for."""
    from san_cli.weights.adapter import is_adapter
    from san_cli.weights.find import check_is_weights

    random = request.clip_weights == "random"
    if random and request.adapter_only:
        raise SanError(
            "--adapter-only leaves the CLIP out, and a random one is in no other file",
            hint="Leave --adapter-only out.",
        )
    for path in (request.init_from, request.clip_file):
        if path is not None:
            check_is_weights(path)
    if request.init_from is None or request.clip_weights is None:
        return
    if random or not is_adapter(request.init_from):
        raise SanError(
            f"--init-from and --clip-weights {printable(request.clip_weights)} contradict each other",
            hint="--clip-weights names the CLIP's file for an adapter; a whole model brings its own.",
        )


def _data(request: Request) -> "TrainingData":
    from san_cli.datasets.own_pairs import ignored_values
    from san_cli.train.data import catalogue_data, emoji_data, own_data

    of_own_labels = {
        "--ignore": request.ignore, "--label-name": request.label_name, "--image-name": request.image_name,
    }  # fmt: skip
    idle = [name for name, value in of_own_labels.items() if value]
    if request.name is not None and idle:
        raise SanError(f"{idle[0]} is for labels of your own", hint="It would do nothing here: leave it out.")
    if request.name is not None and request.name.casefold() == "emoji":
        return emoji_data(request.limit)
    if request.name is not None:
        return catalogue_data(request.name, request.data_root, request.limit)
    assert request.images is not None and request.labels is not None and request.classes is not None
    held_out = None
    if request.val_images is not None and request.val_labels is not None:
        held_out = (request.val_images, request.val_labels)
    return own_data(
        request.images, request.labels, request.classes, ignored_values(request.ignore), held_out, request.limit,
        image_name=request.image_name, label_name=request.label_name,
    )  # fmt: skip


def _preset_and_recipe(request: Request, checkpoint: Path | None) -> "tuple[Preset, Recipe]":
    """What the user named, or the preset of the model to be fine-tuned or gone on with, with the user's changes."""
    from san_cli.models.presets import get_preset
    from san_cli.train.data import augmentation_of
    from san_cli.train.overrides import overridden
    from san_cli.train.recipe import get_recipe
    from san_cli.weights.adapter import read_preset

    recipe = get_recipe(request.recipe)
    if request.iterations is not None:
        recipe = replace(recipe, iterations=request.iterations)
    if request.batch is not None:
        recipe = replace(recipe, batch=request.batch)
    if request.learning_rate is not None:
        recipe = replace(recipe, learning_rate=request.learning_rate)
    if request.init_from is not None and request.model is None:
        preset = read_preset(checkpoint / "weights.safetensors" if checkpoint else request.init_from)
    else:
        preset = get_preset(request.model or "vit-b-16")
    preset, recipe = overridden(preset, recipe, request.settings)
    augmentation_of(recipe, preset)  # refuses a size that can't be trained at
    return preset, recipe


def _processes(device: str) -> "AbstractContextManager[ProcessGroup]":
    from san_cli.engine.device import choose_device
    from san_cli.runs.processes import joined

    return joined(choose_device(device))


def _goes_on(request: Request) -> bool:
    """Whether a training that is there already is to be taken up."""
    from san_cli.runs.processes import restarted

    return not request.dry_run and (request.resume or restarted())


def _newest_checkpoint(request: Request) -> Path | None:
    """Where to go on from, None to begin. SanError where only a trained model is left."""
    from san_cli.train.checkpoints import last

    found = last(request.output / "checkpoints")
    if found is None and "model.safetensors" in _results(request.output):
        raise SanError(
            f"{quoted(request.output)} holds a trained model, but no checkpoint to go on from",
            hint="Choose another -o.",
        )
    return found


def _results(output: Path) -> list[str]:
    """What of an earlier training is there."""
    return [name for name in _RESULTS if (output / name).exists()]


def _refuse_folder(request: Request) -> None:
    """SanError where nothing can be written to -o, or where another training is there; other slips come first."""
    from san_cli.runs.lock import refuse_unusable_folder

    refuse_unusable_folder(request.output)
    found = _results(request.output)
    if (request.output / "checkpoints").is_dir():
        found += sorted(path.name for path in (request.output / "checkpoints").glob("step-*"))
    if found and not _goes_on(request):
        raise SanError(
            f"{quoted(request.output)} holds a training already ({found[0]})",
            hint="Add --resume to go on with it, or choose another -o.",
        )


def _start(request: Request, preset: "Preset", checkpoint: Path | None, say: Say) -> "Checkpoint":
    from san_cli.train.start import fresh_model, model_to_tune
    from san_cli.weights.adapter import is_adapter

    if checkpoint is not None:  # an adapter alone goes back on the CLIP it came from
        clip = request.clip_file
        if clip is None and request.init_from is not None and not is_adapter(request.init_from):
            clip = request.init_from
        return model_to_tune(checkpoint / "weights.safetensors", preset, clip, say=say)
    if request.init_from is not None:
        named = request.model is not None
        return model_to_tune(request.init_from, preset, request.clip_file, say=say, named=named)
    return fresh_model(preset, request.clip_weights, request.seed, say=say)


def _plan(request: Request, recipe: "Recipe", processes: "ProcessGroup") -> "TrainPlan":
    from san_cli.engine.device import choose_precision
    from san_cli.train.loader import check_split
    from san_cli.train.run import TrainPlan

    check_split(recipe.batch, processes.world, request.accumulate)
    often = max(1, min(5000, recipe.iterations // 10))
    return TrainPlan(
        output=request.output,
        recipe=recipe,
        seed=request.seed,
        precision=choose_precision(request.precision, processes.device),
        accumulate=request.accumulate,
        workers=_default_workers() if request.workers is None else request.workers,
        save_every=request.save_every or often,
        evaluate_every=often if request.evaluate_every is None else request.evaluate_every,
        evaluate_images=request.evaluate_images,
        log_every=request.log_every,
        keep=request.keep,
        adapter_only=request.adapter_only,
        recompute=request.recompute,
    )


def _default_workers() -> int:
    """As many as there are cores for each process, but one."""
    from san_cli.runs.processes import processes_here

    return max(1, min(8, (os.cpu_count() or 1) // processes_here() - 1))


def _settings(
    request: Request, plan: "TrainPlan", preset: "Preset", data: "TrainingData", checkpoint: Path | None
) -> dict[str, Any]:
    """What the losses depend on; SanError where a training to be resumed was started otherwise."""
    from san_cli.train.settings import check_settings, settings_of

    origin = f"CLIP: {request.clip_weights or 'openai'}"
    if request.init_from is not None:
        origin = str(request.init_from)
    precision = str(plan.precision)
    settings = settings_of(preset, plan.recipe, data, plan.seed, precision, request.templates, origin)
    # Without a checkpoint it begins anew, but not as another training: the best model so far would be lost.
    begun = _goes_on(request) and (plan.output / "best.safetensors").exists()
    if checkpoint is not None or begun:
        check_settings(plan.output, settings)
    return settings


def _settle_folder(
    request: Request, settings: dict[str, Any], checkpoint: Path | None, processes: "ProcessGroup"
) -> None:
    """Make the folder of a new training, and note its settings there."""
    from san_cli.train.checkpoints import sweep
    from san_cli.train.settings import write_settings

    if processes.leads and not request.dry_run:
        try:
            request.output.mkdir(parents=True, exist_ok=True)
            sweep(request.output)
            if checkpoint is None:
                write_settings(request.output, settings)
        except OSError as error:
            raise SanError(
                f"can't use {quoted(request.output)} as a folder: {error.strerror}",
                hint="Choose another -o.",
            ) from error
    processes.wait()


def _embed(
    request: Request,
    start: "Checkpoint",
    data: "TrainingData",
    prompts: tuple[str, ...],
    processes: "ProcessGroup",
) -> "Tensor":
    """Text embeddings; the leading process makes them, the others find them in the cache."""
    from san_cli.engine.text_embeddings import TextTower, embed_words

    tower, words = TextTower(start.preset.clip, lambda: start.part("text")), data.vocabulary.words
    if processes.leads:
        with progress("embedding class names", len(words), quiet=request.quiet) as step:
            embed_words(tower, words, prompts, processes.device, step)
    processes.wait()
    return embed_words(tower, words, prompts, processes.device)


def _check_data(request: Request, data: "TrainingData", processes: "ProcessGroup", say: Say) -> None:
    """Read some of the data, and say which classes never occur there."""
    from san_cli.train.training_check import check_source
    from san_cli.train.training_set import PairSource
    from san_cli.train.validation import evaluated_images

    if processes.leads:
        with progress("checking images", len(data.source), quiet=request.quiet) as step:
            checked = check_source(data.source, data.vocabulary.names, data.ignore_label, step=step)
        say(f"data: {checked.sentence}")
        held_out = data.validation
        if isinstance(held_out, PairSource) and held_out != data.source and request.evaluate_every != 0:
            chosen = evaluated_images(len(held_out), request.evaluate_images)
            evaluated = replace(held_out, pairs=tuple(held_out.pairs[index] for index in chosen))
            check_source(evaluated, data.vocabulary.names, data.ignore_label)
    processes.wait()


def _training(
    plan: "TrainPlan",
    data: "TrainingData",
    start: "Checkpoint",
    text: "Tensor",
    processes: "ProcessGroup",
    say: Say,
) -> "Training":
    from san_cli.train.run import Training

    return Training(plan, data, start, text, processes, say)


def _dry_run(training: "Training") -> None:
    from san_cli.cli.train_plan import print_plan
    from san_cli.train.trial import try_out

    trial = try_out(training)
    if training.processes.leads:
        print_plan(training, trial)


def _train(
    request: Request,
    training: "Training",
    start: "Checkpoint",
    checkpoint: Path | None,
    board: "type[SummaryWriter] | None",
    say: Say,
) -> None:
    if checkpoint is not None:
        training.resume(checkpoint, start)
        say(f"going on after iteration {training.position.step:,}")
    elif request.resume:
        say("nothing to resume yet: beginning")
    total, first = training.plan.recipe.iterations, training.position.step
    leads = training.processes.leads
    with (
        stop_request(quiet=request.quiet or not leads) as asked,
        training_progress(total, first, quiet=request.quiet or not leads) as watch,
        noted(request.output / "tensorboard", first, board if leads else None) as note,
    ):

        def on_report(report: "Report") -> None:
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
    say(f"done: {printable(str(ended.weights))}{best}")


def _silent(_: str) -> None:
    """Say nothing."""
