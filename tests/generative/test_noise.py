"""The one place that draws."""

from __future__ import annotations

import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import generators, normal_like


def test_one_generator_draws_a_batch(rng):
    """Shape and type of x; mean 0, variance 1 and correlation 0 within 4 standard errors; the next draw is another."""
    x = torch.empty(1000, 4, 5, dtype=torch.float64)
    first, second = normal_like(x, rng), normal_like(x, rng)
    n = x.numel()
    assert first.shape == x.shape and first.dtype == x.dtype
    assert abs(first.mean()) < 4 / n**0.5 and abs(first.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((first * second).mean()) < 4 / n**0.5


@pytest.mark.parametrize("event", [(), (3,), (7, 3), (40, 3)], ids=str)
def test_a_generator_an_example_makes_examples_independent_of_the_batch(event):
    """Example k of any batch is example k alone, for events of every size, also after earlier draws."""
    streams = generators(3, 5)
    together = [normal_like(torch.empty(5, *event), streams) for _ in range(2)]
    for k in range(5):
        stream = generators(3, 1, first=k)
        assert all(torch.equal(normal_like(torch.empty(1, *event), stream)[0], batch[k]) for batch in together)


def test_streams_of_neighbouring_seeds_and_examples_are_unrelated():
    """Correlations between all pairs of 6 x 6 streams stay within 5 standard errors, and no two are equal."""
    x = torch.empty(1, 2000, dtype=torch.float64)
    draws = torch.cat([normal_like(x, [one]) for seed in range(6) for one in generators(seed, 6)])
    assert (torch.corrcoef(draws) - torch.eye(36)).abs().max() < 5 / 2000**0.5


def test_too_few_generators_are_refused():
    """Three generators for five examples."""
    with pytest.raises(ConfigError, match="3 generators for 5 examples"):
        normal_like(torch.empty(5, 2), generators(0, 3))
