"""The network of an ONNX file, run by OpenVINO in the place of PyTorch's."""

import os
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from san_cli.engine.backend import OPENVINO, refuse_without_runtime
from san_cli.engine.onnx_file import INPUTS, OUTPUTS
from san_cli.errors import SanError
from san_cli.models.san import SanOutput

_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVinoNetwork:
    """What an ONNX file of ours computes, called as a `SAN` is: on the CPU, with at most as many threads as PyTorch.

    It can be pickled, and opens the file again then. Threads that call it at once wait for each other.
    """

    backend = OPENVINO

    def __init__(self, path: Path, embed_dim: int, precision: torch.dtype = torch.float32) -> None:
        """Open a file, to compute in float32 or bfloat16.

        SanError where OpenVINO is missing or can't read it, and for bfloat16 on a processor without it.
        """
        refuse_without_runtime(OPENVINO, bfloat16=precision == torch.bfloat16)
        self.path = path.absolute()
        self._precision = precision
        self._no_words = np.zeros((1, embed_dim), np.float32)
        self._compiled = _compiled(self.path, precision)
        self._turn = Lock()

    def __call__(self, image: Tensor) -> list[SanOutput]:
        """Compute masks and regions for an image [B, 3, H, W] as of `normalise`, both float32. No attention bias."""
        # The file multiplies regions by words, too, but that is nothing beside the rest.
        given = dict(zip(INPUTS, (image.float().contiguous().numpy(), self._no_words), strict=True))
        with self._turn:
            found = self._compiled(given)
        masks, regions = (torch.from_numpy(found[name]) for name in (OUTPUTS[0], OUTPUTS[2]))
        return [SanOutput(masks, regions, torch.empty(0))]

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenVinoNetwork, (self.path, self._no_words.shape[1], self._precision)


def _compiled(path: Path, precision: torch.dtype) -> Any:
    """Compile a file for all sizes at once: one for each size would be no faster, and each would take a second."""
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],  # or it takes bfloat16 where there is any
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # several processes would be bound to the same cores
    }
    try:
        import openvino

        core = openvino.Core()
        return core.compile_model(core.read_model(os.fspath(path)), "CPU", settings)
    except Exception as error:  # RuntimeError for whatever it is, or a library that can't be loaded
        raise SanError(
            f"OpenVINO can't read '{path}' ({_reason(error)})", hint="Export it again: san export --onnx FILE"
        ) from error


def _reason(error: Exception) -> str:
    """Return what an error says: the last line, as those before say where in OpenVINO's source it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
