"""The memory of one `san predict` over many small images: what an image more costs.

    python scripts/bench_memory.py [--images 10000] [--save overlay,labels,json] [--batch 1] [--workers 2]

The images are links to 50 pictures of 64 × 48 pixels by different names, the model is the tests' tiny one. The
resident memory (VmRSS) is read from /proc (Linux) at every 1 % of the images, and the slope is that of the least
squares line through the second half, when caches are filled. A line per image done that must be remembered (its
name, its place in the journal) is about 1 kB.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from recipe import image  # noqa: E402
from tiny_model import write_tiny_model  # noqa: E402

PICTURES = 50


def make_inputs(folder: Path, count: int) -> None:
    """`count` names in folders of 1,000, for few pictures (hard links: symbolic ones are followed and taken once)."""
    originals = folder.parent / "originals"
    originals.mkdir()
    for number in range(PICTURES):
        Image.fromarray(image(number, 48, 64)).save(originals / f"{number}.jpg", quality=90)
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(originals / f"{number % PICTURES}.jpg", path)


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)


def lines_in(journal: Path, known: tuple[int, int]) -> tuple[int, int]:
    """Images done and bytes read so far, going on from those known: the journal is read once."""
    done, offset = known
    if not journal.exists():
        return known
    with journal.open("rb") as file:
        file.seek(offset)
        new = file.read()
    return done + new.count(b"\n"), offset + len(new)


def watch(process: subprocess.Popen[bytes], journal: Path, count: int) -> tuple[list[tuple[int, int]], int]:
    """(images done, resident bytes) at every 1 % of the images, and the highest of all readings."""
    samples: list[tuple[int, int]] = []
    peak, known = 0, (0, 0)
    while process.poll() is None:
        time.sleep(0.05)
        used = resident(process.pid)
        peak = max(peak, used)
        known = lines_in(journal, known) if known[0] < count else known
        if used and known[0] < count and (not samples or known[0] >= samples[-1][0] + count / 100):
            samples.append((known[0], used))
    return samples, peak


def main() -> None:
    """Print the memory along the way, and its slope."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--save", default="overlay,labels,json")
    parser.add_argument("--vocab", default="voc")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        make_inputs(work / "in", options.images)
        command = [
            sys.executable,
            "-m",
            "san_cli",
            "predict",
            str(work / "in"),
            "-o",
            str(work / "out"),
            "-q",
        ]
        command += ["--weights", str(write_tiny_model(work)), "--vocab", options.vocab, "--device", "cpu"]
        command += ["--save", options.save, "--batch", str(options.batch), "--workers", str(options.workers)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "SAN_HOME": str(work / "home"), "OMP_NUM_THREADS": "1"}
        start = time.monotonic()
        process = subprocess.Popen(command, env=env)
        samples, peak = watch(process, work / "out" / ".san" / "journal", options.images)
        took = time.monotonic() - start
        if process.returncode:
            sys.exit(f"san predict ended with {process.returncode}")
    for done, used in samples[:: max(1, len(samples) // 10)]:
        print(f"{done:8,d} images  {used / 1e6:7.1f} MB")
    half = [(done, used) for done, used in samples if done >= options.images / 2]
    slope = np.polyfit(*zip(*half, strict=True), 1)[0]
    print(f"{options.images:8,d} images in {took:.0f} s, peak {peak / 1e6:.1f} MB")
    print(f"slope over the second half: {slope:+.0f} bytes an image ({len(half)} readings)")


if __name__ == "__main__":
    main()
