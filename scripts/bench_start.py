"""Start of `san predict`, a folder that is done, and a folder beside another process, of this tree and another one.

    git worktree add /tmp/before COMMIT
    python scripts/bench_start.py /tmp/before [--rounds 5] [--what start,finished,busy] [--model vit-b-16]
                                              [--weights FILE] [--count 12]

start: seconds to the first picture's line on stdout. finished: seconds, and peak memory, of a run that has nothing to
do. busy: images a second alone, and beside one endless loop of Python; a run's own figure, so that its start doesn't
count. Every run is a process of its own. The trees take turns, and begin in turns. Without --weights an untrained
model is written into a file, so that it is read and hashed as anybody's is.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from san_cli.models.presets import PRESETS

TREE = Path(__file__).resolve().parent.parent
SCENES = TREE / "examples" / "scenes"
PHOTOS = TREE / "examples" / "photos"


@dataclass(frozen=True)
class Side:
    """One tree, with a cache and folders of its own."""

    name: str
    tree: Path
    folder: Path
    arguments: Sequence[str]  # model and weights

    def command(self, *arguments: object) -> list[str]:
        """Return the command that predicts."""
        return [sys.executable, "-m", "san_cli", "predict", *map(str, arguments), *self.arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Return what the command's process needs."""
        return {**os.environ, "PYTHONPATH": str(self.tree), "SAN_HOME": str(self.folder / "home")}

    def run(self, *arguments: object) -> tuple[str, float, float]:
        """Return what a run says on stderr, the seconds it took, and its peak memory in MB."""
        start = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                self.command(*arguments),
                env=self.environment,
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
            _, status, usage = os.wait4(process.pid, 0)
            took = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            text = said.read().decode()
        if process.returncode:
            sys.exit(text)
        return text, took, usage.ru_maxrss / 1024


def main() -> None:
    """Print medians and ranges of both trees, and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="the other tree")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--what", default="start,finished,busy")
    parser.add_argument("--model", default="vit-b-16", choices=sorted(PRESETS))
    parser.add_argument("--weights", type=Path, help="a file; an untrained model otherwise")
    parser.add_argument("--count", type=int, default=12, help="pictures of a folder")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = (options.weights or _untrained(options.model, folder)).absolute()
        words = ["--vocab", "emoji" if options.model == "tiny" else "voc", "--device", "cpu"]
        arguments = ["--model", options.model, "--weights", str(weights), *words]
        sides = [
            Side(name, tree.resolve(), folder / name, arguments)
            for name, tree in (("before", options.before), ("now", TREE))
        ]
        pictures = _pictures(SCENES if options.model == "tiny" else PHOTOS, folder / "in", options.count)
        for side in sides:
            side.folder.mkdir()
            side.run(pictures, "-o", "warm", "--limit", 1)  # words embedded, hash known, files in memory
            if "finished" in options.what:
                side.run(pictures, "-o", "done")
        cores = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        print(f"{options.model}, {_processor()}, {cores}; median of {options.rounds} (least to most)")
        for what, measures in _MEASURES.items():
            if what in options.what.split(","):
                for title, measure in measures.items():
                    _compare(title, measure, sides, pictures, options.rounds)
        print(f"load at the end: {os.getloadavg()[0]:.1f}")


def _compare(
    title: str, measure: Callable[[Side, Path], float], sides: Sequence[Side], pictures: Path, rounds: int
) -> None:
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 else reversed(sides):
            found[side.name].append(measure(side, pictures))
    medians = {name: statistics.median(values) for name, values in found.items()}
    told = (f"{name} {_told(values)}" for name, values in found.items())
    print(
        f"{title + ':':38}{', '.join(told)}; now/before {medians['now'] / medians['before']:.2f}", flush=True
    )


def _told(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _first_picture(side: Side, pictures: Path) -> float:
    """Seconds until the first line is on stdout."""
    shutil.rmtree(side.folder / "new", ignore_errors=True)
    start = time.perf_counter()
    with subprocess.Popen(
        side.command(pictures, "-o", "new", "--limit", 1, "--save", "none", "--jsonl"),
        env=side.environment,
        cwd=side.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - start
    if not line:
        sys.exit("no picture was done")
    return took


def _finished(side: Side, pictures: Path) -> float:
    return side.run(pictures, "-o", "done")[1]


def _finished_memory(side: Side, pictures: Path) -> float:
    return side.run(pictures, "-o", "done")[2]


def _rate(side: Side, pictures: Path) -> float:
    """Images a second, as the run itself says."""
    shutil.rmtree(side.folder / "new", ignore_errors=True)
    said, _, _ = side.run(pictures, "-o", "new")
    found = re.search(r"([\d.]+) images a second$", said, re.MULTILINE)
    if found is None:
        sys.exit(said)
    return float(found[1])


def _busy_rate(side: Side, pictures: Path) -> float:
    with _busy():
        return _rate(side, pictures)


@contextmanager
def _busy() -> Iterator[None]:
    """Keep another process running."""
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


_MEASURES: Mapping[str, Mapping[str, Callable[[Side, Path], float]]] = {
    "start": {"seconds to the first picture": _first_picture},
    "finished": {"seconds, all done before": _finished, "MB at most, all done before": _finished_memory},
    "busy": {"images a second, alone": _rate, "images a second, beside a busy loop": _busy_rate},
}


def _untrained(model: str, folder: Path) -> Path:
    """Write a model in a process of its own: a process's peak memory counts from that of the one that starts it."""
    path = folder / f"{model}.safetensors"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from san_cli.models.presets import PRESETS\n"
        "from san_cli.weights.checkpoint import random_checkpoint, write_checkpoint\n"
        "write_checkpoint(random_checkpoint(PRESETS[sys.argv[1]]), Path(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    subprocess.run([sys.executable, "-c", code, model, str(path)], env=environment, check=True)
    return path


def _pictures(source: Path, target: Path, count: int) -> Path:
    """Make a folder of `count` pictures, each of the source's as often as needed."""
    target.mkdir()
    found = sorted(path for path in source.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for number in range(count):
        one = found[number % len(found)]
        shutil.copy(one, target / f"{number:05d}{one.suffix}")
    return target


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
