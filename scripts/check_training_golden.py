"""Replay a recorded training of the official code through our model, and print every difference.

    python scripts/check_training_golden.py golden_tiny_train.npz [--all]

The file holds what the official implementation computed in a few optimiser steps, with the small model of
`tests/support/presets.py`, weights and images by seed (`tests/support/recipe.py`), and every random number of the
loss given by seed (`rand_calls`). Sizes are the file's: images, points, classes, steps. What a file lacks is not
compared.

Exit 1 where the matching differs, or a loss term of step 0, a learning rate or a parameter's gradient norm by more
than 1e-4 of its value. Later steps are shown for information: AdamW moves every weight by about the learning rate,
however small its gradient, so that rounding is amplified. The file has the label maps of step 0 only; those of
step s and its images have the seeds plus 10 s, and its random numbers go on where those of the step before ended.
"""

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
import recipe
from presets import GOLDEN_TINY

from san_cli.models.san import SAN, SanOutput, normalise
from san_cli.models.text import TextEncoder
from san_cli.train.losses import WEIGHTS, SetLoss, normalisers_of, set_loss
from san_cli.train.matcher import match, matching_costs
from san_cli.train.optimizer import parameter_groups, poly_lr
from san_cli.train.points import Draw, draw_uncertain_points
from san_cli.train.targets import Targets, targets_of
from san_cli.vocabulary.templates import templates
from san_cli.weights.checkpoint import load_into, read_checkpoint
from san_cli.weights.official import official_name

IGNORED = 255
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM, ITERATIONS = 1e-4, 1e-4, 0.01, 10
REQUIRED = 1e-4  # relative

SEEDS_APART = 10  # of the images of one step and the next

Golden = Mapping[str, np.ndarray]
Call = tuple[int, Sequence[int]]  # seed and shape of an array of random numbers


@dataclass(frozen=True)
class Difference:
    """How far we are from the official code: relative to the greatest value, or a count of what isn't equal."""

    name: str
    size: float
    allowed: float | None = None  # None: for information

    @property
    def fails(self) -> bool:
        return self.allowed is not None and not self.size <= self.allowed


@dataclass(frozen=True)
class Batch:
    """What the network is trained on."""

    pixels: Tensor  # [B, 3, H, W], normalised and padded to the largest
    targets: list[Targets]
    words: Tensor  # [C, D]: text embeddings


