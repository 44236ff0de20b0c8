"""Loading a model for a runtime of ONNX files: from such a file, or from weights that are exported once and kept."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from san_cli.engine.backend import ONNX, OPENVINO, refuse_without_runtime
from san_cli.engine.loading import (
    RANDOM_MEANS_NOTHING,
    LoadedWeights,
    RuntimeNetwork,
    load_weights,
    random_hash,
    refuse_other_preset,
    text_of_weights,
)
from san_cli.engine.onnx_export import EXPORT_FORMAT, write_onnx
from san_cli.engine.onnx_file import OnnxDescription, is_onnx, read_description
from san_cli.engine.onnx_network import OnnxNetwork
from san_cli.engine.openvino_network import OpenVinoNetwork
from san_cli.engine.text_embeddings import TextTower
from san_cli.errors import SanError
from san_cli.files import sweep_stale
from san_cli.models.presets import Preset, get_preset, preset_to_json
from san_cli.vocabulary.templates import templates
from san_cli.weights.cache_dir import cache_dir
from san_cli.weights.checkpoint import Checkpoint, random_checkpoint
from san_cli.weights.file_hash import weights_sha256
from san_cli.weights.find import expanded, find_weights, locate_weights


def load_onnx(
    model: str | Preset | None,
    weights: str | os.PathLike[str] | None,
    *,
    say: Callable[[str], None],
    backend: str = ONNX,
    precision: torch.dtype = torch.float32,
) -> LoadedWeights:
    """Load a model as `load_weights` does, with the network of a runtime; of its tensors none but the last two.

    `weights` may be an ONNX file of ours; others are exported into the cache, once. Raises SanError.
    """
    refuse_without_runtime(backend, bfloat16=precision == torch.bfloat16)
    if weights is not None and is_onnx(weights):
        path = expanded(Path(weights))
        found = read_description(path)
        if model is not None:
            refuse_other_preset(found.preset, get_preset(model), path)
        network = _network(path, found, backend, precision)
        read_text = partial(_text_of_source, found, path.absolute())
        return _loaded(found, network, read_text, weights_sha256(path), path.absolute())
    preset = get_preset(model or "vit-b-16")
    source = None if weights == "random" else find_weights(preset.name, weights, say=say).absolute()
    sha256 = random_hash(preset) if source is None else weights_sha256(source)
    path = _kept_at(sha256, model)
    try:
        found = read_description(path)
        network = _network(path, found, backend, precision)
        if source is None:
            say(RANDOM_MEANS_NOTHING)
    except SanError:  # not there, or damaged
        _export(model, weights, path, say)
        found = read_description(path)
        network = _network(path, found, backend, precision)
    if model is not None and source is not None:
        refuse_other_preset(found.preset, preset, source)
    return _loaded(found, network, text_of_weights(source, found.preset), sha256, source)


def _network(path: Path, found: OnnxDescription, backend: str, precision: torch.dtype) -> RuntimeNetwork:
    """Open a file in the backend's runtime."""
    if backend == OPENVINO:
        return OpenVinoNetwork(path, found.preset.clip.embed_dim, precision)
    return OnnxNetwork(path, found.preset.clip.embed_dim)


def is_exported(model: str | Preset | None, source: Path | None) -> bool:
    """Tell whether the cache holds an ONNX file of these weights (None: untrained ones), so that none is made."""
    sha256 = random_hash(get_preset(model or "vit-b-16")) if source is None else weights_sha256(source)
    return _kept_at(sha256, model).is_file()


def _kept_at(sha256: str, model: str | Preset | None) -> Path:
    """Return where the ONNX file of weights is kept: of that hash, read as that preset if it is one of the user's."""
    what = f"{sha256} {preset_to_json(model) if isinstance(model, Preset) else ''} {EXPORT_FORMAT}"
    return cache_dir() / "onnx" / f"{hashlib.sha256(what.encode()).hexdigest()[:40]}.onnx"


def _export(
    model: str | Preset | None, weights: str | os.PathLike[str] | None, path: Path, say: Callable[[str], None]
) -> None:
    """Export weights into the cache, and take away what a killed run left there."""
    loaded = load_weights(model, weights, say=say)
    say(f"exporting {loaded.checkpoint.preset.name} as an ONNX file, once: {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SanError(
            f"the ONNX file has no place in the cache: {path.parent} ({error.strerror})",
            hint="Name another folder: SAN_HOME=DIR; or export it yourself: san export --onnx FILE",
        ) from error
    sweep_stale(path.parent)
    write_onnx(loaded, path, templates("vild"))


def _loaded(
    found: OnnxDescription,
    network: RuntimeNetwork,
    read_text: Callable[[], dict[str, Tensor]],
    sha256: str,
    path: Path | None,
) -> LoadedWeights:
    state = {
        "background_embedding": torch.tensor([found.no_object]),
        "logit_scale": torch.tensor(found.logit_scale),
    }
    tower = TextTower(found.preset.clip, read_text, found.weights_sha256)
    return LoadedWeights(Checkpoint(found.preset, state), tower, sha256, path, network)


def _text_of_source(found: OnnxDescription, path: Path) -> dict[str, Tensor]:
    """Read the text tower from the weights that an ONNX file was made from. SanError where they aren't here."""
    if found.weights_sha256 == random_hash(found.preset):
        return random_checkpoint(found.preset).part("text")
    for source in (path.with_name(found.weights_name), locate_weights(found.preset.name)):
        if source is not None and source.is_file() and weights_sha256(source) == found.weights_sha256:
            return text_of_weights(source.absolute(), found.preset)()
    raise SanError(
        f"the vocabulary has words that were never embedded on this machine, and '{path.name}' has no text tower",
        hint=f"Name the weights that it was made from ({found.weights_name}, sha256 {found.weights_sha256[:12]}…): "
        "SAN_WEIGHTS=FILE san predict …, or put them beside it.",
    )
