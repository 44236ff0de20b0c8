"""What a few pictures teach: words that `tiny` doesn't know, and words that it does, before and after.

    python scripts/measure_learned_words.py [--scenes 300] [--pool 1800] [--json FILE]

The scenes hold all concepts of the emoji world and `STRANGERS`: emoji that are in none of its pictures, so that
neither CLIP has read their names nor the side adapter seen their masks. Taught are the strangers, each by itself from
the first 2, 4, 8, 16 scenes of a pool that show it, all 380 names and all strangers' names competing; and the
`unseen` concepts of the world, of which CLIP has read captions, from 8 scenes. Then all learned words of a row of the
table are used at once on new scenes: those of the seeds of `san eval emoji`'s three splits, with the strangers among
their things.

Label maps are those of the tool, to the pixel. mIoU is over the classes that occur in a seed's scenes; "others" are
all that were not taught. A wrong label: in one of the eight scenes it lies on the largest other thing.
"""

import argparse
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from san_cli import Segmenter
from san_cli.datasets.emoji.pairs import SEEDS, SIZE
from san_cli.datasets.emoji.scenes import EmojiScenes
from san_cli.engine.mask_blocks import frame_of
from san_cli.engine.segmentation_map import segmentation_map
from san_cli.learn.picture import Picture, look_at
from san_cli.learn.words import Taught, teach
from san_cli.vocabulary.emoji_concepts import all_ids, concepts, unseen_ids
from san_cli.vocabulary.grammar import Vocabulary, vocabulary_of_names

STRANGERS = (
    "seedling", "fallen leaf", "melon", "pear", "rice ball", "fried shrimp", "custard", "bento box",
    "party popper", "wind chime", "rat", "ox", "water buffalo", "leopard", "ram", "goat", "sheep", "boar", "ant",
    "baby chick", "bird", "poodle", "eyeglasses", "handbag", "briefcase", "floppy disk", "newspaper", "radio",
    "telescope", "nut and bolt", "lizard", "shrimp", "squid", "t-rex", "cricket", "hippopotamus", "mosquito",
    "microbe", "badger", "dodo", "sloth", "otter", "orangutan", "oyster", "beaver", "bison", "salt shaker",
    "garlic", "falafel", "test tube", "petri dish", "abacus", "brick", "lotion bottle", "safety pin",
    "bar of soap", "stethoscope", "banjo", "military helmet", "carpentry saw", "mirror", "plunger",
    "sewing needle", "mouse trap", "headstone", "fly", "worm", "beetle", "cockroach", "bell pepper", "olive",
    "beans", "jar", "anatomical heart", "lungs", "baguette bread", "dumpling", "pie", "sandwich", "bagel",
    "lab coat", "hiking boot", "curling stone",
)  # fmt: skip
POOL_SEED = 9600
SHOWN = 240  # pixels of a concept from which on a scene shows it
COUNTS = (2, 4, 8, 16)

Rows = dict[str, Tensor]  # [C, D], by what was taught


class World:
    """Scenes with strangers in them, the model, and all names."""

    def __init__(self) -> None:
        """Load tiny and embed all names."""
        self.segmenter = Segmenter.load("tiny", device="cpu", precision="fp32")
        names = [*(concept.name for concept in concepts()), *STRANGERS]
        self.vocabulary: Vocabulary = vocabulary_of_names(names)
        self.rows = self.segmenter.embed(self.vocabulary)  # [C, D]
        self.temperature = float(self.segmenter.model.logit_scale.exp())
        self.strangers = tuple(range(len(concepts()), len(names)))

    def scenes(self, seed: int) -> EmojiScenes:
        """Return the endless scenes of a seed."""
        made = EmojiScenes(seed, all_ids(), SIZE)
        emoji = [unicodedata.lookup(name.upper()) for name in STRANGERS]
        made.things += list(zip(self.strangers, emoji, strict=True))
        return made


def pool_of(world: World, size: int) -> tuple[list[Picture], dict[int, list[int]]]:
    """Look at `size` scenes to learn from; which of them show a class, in their order."""
    scenes, itself = world.scenes(POOL_SEED), np.arange(1 << 16, dtype=np.int32)
    pictures, showing = [], dict[int, list[int]]()
    for number in range(size):
        scene = scenes[number]
        pictures.append(
            look_at(world.segmenter, world.vocabulary, scene.image, scene.labels, itself, str(number))
        )
        ids, pixels = np.unique(scene.labels, return_counts=True)
        for one in ids[pixels >= SHOWN].tolist():
            showing.setdefault(one, []).append(number)
    return pictures, showing


def mislabelled(picture: Picture, index: int) -> Picture:
    """Return a picture in which the largest other thing is called so, and what is so isn't."""
    labels = picture.labels.copy()
    others, cells = np.unique(labels, return_counts=True)
    things = [
        (count, one)
        for count, one in zip(cells.tolist(), others.tolist(), strict=True)
        if one != index and (one >= len(concepts()) or concepts()[one].emoji)
    ]
    labels[labels == index] = -1
    if things:
        labels[labels == max(things)[1]] = index
    return Picture(picture.name, picture.regions, picture.class_logits, picture.masks, labels)


