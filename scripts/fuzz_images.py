"""Thousands of damaged image files with a few good ones among them: one run of `san predict` over all.

    python scripts/fuzz_images.py [--damaged 2250] [--seed 0] [--batch 1] [--keep FOLDER]

Checks that the run ends with exit code 3 and no traceback, prints one JSON line per input and one line on stderr
per failure, leaves the inputs as they are (bytes, mode, mtime), and that the good images' results are those of a
run over the good ones alone, byte for byte. What a damaged file comes to is a failure with its cause, or an image
like any other where the decoder can still read it. The same seed makes the same files.
"""

import argparse
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from recipe import image  # noqa: E402
from tiny_model import write_tiny_model  # noqa: E402

GOOD = 20
# Nine formats in the kinds that decoders have different code for: (suffix, Pillow's name, mode, options).
ENCODINGS: tuple[tuple[str, str, str, dict[str, object]], ...] = (
    (".jpg", "JPEG", "RGB", {"quality": 85}),
    (".jpg", "JPEG", "RGB", {"progressive": True}),
    (".jpg", "JPEG", "CMYK", {}),
    (".png", "PNG", "RGB", {}),
    (".png", "PNG", "P", {}),
    (".png", "PNG", "RGBA", {}),
    (".webp", "WEBP", "RGB", {}),
    (".webp", "WEBP", "RGB", {"lossless": True}),
    (".bmp", "BMP", "RGB", {}),
    (".bmp", "BMP", "P", {}),
    (".tif", "TIFF", "RGB", {}),
    (".tif", "TIFF", "RGB", {"compression": "tiff_lzw"}),
    (".tif", "TIFF", "RGB", {"compression": "jpeg"}),
    (".tif", "TIFF", "I;16", {"compression": "tiff_adobe_deflate"}),
    (".gif", "GIF", "P", {}),
    (".avif", "AVIF", "RGB", {}),
    (".jp2", "JPEG2000", "RGB", {}),
    (".ppm", "PPM", "RGB", {}),
    (".pbm", "PPM", "1", {}),
)
# What san says itself: of failures, notes, progress, and the summary.
OURS = re.compile(
    r"^(failed: |note: |images: |time by stage|  |results: |[\d,]+ done, [\d,]+ failed in ).*\n", re.MULTILINE
)
FORMATS = tuple(dict.fromkeys(kind for _, kind, _, _ in ENCODINGS))


