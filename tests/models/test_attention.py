"""The side adapter's attention: the way that training takes on CPUs gives what the fused kernel gives."""

import pytest
import torch
import torch.nn.functional as F

from san_cli.models.side_adapter import MOST_TOKENS, attend


@pytest.mark.parametrize("tokens", [5, MOST_TOKENS, MOST_TOKENS + 1])
def test_values_and_gradients_are_those_of_the_fused_kernel(tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, tokens, 8, generator=generator).requires_grad_() for _ in range(3)]
    wanted = torch.randn(2, 3, tokens, 8, generator=generator)
    found, fused = attend(*inputs), F.scaled_dot_product_attention(*inputs)
    torch.testing.assert_close(found, fused, rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.autograd.grad((seen * wanted).sum(), inputs) for seen in (found, fused))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_it_stays_in_bfloat16_under_autocast() -> None:
    query, key, value = torch.randn(3, 1, 2, 7, 8, dtype=torch.bfloat16).requires_grad_().unbind()
    with torch.autocast("cpu", torch.bfloat16):
        assert attend(query, key, value).dtype == torch.bfloat16
