"""Rows B4, B9-B11, B13, B14: reverse SDEs, Langevin, probability flow, predictor-corrector."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import (
    RK4,
    AnnealedLangevin,
    Corrected,
    Ddim,
    Euler,
    EulerMaruyama,
    Linear,
    RungeKutta,
    StochasticHeun,
    SubVariancePreserving,
    Tolerance,
    VarianceExploding,
    VariancePreserving,
    diffusion_squared,
    langevin,
    normal_like,
    sample,
    sample_adaptive,
)
from structgen.generative.times import log_snr, uniform
from tests.conformance.clouds import Cloud, ring, sliced_w2
from tests.generative.mixture import PATHS, Mixture, start_of
from tests.generative.test_solvers import variance_error

F64 = torch.float64
SDES = {"vp": VariancePreserving(), "ve": VarianceExploding(), "subvp": SubVariancePreserving()}
LAMBDAS = [0.0, 0.25, 0.5, 0.75, 1.0]


def test_B4_coefficients_of_the_forward_sde():
    """g^2 is beta, d sigma^2 / dt and beta (1 - exp(-2 int beta)) (Song et al. 2021, eqs. 30, 29 and 32's line)."""
    t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    beta = 0.1 + t * 19.9
    whole = 0.1 * t + 19.9 * t**2 / 2
    for path, g2 in ((SDES["vp"], beta), (SDES["ve"], 2 * t), (SDES["subvp"], beta * -torch.expm1(-2 * whole))):
        assert (diffusion_squared(path, t) / g2 - 1).abs().max() < 1e-12


def laws(path, solver, steps, rng, count=1000) -> list[float]:
    """Sliced W2 of the states at 5 times to fresh draws, over the distance between two fresh draws."""
    cloud, grid = ring(), log_snr(path, steps, 0.99 * start_of(path), 0.01)
    wanted, ratios, step = {steps * k // 5 for k in (1, 2, 3, 4)} | {steps - 1}, [], iter(range(steps))

    def compare(x, rng):
        if (i := next(step)) in wanted:
            draws = [cloud.draw_at(path, grid[i].item(), count, rng) for _ in range(4)]
            floor = sum(sliced_w2(a, b) for i, a in enumerate(draws) for b in draws[:i]) / 6
            ratios.append(sum(sliced_w2(x, draw) for draw in draws) / 4 / floor)
        return x

    sample(path, cloud.denoiser(path), solver, grid, cloud.draw_at(path, grid[0].item(), count, rng), rng, compare)
    return ratios


@pytest.mark.parametrize("solver, steps", [(EulerMaruyama(), 400), (StochasticHeun(), 100)], ids=["euler", "heun"])
@pytest.mark.parametrize("name", SDES)
def test_B4_reverse_sde_has_the_law_of_the_forward_one(name, solver, steps, rng, measured):
    """At 5 times, VP, VE and sub-VP: sliced W2 to fresh draws at most 2 times that between fresh draws (for the
    worst of five finite samples; the ratio of one scatters by a third)."""
    worst = max(laws(SDES[name], solver, steps, rng))
    measured("B4", f"worst of 5 times: sliced W2 / floor, {type(solver).__name__}, {name}", worst, 2.0)
    assert worst < 2


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("make, order", [(EulerMaruyama, 1), (StochasticHeun, 2)], ids=["euler", "heun"])
def test_B13_weak_order_of_the_family(name, lam, make, order, measured):
    """On Gaussian data the variance tends to that of the path with order 1 (Euler-Maruyama) or 2 (Heun), for every lambda, exactly
    followed."""
    path, start = SDES[name], 3.0 if name == "ve" else 0.9
    coarse, fine = (variance_error(path, make(lam), log_snr(path, n, start, 1e-2)) for n in (256, 512))
    slope = math.log2(coarse / fine)
    measured("B13", f"weak order, {make.__name__}, {name}, lambda {lam}", slope, order)
    assert fine < 0.1 and slope == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("lam", LAMBDAS)
def test_B13_marginals_are_shared(lam, rng, measured):
    """The law at 5 times on the ring."""
    worst = max(laws(VariancePreserving(), StochasticHeun(lam), 100, rng))
    measured("B13", f"worst of 5 times: sliced W2 / floor, lambda {lam}", worst, 2.0)
    assert worst < 2


def test_B13_ends_of_the_family(rng):
    """lambda = 1 is the probability flow by Euler bit for bit and draws nothing; out of range, and from alpha = 0, it is refused."""
    path, x, grid = VariancePreserving(), normal_like(torch.empty(4, 2, dtype=F64), rng), uniform(9, 0.99, 0.01)
    state = rng.get_state()
    assert torch.equal(*(sample(path, Mixture().denoiser(path), one, grid, x, rng) for one in (EulerMaruyama(1.0), Euler())))
    assert torch.equal(state, rng.get_state()) and EulerMaruyama() == EulerMaruyama(lam=0.0)
    for make in (EulerMaruyama, StochasticHeun):
        for lam in (-0.1, 1.1, math.nan):
            with pytest.raises(ConfigError, match="lambda"):
                make(lam)
        with pytest.raises(ConfigError, match="alpha or sigma is 0"):
            sample(Linear(), Mixture().denoiser(Linear()), make(), [1.0, 0.5], x, rng)


@pytest.mark.parametrize("step", [0.05, 0.2, 0.5])
def test_B9_langevin_bias(step, rng, measured):
    """On N(0, 1) the variance becomes 1 / (1 - step / 2), within 4 standard errors of 200,000 chains."""
    chains = 200_000
    x = langevin(lambda x: -x, torch.zeros(chains, dtype=F64), step=step, count=math.ceil(6 / step), rng=rng)
    expected = (1 - (1 - step) ** (2 * math.ceil(6 / step))) / (1 - step / 2)
    measured("B9", f"variance x (1 - step / 2), step {step}", x.var().item() * (1 - step / 2), 1.0)
    assert abs(x.var().item() / expected - 1) < 4 * math.sqrt(2 / chains)


def test_B10_annealing_recovers_the_weights(rng, measured):
    """Modes of weight 0.8 and 0.2 far apart (Song & Ermon 2019, section 3.2.2): annealed 0.80 +- 0.03, plain Langevin about one half."""
    centre = torch.full((2,), 5.0, dtype=F64)
    cloud = Cloud(torch.tensor([0.8, 0.2], dtype=F64), torch.stack([-centre, centre]), torch.ones(2, dtype=F64))
    path, count = VarianceExploding(), 3000
    x = 16 * torch.rand(count, 2, generator=rng, dtype=F64) - 8
    levels = [*torch.logspace(math.log10(20), 0, 12, dtype=F64).tolist(), 0.0]
    annealed = sample(path, cloud.denoiser(path), AnnealedLangevin(size=0.1, count=60), levels, x, rng)
    small = torch.full((count,), 1e-3, dtype=F64)
    plain = langevin(lambda x: path.score(cloud.denoise(path, x, small), small), x, step=0.05, count=400, rng=rng)
    found, naive = ((end.sum(1) < 0).double().mean().item() for end in (annealed, plain))
    measured("B10", "weight of the heavy mode, annealed", found, 0.8)
    measured("B10", "weight of the heavy mode, plain Langevin", naive, None, "the start's share, about one half")
    assert found == pytest.approx(0.8, abs=0.03) and naive == pytest.approx(0.5, abs=0.1)


def test_B10_one_step_by_hand():
    """x + a / 2 score + sqrt(a) z with a = size sigma_i^2 / sigma_L^2, the largest level first."""
    path, x = VarianceExploding(), torch.tensor([[1.0, -2.0]], dtype=F64)
    z = normal_like(x, torch.Generator().manual_seed(4))
    eps = Mixture().denoise(path, x, torch.tensor([3.0], dtype=F64)).noise
    a = 0.01 * 9 / 4
    plan = AnnealedLangevin(0.01, 1).plan(path, torch.tensor([3.0, 2.0], dtype=F64), torch.tensor([2.0, 0.0], dtype=F64))
    assert (plan.step * 2).tolist() == pytest.approx([a, 0.01])
    found = langevin(lambda x: -eps / 3, x, step=a / 2, count=1, rng=torch.Generator().manual_seed(4))
    assert (found - (x - a / 2 * eps / 3 + math.sqrt(a) * z)).abs().max() < 1e-14


@pytest.mark.parametrize("name", [*SDES, "linear"])
def test_B11_probability_flow_meets_the_exact_end(name, measured):
    """At tight tolerance, to 1e-6, from noise to a small time."""
    path = PATHS[{"vp": "vp-linear", "subvp": "subvp-linear"}.get(name, name)]
    start, stop = 0.97 * start_of(path), 1e-3
    alpha, sigma = (c.item() for c in path.alpha_sigma(torch.tensor([start], dtype=F64)))
    x = torch.linspace(-1.8, 1.8, 25, dtype=F64)[:, None] * math.sqrt(0.8 * alpha**2 + sigma**2)
    end = sample_adaptive(path, Mixture().denoiser(path), start, stop, x, tolerance=Tolerance(1e-9, 1e-9))
    worst = (end - Mixture().flow(path, x, start, stop)).abs().max().item()
    measured("B11", f"largest distance to the exact end point, {name}", worst, 1e-6)
    assert worst < 1e-6


@pytest.mark.parametrize("name", SDES)
def test_B11_same_marginals_as_the_reverse_sde(name, rng, measured):
    """The law of B4 at 5 times, without noise."""
    worst = max(laws(SDES[name], RungeKutta(RK4), 40, rng))
    measured("B11", f"worst of 5 times: sliced W2 / floor, {name}", worst, 2.0)
    assert worst < 2


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_B14_corrector_helps_a_wrong_score(factor, rng, measured):
    """A score 10 % too weak or too strong, 60 evaluations each: the probability flow with Langevin steps ends nearer to data than alone."""
    cloud, path, count = ring(), VarianceExploding(), 2000

    def wrong(x, t, s):
        return path.from_noise(factor * cloud.denoise(path, x, t).noise, x, t)

    def distance(solver, steps):
        x = 50 * normal_like(torch.empty(count, 2, dtype=F64), rng)
        return sliced_w2(sample(path, wrong, solver, log_snr(path, steps, 50.0, 0.02), x, rng), cloud.draw(count, rng))

    alone, corrected = distance(Ddim(), 60), distance(Corrected(Ddim(), count=1, snr=0.25), 30)
    measured("B14", f"sliced W2, score x {factor}, probability flow alone, 60 evaluations", alone, None)
    measured("B14", f"sliced W2, score x {factor}, with corrector, 60 evaluations", corrected, alone, "predictor: the probability flow")
    assert corrected < 0.7 * alone