def main() -> int:
    """Print the differences and say whether all that is required holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--all", action="store_true", help="print each parameter, too, not only the worst one"
    )
    arguments = parser.parse_args()
    with np.load(arguments.file, allow_pickle=False) as file:
        golden = dict(file)
    found = list(differences(golden))
    for difference in found if arguments.all else worst_of_each(found):
        mark = "FAILS" if difference.fails else "  ok " if difference.allowed is not None else "     "
        print(f"{mark} {difference.size:9.2e}  {difference.name}")
    failed = sum(difference.fails for difference in found)
    print(f"{len(found)} comparisons, {failed} beyond what is required")
    return 1 if failed or not found else 0


def worst_of_each(found: Sequence[Difference]) -> list[Difference]:
    """The largest of each kind: differences called "kind: which"."""
    kinds: dict[str, Difference] = {}
    for one in found:
        kind = one.name.split(": ")[0]
        if kind not in kinds or one.fails > kinds[kind].fails or not one.size <= kinds[kind].size:
            kinds[kind] = one
    return list(kinds.values())


def differences(golden: Golden) -> Iterator[Difference]:
    """Train as the file says and compare as far as it goes."""
    model, encoder = load_model()
    groups = parameter_groups(model, LEARNING_RATE, WEIGHT_DECAY)
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE)
    trained = {official_name(group["name"], GOLDEN_TINY): group["params"][0] for group in groups}
    points = int(golden["num_points"])
    calls: Iterator[Call] = iter(json.loads(str(golden["rand_calls"])))
    for step, terms in enumerate(json.loads(str(golden["losses_raw"]))):
        if step and not labels_follow_the_seeds(golden):
            yield Difference("later steps, not compared: nothing tells what they were trained on", 0.0)
            return
        batch = load_batch(golden, encoder, step)
        matched = [min(GOLDEN_TINY.queries, len(t.classes)) for t in batch.targets]
        draw = recorded_draw(
            calls if step == 0 else further_calls(golden, points, matched, step), matched, points
        )
        outputs, decoded = forward(model, batch)
        normalisers = normalisers_of(batch.targets, GOLDEN_TINY.queries)
        loss = set_loss(decoded, batch.targets, normalisers, draw, points=points)
        optimizer.zero_grad()
        loss.total.backward()
        yield from compare_losses(loss, terms, golden, step)
        if step == 0:
            yield from compare_outputs(golden, outputs)
            yield from compare_matching(golden, decoded, batch.targets, draw)
            yield from compare_gradients(golden, trained)
        lr = poly_lr(LEARNING_RATE, step, ITERATIONS)
        if "lr" in golden:
            yield Difference(f"learning rate: step {step}", relative(lr, golden["lr"][step]), REQUIRED)
        for group in optimizer.param_groups:
            group["lr"] = lr
        torch.nn.utils.clip_grad_norm_(list(trained.values()), CLIP_NORM)
        optimizer.step()
        yield from compare_parameters(golden, trained, step + 1)


def load_model() -> tuple[SAN, TextEncoder]:
    """The small model and its text tower with the weights that their official names define, read as a `.pth`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "official.pth"
        recipe.save_official(str(path), recipe.official_state(GOLDEN_TINY))
        checkpoint = read_checkpoint(path, GOLDEN_TINY)
        own = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    model = SAN(GOLDEN_TINY)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    load_into(model, {name: tensor for name, tensor in own.items() if not name.startswith("text.")})
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable)
    text = {name.removeprefix("text."): t for name, t in own.items() if name.startswith("text.")}
    return model.train(), TextEncoder(GOLDEN_TINY.clip, text, torch.device("cpu"))


def load_batch(golden: Golden, encoder: TextEncoder, step: int) -> Batch:
    """Images by seed and their label maps, padded to the largest of the batch with mean colour and `ignore`."""
    labels = [torch.from_numpy(label.astype(np.int64)) for label in label_maps(golden, step)]
    seeds = [int(golden[f"image_seed_{i}"]) + SEEDS_APART * step for i in range(len(labels))]
    pictures = [recipe.image(seed, *label.shape) for seed, label in zip(seeds, labels, strict=True)]
    pixels = [normalise(torch.from_numpy(picture).permute(2, 0, 1)) for picture in pictures]
    height, width = (max(p.shape[axis] for p in pixels) for axis in (1, 2))

    def padded(tensor: Tensor, value: int) -> Tensor:
        return F.pad(tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]), value=value)

    words = [str(name) for name in golden["vocabulary"]]
    targets = [targets_of(padded(label, IGNORED), len(words), IGNORED) for label in labels]
    embedded = torch.stack([encoder.embed(word, templates("vild")) for word in words]).clone()
    return Batch(torch.stack([padded(p, 0) for p in pixels]), targets, embedded)


def label_maps(golden: Golden, step: int) -> list[np.ndarray]:
    """Step 0's label maps are in the file; those of later steps are made as they were."""
    count = sum(name.startswith("label_") for name in golden)
    if step == 0:
        return [golden[f"label_{i}"] for i in range(count)]
    return [_made_label_map(golden, i, step) for i in range(count)]


def labels_follow_the_seeds(golden: Golden) -> bool:
    """Whether the file's label maps are what `_made_label_map` makes."""
    return all(np.array_equal(m, _made_label_map(golden, i, 0)) for i, m in enumerate(label_maps(golden, 0)))


def _made_label_map(golden: Golden, image: int, step: int) -> np.ndarray:
    """4 x 5 random classes or `ignore`, enlarged."""
    classes = len(golden["vocabulary"])
    seed = int(golden[f"image_seed_{image}"]) + SEEDS_APART * step
    coarse = np.random.Generator(np.random.PCG64(seed)).integers(0, classes + 1, (4, 5))
    height, width = golden[f"label_{image}"].shape
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 5 // width
    return np.where(coarse == classes, IGNORED, coarse)[rows][:, columns]


