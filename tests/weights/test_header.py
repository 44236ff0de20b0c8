"""Which model a file is of, as far as its header or hash tells."""

from dataclasses import replace
from pathlib import Path

from san_cli.models.presets import TINY, VIT_B_16
from san_cli.weights.adapter import write_adapter
from san_cli.weights.checkpoint import random_checkpoint, read_checkpoint, write_checkpoint
from san_cli.weights.file_hash import weights_sha256
from san_cli.weights.header import known_preset
from san_cli.weights.hub import OFFICIAL


def test_a_whole_model_of_ours_states_its_preset(tiny_weights: Path) -> None:
    found = known_preset(tiny_weights, weights_sha256(tiny_weights))
    assert found == read_checkpoint(tiny_weights).preset


def test_a_published_file_is_known_by_its_hash(tmp_path: Path) -> None:
    assert known_preset(tmp_path / "any.pth", OFFICIAL["vit-b-16"].sha256) == VIT_B_16


def test_what_needs_more_than_a_header_is_not_known(tmp_path: Path) -> None:
    model = random_checkpoint(TINY)
    adapter = tmp_path / "adapter.safetensors"
    write_adapter(model, adapter)
    assert known_preset(adapter, "0" * 64) is None  # it needs its CLIP

    smaller = replace(TINY, input_size=320)  # called tiny, which is to be told
    other = tmp_path / "other.safetensors"
    write_checkpoint(random_checkpoint(smaller), other)
    assert known_preset(other, "0" * 64) is None
    write_checkpoint(random_checkpoint(replace(smaller, name="mine")), other)
    assert known_preset(other, "0" * 64) == replace(smaller, name="mine")

    for content in (b"", b"{}", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 100):
        strange = tmp_path / "strange.safetensors"
        strange.write_bytes(content)
        assert known_preset(strange, "0" * 64) is None
    assert known_preset(tmp_path / "theirs.pth", "0" * 64) is None
