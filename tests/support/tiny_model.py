"""A small model as a weights file, for tests that run the whole program."""

import dataclasses
from pathlib import Path

import recipe
from presets import GOLDEN_TINY

from san_cli.weights.checkpoint import read_checkpoint, write_checkpoint

# A quarter of the pixels and half of the side adapter: a forward pass takes milliseconds.
TINY = dataclasses.replace(GOLDEN_TINY, name="small", input_size=64, side_depth=4)


def write_tiny_model(folder: Path) -> Path:
    """Write `tiny.safetensors` into `folder`; its masks are so sharp that an image gets several classes."""
    official, ours = folder / "tiny.pth", folder / "tiny.safetensors"
    recipe.save_official(str(official), recipe.official_state(TINY))
    tiny = read_checkpoint(official, TINY)
    last = "mask_decoder.query_mlp.layers.2.weight"
    write_checkpoint(dataclasses.replace(tiny, state={**tiny.state, last: 16 * tiny.state[last]}), ours)
    official.unlink()
    return ours
