"""The loss of Eq. 5: against its definition, over parts of a step, and where there is little or nothing to learn."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from presets import GOLDEN_TINY
from torch import Tensor

from san_cli.models.san import SAN
from san_cli.train.losses import Normalisers, SetLoss, normalisers_of, set_loss
from san_cli.train.matcher import LossWeights, match
from san_cli.train.points import draw_uncertain_points, seeded_draw
from san_cli.train.targets import Targets, targets_of

CPU = torch.device("cpu")
QUERIES, CLASSES, POINTS = 6, 9, 32
Outputs = list[tuple[Tensor, Tensor]]


def targets_with(present: int) -> Targets:
    """`present` classes as stripes of a 24 × 24 image, the last stripe ignored."""
    stripes = torch.arange(24) * (present + 1) // 24
    return targets_of(torch.where(stripes < present, stripes, 255).expand(24, 24), CLASSES, 255)


def random_outputs(batch: int, seed: int = 0, layers: int = 2) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            (4 * torch.randn(batch, QUERIES, CLASSES + 1, generator=generator)).requires_grad_(),
            (4 * torch.randn(batch, QUERIES, 5, 5, generator=generator)).requires_grad_(),
        )
        for _ in range(layers)
    ]


def loss_of(
    outputs: Outputs, targets: list[Targets], first: int = 0, normalisers: Normalisers | None = None
) -> SetLoss:
    draw = seeded_draw(11, 4, range(first, first + len(targets)), CPU)
    return set_loss(outputs, targets, normalisers or normalisers_of(targets, QUERIES), draw, points=POINTS)


def gradients(outputs: Outputs) -> list[Tensor]:
    found = [tensor.grad for layer in outputs for tensor in layer]
    assert all(gradient is not None for gradient in found)
    return [gradient for gradient in found if gradient is not None]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), present=st.lists(st.integers(0, CLASSES), min_size=1, max_size=4))
def test_terms_are_those_of_the_definition(seed: int, present: list[int]) -> None:
    """As the official code for one process: whole masks, one cross-entropy, sums over all masks of the batch."""
    targets = [targets_with(count) for count in present]
    outputs = random_outputs(len(targets), seed)
    terms = loss_of(outputs, targets).terms
    assert list(terms) == ["ce", "mask", "dice", "ce_0", "mask_0", "dice_0"]

    draw = seeded_draw(11, 4, range(len(targets)), CPU)
    for layer, suffix in enumerate(("", "_0")):
        class_logits, mask_logits = (t.detach() for t in outputs[layer])
        shared = torch.stack([draw(layer, i, "match", (POINTS, 2)) for i in range(len(targets))])
        pairs = match(class_logits, mask_logits, targets, shared, LossWeights())
        wanted = torch.full((len(targets), QUERIES), CLASSES)
        masks, truths = [mask_logits[:0, 0]], [torch.zeros(0, 24, 24)]
        for i, (queries, chosen) in enumerate(pairs):
            classes = targets[i].classes[chosen]
            wanted[i, queries] = classes
            masks.append(mask_logits[i, queries])
            truths.append((targets[i].label_map == classes[:, None, None]).float())
        importance = torch.ones(CLASSES + 1)
        importance[-1] = 0.1
        ce = F.cross_entropy(class_logits.transpose(1, 2), wanted, importance)
        torch.testing.assert_close(terms[f"ce{suffix}"].detach(), ce)

        logits, truth = torch.cat(masks), torch.cat(truths)
        where = (
            2 * draw_uncertain_points(logits, [len(q) for q, _ in pairs], POINTS, layer, draw)[:, None] - 1
        )
        x = F.grid_sample(logits[:, None], where, align_corners=False).flatten(1)
        t = F.grid_sample(truth[:, None], where, align_corners=False).flatten(1)
        bce = F.binary_cross_entropy_with_logits(x, t, reduction="none").mean(dim=1).sum()
        p = x.sigmoid()
        dice = (1 - (2 * (p * t).sum(dim=1) + 1) / (p.sum(dim=1) + t.sum(dim=1) + 1)).sum()
        masks_of_batch = max(1, sum(present))  # also those for which no query is left
        torch.testing.assert_close(terms[f"mask{suffix}"].detach(), bce / masks_of_batch)
        torch.testing.assert_close(terms[f"dice{suffix}"].detach(), dice / masks_of_batch)


def test_the_total_weighs_the_terms_and_the_images_share_it() -> None:
    targets = [targets_with(3), targets_with(0), targets_with(1)]
    loss = loss_of(random_outputs(3), targets)
    weights = {"ce": 2, "mask": 5, "dice": 5}
    expected = sum(weights[name.split("_")[0]] * term for name, term in loss.terms.items())
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.per_image.sum(), loss.total.detach())
    assert not loss.per_image.requires_grad
    assert loss.per_image.shape == (3,)


@pytest.mark.parametrize("cuts", [[2, 2], [1, 1, 1, 1], [3, 1], [1, 3]])
def test_parts_of_a_step_add_up_to_the_whole(cuts: list[int]) -> None:
    """Two processes of two images, or four micro-batches, are the same as one batch of four."""
    targets = [targets_with(count) for count in (4, 0, 9, 1)]
    whole = random_outputs(4)
    total = loss_of(whole, targets)
    total.total.backward()
    sums = normalisers_of(targets, QUERIES)

    pieces = [normalisers_of(targets[i : i + 1], QUERIES) for i in range(4)]
    assert sums.masks == sum(p.masks for p in pieces)
    assert sums.class_weight == pytest.approx(sum(p.class_weight for p in pieces))
    start, seen = 0, torch.zeros(())
    parts = random_outputs(4)
    for size in cuts:
        own = [(c[start : start + size], m[start : start + size]) for c, m in parts]
        part = loss_of(own, targets[start : start + size], start, sums)
        part.total.backward()
        torch.testing.assert_close(part.per_image, total.per_image[start : start + size])
        seen = seen + part.total.detach()
        start += size
    torch.testing.assert_close(seen, total.total.detach())
    for ours, theirs in zip(gradients(parts), gradients(whole), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("present", [[0], [0, 0], [1], [CLASSES], [0, CLASSES]])
def test_few_and_many_masks_have_finite_losses_and_gradients(present: list[int]) -> None:
    targets = [targets_with(count) for count in present]
    outputs = random_outputs(len(present))
    loss = loss_of(outputs, targets)
    loss.total.backward()
    assert all(torch.isfinite(term) for term in loss.terms.values())
    assert all(torch.isfinite(gradient).all() for gradient in gradients(outputs))
    assert loss.terms["ce"] > 0
    if not any(present):
        assert loss.terms["mask"] == loss.terms["dice"] == 0
        assert all((m.grad == 0).all() for _, m in outputs)


@pytest.mark.parametrize("apart", [False, True], ids=["end to end", "two stages"])
def test_without_a_labelled_pixel_every_trainable_parameter_has_a_gradient(apart: bool) -> None:
    preset = replace(GOLDEN_TINY, decoupled_head=not apart, block_clip_gradient=apart)
    torch.manual_seed(0)
    model = SAN(preset)
    text = model.with_background(F.normalize(torch.randn(CLASSES, preset.clip.embed_dim), dim=-1))
    found = model(torch.randn(1, 3, 64, 64), all_supervised=True)
    outputs = [(model.classify(o.region_embeddings, text), o.mask_logits) for o in found]
    nothing = targets_of(torch.full((64, 64), 255, dtype=torch.uint8), CLASSES, 255)
    draw = seeded_draw(0, 0, [0], CPU)
    set_loss(
        outputs, [nothing], normalisers_of([nothing], preset.queries), draw, points=POINTS
    ).total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_normalisers_count_targets_and_weigh_queries() -> None:
    found = normalisers_of([targets_with(count) for count in (2, 0, CLASSES)], QUERIES)
    assert found.masks == 2 + CLASSES
    assert found.class_weight == pytest.approx((2 + QUERIES) + 0.1 * (4 + QUERIES))
    heavier = normalisers_of([targets_with(2)], QUERIES, LossWeights(no_object=1))
    assert heavier.class_weight == QUERIES


def test_with_several_queries_per_mask_the_terms_stay_means_over_masks() -> None:
    targets = [targets_with(count) for count in (2, 0, 4)]
    weights = LossWeights(queries_per_mask=2)
    sums = normalisers_of(targets, QUERIES, weights)
    assert sums.masks == 2 * 2 + 4  # for four masks twice there aren't queries enough
    assert sums.class_weight == pytest.approx(8 + 0.1 * (3 * QUERIES - 8))
    alike = torch.zeros(3, QUERIES, CLASSES + 1), torch.zeros(3, QUERIES, 6, 6)
    draw = seeded_draw(0, 0, range(3), CPU)
    loss = set_loss([alike], targets, sums, draw, weights, POINTS)
    assert float(loss.terms["mask"]) == pytest.approx(math.log(2))
    assert float(loss.terms["ce"]) == pytest.approx(math.log(CLASSES + 1))


def test_the_right_answer_costs_next_to_nothing() -> None:
    target = targets_with(3)
    mask_logits = torch.full((1, QUERIES, 24, 24), -50.0)
    class_logits = torch.zeros(1, QUERIES, CLASSES + 1)
    class_logits[..., CLASSES] = 50
    for query, wanted in ((5, 0), (0, 1), (3, 2)):
        mask_logits[0, query][target.label_map == wanted] = 50
        class_logits[0, query, CLASSES], class_logits[0, query, wanted] = 0, 50
    right = loss_of([(class_logits, mask_logits)], [target])
    wrong = loss_of([(class_logits, -mask_logits)], [target])
    # What is left: between two pixels a mask's truth is a fraction that only the border's own logit meets.
    assert right.terms["ce"] < 1e-6
    assert right.terms["dice"] < 0.2 < 0.4 < wrong.terms["dice"]
    assert right.terms["mask"] < 3 < 9 < wrong.terms["mask"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_image_whose_loss_is_not_finite_is_told_apart(value: float) -> None:
    outputs = [(c.detach().clone(), m.detach().clone()) for c, m in random_outputs(3)]
    outputs[1][0][1, 2, 3] = value
    loss = loss_of(outputs, [targets_with(2)] * 3)
    assert loss.per_image.isfinite().tolist() == [True, False, True]
    assert not loss.total.isfinite()


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    targets = [targets_with(3), targets_with(2)]
    plain = [(c.bfloat16(), m.bfloat16()) for c, m in random_outputs(2)]
    expected = loss_of([(c.float(), m.float()) for c, m in plain], targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(plain, targets)
    assert {term.dtype for term in found.terms.values()} == {torch.float32}
    assert torch.equal(found.total, expected.total)


def test_the_same_seed_gives_the_same_loss_bit_for_bit() -> None:
    targets = [targets_with(4), targets_with(2)]
    first, second = random_outputs(2), random_outputs(2)
    losses = [loss_of(outputs, targets) for outputs in (first, second)]
    for loss in losses:
        loss.total.backward()
    assert torch.equal(losses[0].total, losses[1].total)
    assert all(torch.equal(a, b) for a, b in zip(gradients(first), gradients(second), strict=True))


def test_only_chosen_queries_are_drawn_to_masks() -> None:
    outputs = random_outputs(1, layers=1)
    loss_of(outputs, [targets_with(2)]).total.backward()
    [(class_logits, mask_logits)] = outputs
    assert class_logits.grad is not None and mask_logits.grad is not None
    assert (class_logits.grad.abs().amax(dim=2) > 0).all()  # every query is told a class or "no object"
    assert int((mask_logits.grad.abs().amax(dim=(2, 3)) > 0).sum()) == 2


def test_weights_of_zero_take_their_term_out_of_the_total() -> None:
    targets, outputs = [targets_with(3)], random_outputs(1)
    weights = LossWeights()
    draw = seeded_draw(0, 0, [0], CPU)
    for name in ("ce", "mask", "dice"):
        loss = set_loss(
            outputs, targets, normalisers_of(targets, QUERIES), draw, replace(weights, **{name: 0.0}), POINTS
        )
        left = {"ce": 2.0, "mask": 5.0, "dice": 5.0} | {name: 0.0}
        expected = sum(left[key.split("_")[0]] * term for key, term in loss.terms.items())
        torch.testing.assert_close(loss.total, expected)
