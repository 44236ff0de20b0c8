"""How near the network comes to the machine's limit: its time beside the best rate of matrix products, in one run.

    python scripts/bench_forward.py [--model vit-b-16] [--size 640] [--precision fp32] [--compile] [--repeat 7]

The limit is the time that the network's multiply-adds, fused attention's among them, would take at the best rate of
several products in the same precision: large squares, and those of CLIP's blocks as the network has them, without
their bias. They are measured between the network's own calls. Weights are random: only the architecture matters.
MKL_CBWR=AUTO,STRICT is how the program sets MKL.
"""

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from san_cli import Segmenter
from san_cli.fps.flops import gflops
from san_cli.models.presets import Preset, get_preset
from san_cli.models.san import normalise


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, device included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    """Print one line for each matrix product, one for the network, and the fraction."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vit-b-16")
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()

    segmenter = Segmenter.load(
        get_preset(options.model), "random",
        device=options.device, precision=options.precision, compile=options.compile,
    )  # fmt: skip
    device, dtype = segmenter.device, segmenter.precision
    pixels = torch.randint(0, 256, (1, 3, options.size, options.size), dtype=torch.uint8, device=device)
    image = normalise(pixels).to(dtype)
    products = {
        " × ".join(map(str, shape)): (
            torch.randn(shape[0], shape[1], device=device, dtype=dtype),
            # The latter as a linear layer has its weight.
            torch.randn(shape[2], shape[1], device=device, dtype=dtype).t(),
        )
        for shape in shapes(segmenter.preset, options.size, device)
    }

    work = 2 * gflops(lambda: segmenter.model(image))
    network: list[float] = []
    took: dict[str, list[float]] = {name: [] for name in products}
    for _ in range(options.repeat + 2):
        for name, (a, b) in products.items():
            took[name].append(seconds(partial(torch.mm, a, b), device))
        network.append(seconds(lambda: segmenter.network(image), device))
    print(
        f"torch {torch.__version__}, {device}, {options.precision} ({dtype}), {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.1f}, MKL_CBWR={os.environ.get('MKL_CBWR', '')}"
    )
    rates = {
        name: 2 * a.numel() * b.shape[1] / statistics.median(took[name][2:]) / 1e9
        for name, (a, b) in products.items()
    }
    for name, rate in rates.items():
        print(f"matrix product {name}: {rate:.0f} GFLOP/s")
    median, limit = statistics.median(network[2:]), work / max(rates.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{options.model} at {options.size}²: {work:.1f} GFLOP, {median:.3f} s ({min(network):.3f}-"
        f"{max(network[2:]):.3f})"
    )
    print(f"limit {limit:.3f} s: {limit / median:.0%} of it reached, peak memory {peak:.0f} MB")


def shapes(preset: Preset, size: int, device: torch.device) -> list[tuple[int, int, int]]:
    """List matrix products (rows, inner, columns): squares, and the largest of CLIP's and the side adapter's."""
    squares = (1024, 2048, 3072) if device.type == "cpu" else (4096, 8192, 16384)
    clip, side = preset.clip.width, preset.side_width
    tokens = int(size * preset.clip_scale / preset.clip.patch_size) ** 2 + 1
    all_tokens = (size // preset.side_patch_size) ** 2 + preset.queries
    return [
        *((square, square, square) for square in squares),
        (tokens, clip, 4 * clip),
        (tokens, 4 * clip, clip),
        (4 * tokens, clip, 4 * clip),
        (all_tokens, side, 4 * side),
        (all_tokens, 4 * side, side),
    ]


if __name__ == "__main__":
    main()
