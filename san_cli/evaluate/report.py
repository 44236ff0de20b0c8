"""The report of `san eval` in a folder: results.json, results.md and per_class.csv."""

import csv
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from san_cli.evaluate.report_data import METRICS, EvalResult, Trials, result_json
from san_cli.files import atomic_write
from san_cli.text import printable

RULES = (
    "mIoU divides the sum of the IoUs by the number of classes in the ground truth (detectron2 since July 2022, "
    "and SAN's released logs). mIoU v0.6 divides it by the number of classes in the ground truth or predicted "
    "(detectron2 up to v0.6, and the paper). The log's numbers belong beside the first, the paper's beside the "
    "second."
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


def write_report(
    folder: Path,
    results: Sequence[EvalResult],
    trials: Sequence[Trials],
    settings: Mapping[str, Any],
    quoted: Sequence[Sequence[str]],
    skipped_datasets: Sequence[tuple[str, str]],
    pictures: Sequence[str],
) -> None:
    """Write the three files into `folder`, which exists. OSError where that fails.

    `quoted`: published rows to add, the first being the table's head. `pictures`: paths relative to `folder`.
    """
    document = {
        "settings": dict(settings),
        "results": [_full_json(result) for result in results],
        "trials": [trials_json(one) for one in trials],
        "skipped_datasets": [{"dataset": name, "why": why} for name, why in skipped_datasets],
    }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    markdown = markdown_report(results, trials, settings, quoted, skipped_datasets, pictures)
    for name, content in {
        "results.json": text,
        "results.md": markdown,
        "per_class.csv": per_class_csv(results),
    }.items():
        with atomic_write(folder / name) as stream:
            stream.write(content.encode("utf-8", "backslashreplace"))


def trials_json(trials: Trials) -> dict[str, Any]:
    """Mean and standard deviation of each metric."""
    return {
        "dataset": trials.dataset,
        "trials": trials.count,
        **{m: {"mean": mean, "std": trials.deviation[m]} for m, mean in trials.mean.items()},
    }


def per_class_csv(results: Sequence[EvalResult]) -> str:
    """One row a class of each result."""
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


def summary_rows(results: Sequence[EvalResult]) -> list[list[str]]:
    """The table of all results, the first row its head; columns that nothing fills are left out."""
    head = ["dataset", "weights", "images", "classes", "mIoU %", "official log %", "mIoU v0.6 %", "paper %"]
    rows = [[*head, "fwIoU %", "mACC %", "pACC %", "time"]]
    several = len({result.weights for result in results}) > 1
    for result in results:
        logged = "" if result.logged is None else f"{result.logged['mIoU']:.2f}"
        v06 = percent(result.mIoU_v06) if result.rules_differ else "same"
        numbers = [percent(result.mIoU), logged, v06, result.paper or ""]
        numbers += [percent(getattr(result, metric)) for metric in ("fwIoU", "mACC", "pACC")]
        weights = result.weights if several else ""
        counts = [f"{result.images:,}", f"{result.classes_present}/{len(result.per_class)}"]
        rows.append([result.dataset, weights, *counts, *numbers, f"{result.seconds['total']:.0f} s"])
    used = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    return [[row[column] for column in used] for row in rows]


def percent(value: float | None) -> str:
    """A metric as tables print it, whose heads have the sign."""
    return "–" if value is None else f"{value:.2f}"


def skip_lines(results: Sequence[EvalResult], datasets: Sequence[tuple[str, str]]) -> list[str]:
    """What was left out, one sentence each, for bold print."""
    lines = [
        f"{len(result.skipped):,} of {result.images + len(result.skipped):,} images of {result.dataset} were "
        f"skipped and do not count: {result.skipped[0][1]}" + (" …" if len(result.skipped) > 1 else "")
        for result in results
        if result.skipped
    ]
    return lines + [f"the dataset {name} was skipped: {why}" for name, why in datasets]


def trials_line(one: Trials) -> str:
    """Mean ± deviation on one line."""
    numbers = [f"{m.replace('_v06', ' v0.6')} {one.mean[m]:.2f} ± {one.deviation[m]:.2f} %" for m in one.mean]
    return f"{one.dataset}, {one.count} weights (mean ± standard deviation): {', '.join(numbers)}"


def markdown_report(
    results: Sequence[EvalResult],
    trials: Sequence[Trials],
    settings: Mapping[str, Any],
    quoted: Sequence[Sequence[str]],
    skipped_datasets: Sequence[tuple[str, str]],
    pictures: Sequence[str],
) -> str:
    """The whole of results.md."""
    parts = ["# Evaluation", *(f"**{_md(line)}**" for line in skip_lines(results, skipped_datasets))]
    if results:
        parts += [_table(summary_rows(results)), RULES]
    parts += [_md(trials_line(one)) for one in trials]
    parts += [f"- {_md(result.dataset)}: {_md(note)}" for result in results for note in result.notes]
    for result in results:
        if result.logged is not None:
            parts.append(f"## {_md(result.title)} beside the official log")
            parts.append(_table(_log_rows(result)))
    if quoted:
        parts += ["## Published numbers, quoted", _table(quoted)]
    for result in results:
        name = f"{_md(result.title)} ({_md(result.split)}, {_md(result.weights)})"
        parts += [f"## {name}: classes", _table(_class_rows(result))]
        if result.confused:
            parts += ["Most costly confusions:", _table(_confused_rows(result))]
        if result.skipped:
            parts.append("**Skipped:**\n\n" + "\n".join(f"- {_md(why)}" for _, why in result.skipped))
    parts += [f"![{_md(path)}](<{path}>)" for path in pictures]
    listed = "\n".join(f"- {_md(key)}: {_md(_told(value))}" for key, value in settings.items())
    return "\n\n".join([*parts, "## Settings", listed]) + "\n"


def _full_json(result: EvalResult) -> dict[str, Any]:
    """What results.json has beyond `--json`."""
    return {
        **result_json(result),
        "title": result.title,
        "split": result.split,
        "weights": result.weights,
        "classes_present_or_predicted": result.classes_seen,
        "unclassified_pixels": result.unclassified_pixels,
        "official_log": None if result.logged is None else dict(result.logged),
        "paper_mIoU_v06": result.paper,
        "confused": [{"truth": t, "predicted": p, "pixels": count} for t, p, count in result.confused],
        "notes": list(result.notes),
    }


def _log_rows(result: EvalResult) -> list[list[str]]:
    metrics = [metric for metric in METRICS if metric != "mIoU_v06"]
    rows = [["", *(f"{metric} %" for metric in metrics)], ["here"], ["official log"], ["difference"]]
    for metric in metrics:
        ours, theirs = getattr(result, metric), (result.logged or {})[metric]
        rows[1].append(percent(ours))
        rows[2].append(percent(theirs))
        rows[3].append("–" if ours is None else f"{ours - theirs:+.2f}")
    return rows


def _class_rows(result: EvalResult) -> list[list[str]]:
    ranked = sorted(result.per_class, key=lambda one: (one.IoU is None, one.IoU or 0.0, one.id))
    rows = [
        [str(one.id), one.name, percent(one.IoU), percent(one.ACC), f"{one.truth_pixels:,}"] for one in ranked
    ]
    return [["id", "class", "IoU %", "ACC %", "pixels"], *rows]


def _confused_rows(result: EvalResult) -> list[list[str]]:
    names = [one.name for one in result.per_class]
    rows = [[names[truth], names[predicted], f"{pixels:,}"] for truth, predicted, pixels in result.confused]
    return [["truth", "predicted", "pixels"], *rows]


def _told(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(_md(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _md(text: str) -> str:
    """Text of unknown origin as plain text in Markdown."""
    return html.escape(_MARKDOWN.sub(r"\\\1", printable(text)), quote=False)
