"""Summary of a run of `san predict`, on stderr: failures at once, what was done and found at the end."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.engine.backend import RUNTIMES
from san_cli.engine.hardware import bfloat16_hint, cpu_flags, cpu_info
from san_cli.errors import ExitCode
from san_cli.outputs.places import told_kinds
from san_cli.outputs.record import ImageRecord
from san_cli.predict.finish import Tally
from san_cli.predict.folder import Ending
from san_cli.predict.request import Job, Model
from san_cli.predict.settings import ModelRun
from san_cli.runs.shares import Share
from san_cli.runs.voice import Voice
from san_cli.text import counted, duration, printable

if TYPE_CHECKING:
    from san_cli.predict.states import Outcome

_NOTES_SHOWN = 3  # of each kind
_CLASSES_SHOWN = 12


@dataclass
class Summary:
    """Counts of a run, and the lines that tell of it."""

    output: Path
    save: tuple[str, ...]
    voice: Voice
    done: int = 0
    done_before: int = 0
    failed: int = 0
    notes: Counter[str] = field(default_factory=Counter)  # by kind
    seconds: dict[str, float] = field(default_factory=dict)  # by stage, summed over threads
    started: float = field(default_factory=time.monotonic)
    warned: set[str] = field(default_factory=set)
    work_started: float = 0.0  # once the model is loaded and the vocabulary embedded
    work_seconds: float = 0.0  # from then to the last image
    highest: tuple[float, int] = (0.0, 0)  # the largest winning score and its class
    surest: tuple[float, int] = (0.0, 0)  # the largest confidence and its class
    told_size: bool = False  # of a picture that is larger than the network's view
    has_regions: bool = False  # whether any image done now has some

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of the block as that of a stage."""
        started = time.monotonic()
        yield
        self.seconds[stage] = time.monotonic() - started

    def warn(self, text: str | None) -> None:
        """Say something that the user should know even with `--quiet`; once, and nothing of None."""
        if text is not None and text not in self.warned:
            self.warned.add(text)
            self.voice.warn(text)

    def failure(self, name: str, cause: str) -> None:
        """Tell of an input that failed."""
        self.failed += 1
        self.voice.say(f"failed: {printable(name)}: {printable(cause)}")

    def outcome(self, outcome: "Outcome") -> None:
        """Count an image, and tell what is to be told of it."""
        for stage, ms in outcome.ms.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + ms / 1000
        if outcome.record.error is not None:
            self.failure(outcome.record.file_name, outcome.record.error)
        elif outcome.done_before:
            self.done_before += 1
        else:
            self.done += 1
            self.has_regions |= bool(outcome.record.found)
            self.highest = max(self.highest, outcome.highest)
            self.surest = max(self.surest, outcome.surest)
        for note in outcome.notes:
            kind = re.sub(r"[-+.,\d]+", "", note)  # the same but for its numbers
            self.notes[kind] += 1
            if self.notes[kind] <= _NOTES_SHOWN:
                self.voice.note(f"{printable(outcome.record.file_name)}: {printable(note)}")
            elif self.notes[kind] == _NOTES_SHOWN + 1:
                self.voice.note("further images of which the same is to be said are not named")

    def seen_small(self, record: ImageRecord) -> None:
        """Say once that pictures are larger than the network's view."""
        if self.told_size:
            return
        self.told_size = True
        self.voice.note(
            f"{printable(record.file_name)} ({record.width:,} × {record.height:,} pixels) is seen at less than half "
            "its size, so small things are missed, here and in others as large: --tile auto looks closer"
        )

    def end(self, ending: Ending, classes: Sequence[str], share: Share) -> None:
        """Tell what was done, how fast, and what was found."""
        now = time.monotonic()
        counts = [f"{self.done:,} done"] if self.done or not self.done_before else ["nothing new"]
        counts += [f"{self.done_before:,} done before"] * (self.done_before > 0)
        counts += [f"{self.failed:,} failed"] * (self.failed > 0)
        rate = f", {self.done / self.work_seconds:.3g} images a second" if self.done > 1 else ""
        part = f"share {share.index + 1}/{share.count}: " if share.count > 1 else ""
        self.voice.tell(f"{part}{', '.join(counts)} in {duration(now - self.started)}{rate}")
        if self.done:
            stages = (f"{stage} {duration(seconds)}" for stage, seconds in self.seconds.items())
            self.voice.tell(f"time by stage (the last four overlap): {', '.join(stages)}")
        if ending.tally is not None and share.count > 1:
            self.voice.tell(f"all shares: {ending.tally.images:,} images, {ending.tally.failed:,} failed")
        if ending.tally is not None and ending.tally.removed:
            removed = ending.tally.removed
            self.voice.tell(
                f"removed: {counted(len(removed), 'result')} of inputs that are gone or can't be read any more, "
                f"e.g. {printable(removed[0])}"
            )
        if ending.tally is not None and ending.tally.left:
            left = ending.tally.left
            self.voice.note(
                f"left alone: {counted(len(left), 'file')} in the place of results that san hasn't made so, e.g. "
                f"{printable(left[0])} (remove it, and it is made)"
            )
        if ending.tally is not None:
            for line in coverage_table(ending.tally, classes):
                self.voice.tell(line)
        if ending.missing:
            self.voice.tell(
                f"{ending.missing:,} images of other shards are still missing; "
                "the shard that ends last merges the results"
            )
        if not (self.done or self.done_before) or not self.save:
            return
        there = [kind for kind in self.save if kind != "json" or not ending.missing]
        files = f" ({', '.join(told_kinds(there))})" if there else ""
        self.voice.tell(f"results: {printable(str(self.output))}{files}")

    def nothing_found(self, job: Job, names: Sequence[str]) -> None:
        """Say why no image done now has a class, and how near it was; `names` are of all classes that compete."""
        if self.has_regions or not self.highest[0]:
            return
        options = job.options
        wanted = job.vocabulary.names if options.only else options.show
        limits = (
            ("score", options.min_score, self.highest),
            ("confidence", options.min_confidence, self.surest),
        )
        set_limits, (value, class_id), kind = [], self.highest, "score"
        for what, limit, most in limits:
            if not limit:
                continue
            set_limits.append(f"--min-{what} {limit:g}" if isinstance(limit, float) else f"its --min-{what}")
            if isinstance(limit, float) and most[0] < limit:  # whatever the class: that alone is the reason
                (value, class_id), kind, wanted, set_limits = most, what, None, set_limits[-1:]
                break
        subject = f"of {_named(wanted)} " if wanted else ""
        if set_limits:
            came_first = "came out first and " if wanted else ""
            why = f"no pixel {subject}{came_first}reached {' and '.join(set_limits)}"
        elif wanted:
            why = f"nothing {subject}came out first anywhere"
        else:
            return
        name = names[class_id] if class_id < len(names) else "no object"
        told = f"the largest {kind} was {value:.2g} ({printable(name)})"
        self.voice.note(f"nothing found: {why}; {told}")

    def exit_code(self, ending: Ending) -> ExitCode:
        """Return what the counts come to, over all images where they are known."""
        tally = ending.tally
        failed = self.failed if tally is None else tally.failed
        total = self.done + self.done_before + self.failed if tally is None else tally.images
        if failed:
            return ExitCode.NO_INPUT if failed == total else ExitCode.SOME_FAILED
        return ExitCode.DONE


