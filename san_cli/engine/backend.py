"""What runs the network: PyTorch, or on the CPU one of the runtimes for ONNX files."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from san_cli.engine.onnx_file import is_onnx, read_description
from san_cli.errors import SanError, did_you_mean
from san_cli.text import nearest, quoted

PYTORCH, ONNX, OPENVINO = "pytorch", "onnx", "openvino"
RUNTIMES: Mapping[str, str] = {ONNX: "ONNX Runtime", OPENVINO: "OpenVINO"}  # for ONNX files, by backend
_BACKENDS = ("auto", PYTORCH, *RUNTIMES)
_ELSEWHERE = {
    **dict.fromkeys(("torch", "eager", "cuda", "cpu"), PYTORCH),
    **dict.fromkeys(("onnxruntime", "ort", "onnx-runtime"), ONNX),
    **dict.fromkeys(("ov", "open-vino", "intel"), OPENVINO),
}
_PACKAGES = {ONNX: ("onnxruntime", "onnxruntime"), OPENVINO: ("openvino", "'san-seg[openvino]'")}


def choose_backend(name: str, weights: object, *, device: str, precision: str, compile: bool) -> str:
    """Choose a backend: `auto` is ONNX for an ONNX file, else PyTorch.

    SanError for an unknown name, for an ONNX file that is to be run by PyTorch, and for what only PyTorch can do.
    """
    if name not in _BACKENDS:
        meant = _ELSEWHERE.get(name.casefold()) or nearest(name, _BACKENDS)
        raise SanError(
            f"unknown backend {quoted(name)}",
            hint=did_you_mean(meant, "Use auto, pytorch, onnx or openvino."),
        )
    if name == PYTORCH and is_onnx(weights):
        raise SanError(
            f"{quoted(weights)} is an ONNX file, which PyTorch doesn't run",
            hint="Leave --backend out, or name the weights that it was made from.",
        )
    if name == PYTORCH or not (name in RUNTIMES or is_onnx(weights)):
        return PYTORCH
    backend = name if name in RUNTIMES else ONNX
    if device not in ("auto", "cpu"):
        raise SanError(
            f"{RUNTIMES[backend]} computes on the CPU here, not on {quoted(device)}",
            hint="Leave --device out, or take the weights (.pth, .safetensors) with --backend pytorch.",
        )
    if backend == ONNX and precision not in ("auto", "fp32"):
        raise SanError(
            f"ONNX Runtime computes in float32 here: there is no precision {quoted(precision)}",
            hint="Leave --precision out, or take the weights (.pth, .safetensors) with --backend pytorch.",
        )
    if compile:
        raise SanError(
            f"--compile is about PyTorch, and {RUNTIMES[backend]} is to run the network", hint="Leave it out."
        )
    return backend


def check_backend(name: str, weights: str | None, *, device: str, precision: str, compile: bool) -> str:
    """Choose a backend as `choose_backend` does, and check that it runs here; SanError for what can't be."""
    from san_cli.engine.device import choose_device, choose_precision  # torch takes seconds to import

    backend = choose_backend(name, weights, device=device, precision=precision, compile=compile)
    choose_precision(precision, choose_device(device if backend == PYTORCH else "cpu"))
    if backend != PYTORCH:
        refuse_without_runtime(backend, bfloat16=precision == "bf16")
    if is_onnx(weights):
        read_description(Path(weights or ""))
    return backend


def refuse_without_runtime(backend: str, *, bfloat16: bool = False) -> None:
    """SanError where the package of a backend other than PyTorch is missing, or has no bfloat16 on this processor.

    OpenVINO would take bfloat16 all the same, and be slow.
    """
    package, wanted = _PACKAGES[backend]
    if find_spec(package) is None:
        other = backend == ONNX and find_spec(_PACKAGES[OPENVINO][0]) is not None
        raise SanError(
            f"running an ONNX file {'by OpenVINO ' if backend == OPENVINO else ''}needs {package}",
            hint=f"Install it: pip install {wanted}" + ("; or add --backend openvino" if other else ""),
        )
    if bfloat16 and "BF16" not in _abilities_by_openvino():
        raise SanError(
            "this processor can't compute in bfloat16, which OpenVINO would only imitate, far slower than float32",
            hint="Leave --precision out.",
        )


def _abilities_by_openvino() -> list[str]:
    """List what OpenVINO computes in on this processor: FP32, BF16 and the like. SanError where it can't be asked."""
    try:
        import openvino

        return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    except Exception as error:  # RuntimeError for whatever it is, or a library that can't be loaded
        raise SanError(
            f"OpenVINO can't be used here ({type(error).__name__}: {error})", hint="Install it anew."
        ) from error
