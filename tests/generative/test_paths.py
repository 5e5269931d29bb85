"""Every path: its derivative, its inverse, and the algebra of two ends."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.generative import Endpoints, Path, VariancePreserving
from structgen.generative.paths import CosineBetas, LinearBetas
from tests.generative.mixture import PATHS, Mixture, start_of
from tests.tolerance import FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

EACH_PATH = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def inner_times(path: Path) -> torch.Tensor:
    return start_of(path) * torch.tensor([1e-3, 0.01, 0.1, 0.37, 0.5, 0.8, 0.97], dtype=torch.float64)


def some_ends(t: torch.Tensor, rng: torch.Generator, event: tuple[int, ...] = (3, 2)) -> Endpoints:
    data, noise = (torch.randn(len(t), *event, generator=rng, dtype=torch.float64) for _ in range(2))
    return Endpoints(data, noise)


@EACH_PATH
def test_rates_are_the_derivative_by_autodiff(path):
    """The closed forms equal forward-mode differentiation of alpha and sigma."""
    t = inner_times(path)
    _, autodiff = torch.func.jvp(path.alpha_sigma, (t,), (torch.ones_like(t),))
    for closed, expected in zip(path.rates(t), autodiff, strict=True):
        assert_close(closed, expected, FLOAT64_IDENTITY)


@EACH_PATH
def test_rates_are_the_limit_of_differences(path):
    """The closed forms equal central differences of alpha and sigma."""
    t = inner_times(path)
    h = 1e-4 * t
    for closed, ahead, behind in zip(path.rates(t), path.alpha_sigma(t + h), path.alpha_sigma(t - h), strict=True):
        assert_close(closed, (ahead - behind) / (2 * h), 1e-7)


@EACH_PATH
def test_begins_on_data_and_loses_signal_all_the_way(path):
    """alpha = 1 and sigma = 0 at t = 0; log-SNR falls strictly; rates are finite where the path ends."""
    zero = torch.zeros(1, dtype=torch.float64)
    assert [c.item() for c in path.alpha_sigma(zero)] == pytest.approx([1.0, 0.0], abs=1e-15)
    t = torch.linspace(0, start_of(path), 1001, dtype=torch.float64)
    assert (path.half_log_snr(t).diff() < 0).all()
    assert all(rate.isfinite().all() for rate in path.rates(t[1:]))


@EACH_PATH
def test_time_at_inverts_half_log_snr(path):
    """Round trip in both directions, to rounding, over fifteen decades."""
    t = start_of(path) * torch.logspace(-14, 0, 57, dtype=torch.float64)[:-1]
    back = path.time_at(path.half_log_snr(t))
    assert ((back - t).abs() / t).max() < 1e-12
    assert path.time_at(torch.tensor([math.inf], dtype=torch.float64)).item() == 0.0


@EACH_PATH
def test_time_at_stops_at_the_end(path):
    """A noise level beyond the path gives its last time."""
    last = path.time_at(torch.tensor([-math.inf, -650.0], dtype=torch.float64))
    assert (last == path.end).all() if math.isfinite(path.end) else (last > 1e280).all()


@EACH_PATH
@pytest.mark.parametrize("event", [(), (2,), (3, 2), (2, 1, 3)], ids=str)
def test_any_two_known_things_give_the_ends(path, event, rng):
    """data, noise, velocity or a second state, each with the state, lead back to the same endpoints."""
    t = inner_times(path)
    s = t * 0.7
    ends = some_ends(t, rng, event)
    x = path.state(ends, t)
    for found in (
        path.from_data(ends.data, x, t),
        path.from_noise(ends.noise, x, t),
        path.from_velocity(path.velocity(ends, t), x, t),
        path.through(x, t, path.state(ends, s), s),
    ):
        assert_close(path.state(found, t), x, FLOAT64_IDENTITY)
        assert_close(path.velocity(found, t), path.velocity(ends, t), FLOAT64_ORACLE)
        assert_close(found.data, ends.data, 1e-8)  # noise / signal is 1e5 at the last time of the cosine schedules
        assert_close(found.noise, ends.noise, 1e-8)


@EACH_PATH
def test_each_example_has_its_own_time(path, rng):
    """A batch of different times equals its examples one by one."""
    t = inner_times(path)
    ends = some_ends(t, rng)
    x, velocity = path.state(ends, t), path.velocity(ends, t)
    for i in range(len(t)):
        one = Endpoints(ends.data[i : i + 1], ends.noise[i : i + 1])
        assert torch.equal(path.state(one, t[i : i + 1])[0], x[i])
        assert torch.equal(path.velocity(one, t[i : i + 1])[0], velocity[i])


@EACH_PATH
def test_score_of_the_posterior_mean_is_the_gradient_of_the_log_density(path):
    """-E[noise | x] / sigma = grad log p_t(x), on a mixture (Tweedie)."""
    mixture, t = Mixture(), inner_times(path)[2:]
    alpha, sigma = path.alpha_sigma(t)
    x = (torch.linspace(-1.5, 1.5, 5, dtype=torch.float64) * (alpha + sigma)[:, None]).requires_grad_()
    (expected,) = torch.autograd.grad(mixture.log_prob(path, x, t).sum(), x)
    assert_close(path.score(mixture.denoise(path, x, t), t).detach(), expected, FLOAT64_ORACLE)


@EACH_PATH
def test_velocity_of_the_posterior_mean_is_that_of_the_probability_flow(path):
    """It equals the finite difference of the map that keeps quantiles."""
    mixture, t = Mixture(), 0.4 * start_of(path)
    x = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)[:, None] * (1.0 if start_of(path) == 1 else t)
    h = 1e-4 * t
    moved = (mixture.flow(path, x, t, t + h) - mixture.flow(path, x, t, t - h)) / (2 * h)
    times = torch.full((len(x),), t, dtype=torch.float64)
    assert_close(path.velocity(mixture.denoise(path, x, times), times), moved, 1e-6)


@pytest.mark.parametrize("betas", [LinearBetas(), LinearBetas(0.2, 8.0), CosineBetas()], ids=repr)
def test_variance_is_what_the_signal_leaves(betas):
    """alpha^2 + variance = 1, and the variance keeps its relative precision where alpha is 1 to rounding."""
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert_close(betas.alpha(t) ** 2 + betas.variance(t), torch.ones_like(t), FLOAT64_IDENTITY)
    tiny = torch.tensor([1e-12], dtype=torch.float64)
    beta_0 = -2 * betas.alpha_rate(torch.zeros(1, dtype=torch.float64))
    assert (betas.variance(tiny) / (beta_0 * tiny)).item() == pytest.approx(1, rel=1e-9)


def test_linear_betas_are_the_limit_of_the_discrete_chain():
    """prod(1 - beta_i) over 100,000 steps approaches alpha^2 at rate 1 / steps (DDPM -> VP SDE)."""
    betas, errors = LinearBetas(), []
    for steps in (50_000, 100_000):
        t = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        beta = betas.beta_min + t * (betas.beta_max - betas.beta_min)
        kept = torch.log1p(-beta / steps).sum().exp()
        errors.append((kept / betas.alpha(torch.ones(1, dtype=torch.float64)) ** 2 - 1).abs().item())
    assert errors[1] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.01)


def test_a_path_is_a_value():
    """Equal settings are equal objects, and the repr says them."""
    assert VariancePreserving(LinearBetas(0.1, 10.0)) == VariancePreserving(LinearBetas(0.1, 10.0)) != VariancePreserving()
    assert "beta_max=10.0" in repr(VariancePreserving(LinearBetas(0.1, 10.0)))
