"""Likelihood under the probability flow, and divergences."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import Bins, Heun, bits_per_dimension, log_likelihood, normal_probes, sign_probes
from structgen.generative.divergence import exact
from structgen.generative.likelihood import normal_density
from structgen.generative.times import log_snr
from tests.generative.mixture import PATHS, Gaussian, Mixture, start_of

F64 = torch.float64


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_likelihood_of_a_mixture_on_every_path(path, rng):
    """With the true law at the last time as prior nothing but the solver's error is left: Heun's, of order 2, on every path."""
    mixture, (low, high) = Mixture(), (1e-2, 0.9 * start_of(path))
    x, last = torch.randn(5, 2, generator=rng, dtype=F64), torch.full((5,), high, dtype=F64)
    truth = mixture.log_prob(path, x, torch.full((5,), low, dtype=F64)).sum(1)

    def error(steps: int) -> float:
        times = log_snr(path, steps, high, low).flip(0)
        with torch.no_grad():
            found = log_likelihood(
                path, mixture.denoiser(path), Heun(), times, x, rng, prior=lambda y: mixture.log_prob(path, y, last).sum(1)
            )
        return (found - truth).abs().max().item()

    errors = error(80), error(160)
    assert errors[1] < 0.02
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.2)


def test_likelihood_has_the_order_of_its_solver(rng):
    """Twice the steps of Heun, a quarter of the error; events of shape [2, 2] and scalars are allowed."""
    path, law = PATHS["linear"], Gaussian()
    for x in (torch.randn(4, 2, 2, generator=rng, dtype=F64), torch.randn(4, 1, generator=rng, dtype=F64)):
        truth = law.log_prob(path, x, torch.full((4,), 0.05, dtype=F64)).flatten(1).sum(1)
        errors = []
        for steps in (40, 80):
            with torch.no_grad():
                found = log_likelihood(path, law.denoiser(path), Heun(), torch.linspace(0.05, 1, steps + 1), x, rng)
            errors.append((found - truth).abs().mean().item())
        assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.2)


def test_default_prior_is_what_a_sampler_starts_from():
    """N(0, sigma^2), in nats, by hand."""
    x = torch.tensor([[0.0, 2.0]], dtype=F64)
    assert normal_density(2.0)(x).item() == pytest.approx(-2 * math.log(2 * math.sqrt(2 * math.pi)) - 0.5)


def test_falling_times_are_refused(rng):
    """A sampling grid has to be reversed."""
    with pytest.raises(ConfigError, match="rise"):
        log_likelihood(PATHS["linear"], Gaussian().denoiser(PATHS["linear"]), Heun(), [1.0, 0.5], torch.zeros(1, 1), rng)


@pytest.mark.parametrize("method", ["exact", "normal", "sign"])
def test_divergences_are_differentiable_in_parameters(method, rng):
    """d/da div(a x^3) = 3 x^2 summed, exactly for the exact and sign probes (a diagonal Jacobian), in expectation for normal ones."""
    x = torch.randn(3, 4, generator=rng, dtype=F64)
    a = torch.ones((), dtype=F64, requires_grad=True)
    divergence = {"exact": exact, "normal": normal_probes(x, 4000, rng), "sign": sign_probes(x, 1, rng)}[method]
    value, found = divergence(lambda x: a * x**3, x)
    torch.testing.assert_close(value.detach(), x**3)
    (gradient,) = torch.autograd.grad(found.sum(), a)
    wanted = (3 * x**2).sum()
    assert gradient.item() == pytest.approx(wanted.item(), rel=0.1 if method == "normal" else 1e-12)


def test_a_constant_field_has_no_divergence(rng):
    """Even one that does not touch x."""
    for divergence in (exact, sign_probes(torch.zeros(2, 3), 2, rng)):
        with torch.no_grad():
            assert divergence(lambda x: torch.ones(2, 3), torch.zeros(2, 3))[1].tolist() == [0, 0]


def test_bits_of_a_density():
    """A unit normal in many dimensions: log2 sqrt(2 pi e) each; a bin of half the width costs one bit more."""
    d = 7
    nats = torch.tensor([-d * 0.5 * math.log(2 * math.pi * math.e)], dtype=F64)
    bits = 0.5 * math.log2(2 * math.pi * math.e)
    assert bits_per_dimension(nats, d).item() == pytest.approx(bits)
    assert bits_per_dimension(nats, d, bin_width=Bins().width).item() == pytest.approx(bits + 7)