def run_line(model: ModelRun, asked: Model, classes: int, images: int) -> str:
    """Say what runs, on one line: model, weights, device and why, precision, classes, images.

    With it goes what would be faster: bfloat16, on a processor that has units for it.
    """
    from san_cli.weights.find import local_weights

    name = model.preset.name
    path = asked.weights or local_weights(name)
    where, hint = model.device, ""
    if model.backend in RUNTIMES:
        where = f"{RUNTIMES[model.backend]}, cpu"
    elif where.startswith("cuda"):
        import torch

        where += f" ({torch.cuda.get_device_name(where)})"
    elif where == "cpu":
        where += " (no GPU found)" if asked.device == "auto" else " (as asked)"
        hint = bfloat16_hint(cpu_flags(cpu_info())) if model.precision == "fp32" else ""
    precision = model.precision + (f" ({hint})" if hint else "")
    counts = f"{counted(classes, 'class', 'classes')}, {counted(images, 'image')}"
    return f"{name} ({printable(_short(path)) if path else 'official weights'}) on {where}, {precision}: {counts}"


def _short(path: object) -> str:
    """Shorten a path to what is best to read: from here, and not more than its last parts where it is long."""
    text = str(path)
    with suppress(ValueError, OSError):
        text = min(text, os.path.relpath(text), key=len)
    return text if len(text) <= 44 else f"…{text[-43:]}"


def _named(names: Sequence[str]) -> str:
    """Name the first few of many names."""
    return ", ".join(printable(name) for name in names[:3]) + (", …" if len(names) > 3 else "")


def coverage_table(tally: Tally, classes: Sequence[str]) -> list[str]:
    """List the largest classes with their share of all pixels, as lines."""
    order = sorted(tally.class_pixels, key=lambda class_id: (-tally.class_pixels[class_id], class_id))
    if not order:
        return []
    names = [printable(classes[class_id]) for class_id in order[:_CLASSES_SHOWN]]
    names = [name if len(name) <= 40 else f"{name[:39]}…" for name in names]
    width = max(len("CLASS"), *map(len, names))
    lines = [f"  {'CLASS':<{width}}  PIXELS  IMAGES"]
    for class_id, name in zip(order, names, strict=False):
        percent = 100 * tally.class_pixels[class_id] / tally.pixels
        share = f"{percent:5.1f}%" if percent >= 0.05 else " <0.1%"
        lines.append(f"  {name:<{width}}  {share}  {tally.class_images[class_id]:6,}")
    if len(order) > len(names):
        lines.append(f"  and {len(order) - len(names)} more classes")
    return lines