def encoded(seed: int, kind: str, mode: str, options: dict[str, object]) -> bytes:
    """A picture of 48 to 96 pixels a side as a file of that kind."""
    sides = random.Random(seed)
    picture = Image.fromarray(image(seed, sides.randrange(48, 97), sides.randrange(48, 97)))
    picture = picture.convert("L").convert(mode) if mode == "I;16" else picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def cut(data: bytearray, chance: random.Random) -> bytes:
    """Ends too early: anywhere, mostly late or in the header."""
    end = chance.choice((chance.randrange(64), chance.randrange(len(data)), len(data) * 99 // 100))
    return bytes(data[:end])


def flip_header(data: bytearray, chance: random.Random) -> bytes:
    """One bit among the first 64 bytes."""
    data[chance.randrange(min(64, len(data)))] ^= 1 << chance.randrange(8)
    return bytes(data)


def flip_body(data: bytearray, chance: random.Random) -> bytes:
    """1, 4 or 64 bits anywhere."""
    for _ in range(chance.choice((1, 4, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def zero_block(data: bytearray, chance: random.Random) -> bytes:
    """Up to 512 bytes that never reached the disk."""
    start, length = chance.randrange(len(data)), chance.choice((8, 64, 512))
    data[start : start + length] = bytes(len(data[start : start + length]))
    return bytes(data)


def odd_number(data: bytearray, chance: random.Random) -> bytes:
    """Two or four bytes of the header at an extreme: sizes, offsets, lengths."""
    number = chance.choice(
        (b"\0\0", b"\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff")
    )
    start = chance.randrange(4, min(200, len(data)))
    data[start : start + len(number)] = number
    return bytes(data)


def behead(data: bytearray, chance: random.Random) -> bytes:
    """The first bytes lost."""
    return bytes(data[chance.randrange(1, 64) :])


def shuffle(data: bytearray, chance: random.Random) -> bytes:
    """Two blocks in each other's place."""
    block = max(1, len(data) // 8)
    one, other = sorted(chance.sample(range(0, max(2, len(data) - block), max(1, block // 2)), 2))
    other = max(other, one + block)
    return bytes(
        data[:one] + data[other : other + block] + data[one + block : other] + data[one : one + block]
    )


def append(data: bytearray, chance: random.Random) -> bytes:
    """Something else behind the end."""
    return bytes(data) + chance.choice((chance.randbytes(700), bytes(4096), bytes(data[: len(data) // 2])))


def only_magic(data: bytearray, chance: random.Random) -> bytes:
    """The first bytes, then noise."""
    return bytes(data[: chance.randrange(4, 32)]) + chance.randbytes(len(data))


def text(data: bytearray, chance: random.Random) -> bytes:
    """What a server sent instead of the image."""
    return chance.choice(
        (b"", b"\n", b"<!DOCTYPE html><title>404 Not Found</title>", b'{"error": "gone"}' * 40)
    )


DAMAGES: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    cut, flip_header, flip_body, zero_block, odd_number, behead, shuffle, append, only_magic, text,
)  # fmt: skip


def make_inputs(everything: Path, good_alone: Path, damaged: int, seed: int) -> list[str]:
    """Write all files; returns the names of the good ones, which are spread among the others."""
    chance = random.Random(seed)
    good: list[str] = []
    for number in range(damaged):
        if number % (damaged // GOOD) == 0 and len(good) < GOOD:
            suffix, kind, mode, options = ENCODINGS[len(good) % len(ENCODINGS)]
            good.append(f"{number:05d}-good{suffix}")
            for folder in (everything, good_alone):
                (folder / good[-1]).write_bytes(encoded(1000 + len(good), kind, mode, options))
        kind = FORMATS[number % len(FORMATS)]
        suffix, _, mode, options = chance.choice([one for one in ENCODINGS if one[1] == kind])
        damage = DAMAGES[number // len(FORMATS) % len(DAMAGES)]
        data = damage(bytearray(encoded(number, kind, mode, options)), chance)
        if chance.random() < 0.1:  # and a suffix that isn't the file's
            suffix = chance.choice(ENCODINGS)[0]
        (everything / f"{number:05d}-{kind}-{damage.__name__}{suffix}").write_bytes(data)
    return good


def state(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Hash, mode and time of every file and of the folder."""
    found = {}
    for path in (folder, *sorted(folder.iterdir())):
        status = path.stat()
        data = path.read_bytes() if path.is_file() else b""
        found[path.name] = hashlib.sha256(data).hexdigest(), status.st_mode, status.st_mtime_ns
    return found


def predict(work: Path, inputs: str, weights: Path, batch: int) -> subprocess.CompletedProcess[str]:
    """One run over `inputs`, into a folder of its name with `-out`."""
    command = [sys.executable, "-m", "san_cli", "predict", inputs, "-o", f"{inputs}-out", "--jsonl"]
    command += ["--weights", str(weights), "--vocab", "voc", "--device", "cpu", "--batch", str(batch)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SAN_HOME": str(work / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=work, env=env, capture_output=True, text=True, errors="backslashreplace"
    )


def results(folder: Path) -> dict[str, bytes]:
    """The files of single images."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".jpg", ".png")}


def without_times(line: dict[str, object]) -> dict[str, object]:
    """A JSON line but for what differs between two runs."""
    return {key: value for key, value in line.items() if key not in ("ms", "outputs")}


def report(lines: list[dict[str, object]]) -> None:
    """Counts by format, by damage and by cause."""
    for part, title in ((1, "format"), (2, "damage")):
        failed: Counter[str] = Counter()
        whole: Counter[str] = Counter()
        for line in lines:
            what = Path(str(line["path"])).stem.split("-")[part]
            (failed if "error" in line else whole)[what] += 1
        print(f"\n{title:<12} {'failed':>7} {'decoded':>8}")
        for what in sorted({*failed, *whole}):
            print(f"{what:<12} {failed[what]:7d} {whole[what]:8d}")
    causes = Counter(
        re.sub(r"\d[\d,]*", "N", str(line["error"]).split(" (")[0]) for line in lines if "error" in line
    )
    print("\ncauses")
    for cause, count in causes.most_common():
        print(f"{count:7d}  {cause}")


def main() -> None:
    """Make the files, run, check, count; exits with 1 if a promise is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--damaged", type=int, default=2250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where to work, instead of a folder that is removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.keep or Path(scratch)
        for name in ("all", "good"):
            (work / name).mkdir(parents=True)
        good = make_inputs(work / "all", work / "good", options.damaged, options.seed)
        weights = write_tiny_model(work)
        alone = predict(work, "good", weights, options.batch)
        before = state(work / "all")
        start = time.monotonic()
        ended = predict(work, "all", weights, options.batch)
        took = time.monotonic() - start
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        failed = [line for line in lines if "error" in line]
        told = [line for line in ended.stderr.splitlines() if line.startswith("failed: ")]
        others = OURS.sub("", ended.stderr).strip()
        good_lines = [without_times(line) for line in lines if line["path"] in good]
        good_alone = [without_times(json.loads(line)) for line in alone.stdout.splitlines()]
        found = results(work / "all-out")
        checks = {
            "exit codes are 0 for the good ones and 3 for all": (alone.returncode, ended.returncode)
            == (0, 3),
            "no traceback": "Traceback" not in ended.stderr,
            "a line per input, in order": [line["path"] for line in lines] == sorted(before.keys() - {"all"}),
            "a line on stderr per failure": len(told) == len(failed),
            f"nothing else but our own words on stderr {others[:300]}": not others,
            "every cause is one plain line": all(str(line["error"]).isprintable() for line in failed),
            "inputs are as before": state(work / "all") == before,
            "good ones are all there": [line["path"] for line in good_lines] == good,
            "two files per decoded image": len(found) == 2 * (len(lines) - len(failed)),
        }
        if (
            options.batch == 1
        ):  # else the good ones share their forward pass with others, and round differently
            checks["good ones' lines are those of the run alone"] = good_lines == good_alone
            checks["good ones' files are those of the run alone"] = (
                results(work / "good-out").items() <= found.items()
            )
        report([line for line in lines if line["path"] not in good])
    print(f"\n{len(lines)} inputs, {GOOD} of them good: {len(failed)} failed; {took:.0f} s")
    for check, passed in checks.items():
        print(f"{'ok   ' if passed else 'WRONG'} {check}")
    sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main()
