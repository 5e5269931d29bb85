"""Rows C1-C6: exponential and multistep solvers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import (
    DataInLogSnr,
    Ddim,
    DpmPlusPlus2M,
    DpmSingle2,
    DpmSingle3,
    Endpoints,
    Linear,
    Multistep,
    NoiseInLogSnr,
    NoiseInTime,
    VariancePreserving,
    adams,
    deis,
    dpm_multistep,
    dpm_plus_plus,
    normal_like,
    sample,
    unipc,
)
from structgen.generative.sample import rows
from structgen.generative.times import eased, log_snr, uniform
from tests.conformance.clouds import median_error, ring, scattered
from tests.generative.mixture import PATHS, Gaussian, Mixture, start_of
from tests.generative.test_solvers import error
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64
NOISE, DATA = NoiseInLogSnr(), DataInLogSnr()
OF_NOISE = {
    "ddim": Ddim(),
    "single 2": DpmSingle2(NOISE),
    "single 3": DpmSingle3(NOISE),
    "multi 1": dpm_multistep(1),
    "multi 2": dpm_multistep(2),
    "multi 3": dpm_multistep(3),
    "deis 3": deis(3),
    "unipc 3": unipc(3, NOISE),
}
OF_DATA = {
    "single 2": DpmSingle2(DATA),
    "single 3": DpmSingle3(DATA),
    "2M": DpmPlusPlus2M(),
    "multi 3": dpm_plus_plus(3),
    "unipc 3": unipc(3),
}
SOME_PATHS = {name: PATHS[name] for name in ("linear", "vp-linear", "ve")}
EACH_PATH = pytest.mark.parametrize("path", SOME_PATHS.values(), ids=SOME_PATHS)


def slope(path, solver, rng, coarse=32, fine=128) -> float:
    """log2 of how much the error falls at each doubling, on a grid even in log-SNR."""
    errors = [error(path, solver, log_snr(path, n, 0.97 * start_of(path), 1e-3), rng) for n in (coarse, fine)]
    return math.log2(errors[0] / errors[1]) / math.log2(fine / coarse)


def numbers(path, t) -> tuple[float, float]:
    alpha, sigma = path.alpha_sigma(torch.tensor([t], dtype=F64))
    return alpha.item(), sigma.item()


@EACH_PATH
@pytest.mark.parametrize("solver", OF_NOISE.values(), ids=OF_NOISE)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_C1_exact_for_constant_noise_at_any_step_size(path, solver, steps, rng, measured):
    """x_s = alpha_s / alpha_t x_t + (sigma_s - alpha_s sigma_t / alpha_t) eps if eps is constant."""
    start, stop = 0.9 * start_of(path), 0.01
    x, eps = (normal_like(torch.empty(4, 3, dtype=F64), rng) for _ in range(2))
    end = sample(path, lambda x, t, s: path.from_noise(eps, x, t), solver, uniform(steps, start, stop), x, rng)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = numbers(path, start), numbers(path, stop)
    expected = alpha_s / alpha_t * x + (sigma_s - alpha_s * sigma_t / alpha_t) * eps
    measured("C1", "difference from the closed form, constant noise", relative(end, expected), 1e-12)
    assert_close(end, expected, 1e-12)


def relative(found, expected) -> float:
    """The largest difference over the larger of 1 and the largest expected value."""
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1)).item()


@EACH_PATH
@pytest.mark.parametrize("solver", OF_DATA.values(), ids=OF_DATA)
def test_C1_exact_for_constant_data_at_any_step_size(path, solver, rng, measured):
    """x_s = sigma_s / sigma_t x_t + (alpha_s - sigma_s alpha_t / sigma_t) D if the data prediction is constant."""
    start, stop = 0.9 * start_of(path), 0.01
    x, data = (normal_like(torch.empty(4, 3, dtype=F64), rng) for _ in range(2))
    end = sample(path, lambda x, t, s: path.from_data(data, x, t), solver, uniform(3, start, stop), x, rng)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = numbers(path, start), numbers(path, stop)
    expected = sigma_s / sigma_t * x + (alpha_s - sigma_s * alpha_t / sigma_t) * data
    measured("C1", "difference from the closed form, constant data", relative(end, expected), 1e-12)
    assert_close(end, expected, 1e-12)


@EACH_PATH
@pytest.mark.parametrize("solver", [dpm_multistep(1), dpm_plus_plus(1), deis(1)], ids=["noise", "data", "deis"])
def test_C2_dpm_solver_1_is_ddim_bit_for_bit(path, solver, rng, measured):
    """From pure noise to data, with 13 steps."""
    x = start_of(path) * normal_like(torch.empty(4, 3, dtype=F64), rng)
    grid = uniform(13, start_of(path), 0.0)
    found, ddim = (sample(path, Mixture().denoiser(path), one, grid, x, rng) for one in (solver, Ddim()))
    measured("C2", "largest difference from DDIM", (found - ddim).abs().max().item(), 0.0)
    assert torch.equal(found, ddim)


def test_C2_ddim_is_the_printed_dpm_solver_1(rng, measured):
    """alpha_s / alpha_t x - sigma_s (e^h - 1) eps, h = lambda_s - lambda_t (DPM-Solver, eq. 3.7)."""
    path, mixture = VariancePreserving(), Mixture()
    x = start = normal_like(torch.empty(4, 3, dtype=F64), rng)
    grid = uniform(9, 0.99, 1e-3)
    lam = path.half_log_snr(grid).tolist()
    for i, (t, s) in enumerate(zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True)):
        eps = mixture.denoise(path, x, torch.full((4,), t, dtype=F64)).noise
        (alpha_t, _), (alpha_s, sigma_s) = numbers(path, t), numbers(path, s)
        x = alpha_s / alpha_t * x - sigma_s * math.expm1(lam[i + 1] - lam[i]) * eps
    found = sample(path, mixture.denoiser(path), Ddim(), grid, start, rng)
    measured("C2", "difference from the printed formula, step by step", relative(found, x), 1e-12)
    assert_close(found, x, 1e-12)


SECOND = {
    "single noise": DpmSingle2(NOISE),
    "single data": DpmSingle2(DATA),
    "multi noise": dpm_multistep(2),
    "multi data": dpm_plus_plus(2),
    "2M": DpmPlusPlus2M(),
}
THIRD = {
    "single noise": DpmSingle3(NOISE),
    "single data": DpmSingle3(DATA),
    "multi noise": dpm_multistep(3),
    "multi data": dpm_plus_plus(3),
}


@EACH_PATH
@pytest.mark.parametrize("name", SECOND)
def test_C3_second_order(path, name, rng, measured):
    """Slope 2.0 +- 0.15 between 32 and 256 evaluations."""
    steps = (16, 128) if "single" in name else (32, 256)
    found = slope(path, SECOND[name], rng, *steps)
    measured("C3", f"slope, {name}, {path!r}", found, 2.0)
    assert found == pytest.approx(2.0, abs=0.15)


@EACH_PATH
@pytest.mark.parametrize("name", THIRD)
def test_C4_third_order(path, name, rng, measured):
    """Slope at least 2.7 between 96 and 384 evaluations for single steps, 64 and 256 for multistep."""
    found = slope(path, THIRD[name], rng, *((32, 128) if "single" in name else (64, 256)))
    measured("C4", f"slope, {name}, {path!r}", found, 2.7)
    assert found >= 2.7


def of_lambda(path, coefficients, x, t, of_noise) -> Endpoints:
    """Endpoints whose noise (or data) is a polynomial in lambda."""
    lam = path.half_log_snr(t)[:, None]
    value = sum(c * lam**k for k, c in enumerate(coefficients)).expand_as(x)
    return path.from_noise(value, x, t) if of_noise else path.from_data(value, x, t)


@EACH_PATH
@pytest.mark.parametrize("of_noise", [True, False], ids=["noise", "data"])
@pytest.mark.parametrize("row, degree", [("C3", 1), ("C4", 2)])
def test_C3_C4_phi_form_is_exact_for_polynomials_in_lambda(path, of_noise, row, degree, rng):
    """A multistep step with a full past, and (degree 1) a single step, equal the step with the integral in closed form, by parts."""
    grid, x = log_snr(path, degree + 1, 0.9 * start_of(path), 0.02), torch.full((1, 1), 0.7, dtype=F64)
    c = [0.3, -0.8, 0.25][: degree + 1]
    sign = 1.0 if of_noise else -1.0

    def primitive(lam: float) -> float:
        """Of exp(-sign lambda) P(lambda): -sign exp(-sign lambda) (P + sign P' + P'' + ...)."""
        derivatives = [sum(c[k] * math.perm(k, d) * lam ** (k - d) for k in range(d, degree + 1)) * sign**d for d in range(degree + 1)]
        return -sign * math.exp(-sign * lam) * sum(derivatives)

    t, s = grid[-2].item(), grid[-1].item()
    lam_t, lam_s = path.half_log_snr(grid[-2:]).tolist()
    (alpha_t, sigma_t), (alpha_s, sigma_s) = numbers(path, t), numbers(path, s)
    integral = primitive(lam_s) - primitive(lam_t)
    exact = alpha_s / alpha_t * x - alpha_s * integral if of_noise else sigma_s / sigma_t * x + sigma_s * integral
    rule = NOISE if of_noise else DATA

    def denoise(x, t, s):
        return of_lambda(path, c, x, torch.as_tensor(t, dtype=F64).reshape(1), of_noise)

    solver = Multistep(rule, degree + 1, corrected=0)
    plan = rows(solver.plan(path, grid[:-1], grid[1:]))[-1]
    past = [denoise(x, time, time) for time in grid[:-2].flip(0)]
    found, _ = solver.step(plan, denoise, x, tuple(e.noise if of_noise else e.data for e in past), rng)
    assert_close(found, exact, 1e-11)
    if degree == 1:
        for single in (DpmSingle2(rule), DpmSingle3(rule)):
            assert_close(sample(path, denoise, single, [t, s], x, rng), exact, 1e-11)


@EACH_PATH
@pytest.mark.parametrize("rule", [NOISE, DATA], ids=["noise", "data"])
@pytest.mark.parametrize("order", [2, 3])
def test_C5_unipc_slope(path, rule, order, rng, measured):
    """At least the order of its predictor."""
    found = slope(path, unipc(order, rule), rng, 64, 256)
    measured("C5", f"slope, UniPC-{order}, {rule!r}, {path!r}", found, order - 0.15)
    assert found >= order - 0.15


@pytest.mark.parametrize("order", [2, 3])
def test_C5_unipc_is_the_published_algorithm(order, rng):
    """R_p(h) a_p B(h) = phi_p(h) solved as printed (Zhao et al. 2023, section 3, data prediction), predictor and
    corrector, 8 steps with orders 1, ..., `order` at the start. The corrector of the first step has one unknown, for which the paper puts
    1/2; the equation's own solution is used."""
    path, mixture = VariancePreserving(), Mixture()
    grid = log_snr(path, 8, 0.99, 0.01)
    start = x = normal_like(torch.empty(4, 3, dtype=F64), rng)
    lam, times = path.half_log_snr(grid).tolist(), grid.tolist()

    def phis(h: float, count: int) -> list[float]:
        """h^k k! phi_{k+1}(-h): integrals over the step of exp(lambda - lambda_s) ((lambda - lambda_t) / h)^k, by parts."""
        values = [-math.expm1(-h)]
        for k in range(1, count + 1):
            values.append(1 - k / h * values[-1])
        return values[1:]

    def solve(r: list[float], h: float) -> list[float]:
        matrix = torch.tensor([[one**k for one in r] for k in range(len(r))], dtype=F64)
        return torch.linalg.solve(matrix, torch.tensor(phis(h, len(r)), dtype=F64)).tolist()

    past, before = [], None
    for i in range(8):
        data = mixture.denoise(path, x, torch.full((4,), times[i], dtype=F64)).data
        if before is not None:
            x = update(path, before, past, lam, times, i - 1, min(order, i), solve, data)
        before, past = x, [*past, data]
        x = update(path, x, past, lam, times, i, min(order, i + 1), solve, None)
    assert_close(sample(path, mixture.denoiser(path), unipc(order), grid, start, rng), x, 1e-9)


def update(path, x, past, lam, times, i, order, solve, new):
    """UniP (new is None) or UniC of the step i, with `order` predictions up to the one at its start, and the one at its end."""
    (_, sigma_t), (alpha_s, sigma_s) = numbers(path, times[i]), numbers(path, times[i + 1])
    h, now = lam[i + 1] - lam[i], past[i]
    r = [(lam[i - m] - lam[i]) / h for m in range(1, order)]
    differences = [(past[i - m] - now) / one for m, one in zip(range(1, order), r, strict=True)]
    if new is not None:
        r, differences = [*r, 1.0], [*differences, new - now]
    x = sigma_s / sigma_t * x + alpha_s * -math.expm1(-h) * now
    return x + alpha_s * sum(a * d for a, d in zip(solve(r, h), differences, strict=True)) if r else x


@pytest.mark.parametrize("tau", [0.3, 1.0, 1.4])
@pytest.mark.parametrize("order", [2, 3])
def test_C5_sde_variants_keep_the_marginals(tau, order, rng, measured):
    """SDE-DPM-Solver++ on Gaussian data: variances of 100,000 states within 4 standard errors and 1 % of bias at 5 times."""
    path, gaussian, count = VariancePreserving(), Gaussian(), 100_000
    grid = log_snr(path, 60, 0.999, 0.02)
    x = normal_like(torch.empty(count, 1, dtype=F64), rng) * math.sqrt(gaussian.variance(path, 0.999))
    seen = states(path, gaussian.denoiser(path), dpm_plus_plus(order, tau), grid, x, rng, (12, 24, 36, 48, 59))
    worst = max(abs(state.var().item() / gaussian.variance(path, grid[i].item()) - 1) for i, state in seen.items())
    measured("C5", f"relative error of variances, order {order}, tau {tau}", worst, 0.03)
    assert worst < 4 * math.sqrt(2 / count) + 0.01


def states(path, denoise, solver, grid, x, rng, wanted) -> dict[int, torch.Tensor]:
    """The states before the steps that are wanted."""
    seen, count = {}, iter(range(len(grid)))

    def record(x, rng):
        if (i := next(count)) in wanted:
            seen[i] = x
        return x

    sample(path, denoise, solver, grid, x, rng, record)
    return seen


def test_C5_sde_of_first_order_is_ancestral_sampling(rng):
    """tau = 1 draws the same share of the noise anew as DDPM; tau = 0 none."""
    path, x = VariancePreserving(), normal_like(torch.empty(4, 3, dtype=F64), rng)
    for tau in (0.0, 1.0):
        found, ddim = (
            sample(path, Mixture().denoiser(path), solver, uniform(9, 0.99, 0.0), x, torch.Generator().manual_seed(3))
            for solver in (dpm_plus_plus(1, tau), Ddim(eta=tau))
        )
        assert_close(found, ddim, FLOAT64_IDENTITY)
    with pytest.raises(ConfigError, match="tau"):
        dpm_plus_plus(2, -1.0)


@pytest.mark.parametrize("cloud", [ring(), scattered()], ids=["2-D", "64-D"])
def test_C5_accuracy_at_16_and_32_evaluations(cloud, measured):
    """Fourth-order Adams on the straight path, from noise level 999 to data: median error over 256 starts, each against its exact end."""
    path, start = Linear(), 1 - 1e-3
    noise = torch.randn(256, cloud.means.shape[1], generator=torch.Generator().manual_seed(7), dtype=F64)
    exact = cloud.flow_to_data(path, start * noise, start, steps=400)
    calls = []

    def denoise(x, t, s):
        calls.append(t)
        return cloud.denoise(path, x, t)

    for steps, most in ((16, 1e-3), (32, 5e-5)):
        calls.clear()
        end = sample(path, denoise, adams(4), eased(steps, start, 0.0), start * noise, torch.Generator())
        found = median_error(end, exact)
        measured("C5", f"median error of adams(4) on the straight path, {steps} evaluations, {cloud.means.shape[1]}-D", found, most)
        assert len(calls) == steps and found <= most


@pytest.mark.parametrize("order", [1, 2, 3])
@EACH_PATH
def test_C6_deis_slope(path, order, rng, measured):
    """Order r, slope r +- 0.2."""
    found = slope(path, deis(order), rng, 96, 384)
    measured("C6", f"slope, order {order}, {path!r}", found, order)
    assert found == pytest.approx(order, abs=0.2)


@EACH_PATH
@pytest.mark.parametrize("order", [2, 3])
def test_C6_deis_is_exact_for_noise_polynomial_in_t(path, order, rng):
    """The step with a full past equals the integral of t^k d(sigma / alpha) taken by parts with 4,000 points of Simpson's rule."""
    stop = 0.4 * start_of(path)
    grid, x = uniform(order, 0.6 * start_of(path), stop), torch.full((1, 1), 0.7, dtype=F64)
    solver, scale = deis(order), 1 / start_of(path)

    def denoise(x, t, s):
        time = torch.as_tensor(t, dtype=F64).reshape(1)
        return path.from_noise(((scale * time) ** (order - 1) - 0.4)[:, None].expand_as(x), x, time)

    plan = rows(Multistep(NoiseInTime(), order, corrected=0).plan(path, grid[:-1], grid[1:]))[-1]
    found, _ = solver.step(plan, denoise, x, tuple(denoise(x, t, t).noise for t in grid[:-2].flip(0)), rng)
    fine = torch.linspace(grid[-2].item(), stop, 4001, dtype=F64)
    (alpha, sigma), (alpha_rate, sigma_rate) = path.alpha_sigma(fine), path.rates(fine)
    integrand = ((scale * fine) ** (order - 1) - 0.4) * (sigma_rate * alpha - sigma * alpha_rate) / alpha**2
    simpson = torch.full((4001,), 2.0, dtype=F64)
    simpson[1::2], simpson[0], simpson[-1] = 4.0, 1.0, 1.0
    integral = (integrand * simpson).sum() * (stop - grid[-2].item()) / 4000 / 3
    assert_close(found, alpha[-1] * (x / alpha[0] + integral), 1e-11)


@dataclass(frozen=True, eq=False)
class Counted(NoiseInTime):
    """Counts how often integrals are taken."""

    calls: list

    def quadrature(self, path, t, s):
        self.calls.append(len(t))
        return NoiseInTime.quadrature(self, path, t, s)


def test_C6_coefficients_are_computed_once(rng):
    """50 steps, one call, before the first evaluation."""
    calls, path = [], VariancePreserving()

    def denoise(x, t, s):
        assert calls == [50]
        return Mixture().denoise(path, x, t)

    sample(path, denoise, Multistep(Counted(calls), 3, corrected=1), uniform(50, 0.99, 0.0), torch.zeros(2, 2, dtype=F64), rng)
    assert calls == [50]
