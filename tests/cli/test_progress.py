"""How progress and lengths of time are told."""

import re

import pytest

from san_cli.cli import progress as module
from san_cli.cli import train_progress as train_module
from san_cli.cli.progress import duration, progress
from san_cli.train.watch import Report


def test_durations() -> None:
    told = {
        0: "0.0 s",
        1.26: "1.3 s",
        9.96: "10 s",
        99: "99 s",
        100: "2 min",
        3600: "60 min",
        7260: "2 h 01 min",
    }
    assert {seconds: duration(seconds) for seconds in told} == told


def test_lines_come_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with progress("images", 1200) as step:
        for done in range(1, 31):
            clock[0] += 1
            step(done)
    assert capsys.readouterr().err.splitlines() == [
        "images: 10 of 1,200, 1 a second, 20 min left",
        "images: 20 of 1,200, 1 a second, 20 min left",
        "images: 30 of 1,200, 1 a second, 20 min left",
    ]


def test_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("[red]images", 3) as step:
        step(1)
        step(4, 4)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "[red]images" in captured.err
    assert "4/4" in captured.err


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("images", 3, quiet=True) as step:
        step(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("columns", [60, 80, 100, 125, 200])
@pytest.mark.parametrize(
    ("what", "total"),
    [("images", 7), ("embedding class names", 847), ("preparing cityscapes", 11_828_700), ("x" * 300, 5000)],
)
def test_bar_count_and_time_left_are_never_cut(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    what: str,
    total: int,
) -> None:
    monkeypatch.setattr(module, "is_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress(what, total) as step:
        step(total // 2)
    drawn = [
        line
        for line in re.split(r"[\r\n]", re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", capsys.readouterr().err))
        if line.strip()
    ]
    last = drawn[-1].rstrip()
    assert re.search(rf"[━╸╺]{{4,}} +{total // 2}/{total} (\d:\d\d:\d\d|-:--:--)$", last), drawn
    assert len(last) <= columns
    assert last[0] == what[0]


def test_a_training_shows_its_log_below_a_bar_that_moves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 80 columns: before the first line of the log, and with all of that line later."""
    monkeypatch.setattr(train_module, "is_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    losses = {"total": 36.78, "ce": 5.612, "mask": 0.698, "dice": 0.734}
    with train_module.training_progress(60_000, 40, quiet=False) as watch:
        watch.iteration(41)
        watch.evaluated(3, 100)
        watch.report(Report(60, losses, 1e-4, 28.8, 1.0, 0.17, 25_882.0, 3))
    text = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", capsys.readouterr().err)
    lines = [line.rstrip() for line in re.split(r"[\r\n]", text) if line.strip()]
    assert any(re.match(r"evaluating 3/100 [━╸╺]+ +41/60000 ", line) for line in lines), lines
    shown = " ".join(lines[-2:])
    for part in ("dice 0.734", "lr 1.00e-04", "data wait 17%", "25,882 MB", "16 h 39 min left", "3 skipped"):
        assert part in shown
    assert all(len(line) <= 80 for line in lines)


def test_a_slow_training_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the log's lines are minutes apart, and nobody looks at a bar."""
    clock = [100.0]
    monkeypatch.setattr(train_module.time, "monotonic", lambda: clock[0])
    with train_module.training_progress(100, 0, quiet=False) as watch:
        for iteration in range(1, 8):
            clock[0] += 9
            watch.iteration(iteration)
    assert capsys.readouterr().err.splitlines() == ["iteration 4 of 100, 9.0 s each, 14 min left"]
