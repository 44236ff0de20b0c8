"""Write scenes of the emoji world as files: what `examples/scenes` and `tests/data/emoji` were made with.

    python scripts/render_emoji.py examples/scenes --seed 7 --first 22 --size 480
    python scripts/render_emoji.py tests/data/emoji --seed 4000 --count 50 --labels --quality 88

Pictures are JPEGs named by their number. With --labels each gets a label map beside it (`labels/`, 16-bit PNG of
concept ids) and the folder a `classes.txt`: what `san eval --images … --labels … --classes …` reads.
"""

import argparse
from pathlib import Path

from PIL import Image

from san_cli.datasets.emoji.pairs import SIZE
from san_cli.datasets.emoji.scenes import EmojiScenes
from san_cli.vocabulary.emoji_concepts import all_ids, concepts


def main() -> None:
    """Render and write."""
    args = _parse_args()
    images = args.folder / "images" if args.labels else args.folder
    images.mkdir(parents=True, exist_ok=True)
    scenes = EmojiScenes(args.seed, all_ids(), args.size)
    for index in range(args.first, args.first + args.count):
        scene = scenes[index]
        name = f"scene-{index:03d}"
        # The chroma at full resolution: emoji have sharp coloured borders.
        Image.fromarray(scene.image).save(images / f"{name}.jpg", quality=args.quality, subsampling=0)
        if args.labels:
            (args.folder / "labels").mkdir(exist_ok=True)
            Image.fromarray(scene.labels).save(args.folder / "labels" / f"{name}.png", optimize=True)
    if args.labels:
        names = "".join(f"{concept.name}\n" for concept in concepts())
        (args.folder / "classes.txt").write_text(names, encoding="utf-8")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--seed", type=int, required=True, help="training has 1, 2 and 20000, evaluation 1000 …"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--size", type=int, default=SIZE, help=f"pixels (default {SIZE})")
    parser.add_argument("--quality", type=int, default=92, help="of the JPEGs")
    parser.add_argument("--labels", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
