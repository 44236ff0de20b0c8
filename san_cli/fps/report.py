"""The measurements as JSON, as tables of any width, and as Markdown."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from san_cli.fps.context import Context
from san_cli.fps.end_to_end import FolderRate
from san_cli.fps.measure import Row, SizeResult
from san_cli.fps.published import SOURCE
from san_cli.fps.timing import CONFIDENCE
from san_cli.text import counted, json_text, printable

NOTES = (
    "Weights and text embeddings are random: only the architecture matters here. Text embedding and loading are "
    "not in FPS, as in the paper.",
    "GFLOPs: 10⁹ multiply-adds an image by the paper's convention (20 classes, the released code's form of SAN). "
    "executed: what this program's networks run, and the output step for the classes asked for by the plain formula.",
    "SimSeg, OvSeg and MaskCLIP are compact rebuilds; MaskCLIP's CLIP input of 512 px is a guess.",
    SOURCE + ".",
)

# Columns of `efficiency_rows` that stay together: ours, the paper's and what SAN's is of it.
_EFFICIENCY_GROUPS = ((1, 2, 3), (4, 5, 6, 7), (8, 9), (10, 11))
_BETWEEN, _EDGES = 3, 2  # columns of space in a table on a terminal
FOLDABLE = ("stages ms",)  # headers of columns whose cells may be wrapped
_NARROWEST_STAGES = 25

Rows = Sequence[Sequence[str]]


def json_lines(results: Sequence[SizeResult], context: Context, folder: FolderRate | None) -> list[str]:
    """One JSON object for each size."""
    ending = {} if folder is None else {"folder": asdict(folder)}
    return [json_text(result_json(result, context) | ending) for result in results]


def result_json(result: SizeResult, context: Context) -> dict[str, Any]:
    """One size's result, JSON values; the keys are documented in the README."""
    return {
        "size": result.size,
        "classes": context.setup.classes,
        "device": str(context.setup.device),
        "threads": context.threads,
        "precision": context.precision,
        "systems": [_system_json(row, result.san) for row in result.rows],
        "batch": context.setup.batch,
        "compile": context.setup.compile,
        "weights": "random",
        "text_ms_per_word": round(context.text_ms_per_word, 2),
        "machine": dict(context.machine),
        "gpu_state": context.gpu_state,
        "command": shlex.join(context.command),
    }


def _system_json(row: Row, san: Row | None) -> dict[str, Any]:
    cost, timing = row.cost, row.timing
    return {
        "name": row.case.system,
        "model": row.case.preset.name if row.case.system == "san" else None,
        "clip_size": row.case.clip_size,
        "params_trainable": cost.params_trainable,
        "params_total": cost.params_total,
        "gflops_network": round(cost.gflops_network, 4),
        "gflops_output": round(cost.gflops_output, 4),
        "gflops_paper_convention": round(cost.gflops_paper, 4),
        "gflops_paper_convention_network": round(cost.gflops_paper_network, 4),
        "fps": _significant(row.fps),
        "latency_ms": {
            "median": round(timing.median, 3),
            "p10": round(timing.p10, 3),
            "p90": round(timing.p90, 3),
            "median_interval": None if timing.interval is None else [round(ms, 3) for ms in timing.interval],
            "confidence": CONFIDENCE,
            "calls": timing.calls,
            "warmed_up": timing.warmed_up,
        },
        "peak_memory_mb": None if timing.peak_memory_mb is None else round(timing.peak_memory_mb),
        "stages_ms": {stage: round(ms, 3) for stage, ms in timing.stages.items()},
        "paper": {
            "params_m": row.paper.params_m,
            "gflops": row.paper.gflops,
            "fps": row.paper.fps,
            "miou_ade150": row.paper.miou,
        },
        "san_is_faster": None if san is None else _significant(san.fps / row.fps),
        "built_s": round(row.built_s, 2),
    }


def efficiency_rows(result: SizeResult) -> list[list[str]]:
    """Table 3 with the paper's value beside each of ours; the first row is the header."""
    header = ["system", "params M", "paper", "× SAN", "GFLOPs", "paper", "× SAN", "executed", "FPS", "paper"]
    rows = [[*header, "SAN is faster", "paper"]]
    san = result.san
    for row in result.rows:
        cost, paper = row.cost, row.paper
        ratios, quoted = ("–", "–", "–"), "–"
        if san is not None:
            ratios = (
                f"{cost.params_trainable / san.cost.params_trainable:.1f}",
                f"{cost.gflops_paper / san.cost.gflops_paper:.1f}",
                f"{san.fps / row.fps:.1f}×",
            )
            if san.paper.fps is not None and paper.fps is not None:
                quoted = f"{san.paper.fps / paper.fps:.1f}×"
        rows.append(
            [
                row.case.label, f"{cost.params_trainable / 1e6:.2f}", _quoted(paper.params_m), ratios[0],
                f"{cost.gflops_paper:.1f}", _quoted(paper.gflops), ratios[1],
                f"{cost.gflops_network:.1f} + {cost.gflops_output:.1f}",
                f"{row.fps:.3g}", _quoted(paper.fps), ratios[2], quoted,
            ]
        )  # fmt: skip
    return rows