def recorded_draw(calls: Iterator[Call], matched: Sequence[int], points: int) -> Draw:
    """The file's random numbers by layer, image and purpose.

    Per layer the official code draws for the matching of each image, then for the loss of all images' `matched`
    masks at once: candidates and, where there are any, the points that lie anywhere.
    """
    numbers: dict[tuple[int, str], np.ndarray] = {}
    for layer in range(GOLDEN_TINY.supervised_layers):
        numbers[layer, "match"] = np.concatenate([_drawn(*next(calls)) for _ in matched])
        for purpose in ("candidates", "anywhere")[: 1 + (_anywhere(points) > 0)]:
            numbers[layer, purpose] = _drawn(*next(calls))

    def draw(layer: int, image: int, purpose: str, shape: tuple[int, ...]) -> Tensor:
        first, rows = (image, 1) if purpose == "match" else (sum(matched[:image]), matched[image])
        return torch.from_numpy(numbers[layer, purpose][first : first + rows]).reshape(shape)

    return draw


def further_calls(golden: Golden, points: int, matched: Sequence[int], step: int) -> Iterator[Call]:
    """The calls of a later step: the counter in the seeds goes on, as many calls in each step."""
    recorded = json.loads(str(golden["rand_calls"]))
    masks = sum(matched)
    layer = [[1, points, 2]] * len(matched) + [[masks, 3 * points, 2]]
    layer += [[masks, _anywhere(points), 2]] if _anywhere(points) else []
    first = recorded[0][0] + step * len(recorded)
    return zip(itertools.count(first), layer * GOLDEN_TINY.supervised_layers)


def _anywhere(points: int) -> int:
    return points - int(0.75 * points)


def _drawn(seed: int, shape: Sequence[int]) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).random(tuple(shape), np.float32)


def forward(model: SAN, batch: Batch) -> tuple[list[SanOutput], list[tuple[Tensor, Tensor]]]:
    """The decoded layers, the final one first, and their class and mask logits."""
    outputs = model(batch.pixels, all_supervised=True)
    text = model.with_background(batch.words)
    return outputs, [(model.classify(o.region_embeddings, text), o.mask_logits) for o in outputs]


def compare_losses(loss: SetLoss, terms: dict[str, float], golden: Golden, step: int) -> Iterator[Difference]:
    """Each term and the weighted total."""
    allowed = REQUIRED if step == 0 else None
    for name, term in loss.terms.items():
        yield Difference(f"loss of step {step}: {name}", relative(term, terms[f"loss_{name}"]), allowed)
    if "losses_weighted" in golden:
        total = json.loads(str(golden["losses_weighted"]))[step]["total"]
        yield Difference(f"loss of step {step}: total", relative(loss.total, total), allowed)


def compare_outputs(golden: Golden, outputs: Sequence[SanOutput]) -> Iterator[Difference]:
    """Mask logits, region embeddings and attention bias of both layers."""
    for layer, output in zip(("final_layer8", "aux_layer7"), outputs, strict=True):
        for name, ours in (
            ("mask_logits", output.mask_logits),
            ("mask_embs", output.region_embeddings),
            ("attn_bias", output.attention_bias),
        ):
            if f"{layer}_{name}" in golden:
                yield Difference(f"output: {layer} {name}", relative(ours, golden[f"{layer}_{name}"]))


