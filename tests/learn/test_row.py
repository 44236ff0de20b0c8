"""The row of a learned word: what its closed form promises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from san_cli.learn.row import Discriminant, Example, example_of

D, TEMPERATURE = 12, 100.0


def cloud(seed: int, count: int, centre: Tensor) -> Tensor:
    """Return normalised regions [count, D] around a centre."""
    noise = torch.randn(count, D, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(centre + 0.2 * noise, dim=1)


@given(st.integers(0, 10_000), st.floats(20, 40))
@settings(max_examples=30, deadline=None)
def test_a_row_is_as_likely_as_it_should_be_on_its_examples_and_less_elsewhere(
    seed: int, even: float
) -> None:
    """The mean example has a quarter of what all other words come to together; other things have less, on average."""
    centres = torch.nn.functional.normalize(
        torch.randn(2, D, generator=torch.Generator().manual_seed(seed)), dim=1
    )
    other, own = cloud(seed + 1, 300, centres[0]), cloud(seed + 2, 6, centres[1])
    examples = [Example(number, region.double(), even) for number, region in enumerate(own)]
    start = torch.zeros(D)
    row = Discriminant(other, start, TEMPERATURE).row(examples)
    at_examples = TEMPERATURE * own.double().mean(dim=0) @ row
    assert float(at_examples) == pytest.approx(even + np.log(0.25), rel=1e-6)
    assert float(TEMPERATURE * other.double().mean(dim=0) @ row) < even


def test_the_row_is_a_linear_discriminant() -> None:
    """Against the formula written out with NumPy, of regions with one direction that varies most."""
    rng = np.random.default_rng(0)
    other = rng.normal(size=(500, D)) * np.array([5.0] + [0.5] * (D - 1))
    own = rng.normal(size=D)
    start = rng.normal(size=D)
    spread = np.cov(other.T, bias=True)
    spread += 15 * np.trace(spread) / D * np.eye(D)
    direction = np.linalg.solve(spread, own - other.mean(axis=0))
    expected = start + ((90 + np.log(0.25)) / TEMPERATURE - own @ start) / (own @ direction) * direction
    found = Discriminant(torch.from_numpy(other), torch.from_numpy(start), TEMPERATURE)
    row = found.row([Example(0, torch.from_numpy(own), 90.0)])
    np.testing.assert_allclose(row.numpy(), expected, rtol=1e-9)


def test_where_the_start_is_likely_enough_already_it_stays() -> None:
    """A row is never moved away from its examples."""
    other = torch.randn(50, D, generator=torch.Generator().manual_seed(3))
    region = torch.ones(D, dtype=torch.float64)
    row = Discriminant(other, torch.ones(D), TEMPERATURE).row([Example(0, region, 5.0)])
    assert torch.equal(row, torch.ones(D, dtype=torch.float64))


def test_examples_are_weighed_by_how_well_a_mask_fits() -> None:
    """Masks below an IoU of 0.3 don't count, and a good one counts far more than a poor one."""
    regions = torch.eye(4)
    others = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert example_of(0, regions, others, torch.tensor([0.29, 0.1, 0.0, 0.2])) is None
    found = example_of(7, regions, others, torch.tensor([0.9, 0.45, 0.29, 0.0]))
    assert found is not None
    weights = np.array([0.9**4, 0.45**4]) / (0.9**4 + 0.45**4)
    np.testing.assert_allclose(found.region.numpy(), [*weights, 0, 0], rtol=1e-6)
    assert found.picture == 7
    assert found.others == pytest.approx(weights @ [1.0, 2.0])
