"""The report of an evaluation as it is written: a table, JSON, results.json, results.md and per_class.csv."""

import csv
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from san_cli.errors import SanError
from san_cli.evaluate.published import TABLE_2_SOURCE, LoggedResult
from san_cli.evaluate.result import METRICS, EvalResult, Trials, trials_of
from san_cli.files import atomic_write
from san_cli.text import json_text, printable

_RULES = (
    "mIoU divides the sum of the IoUs by the number of classes in the ground truth (detectron2 since July 2022, "
    "and SAN's released logs). mIoU v0.6 divides it by the number of classes in the ground truth or predicted "
    "(detectron2 up to v0.6, and the paper). The log's numbers belong beside the first, the paper's beside the "
    "second."
)
_Rows = Sequence[Sequence[str]]  # of a table, the first being its head
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


@dataclass(frozen=True)
class Report:
    """Everything that a run of `san eval` has to tell."""

    results: tuple[EvalResult, ...]
    settings: Mapping[str, Any]  # how the numbers came about
    skipped: Mapping[str, str]  # datasets that were left out, and why
    quoted: _Rows = ()  # published numbers
    pictures: tuple[str, ...] = ()  # paths relative to the folder of the report
    ended: SanError | KeyboardInterrupt | None = None  # what ended the run early

    @cached_property
    def trials(self) -> list[Trials]:
        """Compute mean and deviation of each dataset that was evaluated with several weights."""
        return trials_of(self.results)

    @property
    def is_partial(self) -> bool:
        """Tell whether datasets or images were left out."""
        return bool(self.skipped) or any(result.skipped for result in self.results)


def write_report(folder: Path, report: Report) -> None:
    """Write the three files into `folder`, which exists. OSError where that fails."""
    document = {
        "settings": dict(report.settings),
        "results": [_full_json(result) for result in report.results],
        "trials": [_trials_json(one) for one in report.trials],
        "skipped_datasets": _skipped_json(report),
    }
    for name, content in {
        "results.json": json.dumps(document, indent=1, allow_nan=False) + "\n",
        "results.md": markdown_report(report),
        "per_class.csv": per_class_csv(report.results),
    }.items():
        with atomic_write(folder / name) as stream:
            stream.write(content.encode("utf-8", "backslashreplace"))


def report_json(report: Report) -> str:
    """Write the report as `--json` promises it: `trials` and skipped datasets only where there are any."""
    document: dict[str, Any] = {"results": [_result_json(result) for result in report.results]}
    if report.trials:
        document["trials"] = [_trials_json(one) for one in report.trials]
    if report.skipped:
        document["skipped_datasets"] = _skipped_json(report)
    return json_text(document)


def print_report(report: Report, out: Console, print_table: Callable[[Console, _Rows, str], None]) -> None:
    """Print the table of results, what is to be known about it, and quoted rows apart from it."""
    print_table(out, _summary_rows(report.results), "Results")
    for line in _skip_lines(report):
        out.print(printable(line), style="bold red", markup=False)
    lines = [_trials_line(one) for one in report.trials]
    lines += [f"{result.dataset}: {note}" for result in report.results for note in result.notes]
    if any(result.rules_differ for result in report.results):
        lines.append(_RULES)
    for line in lines:
        out.print(printable(line), markup=False)
    if report.quoted:
        print_table(out, report.quoted, TABLE_2_SOURCE)
    for result in report.results:
        times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items())
        out.print(printable(f"{result.dataset}: {times}"), markup=False)
    out.print(_footer(report), markup=False)


def markdown_report(report: Report) -> str:
    """Write the whole of results.md."""
    results = report.results
    parts = ["# Evaluation", *(f"**{_md(line)}**" for line in _skip_lines(report))]
    if results:
        parts += [_table(_summary_rows(results)), _RULES]
    parts += [_md(_trials_line(one)) for one in report.trials]
    parts += [f"- {_md(result.dataset)}: {_md(note)}" for result in results for note in result.notes]
    for result in results:
        if result.logged is not None:
            parts.append(f"## {_md(result.title)} beside the official log")
            parts.append(_table(_log_rows(result, result.logged)))
    if report.quoted:
        parts += ["## Published numbers, quoted", _table(report.quoted)]
    for result in results:
        name = f"{_md(result.title)} ({_md(result.split)}, {_md(result.weights)})"
        parts += [f"## {name}: classes", _table(_class_rows(result))]
        if result.confused:
            parts += ["Most costly confusions:", _table(_confused_rows(result))]
        if result.skipped:
            parts.append("**Skipped:**\n\n" + "\n".join(f"- {_md(why)}" for _, why in result.skipped))
    parts += [f"![{_md(path)}](<{path}>)" for path in report.pictures]
    listed = "\n".join(f"- {_md(key)}: {_md(_told(value))}" for key, value in report.settings.items())
    return "\n\n".join([*parts, "## Settings", listed]) + "\n"


