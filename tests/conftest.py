"""What tests of the whole program share: a small model, a few pictures, and the program itself in this process."""

import io
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the program does, but before torch is loaded here
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # several tests at once: more threads than cores would wait in turns

import pytest
import torch
from hypothesis import settings
from program import Ended, San, make_photos
from tiny_model import write_tiny_model

# CI asks the same questions in every run; elsewhere hypothesis looks for new ones. No test depends on time.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights file of the small model."""
    return write_tiny_model(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def san_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for the whole session, so that words are embedded once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def san(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], san_home: Path) -> San:
    """Run `san` in this process: `san("predict", folder, stdin=b"...")`."""
    monkeypatch.setenv("SAN_HOME", str(san_home))
    for name in ("RANK", "WORLD_SIZE", "SAN_WEIGHTS", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, stdin: bytes = b"") -> Ended:
        from san_cli.cli.main import main

        monkeypatch.setattr(sys, "argv", ["san", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return Ended(int(stopped.value.code or 0), out, err)

    return run


@pytest.fixture
def predict(san: San, tiny_weights: Path) -> San:
    """Run `san predict` with the small model and a small vocabulary (options given override these)."""
    torch.set_num_threads(1)  # as in a process of its own, see `subprocess_environment`

    def run(*arguments: object, stdin: bytes = b"") -> Ended:
        defaults: list[object] = [] if "--weights" in arguments else ["--weights", tiny_weights]
        defaults += [] if {"--vocab", "--only"} & set(arguments) else ["--vocab", "voc"]
        defaults += [] if "--device" in arguments else ["--device", "cpu"]
        return san("predict", *arguments, *defaults, stdin=stdin)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of six pictures of three sizes, in two folders."""
    folder = tmp_path / "photos"
    make_photos(folder, 6)
    return folder


def pytest_configure() -> None:
    """Undo what a background job or `nohup` would hand on to the programs under test: ignored signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGHUP"):  # not on Windows
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
