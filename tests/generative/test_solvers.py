"""Every solver: its order on every path, and the published algorithm it equals."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from structgen.errors import ConfigError
from structgen.generative import (
    Churn,
    Ddim,
    DpmPlusPlus2M,
    Endpoints,
    Euler,
    Heun,
    Linear,
    VarianceExploding,
    VariancePreserving,
    advance,
    generators,
    normal_like,
    sample,
)
from structgen.generative.times import at_noise_levels, karras, log_snr, quadratic, then_data, uniform
from tests.generative.mixture import PATHS, Gaussian, Mixture, start_of
from tests.tolerance import FLOAT64_IDENTITY, assert_close

EACH_PATH = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
DETERMINISTIC = [Euler(), Ddim(), Heun(), DpmPlusPlus2M(), Churn(Heun(), gamma=0.0, above=0.0, noise_scale=1.0)]
STOCHASTIC = [Ddim(eta=1.0), Ddim(eta=math.inf), Churn(Euler(1.5), gamma=0.8, above=1.0, noise_scale=1.003)]
F64 = torch.float64


def error(path, solver, grid, rng) -> float:
    """Median distance to the exact end point over starts that cover the mass of the mixture."""
    mixture = Mixture()
    alpha, sigma = path.alpha_sigma(grid[:1])
    x = torch.linspace(-1.8, 1.8, 25, dtype=F64)[:, None] * (0.8 * alpha**2 + sigma**2).sqrt()
    end = sample(path, mixture.denoiser(path), solver, grid, x, rng)
    return (end - mixture.flow(path, x, grid[0].item(), grid[-1].item())).abs().median().item()


@EACH_PATH
@pytest.mark.parametrize("solver", [Euler(), Ddim(), Heun(), DpmPlusPlus2M()], ids=repr)
def test_order_between_two_noise_levels(path, solver, rng):
    """The error falls as steps^-order, within 0.15, on a grid that is even in log-SNR."""
    start = 0.97 * start_of(path)
    coarse, fine = (error(path, solver, log_snr(path, n, start, 1e-3), rng) for n in (48, 192))
    assert math.log2(coarse / fine) / 2 == pytest.approx(solver.order, abs=0.15)


@EACH_PATH
@pytest.mark.parametrize("solver", [Euler(), Ddim(), Heun()], ids=repr)
def test_order_all_the_way_to_data(path, solver, rng):
    """So it does from the noisy end, where alpha may be 0, to t = 0, where sigma is."""
    coarse, fine = (error(path, solver, quadratic(n, start_of(path), 0.0), rng) for n in (128, 256))
    assert math.log2(coarse / fine) == pytest.approx(solver.order, abs=0.15)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_second_order_multistep_to_data(path, rng):
    """2M keeps its order to t = 0 on a grid whose steps in log-SNR change slowly: Karras levels that end at 1 / steps, then 0."""

    def grid(n: int) -> torch.Tensor:
        return then_data(at_noise_levels(path, karras(n - 1, 60.0, 1 / n)))

    coarse, fine = (error(path, DpmPlusPlus2M(), grid(n), rng) for n in (64, 256))
    assert math.log2(coarse / fine) / 2 == pytest.approx(2, abs=0.15)


@EACH_PATH
@pytest.mark.parametrize("solver", DETERMINISTIC + STOCHASTIC, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_any_number_of_steps_gives_finite_states(path, solver, steps, rng):
    """From pure noise to data in any number of steps, nothing is 0 / 0."""
    x = start_of(path) * normal_like(torch.empty(4, 3, dtype=F64), rng)
    end = sample(path, Mixture().denoiser(path), solver, uniform(steps, start_of(path), 0.0), x, rng)
    assert end.isfinite().all() and end.abs().max() < 30 * start_of(path)


REINTERPOLATING = [Ddim(), Ddim(eta=1.0), Ddim(eta=math.inf), DpmPlusPlus2M()]
STRAIGHT = [(path, solver) for path in (Linear(), VarianceExploding()) for solver in (Euler(), Heun())]


@pytest.mark.parametrize("path, solver", [(path, solver) for path in PATHS.values() for solver in REINTERPOLATING] + STRAIGHT, ids=repr)
def test_one_step_to_data_is_the_denoiser(path, solver, rng):
    """In one step to t = 0 the re-interpolating solvers return E[data | x]; so do Euler and Heun where the path is a straight line."""
    start = 0.6 * start_of(path)
    x = start * normal_like(torch.empty(5, 2, dtype=F64), rng)
    end = sample(path, Mixture().denoiser(path), solver, [start, 0.0], x, rng)
    assert_close(end, Mixture().denoise(path, x, torch.full((5,), start, dtype=F64)).data, 1e-11)


def test_heun_is_algorithm_1_of_edm(rng):
    """Literal transcription with s(t) = 1, sigma(t) = t."""
    path, mixture = VarianceExploding(), Mixture()
    grid = then_data(karras(9, 80.0, 0.002))
    start = x = 80 * normal_like(torch.empty(6, 3, dtype=F64), rng)

    def d(x, t):
        return (x - mixture.denoise(path, x, torch.full((len(x),), t, dtype=F64)).data) / t

    t = grid.tolist()
    for i in range(10):
        d_i = d(x, t[i])
        x_next = x + (t[i + 1] - t[i]) * d_i
        if t[i + 1] != 0:
            x_next = x + (t[i + 1] - t[i]) * (d_i / 2 + d(x_next, t[i + 1]) / 2)
        x = x_next
    assert_close(sample(path, mixture.denoiser(path), Heun(), grid, start, rng), x, FLOAT64_IDENTITY)


def test_2m_is_the_published_multistep_update(rng):
    """Literal transcription of DPM-Solver++(2M) with t = -log sigma (Lu et al. 2022b, Algorithm 2), last step of first order."""
    path, mixture = VarianceExploding(), Mixture()
    grid = then_data(karras(11, 80.0, 0.002))
    start = x = 80 * normal_like(torch.empty(6, 3, dtype=F64), rng)
    sigma, old = grid.tolist(), None
    for i in range(12):
        denoised = mixture.denoise(path, x, torch.full((6,), sigma[i], dtype=F64)).data
        t = -math.log(sigma[i])
        h = -math.log(sigma[i + 1]) - t if sigma[i + 1] > 0 else math.inf
        if old is None or sigma[i + 1] == 0:
            denoised_d = denoised
        else:
            r = (t + math.log(sigma[i - 1])) / h
            denoised_d = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old
        x = sigma[i + 1] / sigma[i] * x - math.expm1(-h) * denoised_d
        old = denoised
    assert_close(sample(path, mixture.denoiser(path), DpmPlusPlus2M(), grid, start, rng), x, FLOAT64_IDENTITY)


@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine", "cosine"])
def test_ancestral_step_is_the_posterior_of_ddpm(name, rng):
    """`Ddim(eta=1)` has the mean and the variance of q(x_s | x_t, x_0) (Ho et al. 2020, eqs. 6-7), step after step."""
    path = PATHS[name]
    grid = uniform(8, 0.95, 0.0)
    x = start = normal_like(torch.empty(4, 3, dtype=F64), rng)
    literal = torch.Generator().manual_seed(5)
    bar = (path.alpha_sigma(grid)[0] ** 2).tolist()
    for i in range(8):
        a = bar[i] / bar[i + 1]
        t = torch.full((4,), grid[i].item(), dtype=F64)
        x_0 = Mixture().denoise(path, x, t).data
        mean = math.sqrt(bar[i + 1]) * (1 - a) / (1 - bar[i]) * x_0 + math.sqrt(a) * (1 - bar[i + 1]) / (1 - bar[i]) * x
        variance = max((1 - bar[i + 1]) / (1 - bar[i]) * (1 - a), 0.0)
        x = mean + math.sqrt(variance) * normal_like(x, literal)
    sampled = sample(path, Mixture().denoiser(path), Ddim(eta=1.0), grid, start, torch.Generator().manual_seed(5))
    assert_close(sampled, x, 1e-10)


@EACH_PATH
def test_progressive_target_lands_where_two_teacher_steps_land(path, rng):
    """One student step from `path.through`'s data ends where two DDIM steps end; on it, the formula of Salimans & Ho (2022, eq. 8)."""
    t, middle, s = (start_of(path) * share for share in (0.8, 0.6, 0.4))
    x = start_of(path) * normal_like(torch.empty(5, 2, dtype=F64), rng)
    landed = sample(path, Mixture().denoiser(path), Ddim(), [t, middle, s], x, rng)
    ts, ss = torch.full((5,), t, dtype=F64), torch.full((5,), s, dtype=F64)
    target = path.through(x, ts, landed, ss).data
    student = sample(path, lambda x, t, s: path.from_data(target, x, t), Ddim(), [t, s], x, rng)
    assert_close(student, landed, FLOAT64_IDENTITY)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = ([c[0].item() for c in path.alpha_sigma(u)] for u in (ts, ss))
    assert_close(target, (landed - sigma_s / sigma_t * x) / (alpha_s - sigma_s / sigma_t * alpha_t), 1e-11)


