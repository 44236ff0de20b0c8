"""What `--only` paints: words of things that aren't in a scene, and things that are; and the choice of its numbers.

    python scripts/measure_only.py [--scenes 80] [--seed 8000] [--absent 10]

The bundled model `tiny` on new emoji scenes (seeds as in scripts/measure_confidence.py; `NEAR` and `NO_OBJECT` were
first looked at on seed 7001, 0.2 was chosen here). In every scene, one at a time, are asked for: each concept that is
there, by its name and by a synonym; as many `--absent` names, drawn at random; the nearest name, by cosine, of each
thing that is there, if it isn't there itself; and two and three of the things together.

The network sees a scene once, and the classes that compete are chosen among its logits afterwards, by the code that
`MapOptions(only=True)` uses; label maps are compared with those of `Segmenter.segment` in the first scenes. IoU is
the intersections' sum over the unions' sum. Tables are Markdown.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from san_cli import MapOptions, Segmenter, Vocabulary
from san_cli.datasets.emoji.scenes import EmojiScenes
from san_cli.engine import contrast
from san_cli.engine.mask_blocks import frame_of
from san_cli.engine.segmentation_map import UNLABELLED, segmentation_scores
from san_cli.vocabulary.contrast import contrast_to
from san_cli.vocabulary.emoji_concepts import all_ids, concepts
from san_cli.vocabulary.grammar import vocabulary_of_names

SIZE = 320  # pixels, the side of a scene
COUNTED = (slice(1, None, 2), slice(1, None, 2))  # a quarter of the pixels, for time
COMPARED = 5  # scenes whose label maps are compared with the tool's
NEARS = (0.5, 0.6, 0.7, 0.8, 1.0)
SHARES_OF_NO_OBJECT = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
COVERED = (1.0, 0.3, 0.05)  # of the contrast that competes: a world that it covers, or doesn't
NAMES = tuple(concept.name for concept in concepts())
THINGS = frozenset(i for i, concept in enumerate(concepts()) if concept.emoji)
ROUNDING = 1e-5
FULL = "full vocabulary"

Key = tuple[object, ...]


class Tally:
    """Intersections, unions and falsely painted shares, by what was asked and how, scene by scene."""

    def __init__(self, scenes: int) -> None:
        """Count nothing yet, for a number of scenes."""
        self.overlap: dict[Key, NDArray[np.float64]] = defaultdict(lambda: np.zeros((2, scenes)))
        self.asked: dict[Key, int] = defaultdict(int)
        self.false: dict[Key, list[float]] = defaultdict(list)

    def present(self, key: Key, scene: int, painted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
        """Count a concept that is in the scene."""
        self.overlap[key][:, scene] += (painted & truth).sum(), (painted | truth).sum()
        self.asked[key] += 1

    def absent(self, key: Key, painted: NDArray[np.bool_]) -> None:
        """Count a concept that isn't."""
        self.false[key].append(float(painted.mean()))

    def iou(self, key: Key) -> float:
        """Give the summed IoU, in percent."""
        inside, union = self.overlap[key].sum(axis=1)
        return float(100 * inside / union)

    def difference(self, key: Key, other: Key) -> str:
        """Write the difference in IoU, in points, and 95 % of those over drawings of the scenes."""
        scenes = self.overlap[key].shape[1]
        drawn = np.random.default_rng(0).multinomial(scenes, np.full(scenes, 1 / scenes), size=1000)
        one, two = (
            100 * (drawn @ inside) / np.maximum(drawn @ union, 1)
            for inside, union in (self.overlap[key], self.overlap[other])
        )
        low, high = np.quantile(one - two, (0.025, 0.975))
        return f"{self.iou(key) - self.iou(other):+.1f} ({low:+.1f} to {high:+.1f})"

    def painted(self, key: Key) -> str:
        """Write the mean share of falsely painted pixels, and how many pairs of word and scene exceed 1 %."""
        shares = np.array(self.false[key])
        return f"{shares.mean():.3%} | {(shares > 0.01).sum()} of {len(shares)}"


@dataclass(frozen=True)
class Seen:
    """A scene, and the network's output for it over all words."""

    number: int
    labels: NDArray[np.int64]  # [pixels]
    masks: Tensor  # [pixels, N], 0..1
    logits: Tensor  # [N, words + 1]

    def painted(
        self, columns: Sequence[int], asked: int, no_object: Iterable[float]
    ) -> dict[float, NDArray[np.int64]]:
        """Label the pixels [pixels] with one of the first `asked` columns or -1, for each part of "no object".

        Only pixels are compared in which an asked class has the average score at least, as any winner has.
        """
        probabilities = self.logits[:, [*columns, -1]].softmax(dim=-1)
        best, which = (self.masks @ probabilities[:, :asked]).max(dim=1)
        average = self.masks @ probabilities[:, :-1].mean(dim=1)
        able = (best >= average * (1 - ROUNDING)).nonzero()[:, 0]
        scores = self.masks[able] @ probabilities[:, asked:]
        best, which, nothing = best[able], which[able], scores[:, -1]
        won = best >= scores[:, :-1].amax(dim=1) if scores.shape[1] > 1 else torch.ones_like(best).bool()
        found = {}
        for part in no_object:
            mine = won & (best >= part * nothing)
            found[part] = np.full(len(self.labels), UNLABELLED)
            found[part][able[mine].numpy()] = which[mine].numpy()
        return found


