"""Kill `san predict` at random moments, run it again, and compare the folder with that of an undisturbed run.

python scripts/kill_and_rerun.py --kills 50 --images 40
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
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

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


def main() -> None:
    """Do the kills; exits with 1 if any tree differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", default="1")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        make_images(work / "in", arguments.images)
        weights = write_tiny_model(work)
        extra = ["--batch", arguments.batch]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "SAN_HOME": str(work / "home"), "OMP_NUM_THREADS": "1"}

        def run(output: Path, kill_after: float | None = None, workers: str = "1") -> int:
            line = command(work / "in", output, weights, [*extra, "--workers", workers])
            process = subprocess.Popen(line, env=env, stderr=subprocess.DEVNULL)
            if kill_after is not None:
                time.sleep(kill_after)
                process.send_signal(signal.SIGKILL)
            return process.wait()

        run(work / "warm-up")
        start = time.time()
        assert run(work / "undisturbed") == 3  # some inputs are damaged
        expected = tree(work / "undisturbed")
        written = [(work / "undisturbed" / name).stat().st_mtime - start for name in expected]
        first, last = min(written), max(written)
        print(f"undisturbed: {len(expected)} files, written from {first:.1f} to {last:.1f} s")

        different = 0
        for number in range(arguments.kills):
            output = work / f"killed-{number}"
            moment = moments.uniform(first - 0.3, last + 0.2)
            run(output, kill_after=moment, workers=str(moments.randint(1, 4)))
            before = len(tree(output)) if output.exists() else 0
            code = run(output, workers=str(moments.randint(1, 4)))
            same = tree(output) == expected and code == 3
            different += not same
            print(
                f"{number + 1:3d}: killed after {moment:.2f} s with {before} files: {'same' if same else 'DIFFERENT'}"
            )
    print(f"{arguments.kills - different} of {arguments.kills} trees are the same")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
