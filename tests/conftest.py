"""What tests of the whole program share: a small model, a few pictures, and the program itself in this process."""

import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the program does, but before torch is loaded here
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # several tests at once: more threads than cores would wait in turns

import pytest
import torch
from hypothesis import settings
from PIL import Image
from recipe import image
from tiny_model import write_tiny_model

# CI asks the same questions in every run; elsewhere hypothesis looks for new ones. No test depends on time.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@dataclass(frozen=True)
class Ended:
    """A run of the program that has ended."""

    code: int
    out: str
    err: str


San = Callable[..., Ended]


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
        defaults += [] if "--vocab" in arguments else ["--vocab", "voc"]
        defaults += [] if "--device" in arguments else ["--device", "cpu"]
        return san("predict", *arguments, *defaults, stdin=stdin)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of six pictures of three sizes, in two folders."""
    folder = tmp_path / "photos"
    make_photos(folder, 6)
    return folder


def make_photos(folder: Path, count: int) -> None:
    """`count` pictures of three sizes below `folder`, every other one in a folder of its own."""
    for number in range(count):
        path = folder / ("sub" if number % 2 else "") / f"p{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = [(72, 96), (96, 72), (80, 80)][number % 3]
        Image.fromarray(image(number, height, width)).save(path, quality=90)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def subprocess_environment(san_home: Path) -> dict[str, str]:
    """What a run in a process of its own needs."""
    root = str(Path(__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": root, "SAN_HOME": str(san_home), "OMP_NUM_THREADS": "1"}


def hub_environment() -> dict[str, str]:
    """The environment without what would change how a hub is reached: proxies, offline switches, caches, tokens."""
    return {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and not name.startswith(("HF_", "HUGGING", "SAN_"))
    }


def pytest_configure() -> None:
    """Undo what a background job or `nohup` would hand on to the programs under test: ignored signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGHUP"):  # not on Windows
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