def timing_rows(result: SizeResult) -> list[list[str]]:
    """Times and memory of each system; the first row is the header."""
    rows = [
        ["system", "ms, median", "p10–p90", f"{CONFIDENCE:.0%} interval", "calls", "memory MB", "stages ms"]
    ]
    for row in result.rows:
        timing = row.timing
        interval = "–" if timing.interval is None else "–".join(map(_ms, timing.interval))
        memory = "–" if timing.peak_memory_mb is None else f"{timing.peak_memory_mb:.0f}"
        calls = str(timing.calls) if timing.warmed_up else f"{timing.calls}, the first"
        stages = " · ".join(f"{stage} {_ms(ms)}" for stage, ms in timing.stages.items())
        quantiles = f"{_ms(timing.p10)}–{_ms(timing.p90)}" if timing.interval is not None else "–"
        rows.append([row.case.label, _ms(timing.median), quantiles, interval, calls, memory, stages])
    return rows


def title(result: SizeResult, context: Context) -> str:
    """Return the heading of a size's tables."""
    setup = context.setup
    compiled = ", compiled" if setup.compile else ""
    return (
        f"{result.size}×{result.size}, {counted(setup.classes, 'class')}, batch {setup.batch}, {context.precision} "
        f"on {setup.device}{compiled}"
    )


def footer(context: Context, folder: FolderRate | None) -> list[str]:
    """Lines below the tables: notes, what is timed apart, the machine, the command."""
    machine, lines = context.machine, list(NOTES)
    words, word_ms = context.setup.classes, context.text_ms_per_word
    lines.append(
        f"Text, timed apart: {word_ms:.0f} ms a word (14 prompts), once per vocabulary and kept on disk; "
        f"{words} words take {words * word_ms / 1000:.1f} s."
    )
    if folder is not None:
        lines.append(folder_line(folder))
    state = ", ".join(f"{name} {value}" for name, value in (context.gpu_state or {}).items())
    gpu = f"{machine['gpu']} (after the last call: {state or 'unknown'}), " if "gpu" in machine else ""
    packages = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines.append(
        f"Machine: {gpu}{machine['processor']}, {machine['cores']} cores, {context.threads} threads, "
        f"{machine['system']}, load before {machine['load']}; {packages}."
    )
    return [*lines, f"Command: {shlex.join(context.command)}"]


def folder_line(folder: FolderRate) -> str:
    """Tell the rate at which a folder was decoded, segmented and written."""
    stages = " · ".join(f"{stage} {_ms(ms)}" for stage, ms in folder.stages_ms.items())
    failed = f", {folder.failed} failed" if folder.failed else ""
    return (
        f"Folder: {counted(folder.images, 'image')}{failed}, {folder.images_per_s:.3g} images a second from files to "
        f"files ({counted(folder.classes, 'class')}, {folder.weights} weights; ms an image, which overlap: {stages})."
    )


def tables(result: SizeResult, width: int) -> list[list[list[str]]]:
    """Both tables of a size, in as many parts as a terminal of `width` columns needs; first rows are headers."""
    timing = timing_rows(result)
    alone = [[column] for column in range(1, len(timing[0]))]
    return [
        [[row[column] for column in columns] for row in rows]
        for rows, groups in ((efficiency_rows(result), _EFFICIENCY_GROUPS), (timing, alone))
        for columns in fitting(rows, groups, width)
    ]


def fitting(rows: Rows, groups: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    """Share columns out into tables, none wider than `width` if that can be: column 0 and as many groups as fit."""
    taken = [_width(rows, column) for column in range(len(rows[0]))]
    found: list[list[int]] = []
    left = 0
    for group in groups:
        needed = sum(taken[column] + _BETWEEN for column in group)
        if not found or needed > left:
            found.append([0])
            left = width - taken[0] - _EDGES
        found[-1] += group
        left -= needed
    return found


def _width(rows: Rows, column: int) -> int:
    widest = max(len(printable(row[column])) for row in rows)
    return min(widest, _NARROWEST_STAGES) if rows[0][column] in FOLDABLE else widest


def markdown(results: Sequence[SizeResult], context: Context, folder: FolderRate | None) -> str:
    """Both tables of each size in Markdown, and the lines below them."""
    sizes = [
        "\n\n".join(
            [
                f"**{title(result, context)}**",
                _markdown_table(efficiency_rows(result)),
                _markdown_table(timing_rows(result)),
            ]
        )
        for result in results
    ]
    lines = "\n".join(f"- {printable(line)}" for line in footer(context, folder))
    return "\n\n".join([*sizes, lines])


def _markdown_table(rows: Rows) -> str:
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 99.5 else f"{milliseconds:.3g}"


def _quoted(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def _significant(value: float) -> float:
    return float(f"{value:.4g}")
