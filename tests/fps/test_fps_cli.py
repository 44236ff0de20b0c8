"""`san fps` as its users run it, with the smallest model."""

import csv
import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from program import San

from san_cli.fps import report, timing

SMALL = ("fps", "--model", "tiny", "--size", "64", "--device", "cpu")


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS_EACH", 0.3)
    monkeypatch.setattr(timing, "_WARM_UP_CALLS", 2)
    torch.set_num_threads(1)


def test_json_has_the_promised_keys(san: San) -> None:
    ended = san(*SMALL, "--json", "--classes", "7", "--batch", "2")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert (found["size"], found["classes"], found["device"], found["threads"]) == (64, 7, "cpu", 1)
    assert (found["precision"], found["batch"], found["weights"]) == ("fp32", 2, "random")
    (system,) = found["systems"]
    assert system["name"] == "san" and system["model"] == "tiny" and system["clip_size"] == 42  # two thirds
    assert system["params_total"] > system["params_trainable"] > 0
    assert (
        system["gflops_paper_convention"]
        > system["gflops_paper_convention_network"]
        > system["gflops_network"]
    )
    assert system["gflops_output"] == pytest.approx(100 * 7 * 64 * 64 / 1e9, abs=1e-4)
    latency = system["latency_ms"]
    assert 0 < latency["p10"] <= latency["median"] <= latency["p90"]
    assert system["fps"] == pytest.approx(2000 / latency["median"], rel=1e-3)
    assert list(system["stages_ms"]) == ["clip", "side adapter", "mask decoder", "recognition", "output"]
    assert set(system["paper"]) == {"params_m", "gflops", "fps", "miou_ade150"}
    assert "peak_memory_mb" in system and found["machine"]["versions"]["torch"]


def test_sizes_in_one_run_at_one_clip_size(san: San) -> None:
    arguments = ("--sizes", "64,96", "--clip-size", "48", "--json", "--quiet")
    ended = san("fps", "--model", "tiny", "--device", "cpu", *arguments)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["size"] for line in lines] == [64, 96]
    assert [[system["clip_size"] for system in line["systems"]] for line in lines] == [[48], [48]]
    work = [line["systems"][0]["gflops_network"] for line in lines]
    assert work[0] < work[1] < 9 / 4 * work[0]  # the side adapter's grows, CLIP's doesn't
    said = [line for line in ended.err.splitlines() if "machine is busy" not in line]
    assert said == []


def test_tables_csv_plot_and_folder(
    san: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    table, plot = tmp_path / "runs.csv", tmp_path / "plot.png"
    files = ("--csv", table, "--plot", plot)
    ended = san(*SMALL, "--markdown", "--vocab", "cat,dog", "--end-to-end", photos, *files)
    assert ended.code == 0
    assert "**64×64, 2 classes, batch 1, fp32 on cpu**" in ended.out
    assert "| SAN tiny, CLIP 42 |" in ended.out
    assert "6 images, " in ended.out and "tiny.safetensors weights" in ended.out
    assert "Command: san fps" in ended.out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    monkeypatch.setattr(timing, "_PATIENCE_S", 0.0)  # any machine is slow then
    again = san(*SMALL, "--csv", table)
    assert again.code == 0 and "1, the first" in again.out
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["classes"] for row in rows] == ["2", "20"]
    assert all(float(row["fps"]) > 0 and row["name"] == "san" for row in rows)


