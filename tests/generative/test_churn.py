"""Churn is SI Algorithm 18."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.generative import Churn, Ddim, Denoiser, Euler, Heun, Preconditioned, VarianceExploding, generators, normal_like, sample
from structgen.generative.times import af3
from tests.generative.mixture import PATHS, Gaussian, Mixture, start_of
from tests.oracles import algorithm18
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64
AF3 = Churn(Euler(step_scale=1.5), gamma=0.8, above=1.0, noise_scale=1.003)


class Head(torch.nn.Module):
    """A small non-linear network of structures whose answer depends on positions, noise level and condition."""

    def forward(self, x, times, cond):
        return torch.tanh(x.roll(1, dims=-1) + times[..., None] * cond)


def rotation(step: int) -> torch.Tensor:
    """A different rotation for every step."""
    a, b = 0.7 * step, 1.3 * step
    z = torch.tensor([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]], dtype=F64)
    x = torch.tensor([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]], dtype=F64)
    return z @ x


def augment(x: torch.Tensor, step: int) -> torch.Tensor:
    """Algorithm 19 with the random rotation and translation of this step given."""
    return (x - x.mean(1, keepdim=True)) @ rotation(step).T + torch.tensor([0.3, -0.2, 0.1], dtype=F64) * step


@pytest.mark.parametrize("steps", [1, 20, 200])
def test_churned_euler_is_algorithm_18(steps):
    """The same noise, the same augmentation, the same network: the same structure."""
    denoiser = Denoiser(Head(), VarianceExploding(), Preconditioned(16.0))
    shape, cond = (2, 7, 3), torch.linspace(-1, 1, 7, dtype=F64)[:, None]

    def denoise(x, t, s):
        return denoiser(x, t, s, cond)

    first = normal_like(torch.empty(shape, dtype=F64), torch.Generator().manual_seed(1))
    c = algorithm18.noise_schedule(steps)
    drawn = torch.Generator().manual_seed(2)
    noise = [normal_like(first, drawn) if c[n] > 1.0 else torch.full(shape, 1e3, dtype=F64) for n in range(1, steps + 1)]
    count = iter(range(1, steps + 1))
    rng = torch.Generator().manual_seed(2)
    found = sample(VarianceExploding(), denoise, AF3, af3(steps), c[0] * first, rng, lambda x, rng: augment(x, next(count)))
    expected = algorithm18.sample_diffusion(lambda x, t: denoise(x, torch.full((2,), t, dtype=F64), None).data, augment, first, noise, c)
    assert_close(found, expected, FLOAT64_IDENTITY)


def test_the_schedule_of_algorithm_18():
    """The levels as the SI's formula gives them, to rounding, ends exact."""
    c = af3(200)
    assert_close(c, torch.tensor(algorithm18.noise_schedule(200), dtype=F64), FLOAT64_IDENTITY)
    assert c[0] == 2560 and c[-1] == pytest.approx(0.0064, rel=1e-15)
    assert [round(c[i].item(), d) for i, d in ((1, 1), (100, 1), (199, 5))] == [2485.5, 56.0, 0.00769]


@pytest.mark.parametrize("steps, churned", [(200, 160), (20, 16)])
def test_it_is_the_new_level_that_decides(steps, churned):
    """160 of 200 steps are churned; testing the old level instead would churn one more."""
    c = af3(steps)
    plan = AF3.plan(VarianceExploding(), c[:-1], c[1:])
    assert plan.raised.sum() == churned == (c[1:] > 1.0).sum()
    assert (c[:-1] > 1.0).sum() == churned + 1
    assert_close(plan.inner.t / c[:-1], 1 + 0.8 * plan.raised.double(), FLOAT64_IDENTITY)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_raising_the_level_keeps_the_law_of_the_path(path):
    """The state that the inner solver is given has the variance that the path has at t-hat, on Gaussian data."""
    t = start_of(path) * torch.tensor([1.0, 0.7, 0.4, 0.1], dtype=F64)
    plan = Churn(Ddim(), gamma=0.5, above=0.0, noise_scale=1.0).plan(path, t, t / 2)
    for i in range(len(t)):
        before, after = (Gaussian().variance(path, time.item()) for time in (t[i], plan.inner.t[i]))
        assert (plan.state[i] ** 2 * before + plan.fresh[i] ** 2).item() == pytest.approx(after, rel=1e-12)
    assert plan.raised[1:].all() and (plan.inner.t <= path.end).all()
    level = torch.exp(path.half_log_snr(t) - path.half_log_snr(plan.inner.t))
    inside = plan.raised & (plan.inner.t < path.end)
    assert_close(level[inside], torch.full_like(level[inside], 1.5), 1e-9)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_without_gamma_it_is_the_inner_solver(path, rng):
    """Bit for bit, and no random number is drawn."""
    x = start_of(path) * normal_like(torch.empty(2, 3, dtype=F64), rng)
    grid = start_of(path) * torch.tensor([0.9, 0.5, 0.2, 0.0], dtype=F64)
    state = rng.get_state()
    churned = sample(path, Mixture().denoiser(path), Churn(Heun(), gamma=0.0, above=0.0, noise_scale=1.0), grid, x, rng)
    assert torch.equal(churned, sample(path, Mixture().denoiser(path), Heun(), grid, x, rng))
    assert torch.equal(state, rng.get_state())


def test_samples_of_a_seed_differ_and_repeat():
    """Two generators of a seed give different structures, and the same again."""
    path, x = VarianceExploding(), torch.zeros(2, 5, 3)
    first, again = (sample(path, Mixture().denoiser(path), AF3, af3(20), x, generators(3, 2)) for _ in range(2))
    assert torch.equal(first, again)
    assert (first[0] - first[1]).abs().max() > 0.1
