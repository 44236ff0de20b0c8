"""Weights and images that are the same on every machine, defined by tensor name and shape alone.

The goldens in `tests/goldens` are what the official implementation computes with these weights under its own
tensor names. A tensor is `noise * scale + offset`, its noise drawn by PCG64 seeded with the CRC-32 of its name.
The scales keep the activations of an untrained network well spread.
"""

import zlib
from collections.abc import Mapping
from math import prod

import numpy as np
import torch

from san_cli.models.presets import Preset
from san_cli.weights.checkpoint import expected_shapes
from san_cli.weights.official import official_name

_LAYER_NORMS = ("ln_1", "ln_2", "ln_pre", "ln_post", "ln_final", "norm1", "norm2", "input_proj.0")
_EMBEDDINGS = (
    "positional_embedding",
    "class_embedding",
    "pos_embed",
    "query_embed",
    "token_embedding.weight",
)
_STORED_INPUT_FIRST = ("clip_rec_head.proj", "ov_classifier.text_projection")
_GAINS = {  # (name starts with, name ends with): factor on 1/sqrt(fan in)
    ("side_adapter_network.", "query_mlp.layers.2.weight"): -0.5,
    ("clip_", "attn.in_proj_weight"): 2.0,
    ("clip_visual_extractor.", "attn.out_proj.weight"): 0.25,
    ("clip_visual_extractor.", "mlp.c_proj.weight"): 0.15,
    ("ov_classifier.", "attn.in_proj_weight"): 3.0,
    ("ov_classifier.", "attn.out_proj.weight"): 4.0,
    ("ov_classifier.", "mlp.c_proj.weight"): 0.3,
}


def scale_and_offset(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """The spread and centre of one tensor under its official name."""
    if name.endswith("logit_scale"):
        return 0.0, 4.6052
    if name.endswith("bias_scaling.weight") or name.endswith(tuple(f"{n}.weight" for n in _LAYER_NORMS)):
        return 0.1, 1.0
    if name == "ov_classifier.positional_embedding":
        return 0.1, 0.0
    if name.endswith(_EMBEDDINGS):
        return 0.5, 0.0
    if len(shape) < 2:
        return 0.02, 0.0
    if name.endswith(("pix_mlp.layers.2.weight", "attn_mlp.layers.2.weight")):  # an inner product follows
        return 2.4 / shape[1], 0.0
    fan_in = shape[0] if name in _STORED_INPUT_FIRST else prod(shape[1:])
    gains = [gain for (start, end), gain in _GAINS.items() if name.startswith(start) and name.endswith(end)]
    return (gains[0] if gains else 1.0) / float(np.sqrt(fan_in)), 0.0


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 tensor of that official name and shape."""
    scale, offset = scale_and_offset(name, shape)
    noise = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape, np.float32)
    return torch.from_numpy(np.asarray(noise * np.float32(scale) + np.float32(offset), dtype=np.float32))


def official_state(preset: Preset) -> dict[str, torch.Tensor]:
    """A whole official state dict for that preset, with the entries we ignore among it."""
    state = {}
    for ours, shape in expected_shapes(preset).items():
        name = official_name(ours, preset)
        state[name] = tensor(name, _official_shape(name, tuple(shape)))
    state["criterion.empty_weight"] = torch.ones(172)
    length = preset.clip.context_length
    state["ov_classifier.attn_mask"] = torch.full((length, length), float("-inf")).triu(1)
    return state


def _official_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The official code writes some of our linear layers as 1 × 1 convolutions."""
    convolution = any(part in name for part in ("pix_mlp", "attn_mlp", "input_proj.1"))
    return (*shape, 1, 1) if convolution and len(shape) == 2 else shape


def image(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth coloured uint8 RGB picture [H, W, 3]: four octaves of noise and a slope along each axis."""
    generator = np.random.Generator(np.random.PCG64(seed))
    picture = np.full((height, width, 3), 0.5)
    for cells, strength in {3: 0.30, 9: 0.20, 33: 0.12, 97: 0.08}.items():
        picture += strength * _enlarge(generator.standard_normal((cells, cells, 3)), height, width)
    down, right = generator.uniform(-1, 1, 3), generator.uniform(-1, 1, 3)
    rows, columns = np.linspace(-1, 1, height)[:, None, None], np.linspace(-1, 1, width)[None, :, None]
    picture += 0.2 * (rows * down + columns * right)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _enlarge(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize of [g, g, 3] to [H, W, 3], corners on corners."""
    last = len(grid) - 1
    y, x = np.linspace(0, last, height), np.linspace(0, last, width)
    top, left = np.minimum(y.astype(int), last - 1), np.minimum(x.astype(int), last - 1)
    down, right = (y - top)[:, None, None], (x - left)[None, :, None]
    above = grid[top][:, left] * (1 - right) + grid[top][:, left + 1] * right
    below = grid[top + 1][:, left] * (1 - right) + grid[top + 1][:, left + 1] * right
    return above * (1 - down) + below * down


def save_official(path: str, state: Mapping[str, torch.Tensor]) -> None:
    """Write a checkpoint as detectron2 does, with its other entries."""
    torch.save({"model": dict(state), "iteration": 59999, "trainer": {"seen": 1}}, path)