def per_class_csv(results: Sequence[EvalResult]) -> str:
    """Write per_class.csv: one row a class of each result."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    pixels = ["truth_pixels", "predicted_pixels", "hit_pixels"]
    writer.writerow(["dataset", "model", "weights_sha256", "id", "name", "IoU", "ACC", *pixels])
    for result in results:
        for one in result.per_class:
            scores = ["" if score is None else f"{score:.4f}" for score in (one.IoU, one.ACC)]
            counts = [one.truth_pixels, one.predicted_pixels, one.hit_pixels]
            names = [result.dataset, result.model or "", result.weights_sha256 or ""]
            writer.writerow([*names, one.id, printable(one.name), *scores, *counts])
    return stream.getvalue()


def _footer(report: Report) -> str:
    settings = report.settings
    models = dict.fromkeys(
        f"{result.model}, weights {(result.weights_sha256 or '')[:12]}"
        for result in report.results
        if result.model
    )
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    where = f"{settings['device']}, {settings['precision']}" if settings["device"] else "no model"
    return printable("; ".join([*models, where, versions]))


def _summary_rows(results: Sequence[EvalResult]) -> list[list[str]]:
    """Make the table of all results, the first row its head; columns that nothing fills are left out."""
    head = ["dataset", "weights", "images", "classes", "mIoU %", "official log %", "mIoU v0.6 %", "paper %"]
    rows = [[*head, "fwIoU %", "mACC %", "pACC %", "time"]]
    several = len({result.weights for result in results}) > 1
    for result in results:
        logged = "" if result.logged is None else f"{result.logged.mIoU:.2f}"
        v06 = _percent(result.mIoU_v06) if result.rules_differ else "same"
        numbers = [_percent(result.mIoU), logged, v06, result.paper or ""]
        numbers += [_percent(getattr(result, metric)) for metric in ("fwIoU", "mACC", "pACC")]
        weights = result.weights if several else ""
        counts = [f"{result.images:,}", f"{result.classes_present}/{len(result.per_class)}"]
        rows.append([result.dataset, weights, *counts, *numbers, f"{result.seconds['total']:.0f} s"])
    used = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    return [[row[column] for column in used] for row in rows]


def _percent(value: float | None) -> str:
    """Write a metric for a table, whose heads have the sign."""
    return "–" if value is None else f"{value:.2f}"


def _skip_lines(report: Report) -> list[str]:
    """Say what was left out, one sentence each, for bold print."""
    lines = [
        f"{len(result.skipped):,} of {result.images + len(result.skipped):,} images of {result.dataset} were "
        f"skipped and do not count: {result.skipped[0][1]}" + (" …" if len(result.skipped) > 1 else "")
        for result in report.results
        if result.skipped
    ]
    return lines + [f"the dataset {name} was skipped: {why}" for name, why in report.skipped.items()]


def _trials_line(one: Trials) -> str:
    """Write mean ± deviation on one line."""
    numbers = [f"{m.replace('_v06', ' v0.6')} {one.mean[m]:.2f} ± {one.deviation[m]:.2f} %" for m in one.mean]
    return f"{one.dataset}, {one.count} weights (mean ± standard deviation): {', '.join(numbers)}"


def _result_json(result: EvalResult) -> dict[str, Any]:
    """Lay a result out as `--json` promises it; `skipped` only where there is something."""
    row: dict[str, Any] = {
        "dataset": result.dataset,
        "model": result.model,
        "weights_sha256": result.weights_sha256,
        "images": result.images,
        "classes": len(result.per_class),
        "classes_present": result.classes_present,
        **{metric: getattr(result, metric) for metric in METRICS},
        **{f"mIoU_{name}": value for name, value in result.groups.items()},
        "per_class": [
            {"id": one.id, "name": one.name, "IoU": one.IoU, "ACC": one.ACC} for one in result.per_class
        ],
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.seconds.items()},
    }
    if result.skipped:
        row["skipped"] = [{"image": image, "why": why} for image, why in result.skipped]
    return row


def _trials_json(trials: Trials) -> dict[str, Any]:
    return {
        "dataset": trials.dataset,
        "trials": trials.count,
        **{m: {"mean": mean, "std": trials.deviation[m]} for m, mean in trials.mean.items()},
    }


def _skipped_json(report: Report) -> list[dict[str, str]]:
    return [{"dataset": name, "why": why} for name, why in report.skipped.items()]


def _full_json(result: EvalResult) -> dict[str, Any]:
    """Add what results.json has beyond `--json`."""
    return {
        **_result_json(result),
        "title": result.title,
        "split": result.split,
        "weights": result.weights,
        "classes_present_or_predicted": result.classes_seen,
        "unclassified_pixels": result.unclassified_pixels,
        "official_log": None if result.logged is None else vars(result.logged),
        "paper_mIoU_v06": result.paper,
        "confused": [{"truth": t, "predicted": p, "pixels": count} for t, p, count in result.confused],
        "notes": list(result.notes),
    }


def _log_rows(result: EvalResult, logged: LoggedResult) -> list[list[str]]:
    metrics = [metric for metric in METRICS if metric != "mIoU_v06"]
    rows = [["", *(f"{metric} %" for metric in metrics)], ["here"], ["official log"], ["difference"]]
    for metric in metrics:
        ours, theirs = getattr(result, metric), getattr(logged, metric)
        rows[1].append(_percent(ours))
        rows[2].append(_percent(theirs))
        rows[3].append("–" if ours is None else f"{ours - theirs:+.2f}")
    return rows


def _class_rows(result: EvalResult) -> list[list[str]]:
    ranked = sorted(result.per_class, key=lambda one: (one.IoU is None, one.IoU or 0.0, one.id))
    rows = [
        [str(one.id), one.name, _percent(one.IoU), _percent(one.ACC), f"{one.truth_pixels:,}"]
        for one in ranked
    ]
    return [["id", "class", "IoU %", "ACC %", "pixels"], *rows]


def _confused_rows(result: EvalResult) -> list[list[str]]:
    names = [one.name for one in result.per_class]
    rows = [[names[truth], names[predicted], f"{pixels:,}"] for truth, predicted, pixels in result.confused]
    return [["truth", "predicted", "pixels"], *rows]


def _told(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(rows: _Rows) -> str:
    lines = ["| " + " | ".join(_md(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _md(text: str) -> str:
    """Write text of unknown origin as plain text in Markdown."""
    return html.escape(_MARKDOWN.sub(r"\\\1", printable(text)), quote=False)
