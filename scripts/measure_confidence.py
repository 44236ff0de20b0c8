"""How well a confidence finds the pixels that a label map has wrong: candidates side by side, on new emoji scenes.

    python scripts/measure_confidence.py [--scenes 200] [--seed 8000]

The bundled model `tiny` labels the scenes with its whole vocabulary, `emoji`, and once more with one that lacks a
random half of the concepts, new for each scene, so that part of the picture shows what no class stands for. Seeds
1, 2, 20000 and 30000 are the training's, 1000, 2000 and 3000 the evaluation's, and 7001 is where the figures of the
code (0.5 for "uncertain") were first looked at; 8000 is none of these.

AURC is the area under the risk-coverage curve: the error rate among the pixels of most confidence, averaged over how
many are kept. Intervals come from drawing the scenes anew, 1,000 times. That `Segmentation.confidence` is the plain
formula's is asserted for every scene. Tables are Markdown.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from san_cli import MapOptions, RawOutput, Segmentation, Segmenter, parse_vocabulary
from san_cli.datasets.emoji.scenes import EmojiScenes, Scene
from san_cli.engine.mask_blocks import frame_of
from san_cli.engine.segmentation_map import UNCERTAIN, segmentation_scores
from san_cli.vocabulary.emoji_concepts import all_ids, unseen_ids

SIZE = 320  # pixels, the side of a scene, as in `san eval emoji`
TOLERANCE = 1e-4  # between `Segmentation.confidence` and the plain formula
CHOSEN = "share `S1 / ΣS`"
# Of the best score, the second best, the sum of all and the score of "no object", each [pixels].
CANDIDATES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    CHOSEN: lambda best, second, total, nothing: best / total,
    "raw score `S1`": lambda best, second, total, nothing: best,
    "margin `(S1 − S2) / ΣS`": lambda best, second, total, nothing: (best - second) / total,
    "ratio `1 − S2 / S1`": lambda best, second, total, nothing: 1 - second / best,
    "difference `S1 − S2`": lambda best, second, total, nothing: best - second,
    'share among all and "no object"': lambda best, second, total, nothing: best / (total + nothing),
}
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
RANKS = 1000  # groups of equally many pixels, by confidence: what intervals are computed from
DRAWS = 1000


class Pixels:
    """Errors and confidences of the pixels of many scenes, scene by scene."""

    def __init__(self) -> None:
        """Begin with no scene."""
        self.wrong: list[NDArray[np.bool_]] = []
        self.confidences: dict[str, list[NDArray[np.float32]]] = {name: [] for name in CANDIDATES}

    def add(self, scores: Tensor, right: Tensor) -> Tensor:
        """Take a scene: scores [C+1, pixels], the last "no object", and which class is right [pixels], -1: none.

        Returns the chosen confidence. `scores` is spoilt.
        """
        classes, nothing = scores[:-1], scores[-1]
        total = classes.sum(dim=0)
        best, winner = classes.max(dim=0)
        second = classes.scatter_(0, winner[None], -1.0).amax(dim=0)
        self.wrong.append((winner != right).numpy())
        for name, formula in CANDIDATES.items():
            self.confidences[name].append(formula(best, second, total, nothing).numpy())
        return torch.from_numpy(self.confidences[CHOSEN][-1])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=8000)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    segmenter = Segmenter.load("tiny")
    scenes = EmojiScenes(args.seed, all_ids(), SIZE)
    whole, half, unknown, labels = Pixels(), Pixels(), [], []
    for index in range(args.scenes):
        scene = scenes[index]
        known = torch.from_numpy(np.random.default_rng((args.seed, index)).random(len(all_ids())) < 0.5)
        right = torch.from_numpy(scene.labels.astype(np.int64).ravel())
        measure(segmenter, scene, whole, half, known, right)
        unknown.append(~known[right].numpy())
        labels.append(right.numpy())
    print(f"{args.scenes} scenes of seed {args.seed} at {SIZE}², {len(all_ids())} classes\n")
    print_candidates("All concepts compete", whole, 0.1)
    print_candidates("A random half of the concepts competes", half, 0.5)
    print_thresholds(whole)
    print_unknown(half, np.concatenate(unknown))
    print_calibration(whole, np.isin(np.concatenate(labels), unseen_ids()))


def measure(
    segmenter: Segmenter, scene: Scene, whole: Pixels, half: Pixels, known: Tensor, right: Tensor
) -> None:
    """Add a scene to both measurements, and assert that the tool's confidence is the plain formula's."""
    vocabulary = parse_vocabulary(["emoji"])
    resized = segmenter.resize(scene.image)
    raw = segmenter.raw(resized, vocabulary)
    frame = frame_of(resized, (SIZE, SIZE))
    mask_logits = torch.from_numpy(raw.mask_logits)
    masks = segmentation_scores(mask_logits, torch.eye(len(mask_logits)), frame).flatten(1)  # [N, pixels]
    confidence = whole.add(plain_scores(raw, masks, torch.ones_like(known)), right)
    made = segmenter.segment(scene.image, vocabulary, MapOptions(keep_scores=True))
    check(made, confidence.view(SIZE, SIZE).numpy())

    place = torch.where(known, known.cumsum(0) - 1, -1)  # a known class's place among them
    half.add(plain_scores(raw, masks, known), place[right])


def plain_scores(raw: RawOutput, masks: Tensor, kept: Tensor) -> Tensor:
    """Compute the plain formula's scores [kept classes + 1, pixels], the last "no object"."""
    columns = torch.cat([kept, torch.ones(1, dtype=torch.bool)])
    return torch.from_numpy(raw.class_logits)[:, columns].softmax(dim=-1).T @ masks