class Experiment:
    """The model, all words and their embeddings, and what was counted."""

    def __init__(self, segmenter: Segmenter, seed: int, scenes: int) -> None:
        """Embed the names and synonyms of all concepts."""
        self.segmenter = segmenter
        words = dict.fromkeys(word for concept in concepts() for word in concept.words)
        self.words = vocabulary_of_names(list(words))
        self.place = {word: index for index, word in enumerate(self.words.words)}
        self.embeddings = segmenter.embed(self.words)
        self.scenes = EmojiScenes(seed, all_ids(), SIZE)
        self.tally = Tally(scenes)
        self.left_out: dict[float, list[int]] = defaultdict(list)  # how many, for each name that is asked for
        self.candidates = cache(lambda asked: contrast_to(asked, of_tiny=True))
        self.columns = cache(self._columns)
        rows = self.embeddings[[self.place[name] for name in NAMES]]
        centred = F.normalize(rows - rows.mean(dim=0), dim=1)
        self.nearest = (centred @ centred.T).fill_diagonal_(-1).argmax(dim=1).tolist()

    def see(self, number: int) -> Seen:
        """Draw a scene and run the network on it, once for all words."""
        scene = self.scenes[number]
        resized = self.segmenter.resize(scene.image)
        self.segmenter.remember(self.words, self.embeddings)
        raw = self.segmenter.raw(resized, self.words)
        mask_logits = torch.from_numpy(raw.mask_logits)
        masks = segmentation_scores(mask_logits, torch.eye(len(mask_logits)), frame_of(resized, (SIZE, SIZE)))
        masks = masks.permute(1, 2, 0)[COUNTED].flatten(0, 1).contiguous()
        labels = scene.labels[COUNTED].astype(np.int64).ravel()
        return Seen(number, labels, masks, torch.from_numpy(raw.class_logits))

    def _columns(self, asked: tuple[str, ...], near: float) -> tuple[int, ...]:
        """Find the columns of the logits that compete with `asked` words, these first."""
        vocabulary = vocabulary_of_names(asked)
        candidates = self.candidates(vocabulary)
        everything = Vocabulary((*vocabulary.entries, *candidates))
        rows = self.embeddings[[self.place[word] for word in everything.words]]
        shipped, contrast.NEAR = contrast.NEAR, near
        found, _ = contrast.contrast_of(vocabulary, candidates, rows)
        contrast.NEAR = shipped
        if len(asked) == 1 and asked[0] in NAMES:
            self.left_out[near].append(len(found.left_out))
        return tuple(self.place[word] for word in found.competing.words)

    def only(self, seen: Seen, words: tuple[str, ...], near: float | None = None) -> NDArray[np.int64]:
        """Label a scene's pixels as `MapOptions(only=True)` does: places in `words`, or -1."""
        columns = self.columns(words, contrast.NEAR if near is None else near)
        return seen.painted(columns, len(words), (contrast.NO_OBJECT,))[contrast.NO_OBJECT]

    def measure(self, number: int, absent: int) -> None:
        """Ask one scene for everything."""
        seen, rng = self.see(number), np.random.default_rng((self.scenes.seed, number))
        there = np.unique(seen.labels).tolist()
        things = [i for i in there if i in THINGS]
        missing = rng.choice(np.setdiff1d(all_ids(), there), absent, replace=False).tolist()
        names = [self.place[name] for name in NAMES]
        full = seen.painted(names, len(names), (0.0,))[0.0]
        self._one_word(seen, full, there, missing)
        self._together(seen, full, things, rng)
        self._no_object(seen, things, missing, rng)
        self._near(seen, things, missing)
        if number < COMPARED:
            self._compare(number, seen, things[:2] + missing[:1])

    def _one_word(
        self, seen: Seen, full: NDArray[np.int64], there: Sequence[int], missing: Sequence[int]
    ) -> None:
        for concept in there:
            kind, truth = "thing" if concept in THINGS else "ground", seen.labels == concept
            self.tally.present((kind, FULL), seen.number, full == concept, truth)
            painted = self.only(seen, (NAMES[concept],)) == 0
            self.tally.present((kind, "only"), seen.number, painted, truth)
        for concept in missing:
            self.tally.absent((FULL,), full == concept)
            self.tally.absent(("only",), self.only(seen, (NAMES[concept],)) == 0)
            alone = seen.painted([self.place[NAMES[concept]]], 1, (0.0,))[0.0]
            self.tally.absent(("plain",), alone == 0)

    def _together(
        self, seen: Seen, full: NDArray[np.int64], things: list[int], rng: np.random.Generator
    ) -> None:
        for count in (2, 3):
            if len(things) < count:
                continue
            asked = rng.choice(things, count, replace=False).tolist()
            found = self.only(seen, tuple(NAMES[concept] for concept in asked))
            for place, concept in enumerate(asked):
                truth = seen.labels == concept
                self.tally.present((count, "only"), seen.number, found == place, truth)
                self.tally.present((count, FULL), seen.number, full == concept, truth)

    def _no_object(self, seen: Seen, things: list[int], missing: list[int], rng: np.random.Generator) -> None:
        for concept in things + missing:
            own, *others = self.columns((NAMES[concept],), contrast.NEAR)
            for covered in COVERED:
                kept = [other for other in others if rng.random() < covered]
                for part, found in seen.painted([own, *kept], 1, SHARES_OF_NO_OBJECT).items():
                    key = ("no object", covered, part)
                    if concept in things:
                        self.tally.present(key, seen.number, found == 0, seen.labels == concept)
                    else:
                        self.tally.absent(key, found == 0)

    def _near(self, seen: Seen, things: list[int], missing: list[int]) -> None:
        alike = sorted({self.nearest[concept] for concept in things} - set(np.unique(seen.labels).tolist()))
        for near in NEARS:
            for concept in things:
                truth = seen.labels == concept
                words = concepts()[concept].words
                for kind, word in zip(("name", "synonym"), words, strict=False):
                    found = self.only(seen, (word,), near) == 0
                    self.tally.present(("near", near, kind), seen.number, found, truth)
            for kind, absent in (("random", missing), ("alike", alike)):
                for concept in absent:
                    found = self.only(seen, (NAMES[concept],), near) == 0
                    self.tally.absent(("near", near, kind), found)

    def _compare(self, number: int, seen: Seen, asked: Sequence[int]) -> None:
        """Assert that the tool paints the same."""
        image = self.scenes[number].image
        for words in [(NAMES[concept],) for concept in asked] + [tuple(NAMES[concept] for concept in asked)]:
            made = self.segmenter.segment(image, words, MapOptions(only=True)).label_map[COUNTED].ravel()
            different = int((made != self.only(seen, words)).sum())
            assert different <= 5, f"scene {number}, {words}: {different} pixels differ from the tool's"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=80)
    parser.add_argument("--seed", type=int, default=8000)
    parser.add_argument("--absent", type=int, default=10)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    experiment = Experiment(Segmenter.load("tiny"), args.seed, args.scenes)
    for number in range(args.scenes):
        experiment.measure(number, args.absent)
    print(
        f"{args.scenes} scenes of seed {args.seed} at {SIZE}²; "
        f"NEAR {contrast.NEAR}, NO_OBJECT {contrast.NO_OBJECT}\n"
    )
    print_results(experiment.tally)
    print_no_object(experiment.tally)
    print_near(experiment)


