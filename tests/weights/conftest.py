"""A hub on this machine, and a small model to put there."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import Hub, running_hub
from presets import GOLDEN_TINY

from san_cli.weights import fetch, repository
from san_cli.weights.checkpoint import random_checkpoint, write_checkpoint

SMALL = replace(GOLDEN_TINY, name="small", input_size=64, side_depth=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of ours."""
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    write_checkpoint(random_checkpoint(SMALL), path)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, san_home: Path) -> Iterator[Hub]:
    """A hub that `HF_ENDPOINT` names, with caches of its own and no token."""
    for name in (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN",
        "HF_TOKEN_PATH",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "san"))
    monkeypatch.setattr(repository, "_resolved", {})
    monkeypatch.setattr(fetch, "_PAUSE_S", 0.001)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # CI sets it before the import
    monkeypatch.chdir(tmp_path)
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running
