"""The network of an ONNX file, run by ONNX Runtime in the place of PyTorch's."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from san_cli.engine.backend import ONNX, refuse_without_runtime
from san_cli.engine.onnx_file import INPUTS, OUTPUTS
from san_cli.errors import SanError
from san_cli.models.san import SanOutput


class OnnxNetwork:
    """What an ONNX file of ours computes, called as a `SAN` is: with as many threads as PyTorch has.

    It can be pickled, and opens the file again then.
    """

    backend = ONNX

    def __init__(self, path: Path, embed_dim: int) -> None:
        """Open a file. SanError where ONNX Runtime is missing or can't read it."""
        refuse_without_runtime(ONNX)
        self.path = path.absolute()
        self._no_words = np.zeros((1, embed_dim), np.float32)
        self._session = _session(self.path)

    def __call__(self, image: Tensor) -> list[SanOutput]:
        """Compute masks and regions for an image [B, 3, H, W], float32, as of `normalise`. No attention bias."""
        # The file multiplies regions by words, too, but that is nothing beside the rest.
        given = dict(zip(INPUTS, (image.contiguous().numpy(), self._no_words), strict=True))
        masks, regions = self._session.run([OUTPUTS[0], OUTPUTS[2]], given)
        return [SanOutput(torch.from_numpy(masks), torch.from_numpy(regions), torch.empty(0))]

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxNetwork, (self.path, self._no_words.shape[1])


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_mem_pattern = False  # plans memory for one size of image
    options.log_severity_level = 3  # errors, which come as exceptions, too
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a dozen kinds, without a common one
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise SanError(
            f"ONNX Runtime can't read '{path}' ({reason})", hint="Export it again: san export --onnx FILE"
        ) from error
