"""Attention with a bias that has a gradient: what a GPU does and what a CPU does are the same."""

from __future__ import annotations

import torch

from structgen.nn.attention import _expanded, _explicit
from tests.tolerance import FLOAT64_IDENTITY, assert_close


def test_an_expanded_bias_gives_the_values_and_gradients_of_explicit_logits(rng: torch.Generator) -> None:
    """q, k, v [b, s, h, i, c] and a bias [b, 1, h, i, j] that all samples share: output and all four gradients."""
    q, k, v = (torch.randn(2, 3, 2, 5, 4, generator=rng, dtype=torch.float64).requires_grad_() for _ in range(3))
    bias = torch.randn(2, 1, 2, 5, 5, generator=rng, dtype=torch.float64).requires_grad_()
    upper = torch.randn(q.shape, generator=rng, dtype=torch.float64)
    wanted, found = (attend(q, k, v, bias) for attend in (_explicit, _expanded))
    assert_close(found, wanted, FLOAT64_IDENTITY)
    gradients = [torch.autograd.grad((out * upper).sum(), (q, k, v, bias)) for out in (wanted, found)]
    for expected, got in zip(*gradients, strict=True):
        assert_close(got, expected, FLOAT64_IDENTITY)
