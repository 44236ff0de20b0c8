"""The iterations of a training, from its first or last checkpoint to its end (Sec. 4.2), by one process or many."""

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from san_cli.engine.device import choose_precision, peak_memory_mb, reuse_freed_memory
from san_cli.errors import ExitCode, SanError
from san_cli.runs.processes import ProcessGroup, processes_here
from san_cli.text import counted, printable
from san_cli.train import checkpoints
from san_cli.train.best import keep_best, kept_best
from san_cli.train.checkpoints import Position
from san_cli.train.data import TrainingData, augmentation_of
from san_cli.train.loader import batches, explaining_worker_deaths
from san_cli.train.log import Interval, MetricsLog
from san_cli.train.memory import explaining_memory
from san_cli.train.model import TrainedModel, checkpoint_of
from san_cli.train.plan import Plan
from san_cli.train.recipe import Recipe
from san_cli.train.sample_sheet import write_sample_sheet
from san_cli.train.state_files import unwritable
from san_cli.train.step import MicroBatch, StepResult, Trainer
from san_cli.train.targets import targets_of
from san_cli.train.training_set import Sample, TrainingSet
from san_cli.train.validation import Validation, evaluated_images, segmenter_of, validate
from san_cli.train.watch import Pace, Report, Watch
from san_cli.weights.checkpoint import Checkpoint

MOST_SKIPPED = 20  # iterations in a row without an update, after which a training ends


@dataclass(frozen=True)
class Ended:
    """The end of a training."""

    iteration: int
    stopped: bool  # before its end, because it was asked to
    weights: Path
    best_mIoU: float  # percent, -1: never evaluated