def test_files_that_would_be_waited_for(san: San, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for option in ("--csv", "--plot"):
        ended = san(*SMALL, option, tmp_path / "pipe")
        assert (ended.code, "it is no file" in ended.err, ended.out) == (2, True, "")


def test_no_folder_to_time(san: San, tmp_path: Path) -> None:
    ended = san(*SMALL, "--end-to-end", tmp_path / "missing")
    assert (ended.code, "missing" in ended.err, ended.out) == (4, True, "")


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_a_terminal_of_any_width_cuts_nothing(
    san: San, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Neither headers nor values; what doesn't fit beside each other stands below."""
    monkeypatch.setattr(sys.modules["san_cli.cli.fps"], "_WIDE", columns)
    ended = san(*SMALL)
    assert ended.code == 0
    table = ended.out.partition("Weights and text")[0]
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= columns
    words = table.split()
    assert words.count("paper") == 4 and words.count("SAN") >= 3
    for header in ("params M", "GFLOPs", "executed", "FPS", "SAN is faster", "ms, median", "memory MB"):
        assert header in table
    assert "p10–p90" in table and "95% interval" in table
    stages = " ".join(words)
    for stage in ("clip", "side adapter", "mask decoder", "recognition", "output"):
        assert re.search(stage.replace(" ", r"\s+") + r"\s+[\d.,]+", stages), stage
    assert table.count("SAN tiny, CLIP 42") == table.count("system")  # its label isn't folded
    assert (table.count("system") == 2) == (columns >= 200)


@given(
    width=st.integers(30, 250),
    cells=st.lists(st.lists(st.integers(1, 20), min_size=6, max_size=6), min_size=2, max_size=4),
)
def test_columns_are_shared_out(width: int, cells: list[list[int]]) -> None:
    """Each once and in order, groups whole, within the width unless a group alone is wider."""
    rows = [["x" * cell for cell in row] for row in cells]
    groups = [[1, 2], [3], [4, 5]]
    found = report.fitting(rows, groups, width)
    assert [column for table in found for column in table[1:]] == [1, 2, 3, 4, 5]
    widths = [max(row[column] for row in cells) for column in range(6)]
    for table in found:
        assert table[0] == 0 and all((group[0] in table) == (group[-1] in table) for group in groups)
        total = widths[0] + 2 + sum(widths[column] + 3 for column in table[1:])
        assert total <= width or table[1:] in groups


def test_a_csv_file_of_something_else_is_left_alone(san: San, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    ended = san(*SMALL, "--csv", other)
    assert ended.code == 2 and "other columns" in ended.err and other.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--systems", "sam"], "Did you mean san?"),
        (["--systems", ""], "--systems knows no ''"),
        (["--sizes", "64", "--size", "64"], "Give one of them"),
        (["--sizes", "64,big"], "no list of sizes"),
        (["--size", "100"], "multiples of 32"),
        (["--clip-size", "33"], "multiples of 16"),
        (["--clip-size", "32", "--systems", "maskclip"], "Add san"),
        (["--vocab", "voc", "--classes", "3"], "Give one of them"),
        (["--classes", "3", "--end-to-end", "photos"], "--vocab instead"),
        (["--json", "--markdown"], "Give one of them"),
        (["--csv", "nowhere/runs.csv"], "its folder doesn't exist"),
        (["--model", "vit-h-14"], "unknown model"),
        (["--device", "tpu"], "Use auto"),
        (["--size", "0"], "--size"),
        (["--size", "-1"], "--size"),
        (["--size", "abc"], "--size"),
        (["--size", "100000"], "--size"),
        (["--sizes", "0"], "no list of sizes"),
        (["--sizes", "-64"], "no list of sizes"),
        (["--sizes", "64,100000"], "no list of sizes"),
        (["--sizes", ""], "no list of sizes"),
        (["--sizes", "٦٤"], "no list of sizes"),
        (["--clip-size", "0"], "no list of sizes"),
        (["--clip-size", "-16"], "no list of sizes"),
        (["--clip-size", "abc"], "no list of sizes"),
        (["--clip-size", "100000"], "no list of sizes"),
        (["--batch", "0"], "--batch"),
        (["--batch", "1000000000000"], "--batch"),
        (["--classes", "0"], "--classes"),
        (["--precision", "fp8"], "fp8"),
        (["--model", "missing.json"], "can't read the preset"),
        (["--csv", "."], "it is a folder"),
        (["--plot", "nowhere/plot.png"], "its folder doesn't exist"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(san: San, arguments: list[str], said: str) -> None:
    ended = san("fps", *arguments)
    assert ended.code == 2 and said in ended.err and ended.out == ""


def test_a_plot_without_matplotlib(san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("san_cli.fps.plot.find_spec", lambda _: None)
    ended = san(*SMALL, "--plot", tmp_path / "plot.png")
    assert ended.code == 2 and "--plot needs matplotlib" in ended.err and "pip install" in ended.err
