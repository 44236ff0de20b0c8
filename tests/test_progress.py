"""How progress and lengths of time are told."""

import pytest

from san_cli.cli import progress as module
from san_cli.cli.progress import duration, progress


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
    with progress("images", 1200) as shown:
        for done in range(1, 31):
            clock[0] += 1
            shown.step(done)
    assert capsys.readouterr().err.splitlines() == [
        "images: 10 of 1,200, 1 a second, 20 min left",
        "images: 20 of 1,200, 1 a second, 20 min left",
        "images: 30 of 1,200, 1 a second, 20 min left",
    ]


def test_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("[red]images", 3) as shown:
        shown.step(1)
        shown.step(4, 4)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "[red]images" in captured.err
    assert "4/4" in captured.err


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("images", 3, quiet=True) as shown:
        shown.step(3)
    assert capsys.readouterr() == ("", "")
