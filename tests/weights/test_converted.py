"""Weights in another precision: the same numbers, and no second copy of a file's in memory."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from san_cli import Segmenter
from san_cli.weights.converted import converted

CPU = torch.device("cpu")


def resident_of_files() -> int:
    """Bytes of mapped files in this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssFile:"))


def test_a_files_tensors_are_converted_and_their_pages_leave(tmp_path: Path) -> None:
    numbers = torch.arange(2**24, dtype=torch.float32)  # 64 MB
    save_file({"first": numbers, "second": numbers[:7].clone()}, tmp_path / "weights.safetensors")
    with safe_open(tmp_path / "weights.safetensors", framework="pt") as file:
        state = {name: file.get_tensor(name) for name in ("first", "second")}
    assert sum(float(tensor.sum()) for tensor in state.values()) > 0  # reads all
    before = resident_of_files() if sys.platform == "linux" else 0
    found = converted(state, CPU, torch.bfloat16)
    if sys.platform == "linux":
        assert before - resident_of_files() > 60e6
    assert torch.equal(found["first"], numbers.bfloat16())
    assert torch.equal(found["second"], numbers[:7].bfloat16())
    assert torch.equal(state["first"], numbers), "they come back when they are read"


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_tensors_in_memory_keep_their_numbers(precision: torch.dtype) -> None:
    numbers = torch.arange(2**20, dtype=torch.float32)
    kept = numbers.clone()
    found = converted(
        {"whole": numbers, "part": numbers[5:], "turned": numbers.view(1024, -1).T}, CPU, precision
    )
    assert torch.equal(numbers, kept)
    assert torch.equal(found["turned"], kept.view(1024, -1).T.to(precision))
    assert (found["whole"] is numbers) is (precision == torch.float32)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_model_in_bfloat16_holds_nothing_of_its_file() -> None:
    segmenter = Segmenter.load("tiny", device="cpu", precision="bf16")
    assert segmenter.precision == torch.bfloat16
    assert "tiny.safetensors" not in Path("/proc/self/maps").read_text()
    assert segmenter.model.background_embedding.dtype == torch.float32