class Training:
    """One training under way: the trainer, the log, the position."""

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe,
        data: TrainingData,
        start: Checkpoint,
        text_embeddings: Tensor,
        processes: ProcessGroup,
    ) -> None:
        """`text_embeddings` [words, D] are those of the data's vocabulary."""
        if processes.device.type == "cpu":
            reuse_freed_memory()
        self.plan, self.recipe, self.data, self.processes = plan, recipe, data, processes
        often = max(1, min(5000, recipe.iterations // 10))
        self.save_every = plan.save_every or often  # iterations
        self.evaluate_every = often if plan.evaluate_every is None else plan.evaluate_every  # 0: never
        self.text_embeddings = text_embeddings.to(processes.device)
        model = TrainedModel(start, self.text_embeddings, data.vocabulary, recipe).to(processes.device)
        model.san.activation_checkpointing = plan.activation_checkpointing
        self.start = start.without_image_side()  # what the model doesn't hold: the text tower
        precision = choose_precision(plan.precision, processes.device)
        self.trainer = Trainer(model, recipe, plan.seed, precision, processes)
        self.position = Position(0)
        self.interval = Interval()
        self.skipped_in_a_row = 0
        self.saved = 0  # the step of the last checkpoint
        self.logged = 0  # lines of the log
        self.best_mIoU = -1.0  # percent; -1: never evaluated

    def resume(self, checkpoint: Path, weights: Checkpoint) -> None:
        """Take up a checkpoint: from here on every number is what it would have been without a break."""
        moments, position = checkpoints.read_state(checkpoint)
        checkpoints.check_weights(checkpoint, weights, position)
        self.trainer.model.san.load_state_dict(
            {name: t.float() for name, t in weights.state.items() if not name.startswith("text.")}
        )
        checkpoints.restore_moments(self.trainer.optimizers, self.trainer.parameters, moments)
        if position.loss_scale:
            self.trainer.scaler.load_state_dict(
                self.trainer.scaler.state_dict()
                | {"scale": position.loss_scale, "_growth_tracker": position.loss_scale_steps}
            )
        self.position, self.saved, self.logged = position, position.step, position.logged
        self.interval = Interval(dict(position.pending), position.pending_steps)

    def run(self, watch: Watch, should_stop: Callable[[], bool]) -> Ended:
        """Train to the end, or until `should_stop` says so in any process. Raises SanError."""
        # A resumed training drops the log's lines that it will write again. If it was stopped between a checkpoint
        # and the evaluation of that iteration, it evaluates first.
        total = self.recipe.iterations
        log = self._take_up_folder() if self.processes.leads else None
        if self._evaluation_is_owed(log):
            self._evaluate(log, watch)

        pace, weights = Pace(), None
        with explaining_worker_deaths(), explaining_memory(), closing(self._batches_or_save()) as steps:
            for parts, waited in steps:
                # Several processes stop after the same iteration: the step itself adds up who was asked to.
                result = self.trainer.step(self.position.step, parts, stop=should_stop())
                stop = result.stop or (self.processes.world == 1 and should_stop())
                self._count(result)
                pace.add(waited)
                done = self.position.step
                watch.iteration(done)

                # Log before checkpoint: the checkpoint says how many lines there are.
                if done % self.plan.log_every == 0 or done == total:
                    report = self._report(result, pace)
                    if log is not None:
                        log.write(_row(report, self.recipe.batch, len(self.data.source)))
                        self.logged = log.lines
                    watch.report(report)
                    self.interval, pace = Interval(), Pace()

                # Checkpoint before evaluation: an evaluation takes minutes, and a kill in it costs no iteration.
                if self._saves_after(result) or stop:
                    weights = self._save()
                    pace.leave_out()
                if stop:
                    break
                if self.evaluate_every and (done % self.evaluate_every == 0 or done == total):
                    self._evaluate(log, watch)
                    pace.leave_out()
        return self._end(weights)

    def _take_up_folder(self) -> MetricsLog:
        """Open the log as far as this training has come, and how good the kept model is. Raises SanError."""
        kept = kept_best(self.plan.output)
        log = MetricsLog(self.plan.output / "metrics.jsonl", self.position.step)
        lost = self.logged - log.lines_of_checkpoint
        if lost > 0:
            self.plan.voice.tell(
                f"warning: metrics.jsonl lacks {lost} of the {self.logged} lines up to iteration "
                f"{self.position.step:,}: it was damaged or changed"
            )
        if kept is not None:
            self.best_mIoU = kept
        elif log.has_evaluations:
            self.plan.voice.tell("warning: best.safetensors is gone: the best model from here on is kept")
        return log

    def _evaluation_is_owed(self, log: MetricsLog | None) -> bool:
        """Tell whether a resumed training was stopped before the evaluation that belonged to its last iteration."""
        step, every = self.position.step, self.evaluate_every
        due = bool(every and step and step % every == 0 and log is not None and not log.has_evaluation(step))
        return self.processes.sums(float(due))[0] > 0

    def _batches_or_save(self) -> Generator[tuple[list[MicroBatch], float], None, None]:
        """Yield batches; what was done before one that can't be read is saved, unless others would wait for us."""
        try:
            yield from self.batches()
        except SanError:
            if self.processes.world == 1 and self.position.step > self.saved:
                self._save()
            raise

    def _saves_after(self, result: StepResult) -> bool:
        """Tell whether a checkpoint is due: not while nothing is updated, or the good ones would have to make way."""
        done, every = self.position.step, self.save_every
        due = done // every > self.saved // every and result.updated
        return due or done == self.recipe.iterations

    def _count(self, result: StepResult) -> None:
        """Take note of an iteration; SanError after too many without an update."""
        self.interval.add(result)
        self.skipped_in_a_row = 0 if result.updated else self.skipped_in_a_row + 1
        skipped = self.position.skipped + (not result.updated)
        self.position = replace(self.position, step=self.position.step + 1, skipped=skipped)
        if self.skipped_in_a_row >= MOST_SKIPPED:
            raise _diverged(result, self.skipped_in_a_row, self.plan.output)

    def batches(self) -> Generator[tuple[list[MicroBatch], float], None, None]:
        """Yield our micro-batches of every step from the present one on, and the seconds waited for them."""
        recipe, plan, data = self.recipe, self.plan, self.data
        augmentation = augmentation_of(recipe, self.start.preset)
        steps = batches(
            TrainingSet(data.source, augmentation, plan.seed, data.ignore_label),
            range(self.position.step, recipe.iterations),
            recipe.batch,
            share=self.processes.share,
            accumulate=plan.accumulate,
            workers=_usual_workers() if plan.workers is None else plan.workers,
            pin_memory=self.processes.device.type == "cuda",
        )
        while True:
            before = time.perf_counter()
            step = next(steps, None)
            if step is None:
                return
            parts = [self._to_device(samples) for samples in step]
            yield parts, time.perf_counter() - before

    def _to_device(self, samples: Sequence[Sample]) -> MicroBatch:
        device, classes = self.processes.device, len(self.data.vocabulary)
        targets = []
        for sample in samples:
            found = targets_of(sample.label_map, classes, self.data.ignore_label)
            targets.append(
                replace(
                    found,
                    label_map=found.label_map.to(device, non_blocking=True),
                    classes=found.classes.to(device),
                )
            )
        return MicroBatch(
            torch.stack([sample.image.to(device, non_blocking=True) for sample in samples]),
            tuple(targets),
            tuple(sample.position % self.recipe.batch for sample in samples),
            tuple(sample.name for sample in samples),
        )

    def _report(self, result: StepResult, pace: Pace) -> Report:
        return Report(
            self.position.step,
            self.interval.means(),
            result.learning_rate,
            self.recipe.batch / pace.seconds_per_iteration,
            pace.seconds_per_iteration,
            pace.data_wait,
            peak_memory_mb(self.processes.device),
            self.position.skipped,
        )

    def _checkpoint(self) -> Checkpoint:
        metadata = {"trained_on": self.data.name, "iterations": str(self.position.step)}
        return checkpoint_of(self.trainer.model, self.start, metadata)

    def _save(self) -> Path | None:
        """Write a checkpoint (the leading process alone); all go on when it is complete."""
        path = None
        if self.processes.leads:
            scale = self.trainer.scaler.state_dict()
            position = replace(
                self.position,
                loss_scale=scale.get("scale", 0.0),
                loss_scale_steps=scale.get("_growth_tracker", 0),
                pending=dict(self.interval.sums),
                pending_steps=self.interval.steps,
                logged=self.logged,
            )
            path = checkpoints.save(
                self.plan.output / "checkpoints",
                self._checkpoint(),
                checkpoints.moments_of(self.trainer.optimizers, self.trainer.parameters),
                position,
                adapter_only=self.plan.adapter_only,
                keep=self.plan.keep,
            )
        self.saved = self.position.step
        self.processes.wait()
        return path

    def _evaluate(self, log: MetricsLog | None, watch: Watch) -> None:
        """Evaluate, draw the sheet of samples, and keep the model if it is the best so far."""
        # The model's own tensors are evaluated, and the images shared out over the processes.
        data, step, voice = self.data, self.position.step, self.plan.voice
        before = time.perf_counter()
        segmenter = segmenter_of(self._checkpoint(), self.text_embeddings, data, self.processes)
        indices = evaluated_images(len(data.validation), self.plan.evaluate_images)
        found = validate(segmenter, data, indices, self.processes, watch.evaluated)
        metrics = found.metrics

        if log is not None:
            # The best model comes first: a training that is killed from here on evaluates again, and finds it.
            row = {"mIoU": metrics.mIoU, "pACC": metrics.pACC, "mACC": metrics.mACC, "images": found.images}
            if metrics.mIoU > self.best_mIoU:
                write = checkpoints.writer(adapter_only=self.plan.adapter_only)
                keep_best(self.plan.output, self._checkpoint(), row | {"iteration": step}, write)
                self.best_mIoU = float(metrics.mIoU)

            # Pictures and images that can't be read are no reason to end a training of days.
            scores = f"iteration {step:,}: mIoU {metrics.mIoU:.2f} %, pixel accuracy {metrics.pACC:.2f} %"
            seconds = time.perf_counter() - before
            images = f"{counted(found.images, 'image')} ({printable(data.validation_name)})"
            voice.tell(f"{scores} on {images}, {seconds:.0f} s")
            for fault in found.faults:
                voice.tell(f"warning: left out of the evaluation: {fault}")
            try:
                self._draw(found, scores)
            except OSError as error:
                voice.tell(f"warning: no pictures of iteration {step:,} ({error})")

            # The log comes last: its line says that the evaluation is done.
            log.write({"iteration": step, "evaluation": data.validation_name, **row})
            self.logged = log.lines
        self.processes.wait()

    def _draw(self, found: Validation, title: str) -> None:
        """Write the sheet of samples. OSError where that fails."""
        folder = self.plan.output / "sheets"
        folder.mkdir(exist_ok=True)
        path = folder / f"step-{self.position.step:08d}.jpg"
        write_sample_sheet(path, found.rows, self.data.vocabulary.names, title)

    def _end(self, weights: Path | None) -> Ended:
        finished = self.position.step >= self.recipe.iterations
        target = self.plan.output / "model.safetensors"
        if self.processes.leads and finished:
            newest = weights or checkpoints.last(self.plan.output / "checkpoints")
            if newest is not None:
                file = newest if newest.is_file() else newest / "weights.safetensors"
                try:
                    checkpoints.publish(file, target)
                except OSError as error:
                    raise unwritable("the trained model", self.plan.output, error) from error
        return Ended(
            self.position.step,
            not finished,
            target if finished else (weights or target),
            self.best_mIoU,
        )


def _usual_workers() -> int:
    """Count the cores of each process, but one."""
    return max(1, min(8, (os.cpu_count() or 1) // processes_here() - 1))


def _row(report: Report, batch: int, length: int) -> dict[str, Any]:
    row = asdict(report)
    losses = row.pop("losses")
    return {"iteration": row.pop("iteration"), "epoch": report.iteration * batch / length, **losses, **row}


def _diverged(result: StepResult, count: int, output: Path) -> SanError:
    names = (
        ", ".join(printable(name) for name in result.offending[:5])
        or "none by itself: the gradient overflowed"
    )
    hint = "Look at these images; a lower --lr or --precision fp32 may help, in another -o."
    last = checkpoints.last(output / "checkpoints")
    if last is not None:
        weights = printable(str(last / "weights.safetensors"))
        hint += f" The last good weights can be gone on from with --init-from {weights}."
    return SanError(
        f"the loss was not finite in {count} iterations in a row; images of the last one: {names}",
        hint=hint,
        code=ExitCode.SOME_FAILED,
    )
