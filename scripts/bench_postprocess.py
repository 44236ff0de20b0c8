"""Time and peak memory of `S = M × Pᵀ` and its argmax: ours beside the plain formula, in one run.

    python scripts/bench_postprocess.py [--repeat 5]

Each cell is measured in a process of its own (peak memory is the process's), both methods alternating by cell.
Class probabilities are peaked (a query has one class, as trained models do) or flat (the worst case for
skipping classes); masks are smooth blobs.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from san_cli.engine.device import reuse_freed_memory
from san_cli.engine.mask_blocks import Frame
from san_cli.engine.segmentation_map import segmentation_map, segmentation_scores

FRAMES = {
    "640×640": Frame((640, 640), (640, 640), (640, 640)),
    "1500×1000": Frame((640, 960), (640, 960), (1000, 1500)),
}


def masks_and_probabilities(frame: Frame, classes: int, peaked: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """100 blob-like mask logits [100, h, w] and class probabilities [100, C]."""
    generator = torch.Generator().manual_seed(classes)
    h, w = frame.padded[0] // 16, frame.padded[1] // 16
    centre = torch.rand(100, 2, 1, 1, generator=generator) * torch.tensor([h, w]).view(1, 2, 1, 1)
    radius = 2 + 8 * torch.rand(100, 1, 1, generator=generator)
    y, x = torch.arange(h).view(1, h, 1), torch.arange(w).view(1, 1, w)
    distance = ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2).sqrt()
    logits = 1.5 * (radius - distance).clamp(-8, 8)
    class_logits = torch.randn(100, classes + 1, generator=generator) * (2.5 if peaked else 0.01)
    if peaked:
        class_logits[range(100), torch.randint(classes + 1, (100,), generator=generator)] += 12
    return logits, class_logits.softmax(dim=-1)[:, :-1]


def measure(method: str, size: str, classes: int, peaked: bool, repeat: int) -> None:
    """Print {"seconds": median, "mb": growth of the peak} of one cell."""
    reuse_freed_memory()
    frame = FRAMES[size]
    masks, probabilities = masks_and_probabilities(frame, classes, peaked)

    def run() -> None:
        if method == "plain":
            segmentation_scores(masks, probabilities, frame).max(dim=0)
        else:
            segmentation_map(masks, probabilities, frame)

    torch.ones(2048, 2048) @ torch.ones(2048, 2048)  # wake the threads up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    json.dump({"seconds": statistics.median(seconds[1:]), "mb": (peak - before) / 1024}, sys.stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--cell", nargs=4, metavar=("METHOD", "SIZE", "CLASSES", "KIND"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    if options.cell:
        method, size, classes, kind = options.cell
        measure(method, size, int(classes), kind == "peaked", options.repeat)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {options.repeat}")
    print("| output | classes | probabilities | plain s | ours s | faster | plain MB | ours MB | memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in FRAMES:
        for classes in (5, 171, 847):
            for kind in ("peaked", "flat"):
                plain, ours = (
                    cell(method, size, classes, kind, options.repeat) for method in ("plain", "ours")
                )
                print(
                    f"| {size} | {classes} | {kind} | {plain['seconds']:.3f} | {ours['seconds']:.3f} "
                    f"| {plain['seconds'] / ours['seconds']:.1f}× | {plain['mb']:.0f} | {ours['mb']:.0f} "
                    f"| 1/{plain['mb'] / max(ours['mb'], 1):.0f} |",
                    flush=True,
                )


def cell(method: str, size: str, classes: int, kind: str, repeat: int) -> dict[str, float]:
    """Measure one cell in a fresh process."""
    arguments = [method, size, str(classes), kind]
    command = [sys.executable, __file__, "--repeat", str(repeat), "--cell", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
