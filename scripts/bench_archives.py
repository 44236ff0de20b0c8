"""What reading from archives costs: `san predict` on a folder, a zip, a tar, a tar.gz, and with results in tars.

    python scripts/bench_archives.py [--images FOLDER] [--count 60] [--rounds 3] [--model tiny] [--weights FILE]

All forms hold the same images in the same order. Rounds alternate; a form's time is that of its images alone, as the
run reports it (from the first to the last, without loading the model); its ratio is to the folder's of that round.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from itertools import cycle, islice
from pathlib import Path

SCENES = Path(__file__).parent.parent / "examples" / "scenes"
FORMS = ("folder", "zip", "tar", "tar.gz", "tar, shards")


def main() -> None:
    """Print images a second of every form, and its median ratio to the folder's time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, default=SCENES)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--weights")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        inputs = _inputs(options.images, Path(folder), options.count)
        rates: dict[str, list[float]] = {form: [] for form in FORMS}
        for number in range(options.rounds):
            for form in FORMS:
                rates[form].append(_rate(form, inputs, Path(folder) / f"out-{number}-{form}", options))
                print(f"round {number + 1}: {form}: {rates[form][-1]:.3f} images/s", flush=True)
        for form in FORMS:
            ratios = [whole / rate for rate, whole in zip(rates[form], rates["folder"], strict=True)]
            median = statistics.median(rates[form])
            print(f"{form:12} {median:8.3f} images/s   {statistics.median(ratios):.3f} of the folder's time")


def _inputs(images: Path, folder: Path, count: int) -> dict[str, Path]:
    """Make the folder and its archives, with images repeated as often as needed."""
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise SystemExit(f"no .jpg or .png in {images}")
    photos = folder / "photos"
    photos.mkdir()
    for number, path in enumerate(islice(cycle(found), count)):
        shutil.copy(path, photos / f"{number:05d}{path.suffix}")
    files = sorted(photos.iterdir())
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    for suffix, mode in (("tar", "w"), ("tar.gz", "w:gz")):
        with tarfile.open(folder / f"photos.{suffix}", mode) as tar:  # type: ignore[call-overload]
            for file in files:
                tar.add(file, file.name)
    made = {form: folder / f"photos.{form}" for form in FORMS[1:4]}
    return made | {"folder": photos, "tar, shards": folder / "photos.tar"}


def _rate(form: str, inputs: dict[str, Path], output: Path, options: argparse.Namespace) -> float:
    """Run `san predict` and return the images a second that it reports."""
    command = [sys.executable, "-m", "san_cli", "predict", str(inputs[form]), "-o", str(output)]
    command += ["--save", "overlay,labels,json" + (",shards" if "shards" in form else "")]
    command += ["--model", options.model, "--device", options.device]
    command += ["--weights", options.weights] if options.weights else []
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    told = re.search(r"([\d.e+]+) images a second", ended.stderr)
    assert told is not None, ended.stderr
    shutil.rmtree(output)
    return float(told[1])


if __name__ == "__main__":
    main()
