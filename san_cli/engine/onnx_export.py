"""A SAN as an ONNX file: one graph for any vocabulary, any number of images and any of their sizes.

The words are an input, so a file isn't bound to a vocabulary; `models/any_size.py` has what keeps it from being bound
to a size. What the file doesn't hold: the text tower, reading and resizing of images, and the making of label maps.
"""

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from san_cli import __version__
from san_cli.engine.loading import LoadedWeights, build_model
from san_cli.engine.onnx_file import INPUTS, OUTPUTS, OnnxDescription, written_metadata
from san_cli.engine.onnx_network import OnnxNetwork
from san_cli.engine.openvino_network import OpenVinoNetwork
from san_cli.errors import ExitCode, SanError
from san_cli.files import atomic_write
from san_cli.models.presets import PAD_TO, Preset
from san_cli.models.san import PIXEL_MEAN, PIXEL_STD, SAN

EXPORT_FORMAT = 1  # of the graph; raise it whenever the same weights give another file
_OPSET = 18  # what ONNX Runtime from 1.14 on and OpenVINO read
_MOST_BYTES = 2_000_000_000  # of tensors: a protobuf message has 2 GiB at most
_LARGEST_ERROR = 1e-3  # of the largest number; 1e-5 is usual
_NEEDS = ("onnx", "onnxscript")
_AXES = {
    "image": ("batch", 3, "height", "width"),
    "text": ("rows", None),
    "mask_logits": ("batch", None, "mask_height", "mask_width"),
    "class_logits": ("batch", None, "rows"),
    "region_embeddings": ("batch", None, None),
}  # None: a number that the file knows


class _Plain(nn.Module):
    """The network with tensors alone in and out."""

    def __init__(self, model: SAN) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take an image [B, 3, H, W] as of `normalise` and text rows [words+1, D]; see `OUTPUTS`."""
        found = self.model(image)[0]
        return found.mask_logits, self.model.classify(found.region_embeddings, text), found.region_embeddings


def refuse_without_onnx() -> None:
    """SanError where what writes ONNX files, of the extra `onnx`, is missing, or PyTorch is too old to."""
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise SanError(
            f"writing ONNX files needs {' and '.join(missing)}",
            hint=f"Install it: pip install {' '.join(missing)}",
        )
    if not hasattr(torch.compiler, "is_exporting"):
        raise SanError(
            f"writing ONNX files needs PyTorch 2.7 or later, and this is {torch.__version__}",
            hint="Update it: pip install --upgrade torch",
        )


def write_onnx(loaded: LoadedWeights, path: Path, templates: Sequence[str]) -> None:
    """Write the image network of a model as an ONNX file, atomically: the same bytes from the same weights.

    `templates` are those that the model is meant to be used with. SanError where something it needs is missing, the
    model is too large for the format, or the file can't be written.
    """
    refuse_without_onnx()
    checkpoint = loaded.checkpoint
    state = {name: t for name, t in checkpoint.state.items() if not name.startswith("text.")}
    size = 4 * sum(tensor.numel() for tensor in state.values())
    if size > _MOST_BYTES:
        raise SanError(f"an ONNX file holds 2 GB at most, and the image network has {size / 1e9:.1f} GB")
    description = OnnxDescription(
        checkpoint.preset,
        loaded.sha256,
        "random" if loaded.path is None else loaded.path.name,
        tuple(state["background_embedding"].float().flatten().tolist()),
        float(state["logit_scale"]),
    )
    free = {
        "san": __version__,
        "templates": json.dumps(list(templates)),
        "mean": json.dumps(PIXEL_MEAN),
        "std": json.dumps(PIXEL_STD),
    }
    model = build_model(checkpoint, torch.device("cpu"), torch.float32)
    content = _graph(model, written_metadata(description, free))
    try:
        with atomic_write(path) as file:
            file.write(content)
            file.flush()
            _compare(model, Path(file.name))
    except OSError as error:
        raise SanError(
            f"'{path}' can't be written ({error.strerror or error})", code=ExitCode.SOME_FAILED
        ) from error


def _graph(model: SAN, metadata: dict[str, str]) -> bytes:
    """Trace the network and write it as ONNX."""
    from onnxscript import optimizer

    batch, rows = torch.export.Dim("batch", min=1), torch.export.Dim("rows", min=1)
    height, width = torch.export.Dim("height", min=2), torch.export.Dim("width", min=2)
    # The sizes of what it is traced with don't matter, as long as no two that are independent are equal.
    image = torch.zeros(2, 3, *_traced_size(model.preset))
    text = torch.zeros(5, model.preset.clip.embed_dim)
    with _quiet(), torch.no_grad():
        traced = torch.export.export(
            _Plain(model),
            (image, text),
            dynamic_shapes=({0: batch, 2: PAD_TO * height, 3: PAD_TO * width}, {0: rows}),
        )
        program = _translated(traced)
        optimizer.fold_constants(program.model, onnx_shape_inference=True)
        optimizer.remove_unused_nodes(program.model)
    _tidy(program.model, metadata)
    content: bytes = program.model_proto.SerializeToString(deterministic=True)
    return content


def _translated(traced: ExportedProgram) -> Any:
    """Translate a program to ONNX, its operators as they are; only where one has no counterpart, by parts.

    To take operators apart PyTorch traces the program once more, which takes longer than all else.
    """
    whole = copy.copy(traced)
    _drop_idle(whole.graph_module)
    whole.run_decompositions = lambda *_, **__: whole
    try:
        return _onnx_program(whole)
    except torch.onnx.OnnxExporterError:
        return _onnx_program(traced)


def _onnx_program(traced: ExportedProgram) -> Any:
    return torch.onnx.export(
        traced,
        dynamo=True,
        opset_version=_OPSET,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        verbose=False,
        optimize=False,  # by patterns takes as long as all else, and every runtime does it itself
    )


def _drop_idle(module: torch.fx.GraphModule) -> None:
    """Remove checks of tensors' kinds, and conversions to the kind that a tensor has: they have no counterpart."""
    aten = torch.ops.aten
    for node in list(module.graph.nodes):
        of: Any = node.args[0] if node.args else None
        is_inside = all(user.op != "output" for user in node.users)
        if node.target is aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
        elif node.target is aten.to.dtype and is_inside and node.args[1:] == (of.meta["val"].dtype,):
            node.replace_all_uses_with(of)
            module.graph.erase_node(node)
    module.recompile()


