"""Run examples/ray_predict.py on a real Ray with two workers, and compare its label maps with those of `san predict`.

    pip install 'ray[data]' && python scripts/check_ray.py

Also sends a Segmenter to a task, which pickles it. Everything is made in a temporary folder.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SCENES = ROOT / "examples" / "scenes"
TASK = """
import sys
from pathlib import Path

import numpy as np
import ray
from PIL import Image

from san_cli import Segmenter, parse_vocabulary

scenes, alone = map(Path, sys.argv[1:])
ray.init(num_cpus=2)
segmenter, vocabulary = Segmenter.load("tiny"), parse_vocabulary(["emoji"])
task = ray.remote(lambda path: segmenter.segment(path, vocabulary).label_map)  # what it closes over is pickled
paths = sorted(scenes.glob("*.jpg"))
for path, label_map in zip(paths, ray.get([task.remote(path) for path in paths])):
    assert np.array_equal(label_map, np.asarray(Image.open(alone / f"{path.stem}.labels.png"))), path
print(len(paths), "label maps of tasks are equal")
"""


def run(*command: object) -> None:
    """Run Python with our package, to its end."""
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "300",  # a machine that is busy
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "MKL_CBWR": "AUTO,STRICT",  # as `san predict` sets: the same bits with any number of threads
    }
    print("$ python", *command, flush=True)
    start = time.monotonic()
    subprocess.run([sys.executable, *map(str, command)], env=environ, check=True, cwd=ROOT)
    print(f"  {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    """Compare; an assertion fails where anything differs."""
    import ray

    print("ray", ray.__version__, "on Python", sys.version.split()[0])
    with tempfile.TemporaryDirectory() as folder:
        alone, by_ray = Path(folder, "alone"), Path(folder, "by-ray")
        run("-m", "san_cli", "predict", SCENES, "--model", "tiny", "--save", "labels", "-o", alone)
        run("examples/ray_predict.py", SCENES, by_ray, "tiny")
        names = sorted(path.name for path in alone.glob("*.labels.png"))
        assert names == sorted(path.name for path in by_ray.iterdir()), "other files"
        for name in names:
            one, other = (np.asarray(Image.open(where / name)) for where in (alone, by_ray))
            assert np.array_equal(one, other), f"{name} differs in {(one != other).sum()} pixels"
            assert (alone / name).read_bytes() == (by_ray / name).read_bytes(), f"{name}: other bytes"
        print(len(names), "label maps are equal, to the byte of their files")
        Path(folder, "task.py").write_text(TASK, encoding="utf-8")
        run(Path(folder, "task.py"), SCENES, alone)


if __name__ == "__main__":
    main()
