"""Guidance beyond the identities of the lecture's rows."""

from __future__ import annotations

import pytest
import torch

from structgen.generative import (
    Ddim,
    Endpoints,
    VariancePreserving,
    autoguidance,
    classifier,
    classifier_free,
    normal_like,
    potential,
    projected,
    sample,
)
from structgen.generative.times import uniform
from tests.generative.mixture import PATHS, Gaussian, Mixture, start_of
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64


def states(path, rng) -> tuple[torch.Tensor, torch.Tensor]:
    t = start_of(path) * torch.linspace(0.05, 0.9, 9, dtype=F64)
    ends = Endpoints(*(normal_like(torch.empty(9, 3, dtype=F64), rng) for _ in range(2)))
    return path.state(ends, t), t


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_guided_endpoints_lie_on_the_line_through_the_state(path, rng):
    """alpha data + sigma noise = x_t for every kind of guidance, so that all solvers agree on what they carry on."""
    (x, t), one, other = states(path, rng), Mixture().denoiser(path), Gaussian().denoiser(path)
    for guided in (
        classifier(path, one, lambda x, t: -x.square().sum(1), 2.0),
        classifier_free(other, one, 3.0),
        autoguidance(other, one, 1.5),
        potential(path, one, lambda data, t: (data - 1).square().sum(1)),
        projected(path, one, lambda data: data.clamp(max=0)),
    ):
        ends = guided(x, t, t)
        assert_close(path.state(ends, t) / x.abs().max(), x / x.abs().max(), 1e-10)
        assert not ends.data.requires_grad and not ends.noise.requires_grad


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_potential_on_a_gaussian_is_the_chain_rule(path, rng):
    """With a linear denoiser data = k x the gradient of the energy (data - c)^2 is 2 k (k x - c): the noise rises by sigma times it."""
    law, (x, t) = Gaussian(), states(path, rng)
    alpha, sigma = (c[:, None] for c in path.alpha_sigma(t))
    k = alpha * law.stds[0] ** 2 / ((alpha * law.stds[0]) ** 2 + sigma**2)
    plain = law.denoise(path, x, t)
    found = potential(path, law.denoiser(path), lambda data, t: (data - 1).square().sum(1), 0.5)(x, t, t)
    assert_close(found.noise, plain.noise + sigma * k * (k * x - 1), 1e-10)


def test_potential_of_zero_changes_nothing(rng):
    """An energy that is 0 everywhere."""
    path = VariancePreserving()
    x, t = states(path, rng)
    plain, found = Mixture().denoise(path, x, t), potential(path, Mixture().denoiser(path), lambda data, t: 0 * data.sum(1))(x, t, t)
    assert_close(found.data, plain.data, FLOAT64_IDENTITY)


def test_projected_samples_are_what_is_allowed(rng):
    """Of a Gaussian with independent coordinates the first is known: it ends there exactly, and the others are those of the free sample."""
    path, law = VariancePreserving(), Gaussian()
    times, start = uniform(20, 1.0, 0.0), normal_like(torch.empty(5, 3, dtype=F64), rng)

    def project(data: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(data[:, :1], 0.7), data[:, 1:]], 1)

    free, known = (sample(path, d, Ddim(), times, start, rng) for d in (law.denoiser(path), projected(path, law.denoiser(path), project)))
    assert (free[:, 0] - 0.7).abs().min() > 1e-3
    assert_close(known, project(free), FLOAT64_IDENTITY)


def test_guidance_works_where_no_gradients_are_kept(rng):
    """Inside `torch.no_grad`, as samplers run."""
    path = VariancePreserving()
    x, t = states(path, rng)
    with torch.no_grad():
        inside = classifier(path, Mixture().denoiser(path), lambda x, t: -x.square().sum(1))(x, t, t)
    outside = classifier(path, Mixture().denoiser(path), lambda x, t: -x.square().sum(1))(x, t, t)
    assert torch.equal(inside.noise, outside.noise)


def test_sampling_with_an_exact_classifier_gives_the_class(rng):
    """A mixture guided to its third mode ends in that mode's law: mean within 3 standard errors, deviation within 5 %."""
    mixture, path = Mixture(), VariancePreserving()
    mode = Mixture((1.0,), mixture.means[2:], mixture.stds[2:])

    def log_probability(x, t):
        return (mode.log_prob(path, x, t) - mixture.log_prob(path, x, t)).sum(1)

    guided = classifier(path, mixture.denoiser(path), log_probability)
    noise = normal_like(torch.empty(4000, 1, dtype=F64), rng)
    with torch.no_grad():
        x = sample(path, guided, Ddim(), uniform(100, 1.0, 1e-3), noise, rng)
    assert abs(x.mean().item() - mode.means[0]) < 3 * mode.stds[0] / 4000**0.5 + 0.01
    assert x.std().item() == pytest.approx(mode.stds[0], rel=0.05)
