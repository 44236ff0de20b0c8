"""A state dict in the files of other programs: taken out of what is around it, without what is before its names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from san_cli.errors import SanError
from san_cli.weights.find import cant_read
from san_cli.weights.kind import kind_of_tensors
from san_cli.weights.pickled import LeftOut, load_pickle, words_of_pickle

# The key under which programs keep the network, the likeliest first.
_KEYS = (
    "model", "state_dict", "model_state_dict", "model_state", "module", "network", "net", "model_weights", "weights",
    "params",
)  # fmt: skip
_PREFIX = re.compile(r"(?:(?:module|model|network|net|san)\.)+")
_COMPILED = "_orig_mod."  # anywhere in a name, as parts can be compiled
_START = re.compile(  # of the names that are looked for: the official code's, ours, mmsegmentation's, open_clip's
    r"(side_adapter_network|clip_visual_extractor|clip_rec_head|ov_classifier|criterion|side_adapter|mask_decoder"
    r"|visual|text|background_embedding|logit_scale|image_encoder|text_encoder|decode_head"
    r"|transformer|token_embedding|positional_embedding|text_projection|ln_final)(\.|$)"
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of any program's pickle under plain names; never runs code. Raises SanError that names it."""
    try:
        loaded = load_pickle(path)
    except FileNotFoundError as error:
        raise cant_read(path, error) from error
    except Exception as error:  # a damaged file raises nearly anything
        raise _unreadable(path) from error
    state = state_dict_in(loaded)
    if not state:
        if has_left_out(loaded):
            raise _unreadable(path)
        raise SanError(
            f"'{path}' holds no state dict (expected {{'model': …}} or a bare one)",
            hint="Save one: torch.save({'model': model.state_dict()}, FILE)",
        )
    return plain_names(state)


def state_dict_in(loaded: Any, depth: int = 4) -> dict[str, Tensor]:
    """Find the named tensors in what a file holds; {} where there are none. Arrays are made tensors."""
    if not isinstance(loaded, Mapping):
        return {}
    keys = [key for key in _KEYS if isinstance(loaded.get(key), Mapping)] if depth else []
    for key in keys:
        if inner := state_dict_in(loaded[key], depth - 1):
            return inner
    tensors = {str(name): _tensor(value) for name, value in loaded.items()}
    found = {name: value for name, value in tensors.items() if value is not None}
    if not found and depth and len(loaded) == 1:
        return state_dict_in(next(iter(loaded.values())), depth - 1)
    return found


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off what DataParallel, torch.compile, Lightning and others put before every name of a network."""
    named = {_plain(name): tensor for name, tensor in state.items()}
    return named if len(named) == len(state) else dict(state)


def has_left_out(loaded: Any, depth: int = 4) -> bool:
    """Tell whether what a file holds, or something in it, is an object that wasn't loaded."""
    if isinstance(loaded, LeftOut):
        return True
    values = loaded.values() if isinstance(loaded, Mapping) and depth else ()
    return any(has_left_out(value, depth - 1) for value in values)


def _plain(name: str) -> str:
    name = name.replace(_COMPILED, "")
    prefix = _PREFIX.match(name)
    return name[prefix.end() :] if prefix and _START.match(name[prefix.end() :]) else name


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
    return value if isinstance(value, Tensor) else None


def _unreadable(path: Path) -> SanError:
    """Say what a pickle is that can't be read: another network, other objects than tensors, or damaged."""
    texts, classes = words_of_pickle(path)
    what, way = kind_of_tensors(texts)
    if not what and classes:
        of_tensors = ("torch._utils.", "torch.FloatStorage", "torch.HalfStorage", "collections.OrderedDict")
        others = [name for name in classes if not name.startswith(of_tensors)] or classes
        if all(name.startswith(("numpy", "_codecs")) for name in others):
            what = "NumPy arrays instead of tensors"
            way = "Save tensors: torch.save({name: torch.from_numpy(array) …}, FILE)"
        else:
            what = f"more than tensors ({', '.join(others[:3])}{', …' if len(others) > 3 else ''})"
            way = "Save the tensors alone: torch.save({'model': model.state_dict()}, FILE)"
        return SanError(f"'{path}' is not a readable PyTorch checkpoint: it holds {what}", hint=way)
    return SanError(
        f"'{path}' is not a readable PyTorch checkpoint: it is {what or 'damaged, or cut short'}",
        hint=way
        or "A download may have been cut short: `san weights verify` tells, `san weights get` fetches it anew.",
    )
