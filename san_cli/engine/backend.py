"""What runs the network: PyTorch, or ONNX Runtime on the CPU."""

from importlib.util import find_spec
from pathlib import Path

from san_cli.engine.onnx_file import is_onnx, read_description
from san_cli.errors import SanError, did_you_mean
from san_cli.text import nearest, quoted

PYTORCH, ONNX = "pytorch", "onnx"
_BACKENDS = ("auto", PYTORCH, ONNX)
_ELSEWHERE = {
    **dict.fromkeys(("torch", "eager", "cuda", "cpu"), PYTORCH),
    **dict.fromkeys(("onnxruntime", "ort", "onnx-runtime"), ONNX),
}


def choose_backend(name: str, weights: object, *, device: str, precision: str, compile: bool) -> str:
    """Choose a backend: `auto` is ONNX for an ONNX file, else PyTorch.

    SanError for an unknown name, for an ONNX file that is to be run by PyTorch, and for what only PyTorch can do.
    """
    if name not in _BACKENDS:
        meant = _ELSEWHERE.get(name.casefold()) or nearest(name, _BACKENDS)
        raise SanError(
            f"unknown backend {quoted(name)}", hint=did_you_mean(meant, "Use auto, pytorch or onnx.")
        )
    if name == PYTORCH and is_onnx(weights):
        raise SanError(
            f"{quoted(weights)} is an ONNX file, which PyTorch doesn't run",
            hint="Leave --backend out, or name the weights that it was made from.",
        )
    if name == PYTORCH or not (name == ONNX or is_onnx(weights)):
        return PYTORCH
    if device not in ("auto", "cpu"):
        raise SanError(
            f"ONNX Runtime computes on the CPU here, not on {quoted(device)}",
            hint="Leave --device out, or take the weights (.pth, .safetensors) with --backend pytorch.",
        )
    if precision not in ("auto", "fp32"):
        raise SanError(
            f"the ONNX file computes in float32: there is no precision {quoted(precision)}",
            hint="Leave --precision out, or take the weights (.pth, .safetensors) with --backend pytorch.",
        )
    if compile:
        raise SanError(
            "--compile is about PyTorch, and ONNX Runtime is to run the network", hint="Leave it out."
        )
    return ONNX


def check_backend(name: str, weights: str | None, *, device: str, precision: str, compile: bool) -> str:
    """Choose a backend as `choose_backend` does, and check that it runs here; SanError for what can't be."""
    from san_cli.engine.device import choose_device, choose_precision  # torch takes seconds to import

    backend = choose_backend(name, weights, device=device, precision=precision, compile=compile)
    if backend == ONNX:
        refuse_without_onnxruntime()
    choose_precision(precision, choose_device("cpu" if backend == ONNX else device))
    if is_onnx(weights):
        read_description(Path(weights or ""))
    return backend


def refuse_without_onnxruntime() -> None:
    """SanError where ONNX Runtime, of the extra `onnx`, is missing."""
    if find_spec("onnxruntime") is None:
        raise SanError("running an ONNX file needs onnxruntime", hint="Install it: pip install onnxruntime")