def test_eta_of_infinity_draws_all_noise_anew(rng):
    """The multi-step sampler of consistency models: x = data + s z (Song et al. 2023, Algorithm 1)."""
    path, x = VarianceExploding(), 80 * normal_like(torch.empty(3, 2, dtype=F64), rng)
    z = normal_like(x, torch.Generator().manual_seed(7))
    data = Mixture().denoise(path, x, torch.full((3,), 80.0, dtype=F64)).data
    end = sample(path, Mixture().denoiser(path), Ddim(eta=math.inf), [80.0, 2.0], x, torch.Generator().manual_seed(7))
    assert_close(end, data + 2.0 * z, FLOAT64_IDENTITY)


def variance_error(path, solver, grid) -> float:
    """Relative error of the variance at the end, on Gaussian data: a step is x -> A x + B z there, and all A and B are measured."""
    gaussian, t, s = Gaussian(), grid[:-1], grid[1:]
    z = normal_like(t[:, None], torch.Generator().manual_seed(0))
    at_0, at_1 = (
        advance(path, gaussian.denoiser(path), solver, torch.full_like(z, x), t, s, torch.Generator().manual_seed(0)) for x in (0.0, 1.0)
    )
    variance = gaussian.variance(path, grid[0].item())
    for a, b in zip((at_1 - at_0)[:, 0].tolist(), (at_0 / z)[:, 0].tolist(), strict=True):
        variance = a**2 * variance + b**2
    return abs(variance / gaussian.variance(path, grid[-1].item()) - 1)


