"""How many pixels another precision changes: label maps of the same images beside float32's.

    python scripts/bench_precision.py --weights tiny examples/scenes/*.jpg --vocab emoji
    python scripts/bench_precision.py --seeds 0 1 2 --noise 640x640 1500x1000 examples/photos/*.jpg [--model vit-b-16]

`--weights` is a file or the name of a model whose weights are there. `--seeds` are of untrained networks as those of
the parity tests, whose activations are well spread: those of `--weights random` see one class everywhere. Pictures of
noise, WIDTHxHEIGHT, come from the seed, too.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from san_cli import Segmenter
from san_cli.engine.device import choose_device, choose_precision
from san_cli.engine.text_embeddings import TextTower
from san_cli.models.presets import PRESETS, get_preset
from san_cli.vocabulary.grammar import parse_vocabulary
from san_cli.weights.checkpoint import Checkpoint, expected_shapes
from san_cli.weights.official import official_name

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from recipe import scale_and_offset


def untrained(model: str, seed: int, device: str, precisions: tuple[str, str]) -> tuple[Segmenter, Segmenter]:
    """Make one network in both precisions."""
    preset, generator = get_preset(model), torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in expected_shapes(preset).items():
        scale, offset = scale_and_offset(official_name(name, preset), tuple(shape))
        state[name] = torch.randn(shape, generator=generator) * scale + offset
    checkpoint = Checkpoint(preset, state)
    tower, where = TextTower(checkpoint.preset.clip, lambda: checkpoint.part("text")), choose_device(device)
    first, second = (
        Segmenter(
            checkpoint, tower, weights_sha256=f"random {seed}", device=where,
            precision=choose_precision(precision, where), templates="photo",
        )
        for precision in precisions
    )  # fmt: skip
    return first, second


def networks(options: argparse.Namespace) -> Iterator[tuple[str, int, tuple[Segmenter, Segmenter]]]:
    """Name, seed and both precisions of each network."""
    precisions = ("fp32", options.precision)
    for seed in options.seeds or ():
        yield (
            f"{options.model}, seed {seed}",
            seed,
            untrained(options.model, seed, options.device, precisions),
        )
    if options.weights:
        named = options.weights in PRESETS
        model, weights = (options.weights, None) if named else (None, options.weights)
        exact, fast = (
            Segmenter.load(model, weights, device=options.device, precision=precision)
            for precision in precisions
        )
        yield options.weights, 0, (exact, fast)


def pictures(options: argparse.Namespace, seed: int) -> Iterator[tuple[str, str, Image.Image | Path]]:
    """Kind, name and picture."""
    generator = np.random.default_rng(seed)
    for size in options.noise:
        width, height = map(int, size.split("x"))
        noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        yield f"noise {size}", "noise", Image.fromarray(noise)
    for path in options.images:
        yield "files", path.name, path


def main() -> None:
    """Print the share of changed pixels for each picture, and its range and mean for each kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--seeds", nargs="*", type=int)
    parser.add_argument("--noise", nargs="*", default=[], metavar="WxH")
    parser.add_argument("--model", default="vit-b-16", help="of the untrained networks")
    parser.add_argument("--vocab", default="voc")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    vocabulary = parse_vocabulary([options.vocab])
    shares: dict[str, list[float]] = {}
    for network, seed, both in networks(options):
        for kind, name, picture in pictures(options, seed):
            one, two = (segmenter.segment(picture, vocabulary).label_map for segmenter in both)
            share = float((one != two).mean())
            shares.setdefault(kind, []).append(share)
            print(f"{network}, {name} {one.shape}: {share:.2%}, {len(np.unique(one))} classes", flush=True)
    for kind, found in shares.items():
        print(f"{kind}: {min(found):.2%}-{max(found):.2%}, mean {np.mean(found):.2%}, {len(found)} pictures")


if __name__ == "__main__":
    main()
