"""Label-set similarity: the definition by brute force, and the command on a real (untrained) model."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from san_cli.engine.similarity import similarity


def rows(seed: int, count: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)), dim=-1)


@given(st.integers(0, 99), st.integers(1, 8), st.integers(1, 8))
@settings(deadline=None)
def test_equals_the_definition(seed: int, a: int, b: int) -> None:
    ours, theirs = rows(seed, a), rows(seed + 1, b)
    found = similarity(ours, theirs)
    forward = min(max(float(x @ y) for y in theirs) for x in ours)
    backward = min(max(float(x @ y) for y in ours) for x in theirs)
    assert found.forward == pytest.approx(forward, abs=1e-6)
    assert found.backward == pytest.approx(backward, abs=1e-6)
    assert found.symmetric == min(found.forward, found.backward)
    turned = similarity(theirs, ours)
    assert turned.symmetric == pytest.approx(found.symmetric, abs=1e-6)


def test_a_subset_is_fully_similar_in_one_direction() -> None:
    all_rows = rows(0, 6)
    found = similarity(all_rows[:2], all_rows)
    assert found.forward == pytest.approx(1, abs=1e-6)
    assert found.backward < 0.999


def test_command(san, tiny_weights) -> None:
    done = san("vocab", "similarity", "voc", "cat,dog", "cat,zebra", "--weights", str(tiny_weights), "--json")
    assert done.code == 0, done.err
    first, second = json.loads(done.out)
    assert first["forward"] == pytest.approx(1, abs=1e-5)
    assert second["forward"] < 0.9999
    assert second["strangest"] == "zebra"
