"""Time the network by PyTorch, ONNX Runtime and OpenVINO on the same cores, in turns, in one run.

python scripts/bench_onnx.py --model vit-b-16 --weights random --size 640 --repeats 9 --threads 2

One image after another: medians in seconds, and the ratio to PyTorch in float32 (above 1: faster than it). What this
machine's runtimes don't offer is left out with a word. `int8` are weights quantised by ONNX Runtime's own tool, as it
comes, without calibration: the label maps change, and the last column says how many pixels of noise do.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from san_cli import Segmenter
from san_cli.engine.device import reuse_freed_memory
from san_cli.engine.loading import load_weights
from san_cli.engine.mask_blocks import Frame
from san_cli.engine.onnx_export import write_onnx
from san_cli.engine.onnx_file import INPUTS, OUTPUTS
from san_cli.engine.segmentation_map import segmentation_map
from san_cli.models.san import SAN
from san_cli.vocabulary.templates import templates

Run = Callable[[], list[np.ndarray]]  # mask logits and class logits of the one image


def pytorch(model: SAN, image: Tensor, text: Tensor, precision: torch.dtype) -> Run:
    """Run eager PyTorch."""

    @torch.inference_mode()
    def run() -> list[np.ndarray]:
        out = model(image.to(precision))[0]
        return [out.mask_logits.float().numpy(), model.classify(out.region_embeddings, text).numpy()]

    return run


def onnxruntime_session(path: Path, image: Tensor, text: Tensor, threads: int) -> Run:
    """Run a file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = dict(zip(INPUTS, (image.numpy(), text.numpy()), strict=True))
    return lambda: session.run(list(OUTPUTS[:2]), given)


def openvino_model(path: Path, image: Tensor, text: Tensor, threads: int, precision: str) -> Run:
    """Run a file in OpenVINO."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    core: Any = openvino.Core()
    compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    given = dict(zip(INPUTS, (image.numpy(), text.numpy()), strict=True))

    def run() -> list[np.ndarray]:
        found = compiled(given)
        return [np.array(found[name]) for name in OUTPUTS[:2]]

    return run


def variants(options: argparse.Namespace, image: Tensor, folder: Path) -> Iterator[tuple[str, Run]]:
    """Yield what there is to time, by name."""
    exact = Segmenter.load(options.model, options.weights, device="cpu", precision="fp32")
    rough = Segmenter.load(options.model, options.weights, device="cpu", precision="bf16")
    text = torch.randn(
        options.words + 1, exact.preset.clip.embed_dim, generator=torch.Generator().manual_seed(1)
    )
    text = torch.nn.functional.normalize(text, dim=-1)
    yield "PyTorch float32", pytorch(exact.model, image, text, torch.float32)
    yield "PyTorch bfloat16", pytorch(rough.model, image, text, torch.bfloat16)

    path = options.onnx or folder / "model.onnx"
    if not path.exists():
        write_onnx(load_weights(options.model, options.weights, say=lambda _: None), path, templates("vild"))
    yield "ONNX Runtime float32", onnxruntime_session(path, image, text, options.threads)
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        path, folder / "int8.onnx", weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
    )
    yield "ONNX Runtime int8", onnxruntime_session(folder / "int8.onnx", image, text, options.threads)
    print("ONNX Runtime has no fast float16 or bfloat16 on x86 CPUs")

    if find_spec("openvino") is None:
        print("OpenVINO is not installed: pip install openvino")
        return
    import openvino

    yield "OpenVINO float32", openvino_model(path, image, text, options.threads, "f32")
    offered = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for name, hint in (("bfloat16", "bf16"), ("float16", "f16")):
        if hint.upper() in offered or hint.upper().replace("F", "P", 1) in offered:
            yield f"OpenVINO {name}", openvino_model(path, image, text, options.threads, hint)
        else:
            print(f"OpenVINO has no {name} on this CPU (it offers {', '.join(offered)})")


def label_map(found: list[np.ndarray], size: int) -> np.ndarray:
    """Make the label map of what a run returned."""
    masks, classes = (torch.from_numpy(part)[0] for part in found)
    return segmentation_map(masks, classes.softmax(-1)[:, :-1], Frame(*[(size, size)] * 3)).label_map


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vit-b-16")
    parser.add_argument("--weights", help="random, or a file; by default the model's own")
    parser.add_argument("--onnx", type=Path, help="the model's ONNX file, which is made if it isn't there")
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--words", type=int, default=171)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reuse_freed_memory()  # as `Segmenter.load` does
    image = torch.randn(1, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        runs = dict(variants(options, image, Path(folder)))
        maps = {name: label_map(run(), options.size) for name, run in runs.items()}  # and warmed up
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    first = next(iter(runs))
    print(f"{options.model}, {options.size}², {options.threads} threads, {options.repeats} rounds")
    print(f"| runtime | s | × {first} | pixels that differ |")
    print("|---|---|---|---|")
    for name, times in seconds.items():
        ratio = statistics.median(seconds[first]) / statistics.median(times)
        share = (maps[name] != maps[first]).mean()
        print(f"| {name} | {statistics.median(times):.3f} | {ratio:.2f} | {share:.3%} |")


if __name__ == "__main__":
    main()
