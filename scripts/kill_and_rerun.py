"""Kill `san predict` at random moments, run it again, and compare the folder with that of an undisturbed run.

    python scripts/kill_and_rerun.py [--kills 50] [--images 40] [--batch 1] [--save KINDS] [--seed 0]

A moment is a number of files in the folder of the results, from none to all, and up to 0.1 s more: it is the same
on a busy machine, and a kill that came too late is told and done again.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from tiny_model import write_tiny_model  # noqa: E402


def make_images(folder: Path, count: int) -> None:
    """Smooth pictures of a few sizes, some of them damaged, in two folders."""
    noise = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("day" if number % 3 else "night") / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        size = [(900, 600), (600, 900), (800, 800)][number % 3]
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        if number % 10 == 7:
            path.write_bytes(path.read_bytes()[:5000])


def tree(folder: Path) -> dict[str, str]:
    """Every file below `folder` with the hash of its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def command(inputs: Path, output: Path, weights: Path, extra: list[str]) -> list[str]:
    """The command line of one run."""
    options = ["-o", str(output), "--weights", str(weights), "--vocab", "voc", "-q", *extra]
    return [sys.executable, "-m", "san_cli", "predict", str(inputs), *options]


def count(folder: Path, pattern: str = "*") -> int:
    """How many files there are below `folder`."""
    return sum(path.is_file() for path in folder.rglob(pattern))


def kill(process: subprocess.Popen[bytes], output: Path, files: int, later: float) -> bool:
    """SIGKILL once `output` has so many files, and `later` seconds after; False if it has ended by then."""
    while process.poll() is None and count(output) < files:
        time.sleep(0.002)
    time.sleep(later)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def main() -> None:
    """Do the kills; exits with 1 if any tree differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", default="1")
    parser.add_argument("--save", default="overlay,labels,json")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        make_images(work / "in", arguments.images)
        weights = write_tiny_model(work)
        extra = ["--batch", arguments.batch, "--save", arguments.save]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "SAN_HOME": str(work / "home"), "OMP_NUM_THREADS": "1"}

        def start(output: Path) -> subprocess.Popen[bytes]:
            line = command(work / "in", output, weights, [*extra, "--workers", str(moments.randint(1, 4))])
            return subprocess.Popen(line, env=env, stderr=subprocess.DEVNULL)

        assert start(work / "undisturbed").wait() == 3  # some inputs are damaged
        expected = tree(work / "undisturbed")
        print(f"undisturbed: {len(expected)} files")

        different = killed = late = 0
        while killed < arguments.kills:
            output = work / f"killed-{killed}-{late}"
            if not kill(start(output), output, moments.randrange(len(expected)), moments.uniform(0, 0.1)):
                late += 1
                continue
            killed += 1
            found, torn = count(output), count(output, ".san-tmp-*")
            code = start(output).wait()
            same = tree(output) == expected and code == 3
            different += not same
            verdict = "same" if same else "DIFFERENT"
            print(f"{killed:3d}: killed with {found} files, {torn} of them unfinished: {verdict}", flush=True)
    print(f"{late} kills came too late")
    print(f"{arguments.kills - different} of {arguments.kills} trees are the same")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