def check(made: Segmentation, plain: NDArray[np.float32]) -> None:
    """Assert that what users get is what is measured here."""
    assert made.confidence is not None
    apart = float(np.abs(made.confidence - plain).max())
    assert apart <= TOLERANCE, f"Segmentation.confidence differs from the plain formula by {apart:.1e}"
    assert abs(made.uncertain - float((plain < UNCERTAIN).mean())) <= TOLERANCE


def print_candidates(title: str, pixels: Pixels, part: float) -> None:
    """Print how well each candidate ranks the errors, in all and by the least confident `part`."""
    wrong = np.concatenate(pixels.wrong)
    print(f"{title}: {wrong.mean():.1%} of the pixels are wrong\n")
    print(
        f"| candidate | AURC, % | more than the chosen one (95 %) | errors in the least confident {part:.0%} |"
    )
    print("|---|---|---|---|")
    chosen = by_scene(pixels, CHOSEN)
    for name in CANDIDATES:
        ordered = wrong[np.argsort(-np.concatenate(pixels.confidences[name]), kind="stable")]
        low, high = interval(by_scene(pixels, name), chosen)
        more = "–" if name == CHOSEN else f"{low:+.2f} to {high:+.2f}"
        print(f"| {name} | {aurc(ordered):.2f} | {more} | {in_last(ordered, part):.1%} |")
    ideal = np.sort(wrong)
    print(f"| every error last (not to be had) | {aurc(ideal):.2f} | | {in_last(ideal, part):.1%} |\n")


def aurc(wrong: NDArray[np.bool_]) -> float:
    """Average the error rate of the first n pixels over all n, in percent; most confidence comes first."""
    return float(100 * np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1)))


def in_last(wrong: NDArray[np.bool_], part: float) -> float:
    """Share of the errors that are in the last `part`."""
    return float(wrong[len(wrong) - int(part * len(wrong)) :].sum() / wrong.sum())


def by_scene(pixels: Pixels, name: str) -> NDArray[np.float64]:
    """Count pixels and errors [2, scenes, RANKS] by scene and rank of confidence, most of it first."""
    each = pixels.confidences[name]
    edges = np.quantile(np.concatenate(each), np.arange(1, RANKS) / RANKS)
    found = np.zeros((2, len(each), RANKS))
    for scene, (confidence, wrong) in enumerate(zip(each, pixels.wrong, strict=True)):
        rank = RANKS - 1 - np.searchsorted(edges, confidence)
        found[0, scene] = np.bincount(rank, minlength=RANKS)
        found[1, scene] = np.bincount(rank, weights=wrong, minlength=RANKS)
    return found


