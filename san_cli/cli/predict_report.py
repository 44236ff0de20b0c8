"""What `san predict` says: JSONL on stdout, everything else on stderr."""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from san_cli.cli import console
from san_cli.cli.progress import duration
from san_cli.errors import ExitCode, SanError
from san_cli.text import counted, printable

if TYPE_CHECKING:
    from san_cli.engine.segmenter import Segmenter
    from san_cli.outputs.record import ImageRecord
    from san_cli.predict.finish import Tally
    from san_cli.predict.folder import Ending
    from san_cli.predict.pipeline import Outcome
    from san_cli.runs.shares import Share

_NOTES_SHOWN = 3  # of each kind
_CLASSES_SHOWN = 12


@dataclass
class Report:
    """What is told of a run, and what is counted for that."""

    output: Path
    save: tuple[str, ...]
    jsonl: bool
    quiet: bool
    leads: bool = True  # the other processes of a team only tell of their failures
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
    has_regions: bool = False  # whether any image done now has some

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count what is done meanwhile as a stage."""
        started = time.monotonic()
        yield
        self.seconds[stage] = time.monotonic() - started

    def info(self, text: str) -> None:
        """A line that `--quiet` leaves out."""
        if self.leads and not self.quiet:
            console.say(text)

    def warning(self, text: str) -> None:
        """Something that the user should know even with `--quiet`; said once."""
        if self.leads and text not in self.warned:
            self.warned.add(text)
            console.warn(text)

    def failure(self, name: str, cause: str) -> None:
        """The one line about an input that failed."""
        self.failed += 1
        console.say(f"failed: {printable(name)}: {printable(cause)}")

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
            self.has_regions |= bool(outcome.record.regions)
            self.highest = max(self.highest, outcome.highest)
        for note in outcome.notes:
            kind = re.sub(r"[-+.,\d]+", "", note)  # the same but for its numbers
            self.notes[kind] += 1
            if self.notes[kind] <= _NOTES_SHOWN:
                self.info(f"note: {printable(outcome.record.file_name)}: {printable(note)}")
            elif self.notes[kind] == _NOTES_SHOWN + 1:
                self.info("note: further images of which the same is to be said are not named")

    def json_line(
        self,
        path: str,
        record: "ImageRecord",
        classes: Sequence[str],
        exif_orientation: int = 1,
        ms: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """One input, which is at `path`, as a line on stdout."""
        from san_cli.outputs.jsonl import image_line
        from san_cli.predict.results import result_paths

        outputs = {} if record.error else result_paths(record.file_name, self.save)
        line = image_line(
            record,
            classes,
            input=path,
            exif_orientation=exif_orientation,
            outputs={kind: str(self.output / relative) for kind, relative in outputs.items()},
            ms=ms,
            segmentation="json" in self.save,
        )
        _print_data(line)

    def end(self, ending: "Ending", classes: Sequence[str], share: "Share") -> None:
        """The closing summary."""
        now = time.monotonic()
        counts = [f"{self.done:,} done"] if self.done or not self.done_before else ["nothing new"]
        counts += [f"{self.done_before:,} done before"] * (self.done_before > 0)
        counts += [f"{self.failed:,} failed"] * (self.failed > 0)
        rate = f", {self.done / self.work_seconds:.3g} images a second" if self.done > 1 else ""
        part = f"share {share.index + 1}/{share.count}: " if share.count > 1 else ""
        self.info(f"{part}{', '.join(counts)} in {duration(now - self.started)}{rate}")
        if self.done:
            stages = (f"{stage} {duration(seconds)}" for stage, seconds in self.seconds.items())
            self.info(f"time by stage (the last four overlap): {', '.join(stages)}")
        if ending.tally is not None and share.count > 1:
            self.info(f"all shares: {ending.tally.images:,} images, {ending.tally.failed:,} failed")
        if ending.tally is not None and ending.tally.removed:
            removed = ending.tally.removed
            self.info(
                f"removed: {counted(len(removed), 'result')} of inputs that are gone or can't be read any more, "
                f"e.g. {printable(removed[0])}"
            )
        if ending.tally is not None:
            for line in coverage_table(ending.tally, classes):
                self.info(line)
        if ending.missing:
            self.info(
                f"{ending.missing:,} images of other shards are still missing; "
                "the shard that ends last merges the results"
            )
        if not (self.done or self.done_before) or not self.save:
            return
        there = [kind for kind in self.save if kind != "json" or not ending.missing]
        self.info(f"results: {printable(str(self.output))}{_files(there)}")

    def nothing_found(self, classes: Sequence[str], show: Sequence[str] | None, min_score: float) -> None:
        """Say why no image done now has a class, and how near it was."""
        if self.has_regions or not self.highest[0]:
            return
        score, class_id = self.highest
        if score < min_score:
            why = f"no pixel reached --min-score {min_score:g}; the largest score was {score:.2g}"
        elif show:
            why = f"nothing of {named(show)} came out first anywhere; the largest score was {score:.2g}"
        else:
            return
        self.info(f"note: nothing found: {why} ({printable(classes[class_id])})")

    def exit_code(self, ending: "Ending") -> ExitCode:
        """What the counts come to, over all images where they are known; of a team only the leader tells."""
        if not self.leads:
            return ExitCode.DONE
        tally = ending.tally
        failed = self.failed if tally is None else tally.failed
        total = self.done + self.done_before + self.failed if tally is None else tally.images
        if failed:
            return ExitCode.NO_INPUT if failed == total else ExitCode.SOME_FAILED
        return ExitCode.DONE


def run_line(segmenter: "Segmenter", weights: str | None, device: str, classes: int, images: int) -> str:
    """What runs, on one line: model, weights, device and why, precision, classes, images."""
    import torch

    from san_cli.engine.device import PRECISIONS
    from san_cli.weights.find import local_weights

    model = segmenter.preset.name
    path = weights or local_weights(model)
    where = str(segmenter.device)
    if segmenter.device.type == "cuda":
        where += f" ({torch.cuda.get_device_name(segmenter.device)})"
    elif where == "cpu":
        where += " (no GPU found)" if device == "auto" else " (as asked)"
    precision = next(name for name, dtype in PRECISIONS.items() if dtype == segmenter.precision)
    counts = f"{_counted(classes, 'class', 'classes')}, {_counted(images, 'image', 'images')}"
    return f"{model} ({printable(_short(path)) if path else 'official weights'}) on {where}, {precision}: {counts}"


def _short(path: object) -> str:
    """A path as it is shortest to read: from here, and not more than its last parts where it is long."""
    text = str(path)
    with suppress(ValueError, OSError):
        text = min(text, os.path.relpath(text), key=len)
    return text if len(text) <= 44 else f"…{text[-43:]}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def named(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(printable(name) for name in names[:3]) + (", …" if len(names) > 3 else "")


def coverage_table(tally: "Tally", classes: Sequence[str]) -> list[str]:
    """The largest classes with their share of all pixels, as lines."""
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


def _files(save: Sequence[str]) -> str:
    kinds = {
        "overlay": "*.overlay.jpg",
        "labels": "*.labels.png",
        "json": "predictions.json",
        "html": "index.html",
    }
    return f" ({', '.join(kinds[kind] for kind in save)})" if save else ""


def _print_data(line: str) -> None:
    """A line on stdout, at once. BrokenPipeError where nobody reads, SanError where it can't be written."""
    try:
        if sys.stdout is None:
            raise OSError("it is closed")
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        if sys.stdout is not None:
            # What is buffered would fail again when Python exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        reason = getattr(error, "strerror", None) or error
        raise SanError(
            f"can't write to standard output: {str(reason).lower()}",
            hint="What is written is complete; run the same command again to go on.",
            code=ExitCode.SOME_FAILED,
        ) from error
