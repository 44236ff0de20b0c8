"""The matching of queries and targets: the costs of Eq. 5, the cheapest assignment, and odd numbers of either."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from san_cli.train.losses import dice_loss
from san_cli.train.matcher import LossWeights, match, matching_costs
from san_cli.train.points import sample_logits
from san_cli.train.targets import Targets, targets_of

WEIGHTS = LossWeights()
CLASSES, POINTS = 6, 40


def label_map(present: int, size: int = 12) -> Tensor:
    """Upright stripes of the classes 0 … present-1, the last stripe ignored."""
    stripes = torch.arange(size) * (present + 1) // size
    return torch.where(stripes < present, stripes, 255).expand(size, size)


def random_case(
    seed: int, queries: int, present: tuple[int, ...]
) -> tuple[Tensor, Tensor, list[Targets], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch = len(present)
    class_logits = 3 * torch.randn(batch, queries, CLASSES + 1, generator=generator)
    mask_logits = 3 * torch.randn(batch, queries, 4, 4, generator=generator)
    targets = [targets_of(label_map(count), CLASSES, 255) for count in present]
    return class_logits, mask_logits, targets, torch.rand(batch, POINTS, 2, generator=generator)


def cost_of(query: int, target: int, case: tuple[Tensor, Tensor, list[Targets], Tensor], image: int) -> float:
    """One cost from its definition, with whole masks."""
    class_logits, mask_logits, targets, points = case
    wanted = targets[image].classes[target]
    mask = (targets[image].label_map == wanted).float()
    truth = sample_logits(mask[None, None], points[image][None])[0]  # [1, P]
    logits = sample_logits(mask_logits[image, query][None, None], points[image][None])[0]
    ce = -class_logits[image, query].softmax(dim=0)[wanted]
    bce = F.binary_cross_entropy_with_logits(logits, truth)
    return float(2 * ce + 5 * bce + 5 * dice_loss(logits, truth)[0])


def test_costs_are_those_of_the_definition() -> None:
    case = random_case(0, 5, (3, 1, 6))
    costs = matching_costs(*case, WEIGHTS)
    assert costs.shape == (3, 5, 6)
    assert costs.dtype == torch.float32
    for image, targets in enumerate(case[2]):
        for query in range(5):
            for target in range(len(targets.classes)):
                assert float(costs[image, query, target]) == pytest.approx(
                    cost_of(query, target, case, image), rel=1e-5
                )


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), queries=st.integers(1, 5), present=st.integers(0, 6))
def test_the_cheapest_assignment_is_found(seed: int, queries: int, present: int) -> None:
    case = random_case(seed, queries, (present,))
    [(found, chosen)] = match(*case, WEIGHTS)
    pairs = min(queries, present)
    assert found.dtype == chosen.dtype == torch.int64
    assert found.tolist() == sorted(set(found.tolist())) and len(found) == pairs
    assert len(set(chosen.tolist())) == pairs
    if not pairs:
        return
    costs = matching_costs(*case, WEIGHTS)[0]
    small = costs if queries <= present else costs.T
    best = min(
        sum(float(small[i, j]) for i, j in enumerate(order))
        for order in permutations(range(small.shape[1]), small.shape[0])
    )
    assert float(costs[found, chosen].sum()) == pytest.approx(best, rel=1e-5)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), per_mask=st.integers(1, 4), present=st.integers(0, 6))
def test_several_queries_answer_for_each_mask_where_there_are_enough(
    seed: int, per_mask: int, present: int
) -> None:
    case = random_case(seed, 6, (present,))
    weights = LossWeights(queries_per_mask=per_mask)
    [(found, chosen)] = match(*case, weights)
    each = min(per_mask, 6 // max(present, 1))
    assert found.tolist() == sorted(set(found.tolist()))
    assert sorted(chosen.tolist()) == sorted(list(range(present)) * each)
    if not present:
        return
    costs = matching_costs(*case, weights)[0].repeat(1, each)
    best = min(
        sum(float(costs[query, column]) for column, query in enumerate(order))
        for order in permutations(range(6), costs.shape[1])
    )
    assert float(costs[found, chosen].sum()) == pytest.approx(best, rel=1e-5)


def test_images_are_matched_as_if_alone() -> None:
    class_logits, mask_logits, targets, points = random_case(3, 4, (2, 0, 6, 1))
    together = match(class_logits, mask_logits, targets, points, WEIGHTS)
    for i, pair in enumerate(together):
        [alone] = match(
            class_logits[i, None], mask_logits[i, None], targets[i : i + 1], points[i, None], WEIGHTS
        )
        assert torch.equal(torch.stack(pair), torch.stack(alone))
    assert [len(queries) for queries, _ in together] == [2, 0, 4, 1]


def test_a_batch_without_any_target_is_matched_to_nothing() -> None:
    case = random_case(4, 3, (0, 0))
    assert [len(queries) + len(chosen) for queries, chosen in match(*case, WEIGHTS)] == [0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_costs_that_are_not_finite_end_in_some_matching(value: float) -> None:
    class_logits, mask_logits, targets, points = random_case(5, 4, (3, 2))
    class_logits[0], mask_logits[0, 1] = value, value
    (queries, chosen), other = match(class_logits, mask_logits, targets, points, WEIGHTS)
    assert len(queries) == 3
    assert sorted(chosen.tolist()) == [0, 1, 2]
    assert len(other[0]) == 2


def test_the_weights_decide() -> None:
    targets = [targets_of(label_map(2), CLASSES, 255)]
    masks = torch.stack([(targets[0].label_map == c) * 20.0 - 10 for c in (0, 1)])[None]
    class_logits = torch.zeros(1, 2, CLASSES + 1)
    class_logits[0, 0, 1] = class_logits[0, 1, 0] = 9  # each query's name is the other one's mask
    points = torch.rand(1, 200, 2, generator=torch.Generator().manual_seed(0))
    [(_, by_mask)] = match(class_logits, masks, targets, points, WEIGHTS)
    [(_, by_name)] = match(class_logits, masks, targets, points, LossWeights(ce=100))
    assert by_mask.tolist() == [0, 1]
    assert by_name.tolist() == [1, 0]


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(-3, 12), min_size=1, max_size=20),
    num_classes=st.integers(1, 10),
    ignore=st.integers(0, 12),
)
def test_targets_are_the_known_classes_present(labels: list[int], num_classes: int, ignore: int) -> None:
    found = targets_of(torch.tensor([labels], dtype=torch.int16), num_classes, ignore)
    known = sorted({label for label in labels if 0 <= label < num_classes and label != ignore})
    assert found.classes.tolist() == known
    assert found.classes.dtype == torch.int64