def interval(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """95 % of the differences in AURC, in points, between two candidates over drawings of the scenes."""
    rng = np.random.default_rng(0)
    scenes = one.shape[1]
    drawn = rng.multinomial(scenes, np.full(scenes, 1 / scenes), size=DRAWS).astype(np.float64)
    areas = []
    for counts in (one, other):
        pixels, wrong = ((drawn @ part).cumsum(axis=1) for part in counts)
        weight = np.diff(pixels, axis=1, prepend=0.0) / pixels[:, -1:]
        areas.append(100 * (weight * wrong / np.maximum(pixels, 1)).sum(axis=1))
    low, high = np.quantile(areas[0] - areas[1], (0.025, 0.975))
    return float(low), float(high)


def print_thresholds(pixels: Pixels) -> None:
    """Print what lies below and above each threshold of the chosen confidence."""
    wrong, confidence = np.concatenate(pixels.wrong), np.concatenate(pixels.confidences[CHOSEN])
    print("| confidence below | pixels | errors among all | error rate below | error rate above |")
    print("|---|---|---|---|---|")
    for threshold in THRESHOLDS:
        below = confidence < threshold
        print(
            f"| {threshold} | {below.mean():.1%} | {wrong[below].sum() / wrong.sum():.1%} "
            f"| {wrong[below].mean():.1%} | {wrong[~below].mean():.2%} |"
        )
    print()


def print_unknown(pixels: Pixels, unknown: NDArray[np.bool_]) -> None:
    """Print how many of the pixels that no class stands for are found uncertain."""
    confidence = np.concatenate(pixels.confidences[CHOSEN])
    missed = unknown & (confidence >= UNCERTAIN)
    print(
        f"Half of the concepts compete: {unknown.mean():.1%} of the pixels show what no class stands for; "
        f"{(confidence[unknown] < UNCERTAIN).mean():.1%} of these are below {UNCERTAIN}, and "
        f"{(confidence[~unknown] < UNCERTAIN).mean():.1%} of the others. Of the pixels from {UNCERTAIN} on, "
        f"{missed.sum() / (confidence >= UNCERTAIN).sum():.1%} show what no class stands for.\n"
    )


def print_calibration(pixels: Pixels, unseen: NDArray[np.bool_]) -> None:
    """Print mean confidence beside accuracy in ten bins, and the expected calibration error."""
    wrong, confidence = np.concatenate(pixels.wrong), np.concatenate(pixels.confidences[CHOSEN])
    bins = np.minimum((confidence * 10).astype(np.int64), 9)
    print("| confidence | pixels | mean confidence | right |")
    print("|---|---|---|---|")
    for place in range(10):
        here = bins == place
        if here.any():
            print(
                f"| {place / 10:.1f} to {(place + 1) / 10:.1f} | {here.mean():.1%} "
                f"| {confidence[here].mean():.1%} | {1 - wrong[here].mean():.1%} |"
            )
    print()
    for name, which in (("all", np.ones_like(unseen)), ("of seen concepts", ~unseen), ("unseen", unseen)):
        print(
            f"Pixels {name}: mean confidence {confidence[which].mean():.1%}, right {1 - wrong[which].mean():.1%}, "
            f"expected calibration error {100 * calibration_error(bins[which], confidence[which], wrong[which]):.1f}"
        )


def calibration_error(
    bins: NDArray[np.int64], confidence: NDArray[np.float32], wrong: NDArray[np.bool_]
) -> float:
    """Average the distance of mean confidence and accuracy over the bins, weighted by their pixels."""
    claimed = np.bincount(bins, weights=confidence, minlength=10)
    right = np.bincount(bins, weights=~wrong, minlength=10)
    return float(np.abs(claimed - right).sum() / len(bins))


if __name__ == "__main__":
    main()
