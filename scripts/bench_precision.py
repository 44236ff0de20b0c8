"""How many pixels another precision changes: label maps of the same images beside float32's.

python scripts/bench_precision.py --weights san_vit_b_16.pth examples/photos/*.jpg [--vocab voc] [--precision bf16]
"""

import argparse
from pathlib import Path

from san_cli import Segmenter
from san_cli.vocabulary.grammar import parse_vocabulary


def main() -> None:
    """Print the share of changed pixels per image and over all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--vocab", default="voc")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    vocabulary = parse_vocabulary([options.vocab])
    exact = Segmenter.load(weights=options.weights, device=options.device, precision="fp32")
    fast = Segmenter.load(weights=options.weights, device=options.device, precision=options.precision)
    changed = total = 0
    for path in options.images:
        one, two = (s.segment(path, vocabulary).label_map for s in (exact, fast))
        differ = int((one != two).sum())
        changed, total = changed + differ, total + one.size
        print(f"{path.name}: {differ / one.size:.2%} of {one.size} pixels, {len(set(one.flat))} classes")
    print(f"all: {changed / total:.2%}")


if __name__ == "__main__":
    main()