def print_results(tally: Tally) -> None:
    """Print what `--only` does as it is."""
    print("| one word of what isn't there | pixels painted, mean | pairs of word and scene above 1 % |")
    print("|---|---|---|")
    for name, key in (("without `--only`", "plain"), ("`--only`", "only"), (FULL, FULL)):
        print(f"| {name} | {tally.painted((key,))} |")
    print()
    print("| asked for | times | full vocabulary, IoU | `--only`, IoU | difference (95 %) |")
    print("|---|---|---|---|---|")
    rows: tuple[tuple[str, object], ...] = (
        ("a thing", "thing"), ("two things, each", 2), ("three things, each", 3), ("a background", "ground")
    )  # fmt: skip
    for name, asked in rows:
        only, full = (asked, "only"), (asked, FULL)
        print(
            f"| {name} | {tally.asked[only]} | {tally.iou(full):.1f} | {tally.iou(only):.1f} "
            f"| {tally.difference(only, full)} |"
        )
    print()


def print_no_object(tally: Tally) -> None:
    """Print IoU and false shares by the part of "no object" and of the contrast."""
    heads = " | ".join(f"{covered:.0%}: IoU | falsely painted | pairs above 1 %" for covered in COVERED)
    print(f'| of "no object" | {heads} |\n|---|{"---|" * 3 * len(COVERED)}')
    for part in SHARES_OF_NO_OBJECT:
        cells = [
            f"{tally.iou(key):.1f} | {tally.painted(key)}"
            for key in (("no object", covered, part) for covered in COVERED)
        ]
        print(f"| {part:g} | {' | '.join(cells)} |")
    print()


def print_near(experiment: Experiment) -> None:
    """Print IoU and false shares by the cosine above which a word doesn't compete."""
    tally = experiment.tally
    print(
        "| left out above | names left out, mean | by name, IoU | by synonym, IoU | random absent word: painted ",
        end="",
    )
    print("| pairs above 1 % | absent word most like a thing there: painted | pairs above 1 % |")
    print("|---|---|---|---|---|---|---|---|")
    for near in NEARS:
        left = experiment.left_out[near]
        key = ("near", near)
        print(
            f"| {near:g} | {np.mean(left):.2f} | {tally.iou((*key, 'name')):.1f} "
            f"| {tally.iou((*key, 'synonym')):.1f} | {tally.painted((*key, 'random'))} "
            f"| {tally.painted((*key, 'alike'))} |"
        )
    print(f"\n{tally.asked['near', NEARS[0], 'synonym']} things had a synonym to be asked by.")


if __name__ == "__main__":
    main()
