"""A small model as a weights file, for tests that run the whole program."""

import dataclasses
from pathlib import Path

import recipe
from presets import GOLDEN_TINY

from san_cli.models.presets import Preset
from san_cli.weights.checkpoint import Checkpoint, random_checkpoint, read_checkpoint, write_checkpoint

# A quarter of the pixels and half of the side adapter: a forward pass takes milliseconds.
TINY = dataclasses.replace(GOLDEN_TINY, name="small", input_size=64, side_depth=4)

# The fewest blocks that do all that there is to do, for what takes time by the block. CLIP's grid doesn't divide the
# side adapter's, and neither of them is the learned one at its input size.
NANO: Preset = dataclasses.replace(
    GOLDEN_TINY,
    name="nano",
    clip=dataclasses.replace(GOLDEN_TINY.clip, layers=3),
    clip_scale=0.7,
    feature_layers=1,
    recognition_layers=2,
    fusion=((0, 0), (1, 1)),
    input_size=64,
    side_depth=2,
    supervised_layers=1,
)


def write_nano_model(folder: Path) -> Path:
    """Write `nano.safetensors`, untrained, into `folder`; its masks are sharp, too."""
    model, path = random_checkpoint(NANO), folder / "nano.safetensors"
    state = {
        name: tensor * (20 if name.endswith("mlp.layers.2.weight") else 1)
        for name, tensor in model.state.items()
    }
    write_checkpoint(Checkpoint(NANO, state), path)
    return path


def write_tiny_model(folder: Path) -> Path:
    """Write `tiny.safetensors` into `folder`; its masks are so sharp that an image gets several classes."""
    official, ours = folder / "tiny.pth", folder / "tiny.safetensors"
    recipe.save_official(str(official), recipe.official_state(TINY))
    tiny = read_checkpoint(official, TINY)
    last = "mask_decoder.query_mlp.layers.2.weight"
    write_checkpoint(dataclasses.replace(tiny, state={**tiny.state, last: 16 * tiny.state[last]}), ours)
    official.unlink()
    return ours