def learned(
    world: World, pictures: Sequence[Picture], showing: Mapping[int, list[int]]
) -> tuple[Rows, dict[str, list[Taught]]]:
    """Teach words one by one; the rows of all words by what was taught, and what became of the words."""
    start = world.rows.double().mean(dim=0)
    rows: Rows = {"plain": world.rows}
    told: dict[str, list[Taught]] = {}

    def taught(name: str, classes: Iterable[int], count: int, wrong: int = 0) -> None:
        rows[name], told[name] = world.rows.clone(), []
        for index in classes:
            few = [pictures[number] for number in showing.get(index, [])[:count]]
            few = [mislabelled(one, index) for one in few[:wrong]] + few[wrong:]
            found = teach(few, index, world.vocabulary.names[index], start, world.temperature)
            told[name].append(found)
            if found.row is not None:
                rows[name][index] = found.row

    for count in COUNTS:
        taught(f"strangers, {count} scenes", world.strangers, count)
    taught("strangers, 8 scenes, 1 of them wrong", world.strangers, 8, 1)
    taught("unseen, 8 scenes", unseen_ids(), 8)
    return rows, told


def confusions(world: World, rows: Rows, seed: int, count: int) -> dict[str, NDArray[np.int64]]:
    """Count pixels [C, C] of truth and label map over `count` scenes, for each set of rows."""
    classes = len(world.vocabulary)
    counts = {name: np.zeros((classes, classes), np.int64) for name in rows}
    scenes = world.scenes(seed)
    background = world.segmenter.model.with_background(world.rows)[-1:]
    for number in range(count):
        scene = scenes[number]
        resized = world.segmenter.resize(scene.image)
        raw = world.segmenter.raw(resized, world.vocabulary)
        masks, regions = torch.from_numpy(raw.mask_logits), torch.from_numpy(raw.region_embeddings)
        for name, own in rows.items():
            logits = world.temperature * regions @ torch.cat([own, background]).T
            probabilities = logits.softmax(dim=-1)[:, :-1]
            made = segmentation_map(masks, probabilities, frame_of(resized, (SIZE, SIZE))).label_map
            pairs = scene.labels.astype(np.int64) * classes + made
            counts[name] += np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)
    return counts


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the IoU [C] in percent; NaN for a class that doesn't occur."""
    both = np.diag(confusion)
    occurs = confusion.sum(axis=1) > 0
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - both
    return np.where(occurs, 100 * both / np.maximum(union, 1), np.nan)


def table(by_seed: Sequence[Mapping[str, NDArray[np.int64]]], strangers: Sequence[int]) -> list[str]:
    """Write mean ± standard deviation over the seeds, Markdown."""
    lines = ["| taught | mIoU of those | gain | others | change |", "|---|---:|---:|---:|---:|"]
    for name in by_seed[0]:
        if name == "plain":
            continue
        classes = strangers if name.startswith("strangers") else unseen_ids()
        cells = []
        for chosen in (np.isin(np.arange(len(by_seed[0][name])), classes), None):
            mask = chosen if chosen is not None else ~np.isin(np.arange(len(by_seed[0][name])), classes)
            before = [np.nanmean(iou(one["plain"])[mask]) for one in by_seed]
            after = [np.nanmean(iou(one[name])[mask]) for one in by_seed]
            change = np.subtract(after, before)
            cells += [
                f"{np.mean(before):.1f} → {np.mean(after):.1f}", f"{change.mean():+.1f} ± {change.std():.1f}",
            ]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300, help="of each evaluation seed")
    parser.add_argument("--pool", type=int, default=1800, help="scenes to learn from")
    parser.add_argument("--json", type=Path, help="also write the IoU of every class")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    with torch.inference_mode():
        world = World()
        pictures, showing = pool_of(world, given.pool)
        rows, told = learned(world, pictures, showing)
        for name, words in told.items():
            fewest = min(one.pictures for one in words)
            kept = sum(one.row is not None for one in words)
            print(f"{name}: {kept} of {len(words)} words learned; at least {fewest} scenes each", flush=True)
        del pictures
        by_seed = []
        for split, seed in SEEDS.items():
            by_seed.append(confusions(world, rows, seed, given.scenes))
            print(f"{split} (seed {seed}): {given.scenes} scenes", flush=True)
    print(*table(by_seed, world.strangers), sep="\n")
    if given.json:
        values = [{name: iou(one).round(2).tolist() for name, one in counts.items()} for counts in by_seed]
        given.json.write_text(
            json.dumps({"names": world.vocabulary.names, "iou": values}).replace("NaN", "null")
        )


if __name__ == "__main__":
    main()