def _compare(model: SAN, path: Path) -> None:
    """Raise SanError where a file computes something else than its model, of an image that it wasn't traced with.

    The exporter is others' work, in as many versions as there are; without a runtime nothing can be said.
    """
    run = OnnxNetwork if find_spec("onnxruntime") else OpenVinoNetwork if find_spec("openvino") else None
    if run is None:
        return
    width, height = _traced_size(model.preset)
    image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = model(image)[0], run(path, model.preset.clip.embed_dim)(image)[0]
    for one, other in (
        (expected.mask_logits, found.mask_logits),
        (expected.region_embeddings, found.region_embeddings),
    ):
        error = float((one - other).abs().max()) / max(1.0, float(one.abs().max()))
        if not error < _LARGEST_ERROR:
            raise SanError(
                f"what PyTorch {torch.__version__} and onnxscript {version('onnxscript')} have written computes "
                f"something else than the model: it differs by {error:.2g}",
                hint="Nothing was kept. Other versions may do better: pip install --upgrade torch onnx onnxscript",
            )


def _traced_size(preset: Preset) -> tuple[int, int]:
    """Choose the height and width of the image to trace with: about the network's own size."""
    side = -(-preset.input_size // PAD_TO) * PAD_TO
    return side - 3 * PAD_TO if side > 5 * PAD_TO else side + PAD_TO, side + 2 * PAD_TO


def _tidy(model: Any, metadata: dict[str, str]) -> None:
    """Name the axes, add the metadata, and take away what tells of this machine or may differ between two runs."""
    model.producer_name, model.producer_version = "san", __version__
    model.metadata_props.clear()
    model.metadata_props.update(sorted(metadata.items()))
    graph = model.graph
    graph.name = "san"
    graph.metadata_props.clear()
    outer = {*graph.inputs, *graph.outputs, *graph.initializers.values()}
    for value in outer:
        value.metadata_props.clear()
    for node in graph.all_nodes():
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in outer:
                value.shape = None  # by PyTorch's running numbers; every runtime finds them itself
    for value in (*graph.inputs, *graph.outputs):
        named = _AXES[value.name]
        value.shape = type(value.shape)(
            [new if new is not None else old for new, old in zip(named, value.shape, strict=True)]
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own words to itself: they are about how it is built."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
