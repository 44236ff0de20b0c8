"""What a folder of results costs with very many images: the list, the journal, the end of a run, `san status`.

    python scripts/bench_scale.py --images 100000 [--segments 4]

Inputs are empty files; their journal lines are as if done, each with `--segments` classes of 300 bytes of RLE.
Every step runs in a process of its own, which prints its CPU seconds, what memory it took, and how much it wrote.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from san_cli.outputs.coco import dataset_info
from san_cli.outputs.record import Found, ImageRecord
from san_cli.predict.finish import finish
from san_cli.predict.folder import open_journal
from san_cli.predict.inputs import Listing, discover
from san_cli.predict.journal import image_journal, image_line, source_of
from san_cli.predict.kept_list import keep_list
from san_cli.predict.settings import settings_file
from san_cli.predict.status import status_of
from san_cli.regions.rle import Region
from san_cli.runs.settings import write_settings
from san_cli.runs.shares import Share

SETTINGS = {"batch": 1, "regions": False, "save": ["json"]}
CLASSES = tuple(f"class {number}" for number in range(171))


def listing_of(work: Path) -> Listing:
    """List the inputs, as `san predict in` does."""
    return discover([str(work / "in")], output=work / "out", say=lambda _: None)


def make(work: Path, images: int, segments: int) -> None:
    """Make the inputs, 1,000 in a folder, and the journal of a run on them that has not ended, of two shards."""
    for number in range(images):
        path = work / "in" / f"{number // 1000:05d}" / f"photograph-{number:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (work / "out" / ".san").mkdir(parents=True)
    write_settings(settings_file(work / "out"), SETTINGS)
    found = tuple(
        Found(
            n, Region("".join(chr(48 + n * k % 60) for k in range(300)), 90_000, (0, 0, 300, 300)), 0.5, 0.5
        )
        for n in range(segments)
    )
    for index in range(2):
        journal = image_journal(work / "out")
        journal.open_own(Share(index, 2))
        for number in range(index, images, 2):
            name = f"{number // 1000:05d}/photograph-{number:08d}.jpg"
            record = ImageRecord(name, 480, 640, found, uncertain=0.1)
            journal.append(image_line(source_of(work / "in" / name), 1, record, {}))
        journal.close()


def step(name: str, work: Path, images: int, segments: int) -> str:
    """Do one step; returns what is to be said of it besides time and memory."""
    out = work / "out"
    if name == "make":
        make(work, images, segments)
        sizes = sum(path.stat().st_size for path in (out / ".san").glob("journal*"))
        return f"journal {sizes / images:.0f} bytes an image"
    if name == "status":
        return str(status_of(out).whole)
    listing = listing_of(work)
    if name == "list":
        return f"{len(listing.images):,} images"
    if name == "keep list":
        keep_list(out, listing)
        return f"{(out / '.san' / 'inputs').stat().st_size / 1e6:.1f} MB on disk"
    journal = open_journal(out, listing.images)
    if name == "journal":
        return f"{len(journal.entries):,} entries"
    finish(
        out,
        listing,
        journal=journal,
        save=("json",),
        classes=CLASSES,
        info=dataset_info(SETTINGS),
        by_region=False,
    )
    return f"predictions.json {(out / 'predictions.json').stat().st_size / images:.0f} bytes an image"


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # MB


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--step", nargs=2)
    asked = parser.parse_args()
    if asked.step:
        start, before = time.process_time(), _peak()
        said = step(asked.step[0], Path(asked.step[1]), asked.images, asked.segments)
        print(json.dumps([time.process_time() - start, _peak() - before, said]))
        return
    print("| step | CPU s | MB of memory | |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("make", "list", "keep list", "status", "journal", "finish", "status"):
            command = [
                sys.executable,
                __file__,
                "--images",
                str(asked.images),
                "--segments",
                str(asked.segments),
            ]
            done = subprocess.run(
                [*command, "--step", name, folder], capture_output=True, text=True, check=True
            )
            seconds, peak, said = json.loads(done.stdout)
            print(f"| {name} | {seconds:.1f} | {peak:.0f} | {said} |", flush=True)


if __name__ == "__main__":
    main()
