"""What an evaluation costs beyond the network: `san eval`'s own loop on synthetic images, 847 classes, 640 × 640.

    python scripts/bench_eval.py [--model vit-b-16] [--images 6] [--classes 847] [--size 640] [--rounds 3]

Weights and text embeddings are random: the network takes its usual time, but its masks are grey all over and its
class probabilities flat, unlike a trained model's. So label maps are made of the blob-like masks with peaked
probabilities of `bench_postprocess.py`; `--masks network` takes the random network's own, the worst case.
"Beyond the network" is all else that the loop takes: reading, label maps, counting, and waiting for threads.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bench_postprocess import masks_and_probabilities
from PIL import Image

from san_cli import Segmenter
from san_cli.datasets.labels import write_label
from san_cli.datasets.own_pairs import list_own_pairs
from san_cli.datasets.task import Task
from san_cli.engine.ensemble import Ensemble, Member
from san_cli.engine.mask_blocks import Frame
from san_cli.engine.metrics import metrics_of
from san_cli.evaluate.counting import Evaluation, Origin
from san_cli.evaluate.plan import Plan
from san_cli.evaluate.run import count
from san_cli.runs.processes import default_workers
from san_cli.vocabulary.class_lists import load_dataset_vocabulary
from san_cli.vocabulary.grammar import Vocabulary, vocabulary_of_names


def make_images(folder: Path, count: int, size: int, classes: int) -> None:
    """Smooth pictures, and labels of a few hundred regions."""
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number in range(count):
        coarse = generator.integers(0, 256, (12, 12, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        picture.save(folder / f"images/{number}.jpg", quality=90)
        blocks = generator.integers(0, classes, (20, 20))
        truth = np.kron(blocks, np.ones((size // 20, size // 20), np.int64)).astype(np.uint16)
        truth[:30] = 65535
        write_label(folder / f"labels/{number}.tif", truth)


def inject_embeddings(segmenter: Segmenter, vocabulary: Vocabulary) -> None:
    """Random unit vectors for all words, so that the text tower isn't needed."""
    generator = np.random.default_rng(1)
    shape = (len(vocabulary.words), segmenter.preset.clip.embed_dim)
    rows = torch.from_numpy(generator.standard_normal(shape).astype(np.float32))
    segmenter.remember(vocabulary, torch.nn.functional.normalize(rows, dim=-1))


def blob_maps(segmenter: Segmenter, size: int, classes: int) -> None:
    """Let the segmenter's network run as it does, but give blob-like masks in the place of its own."""
    network = segmenter.map_factors
    side = (size, size)
    masks, probabilities = masks_and_probabilities(Frame(side, side, side), classes, peaked=True)
    blobs = masks[None].to(segmenter.device), probabilities[None].to(segmenter.device)

    def map_factors(*arguments: object, **options: object) -> object:
        network(*arguments, **options)  # type: ignore[arg-type]
        return blobs

    segmenter.map_factors = map_factors  # type: ignore[method-assign, assignment]


def forward_alone(segmenter: Segmenter, task: Task, rounds: int) -> float:
    """Median seconds of the network with its classification, one image at a time."""
    resized = [segmenter.resize(np.asarray(Image.open(pair.image))) for pair in task.pairs]
    seconds = []
    for number in range(1 + rounds):
        for array in resized:
            start = time.perf_counter()
            segmenter.map_factors([array], task.vocabulary)
            if segmenter.device.type == "cuda":
                torch.cuda.synchronize(segmenter.device)
            if number:
                seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peak_mb(device: torch.device) -> str:
    """Peak memory so far."""
    process = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    if device.type == "cuda":
        process += f" and {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MB on the GPU"
    return process


def main() -> None:
    """Print seconds an image by stage, the overhead, and peak memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vit-b-16")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--classes", type=int, default=847)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--masks", choices=["blobs", "network"], default="blobs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SAN_HOME"] = folder
        make_images(Path(folder), options.images, options.size, options.classes)
        names = [one.name for one in load_dataset_vocabulary("ade847").classes][: options.classes]
        vocabulary = vocabulary_of_names(names)
        pairs = list_own_pairs(Path(folder, "images"), Path(folder, "labels")).pairs
        task = Task("own", "synthetic", "own", pairs, tuple(names), vocabulary, 65535)
        segmenter = Segmenter.load(options.model, "random", device=options.device, precision="fp32")
        inject_embeddings(segmenter, vocabulary)
        if options.masks == "blobs":
            blob_maps(segmenter, 640, options.classes)
        measure(segmenter, task, options.rounds)


def measure(segmenter: Segmenter, task: Task, rounds: int) -> None:
    """Evaluate a few times and print what that came to."""
    alone = forward_alone(segmenter, task, rounds)
    before = peak_mb(segmenter.device)
    workers = default_workers(segmenter.device.type)
    maps = Ensemble([Member(segmenter)], task.vocabulary)
    evaluation = Evaluation("bench", task, maps, Origin(None, "random", None), workers)
    rounds_of: list[dict[str, float]] = []
    for _ in range(rounds):
        start = time.perf_counter()
        counts = count(evaluation, Plan())
        assert counts is not None
        metrics_of(counts.confusion)
        total = time.perf_counter() - start
        seconds = {"total": total, "beyond": total - counts.seconds["model"], **counts.seconds}
        rounds_of.append({stage: value / len(task.pairs) for stage, value in seconds.items()})
    middle = sorted(rounds_of, key=lambda one: one["beyond"] / one["model"])[rounds // 2]
    print(
        f"{segmenter.preset.name}, {len(task.classes)} classes, {len(task.pairs)} images, {segmenter.device}, "
        f"{torch.get_num_threads()} threads, {workers} readers"
    )
    print("seconds an image: " + ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in middle.items()))
    print(f"the network alone, before: {alone:.3f} s")
    print(
        f"beyond the network: {middle['beyond'] / middle['model']:.1%} of its time (median of {rounds} rounds)"
    )
    print(f"peak memory: {peak_mb(segmenter.device)} ({before} with the network alone)")


if __name__ == "__main__":
    main()
