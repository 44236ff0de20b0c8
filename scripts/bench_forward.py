"""How near the network comes to the machine's limit: its time beside a matrix product's rate, in one run.

    python scripts/bench_forward.py [--model vit-b-16] [--size 640] [--precision fp32] [--compile] [--repeat 7]

The limit is the time that the network's multiply-adds would take at the rate of a large matrix product in the
same precision, measured between the network's own calls. Weights are random: only the architecture matters.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch

from san_cli import Segmenter
from san_cli.fps.flops import gflops
from san_cli.models.presets import get_preset
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
    """Print one line for the matrix product, one for the network, and the fraction."""
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
    side = 2048 if device.type == "cpu" else 8192
    a, b = torch.randn(2, side, side, device=device, dtype=dtype).unbind()

    work = 2 * gflops(
        lambda: segmenter.model(image)
    )  # of multiplications and additions, fused attention's too
    network, product = [], []
    for _ in range(options.repeat + 2):
        product.append(seconds(lambda: a @ b, device))
        network.append(seconds(lambda: segmenter.network(image), device))
    rate = 2 * side**3 / statistics.median(product[2:]) / 1e9
    took = statistics.median(network[2:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"torch {torch.__version__}, {device}, {options.precision} ({dtype}), {torch.get_num_threads()} threads"
    )
    print(f"matrix product {side}³: {rate:.0f} GFLOP/s")
    print(f"{options.model} at {options.size}²: {work:.1f} GFLOP, {took:.3f} s (best {min(network):.3f})")
    print(f"limit {work / rate:.3f} s: {work / rate / took:.0%} of it reached, peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
