"""How well a CLIP names what is in emoji scenes when [SLS] tokens are given the true masks as attention bias.

    python scripts/probe_clip.py weights/tiny.safetensors [--scenes 60]

No side adapter takes part: this is what recognition could be with perfect proposals and biases, and so says whether
CLIP or its adapter is worth improving. FILE is a SAN, or a CLIP as scripts/train_tiny_clip.py writes it.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.datasets.emoji.pairs import ScenePair, scene_pairs
from san_cli.engine.text_embeddings import TextTower, embed_words
from san_cli.models.clip import build_image_tower, clip_features, recognise_regions
from san_cli.models.presets import TINY
from san_cli.models.san import normalise
from san_cli.models.towers import VisionTransformer
from san_cli.train.start import fresh_model
from san_cli.vocabulary.emoji_concepts import all_ids, concepts
from san_cli.vocabulary.templates import VILD
from san_cli.weights.checkpoint import load_into

OUTSIDE = -10.0  # attention bias
SMALL, LARGE = 0.02, 0.04  # of the picture's pixels


def main() -> None:
    """Print top-1 over all names for things, small and large ones among them, and textures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--scenes", type=int, default=60)
    args = parser.parse_args()
    clip = fresh_model(TINY, str(args.file), 0, say=print)
    names = [concept.name for concept in concepts()]
    tower = TextTower(TINY.clip, lambda: clip.part("text"))
    text = embed_words(tower, names, VILD, torch.device("cpu"))
    visual = build_image_tower(TINY.clip)
    load_into(visual, {name: tensor.float() for name, tensor in clip.part("visual").items()})
    found = [row for pair in scene_pairs("val")[: args.scenes] for row in probe(visual.eval(), text, pair)]
    right, thing, share = (np.array(column) for column in zip(*found, strict=True))
    groups = {
        "things": thing,
        f"above {LARGE:.0%} of the picture": thing & (share > LARGE),
        f"below {SMALL:.0%}": thing & (share < SMALL),
        "textures": ~thing,
    }
    for name, rows in groups.items():
        print(f"{name}: {right[rows].mean():.1%} of {rows.sum()} named right")


@torch.inference_mode()
def probe(visual: VisionTransformer, text: Tensor, pair: ScenePair) -> list[tuple[bool, bool, float]]:
    """For every concept in a scene: whether it is named right, is a thing, and its share of the picture."""
    labels = torch.from_numpy(pair.read_labels(len(all_ids()), 65535).astype(np.int64))
    ids = labels.unique()
    masks = (labels == ids[:, None, None]).float()[None]  # [1, N, H, W]
    side = visual.grid_size[0]
    covered = F.interpolate(masks, size=(side, side), mode="area")
    most = covered.amax(dim=(2, 3), keepdim=True)  # a thing smaller than half a patch still gets one
    bias = torch.where(covered >= torch.minimum(0.9 * most, torch.tensor(0.5)), 0.0, OUTSIDE)
    image = normalise(torch.from_numpy(pair.read_image().copy()).permute(2, 0, 1)[None])
    image = F.interpolate(image, size=TINY.clip.image_size, mode="bilinear", antialias=True)
    features, grid = clip_features(visual, image, TINY)
    bias = bias[:, None].expand(-1, TINY.clip.heads, -1, -1, -1)  # [1, heads, N, H/16, W/16]
    regions = F.normalize(recognise_regions(visual, features, grid, bias, TINY), dim=-1)[0]
    right = (regions @ text.T).argmax(dim=1) == ids
    things = [bool(concepts()[i].emoji) for i in ids.tolist()]
    return list(zip(right.tolist(), things, masks.mean(dim=(2, 3))[0].tolist(), strict=True))


if __name__ == "__main__":
    main()