@EACH_PATH
@pytest.mark.parametrize(
    "solver_for, order",
    [
        (lambda n: Ddim(eta=1.0), 1),
        (lambda n: Ddim(eta=0.5), 1),
        (lambda n: Churn(Euler(), gamma=4 / n, above=0.0, noise_scale=1.0), 1),
        (lambda n: Churn(Heun(), gamma=4 / n, above=0.0, noise_scale=1.0), 2),
    ],
    ids=["ancestral", "half", "churned Euler", "churned Heun"],
)
def test_stochastic_solvers_keep_the_law(path, solver_for, order, rng):
    """Weak order on Gaussian data: the variance approaches that of the path, without any Monte Carlo."""
    coarse, fine = (variance_error(path, solver_for(n), log_snr(path, n, 0.9 * start_of(path), 1e-2)) for n in (256, 512))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@EACH_PATH
def test_rising_times_invert_a_sample(path, rng):
    """Falling then rising over the same times returns to the start, the better the finer (order 2 for Heun)."""
    start, stop = 0.9 * start_of(path), 0.02
    x = start * normal_like(torch.empty(5, 2, dtype=F64), rng)
    lost = []
    for n in (64, 128):
        grid = log_snr(path, n, start, stop)
        there = sample(path, Mixture().denoiser(path), Heun(), grid, x, rng)
        back = sample(path, Mixture().denoiser(path), Heun(), grid.flip(0), there, rng)
        lost.append((back - x).abs().max().item() / start)
    assert lost[1] < 2e-2 and lost[0] / lost[1] > 2.8


@pytest.mark.parametrize("solver", [Euler(1.5), Ddim(), Ddim(eta=0.7), Heun(), Churn(Heun(), 0.4, above=0.05, noise_scale=1.0)], ids=repr)
def test_advance_is_one_step_of_each_example(solver):
    """Different intervals in one batch equal the examples sampled one at a time."""
    path = VariancePreserving()
    t, s = torch.tensor([0.9, 0.5, 0.3], dtype=F64), torch.tensor([0.7, 0.45, 0.2], dtype=F64)
    x = normal_like(torch.empty(3, 4, dtype=F64), torch.Generator().manual_seed(1))
    together = advance(path, Mixture().denoiser(path), solver, x, t, s, generators(3, 3))
    for i in range(3):
        alone = sample(path, Mixture().denoiser(path), solver, [t[i].item(), s[i].item()], x[i : i + 1], generators(3, 1, first=i))
        assert_close(together[i : i + 1], alone, FLOAT64_IDENTITY)


def test_advance_refuses_examples_that_need_different_branches():
    """One example lands on data, where Heun cannot take its second slope; the other does not."""
    with pytest.raises(ConfigError, match="branches"):
        advance(Linear(), Mixture().denoiser(Linear()), Heun(), torch.zeros(2, 1), torch.tensor([0.5, 0.5]), torch.tensor([0.0, 0.1]), [])


@pytest.mark.parametrize("times", [[1.0], [1.0, 0.5, 0.5], [1.0, 0.2, 0.4], [[1.0, 0.0]], [1.0, math.nan], [math.inf, 0.0]], ids=str)
def test_times_that_are_no_grid_are_refused(times, rng):
    """One time, repeated, unordered, two-dimensional or infinite times."""
    with pytest.raises(ConfigError, match="times"):
        sample(Linear(), Mixture().denoiser(Linear()), Euler(), times, torch.zeros(1, 1), rng)