def compare_matching(
    golden: Golden, decoded: Sequence[tuple[Tensor, Tensor]], targets: Sequence[Targets], draw: Draw
) -> Iterator[Difference]:
    """Costs, matches and chosen points of each layer, with the logits before the first step."""
    points = int(golden["num_points"])
    for layer, (class_logits, mask_logits) in enumerate(decoded):
        shared = torch.stack([draw(layer, i, "match", (points, 2)) for i in range(len(targets))])
        costs = matching_costs(class_logits, mask_logits, targets, shared, WEIGHTS)
        pairs = match(class_logits, mask_logits, targets, shared, WEIGHTS)
        for i, pair in enumerate(pairs):
            where = f"layer {layer} image {i}"
            if (recorded := golden.get(f"match_cost_{layer * len(targets) + i}")) is not None:
                own = costs[i, :, : len(targets[i].classes)]
                yield Difference(f"matching cost: {where}", relative(own, recorded))
            recorded = golden[f"match_{layer}_image{i}"]
            yield Difference(f"match: {where}", unequal(torch.stack(pair).numpy(), recorded), 0)
        if f"point_coords_{layer}" in golden:
            masks = torch.cat([mask_logits[i, queries] for i, (queries, _) in enumerate(pairs)])
            chosen = draw_uncertain_points(masks, [len(q) for q, _ in pairs], points, layer, draw)
            lost = unequal(in_order(chosen.numpy()), in_order(golden[f"point_coords_{layer}"]))
            yield Difference(f"points: layer {layer}, coordinates that differ", lost)


def compare_gradients(golden: Golden, trained: Mapping[str, Tensor]) -> Iterator[Difference]:
    """The norm of every trainable parameter's gradient, and some gradients in full."""
    norms: dict[str, float] = json.loads(str(golden["grad_norms"]))
    others = sorted(set(norms) ^ set(trained))
    yield Difference(f"parameters trained by one side only: {', '.join(others) or 'none'}", len(others), 0)
    for name in sorted(set(norms) & set(trained)):
        yield Difference(
            f"gradient norm: {name}", relative(_grad(trained, name).norm(), norms[name]), REQUIRED
        )
    if "grad_norm_total" in golden:
        own = torch.stack([_grad(trained, name).norm() for name in trained]).norm()
        yield Difference("gradient norm of all", relative(own, golden["grad_norm_total"]), REQUIRED)
    for key in golden:
        if key.startswith("grad:"):
            name = key.removeprefix("grad:")
            own, official = _grad(trained, name), golden[key]  # the official ones were read after clipping
            yield Difference(
                f"gradient's direction: {name}",
                relative(own / own.norm(), official / np.linalg.norm(official)),
            )


def _grad(trained: Mapping[str, Tensor], name: str) -> Tensor:
    gradient = trained[name].grad
    return torch.zeros_like(trained[name]) if gradient is None else gradient


def compare_parameters(golden: Golden, trained: Mapping[str, Tensor], steps: int) -> Iterator[Difference]:
    """The parameters after so many optimiser steps, as far as the file has them."""
    prefix = f"after_step{steps}"
    if f"{prefix}_param_norms" in golden:
        for name, norm in json.loads(str(golden[f"{prefix}_param_norms"])).items():
            yield Difference(
                f"parameter norm after step {steps}: {name}", relative(trained[name].norm(), norm)
            )
    for key in golden:
        # The recorder kept views, so that a file may hold the last step's parameters under every name.
        last = golden.get(key.replace(f"{prefix}:", "after_step3:"))
        if key.startswith(f"{prefix}:") and (steps == 3 or not np.array_equal(golden[key], last)):
            name = key.removeprefix(f"{prefix}:")
            yield Difference(f"parameter after step {steps}: {name}", relative(trained[name], golden[key]))


def relative(ours: Any, official: Any) -> float:
    """Greatest difference over the greatest official value; the official 1 x 1 convolutions are linear here."""
    own = np.asarray(ours.detach() if isinstance(ours, Tensor) else ours, np.float64).ravel()
    other = np.asarray(official, np.float64).ravel()
    if own.shape != other.shape:
        return float("inf")
    if not own.size:
        return 0.0
    apart, scale = np.abs(own - other).max(), np.abs(other).max()
    return float(apart / scale) if scale else float(apart > 0)


def unequal(ours: np.ndarray, official: np.ndarray) -> float:
    """How many entries differ; all of them where the shapes do."""
    return float((ours != official).sum()) if ours.shape == official.shape else float(max(ours.size, 1))


def in_order(points: np.ndarray) -> np.ndarray:
    """Points [M, P, 2] sorted within their mask: equally uncertain ones may come in any order."""
    return np.stack([mask[np.lexsort(mask.T)] for mask in points]) if len(points) else points


if __name__ == "__main__":
    sys.exit(main())
