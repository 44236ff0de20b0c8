"""Time the network by PyTorch, ONNX Runtime and OpenVINO on the same cores, in turns, in one run.

python scripts/bench_onnx.py --model vit-b-16 --weights random --size 640 --repeats 7 --threads 2 [--onnx FILE]

One image after another, as `san predict --backend` has it: medians and ranges in seconds, and the ratio to PyTorch in
float32 (above 1: faster than it). `start` is what opening the file takes, `new size` what the first picture of a size
takes longer than the second. "For one size" is OpenVINO with a model that is compiled for this size alone. What this
machine's runtimes don't offer is left out with a word. `int8` are weights quantised by ONNX Runtime's own tool, as it
comes, without calibration: the label maps change. The last column is the share of pixels that do, of a scene.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from san_cli import Segmenter
from san_cli.engine.device import reuse_freed_memory
from san_cli.engine.loading import load_weights
from san_cli.engine.mask_blocks import Frame
from san_cli.engine.onnx_export import write_onnx
from san_cli.engine.onnx_file import INPUTS, OUTPUTS
from san_cli.engine.onnx_network import OnnxNetwork
from san_cli.engine.openvino_network import OpenVinoNetwork
from san_cli.engine.segmentation_map import segmentation_map
from san_cli.models.san import SanOutput, normalise
from san_cli.vocabulary.templates import templates

Network = Callable[[Tensor], list[SanOutput]]
_NEW_SIZES = 3
_SCENE = Path(__file__).parent.parent / "examples" / "scenes" / "scene-018.jpg"


def for_one_size(path: Path, image: Tensor, dimensions: int, threads: int) -> Network:
    """Open a file in OpenVINO for images of one size, all else as `OpenVinoNetwork` has it."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape({INPUTS[0]: list(image.shape), INPUTS[1]: [1, dimensions]})
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    compiled = core.compile_model(model, "CPU", {**settings, "ENABLE_CPU_PINNING": False})
    words = np.zeros((1, dimensions), np.float32)

    def run(given: Tensor) -> list[SanOutput]:
        found = compiled(dict(zip(INPUTS, (given.numpy(), words), strict=True)))
        masks, regions = (torch.from_numpy(found[name]) for name in (OUTPUTS[0], OUTPUTS[2]))
        return [SanOutput(masks, regions, torch.empty(0))]

    return run


def variants(
    options: argparse.Namespace, exact: Segmenter, image: Tensor, folder: Path
) -> Iterator[tuple[str, Callable[[], Network]]]:
    """Yield what there is to time, by name, each to be opened."""
    rough = Segmenter.load(options.model, options.weights, device="cpu", precision="bf16")
    yield "PyTorch float32", lambda: exact.model
    yield "PyTorch bfloat16", lambda: lambda given: rough.model(given.to(torch.bfloat16))

    path, dimensions = options.onnx or folder / "model.onnx", exact.preset.clip.embed_dim
    if not path.exists():
        write_onnx(load_weights(options.model, options.weights, say=lambda _: None), path, templates("vild"))
    yield "ONNX Runtime float32", lambda: OnnxNetwork(path, dimensions)
    if options.int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        kinds, int8 = ["MatMul", "Gemm"], folder / "int8.onnx"
        quantize_dynamic(path, int8, weight_type=QuantType.QInt8, op_types_to_quantize=kinds)
        yield "ONNX Runtime int8", lambda: OnnxNetwork(int8, dimensions)
    print("ONNX Runtime has no fast float16 or bfloat16 on x86 CPUs")

    if find_spec("openvino") is None:
        print("OpenVINO is not installed: pip install 'san-seg[openvino]'")
        return
    import openvino

    yield "OpenVINO float32", lambda: OpenVinoNetwork(path, dimensions)
    yield (
        "OpenVINO float32, for one size",
        lambda: for_one_size(path, image, dimensions, torch.get_num_threads()),
    )
    offered = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in offered:
        yield "OpenVINO bfloat16", lambda: OpenVinoNetwork(path, dimensions, torch.bfloat16)
    else:
        print(f"OpenVINO has no bfloat16 on this CPU (it offers {', '.join(offered)})")


def seconds_of(network: Network, image: Tensor) -> float:
    """Time one image."""
    start = time.perf_counter()
    network(image)
    return time.perf_counter() - start


def scene(side: int) -> Tensor:
    """Make an input [1, 3, S, S] of a picture from the examples."""
    pixels = np.array(Image.open(_SCENE).convert("RGB").resize((side, side)))
    return normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])


def label_map(network: Network, image: Tensor, exact: Segmenter, text: Tensor) -> np.ndarray:
    """Make the label map of an image, with classes by random words."""
    found, size = network(image)[0], image.shape[-1]
    classes = exact.model.classify(found.region_embeddings, text)[0].softmax(-1)[:, :-1]
    return segmentation_map(found.mask_logits[0].float(), classes, Frame(*[(size, size)] * 3)).label_map


def processor() -> str:
    """Name the processor, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


@torch.inference_mode()
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
    parser.add_argument("--int8", action="store_true", help="weights in int8 by ONNX Runtime, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reuse_freed_memory()  # as `Segmenter.load` does
    exact = Segmenter.load(options.model, options.weights, device="cpu", precision="fp32")
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(options.words + 1, exact.preset.clip.embed_dim, generator=generator)
    text, image = torch.nn.functional.normalize(text, dim=-1), scene(options.size)
    networks, maps, starts = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, opened in variants(options, exact, image, Path(folder)):
            start = time.perf_counter()
            networks[name] = opened()
            starts[name] = time.perf_counter() - start
            maps[name] = label_map(networks[name], image, exact, text)  # and warmed up
        seconds: dict[str, list[float]] = {name: [] for name in networks}
        for _ in range(options.repeats):
            for name, network in networks.items():
                seconds[name].append(seconds_of(network, image))
        new: dict[str, list[float]] = {name: [] for name in networks if not name.endswith("one size")}
        for step in range(1, _NEW_SIZES + 1):
            other = torch.zeros(1, 3, options.size, options.size + 32 * step)
            for name in new:
                new[name].append(seconds_of(networks[name], other) - seconds_of(networks[name], other))
    first = next(iter(networks))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{options.model}, {options.size}², {options.threads} threads, {options.repeats} rounds")
    print(f"{processor()}, load {load}")
    print(f"| runtime | s | from, to | × {first} | start s | new size s | pixels that differ |")
    print("|---|---|---|---|---|---|---|")
    for name, times in seconds.items():
        middle = statistics.median(times)
        ratio = statistics.median(seconds[first]) / middle
        size = f"{statistics.median(new[name]):.2f}" if name in new else ""
        cells = [name, f"{middle:.3f}", f"{min(times):.3f}, {max(times):.3f}", f"{ratio:.2f}"]
        cells += [f"{starts[name]:.1f}", size, f"{(maps[name] != maps[first]).mean():.3%}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