def test_sample_reports_each_step_and_transforms_before_it(rng):
    """`on_step` counts to the end; `before_step` sees the state and the generator ahead of every step."""
    seen, given = [], []

    def before(x, r):
        given.append(r)
        return x + 1

    def denoise(x, t, s):
        return Endpoints(x, torch.zeros_like(x))

    times, start = [3.0, 2.0, 1.0, 0.0], torch.zeros(2, 2)
    end = sample(VarianceExploding(), denoise, Ddim(), times, start, rng, before, lambda i, n: seen.append((i, n)))
    assert seen == [(1, 3), (2, 3), (3, 3)] and given == [rng] * 3
    assert torch.equal(end, torch.full((2, 2), 3.0))


def test_the_denoiser_is_asked_at_the_times_of_the_solver(rng):
    """t and s are [b] in the state's type; Ddim tells where it goes, the others ask for the slope at t."""
    asked = []

    def denoise(x, t, s):
        asked.append((t.tolist(), s.tolist(), t.dtype))
        return Endpoints(x, x)

    for solver in (Ddim(), Heun()):
        sample(Linear(), denoise, solver, [1.0, 0.5, 0.0], torch.zeros(2, 3), rng)
    f32 = torch.float32
    assert asked[:2] == [([1.0, 1.0], [0.5, 0.5], f32), ([0.5, 0.5], [0.0, 0.0], f32)]
    assert asked[2:] == [([t, t], [t, t], f32) for t in (1.0, 0.5, 0.5)]


def test_a_batch_of_generators_makes_samples_independent_of_their_batch():
    """Sample k is the same alone and among others, bit for bit."""
    path, solver = VarianceExploding(), Churn(Euler(1.5), gamma=0.8, above=1.0, noise_scale=1.003)
    grid = karras(10, 80.0, 0.01)

    def run(first, count):
        rng = generators(11, count, first)
        x = 80 * normal_like(torch.empty(count, 5, 3), rng)
        return sample(path, Mixture().denoiser(path), solver, grid, x, rng)

    together = run(0, 4)
    for k in range(4):
        assert torch.equal(run(k, 1)[0], together[k])


def test_gradients_flow_through_sampling(rng):
    """The derivative of the end with respect to the start equals a finite difference."""
    path, x = Linear(), torch.tensor([[0.3], [-0.7]], dtype=F64, requires_grad=True)
    grid = uniform(6, 0.9, 0.0)
    (slope,) = torch.autograd.grad(sample(path, Mixture().denoiser(path), Heun(), grid, x, rng).sum(), x)
    ahead, behind = (sample(path, Mixture().denoiser(path), Heun(), grid, (x + h).detach(), rng) for h in (1e-5, -1e-5))
    assert_close(slope, (ahead - behind) / 2e-5, 1e-8)


class Count(TorchDispatchMode):
    """Counts the operations that reach torch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("solver, most", [(Euler(), 2), (Ddim(), 2), (DpmPlusPlus2M(), 3), (Heun(), 5), (Ddim(eta=1.0), 4)], ids=repr)
def test_a_step_is_a_few_tensor_operations(solver, most, rng):
    """Beyond the denoiser a step costs these operations and one to make its time; all else is done before the loop."""
    x = torch.zeros(1, 64)
    ends = Endpoints(x, x)
    counts = []
    for steps in (10, 30):
        with Count() as count:
            sample(VariancePreserving(), lambda x, t, s: ends, solver, uniform(steps, 1.0, 1e-3), x, rng)
        counts.append(count.calls)
    assert (counts[1] - counts[0]) / 20 <= most + 1


def test_samples_of_the_mixture_follow_it(rng):
    """100 ancestral steps reproduce the mean and the variance of the mixture within 4 standard errors."""
    path, mixture, n = VariancePreserving(), Mixture(), 4_000
    end = sample(path, mixture.denoiser(path), Ddim(eta=1.0), quadratic(100, 1.0, 0.0), normal_like(torch.empty(n, 1, dtype=F64), rng), rng)
    w, m, s = (torch.tensor(v, dtype=F64) for v in (mixture.weights, mixture.means, mixture.stds))
    mean = (w * m).sum()
    variance = (w * (s**2 + m**2)).sum() - mean**2
    fourth = (end - end.mean()).pow(4).mean()
    assert abs(end.mean() - mean) < 4 * (variance / n).sqrt()
    assert abs(end.var() - variance) < 4 * ((fourth - variance**2) / n).sqrt() + 5e-3
