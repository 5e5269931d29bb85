"""Rows C7 and C8: Runge-Kutta, adaptive steps, EDM, and what holds for every solver."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from structgen.errors import ConfigError, NumericalError
from structgen.generative import (
    DORMAND_PRINCE,
    MIDPOINT,
    RK4,
    Ancestral,
    Churn,
    Cosine,
    DataInLogSnr,
    Ddim,
    DpmPlusPlus2M,
    DpmSingle2,
    DpmSingle3,
    Endpoints,
    Euler,
    Heun,
    Linear,
    NoiseInLogSnr,
    RungeKutta,
    SubVariancePreserving,
    Tolerance,
    VarianceExploding,
    VariancePreserving,
    adams,
    advance,
    deis,
    dpm_multistep,
    dpm_plus_plus,
    generators,
    normal_like,
    sample,
    sample_adaptive,
    unipc,
)
from structgen.generative.times import karras, log_snr, quadratic, then_data, uniform
from tests.conformance.clouds import ring, sliced_w2
from tests.generative.mixture import PATHS, Mixture, start_of
from tests.generative.test_solvers import error
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64
NOISE, DATA = NoiseInLogSnr(), DataInLogSnr()

SOME_PATHS = {name: PATHS[name] for name in ("linear", "vp-linear", "ve")}
EACH_PATH = pytest.mark.parametrize("path", SOME_PATHS.values(), ids=SOME_PATHS)


def slope(path, solver, rng, coarse=32, fine=128) -> float:
    """log2 of how much the error falls at each doubling, on a grid even in log-SNR."""
    errors = [error(path, solver, log_snr(path, n, 0.97 * start_of(path), 1e-3), rng) for n in (coarse, fine)]
    return math.log2(errors[0] / errors[1]) / math.log2(fine / coarse)


def numbers(path, t) -> tuple[float, float]:
    alpha, sigma = path.alpha_sigma(torch.tensor([t], dtype=F64))
    return alpha.item(), sigma.item()


RUNGE_KUTTA = {"euler": (Euler(), 1), "heun": (Heun(), 2), "midpoint": (RungeKutta(MIDPOINT), 2), "rk4": (RungeKutta(RK4), 4)}


@EACH_PATH
@pytest.mark.parametrize("name", RUNGE_KUTTA)
def test_C7_runge_kutta_slopes(path, name, rng, measured):
    """1, 2, 2, 4 between two noise levels."""
    solver, order = RUNGE_KUTTA[name]
    found = slope(path, solver, rng, *((128, 512) if order == 2 else (64, 256)))
    measured("C7", f"slope, {name}, {path!r}", found, order)
    assert solver.order == order and found == pytest.approx(order, abs=0.2)


@EACH_PATH
@pytest.mark.parametrize("name", ["midpoint", "rk4"])
def test_C7_runge_kutta_slopes_to_data(path, name, rng):
    """The same from the noisy end to t = 0, where the last step's slope at its end is not asked for."""
    solver, order = RUNGE_KUTTA[name]
    coarse, fine = (error(path, solver, quadratic(n, start_of(path), 0.0), rng) for n in (64, 128))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.4)


def test_C7_dormand_prince_has_order_5():
    """All 17 conditions (Hairer, Norsett & Wanner, II.2) and the consistency of its stages; the error weights see order 5."""
    tableau = DORMAND_PRINCE.tableau
    c, b, e = (torch.tensor(row, dtype=F64) for row in (tableau.nodes, tableau.outer, DORMAND_PRINCE.error))
    a = torch.zeros(7, 7, dtype=F64)
    for i, row in enumerate(tableau.inner):
        a[i, : len(row)] = torch.tensor(row, dtype=F64)
    ac, one = a @ c, torch.ones(7, dtype=F64)
    up_to_4 = {1: one, 2: c, 3: c**2, 6: ac, 4: c**3, 8: c * ac, 12: a @ c**2, 24: a @ ac}
    fifth = [(5, c**4), (10, c**2 * ac), (15, c * (a @ c**2)), (30, c * (a @ ac)), (20, ac**2), (20, a @ c**3), (40, a @ (c * ac))]
    fifth += [(60, a @ a @ c**2), (120, a @ a @ ac)]
    assert (a @ one - c).abs().max() < 1e-14
    assert all(abs(b @ tree - 1 / n) < 1e-14 for n, tree in [*up_to_4.items(), *fifth])
    assert all(abs(e @ tree) < 1e-15 for tree in up_to_4.values()) and abs(e @ c**4) > 1e-4


ADAPTIVE = {"linear": Linear(), "cosine": Cosine(), "vp": VariancePreserving(), "subvp": SubVariancePreserving(), "ve": VarianceExploding()}


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_C7_adaptive_keeps_its_tolerance_inside_the_interval(name, tolerance, measured):
    """Falling and rising: every time asked for lies in the closed interval, the end is met exactly, error / tolerance < 10."""
    path, mixture = ADAPTIVE[name], Mixture()
    noisy, clean = 0.97 * start_of(path), 1e-3
    alpha, sigma = numbers(path, noisy)
    x = torch.linspace(-1.8, 1.8, 25, dtype=F64)[:, None] * math.sqrt(0.8 * alpha**2 + sigma**2)
    asked, ends = [], []

    def denoise(x, t, s):
        asked.append(t[0].item())
        return mixture.denoise(path, x, t)

    limits = Tolerance(relative=tolerance, absolute=tolerance)
    end = sample_adaptive(path, denoise, noisy, clean, x, tolerance=limits, on_step=lambda t, s: ends.append((t, s)))
    exact = mixture.flow(path, x, noisy, clean)
    ratio = ((end - exact).abs() / (tolerance * (1 + exact.abs()))).median().item()
    measured("C7", f"adaptive: median error / tolerance {tolerance:g}, {name}, {len(asked)} evaluations", ratio, 10)
    assert ends[0][0] == noisy and ends[-1][1] == clean and all(a[1] == b[0] for a, b in itertools.pairwise(ends))
    assert clean <= min(asked) and max(asked) <= noisy and ratio < 10
    back = sample_adaptive(path, denoise, clean, noisy, end, tolerance=limits)
    assert clean <= min(asked) and max(asked) <= noisy
    assert (back - x).abs().median().item() / max(1.0, sigma) < 100 * tolerance


def test_C7_adaptive_refuses_what_it_cannot_follow():
    """The infinite rates of the variance-preserving path at data, equal ends, times outside of the path, a prediction that is not
    finite."""
    x, limits = torch.zeros(2, 1, dtype=F64), Tolerance()
    for start, stop in ((1.0, 0.0), (0.5, 0.5), (1.2, 0.1)):
        with pytest.raises(ConfigError, match="followed"):
            sample_adaptive(VariancePreserving(), Mixture().denoiser(VariancePreserving()), start, stop, x, tolerance=limits)

    def broken(x, t, s):
        return Endpoints(x, x / 0 if t[0] < 0.5 else x)

    with pytest.raises(NumericalError, match="shrank below rounding"):
        sample_adaptive(Linear(), broken, 1.0, 0.1, x, tolerance=limits)


def test_C8_edm_sampler(rng, measured):
    """The Karras grid by its formula, no churn is Heun bit for bit, and churn keeps the marginals (sliced W2 to fresh draws)."""
    grid = then_data(karras(39, 80.0, 0.002))
    formula = [(80 ** (1 / 7) + i / 39 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(40)] + [0.0]
    assert_close(grid, torch.tensor(formula, dtype=F64), FLOAT64_IDENTITY)
    path, cloud = VarianceExploding(), ring()
    x = 80 * normal_like(torch.empty(2000, 2, dtype=F64), rng)
    still = Churn(Heun(), gamma=0.0, above=0.0, noise_scale=1.0)
    assert torch.equal(*(sample(path, cloud.denoiser(path), one, grid, x, rng) for one in (still, Heun())))
    end = sample(path, cloud.denoiser(path), Churn(Heun(), gamma=0.1, above=0.0, noise_scale=1.0), grid, x, rng)
    found, floor = sliced_w2(end, cloud.draw(2000, rng)), sliced_w2(cloud.draw(2000, rng), cloud.draw(2000, rng))
    measured("C8", "sliced W2 of churned samples to data / of data to data", found / floor, 2.0)
    assert found < 2 * floor


EVERY = {
    "euler": Euler(),
    "ddim": Ddim(),
    "heun": Heun(),
    "midpoint": RungeKutta(MIDPOINT),
    "rk4": RungeKutta(RK4),
    "2M": DpmPlusPlus2M(),
    **{f"adams {k}": adams(k) for k in (1, 2, 3, 4)},
    **{f"deis {k}": deis(k) for k in (1, 2, 3)},
    **{f"noise {k}": dpm_multistep(k) for k in (2, 3)},
    **{f"data {k}": dpm_plus_plus(k) for k in (1, 2, 3)},
    **{f"unipc {k}": unipc(k) for k in (2, 3)},
    **{f"single {type(r).__name__} {k.order}": k for r in (NOISE, DATA) for k in (DpmSingle2(r), DpmSingle3(r))},
}


@pytest.mark.parametrize("name", EVERY)
def test_C7_no_floor(name, rng, measured):
    """The error goes below 1e-8: as it is for third order and more, after Romberg's extrapolation to steps of no length for first and
    second order, which works only if nothing but powers of the step is left."""
    path, mixture, solver = Linear(), Mixture(), EVERY[name]
    x = torch.linspace(-1.8, 1.8, 25, dtype=F64)[:, None]
    exact = mixture.flow(path, x, 0.9, 0.01)
    powers = solver.order + (name.startswith(("adams", "unipc")))
    sizes = (512 if solver.order > 3 else 1536,) if solver.order > 2 else (32, 64, 128, 256, 512)
    table = [sample(path, mixture.denoiser(path), solver, log_snr(path, n, 0.9, 0.01), x, rng) for n in sizes]
    while len(table) > 1:
        table = [b + (b - a) / (2**powers - 1) for a, b in itertools.pairwise(table)]
        powers += 1
    found = (table[0] - exact).abs().median().item()
    measured("C7", f"smallest error reached by {name}", found, 1e-8, "extrapolated" if len(sizes) > 1 else f"{sizes[0]} steps")
    assert found < 1e-8


@pytest.mark.parametrize("name", EVERY)
def test_C7_any_number_of_steps(name, rng):
    """1 to 5 steps from pure noise to data on every path are finite; 125, 128 and 300 steps lie on one curve of convergence."""
    for path in PATHS.values():
        for steps in (1, 2, 3, 5):
            x = start_of(path) * normal_like(torch.empty(3, 2, dtype=F64), rng)
            assert sample(path, Mixture().denoiser(path), EVERY[name], uniform(steps, start_of(path), 0.0), x, rng).isfinite().all()
    errors = [error(Linear(), EVERY[name], log_snr(Linear(), n, 0.97, 1e-3), rng) for n in (125, 128, 300)]
    assert errors[0] / errors[1] == pytest.approx(128 / 125, abs=0.35) and errors[2] < 0.7 * errors[1]


@pytest.mark.parametrize("solver", [RungeKutta(MIDPOINT), RungeKutta(RK4), DpmSingle2(NOISE), DpmSingle3(DATA), Ancestral(0.4)], ids=repr)
@pytest.mark.parametrize("end", [0.1, 0.0])
def test_C7_solvers_without_memory_advance_each_example_by_itself(solver, end):
    """Different intervals in one batch equal the examples sampled one at a time, also where all land on data."""
    path = Linear()
    t, s = torch.tensor([0.9, 0.5, 0.3], dtype=F64), end * torch.tensor([3.0, 2.0, 1.0], dtype=F64)
    x = normal_like(torch.empty(3, 4, dtype=F64), torch.Generator().manual_seed(1))
    together = advance(path, Mixture().denoiser(path), solver, x, t, s, generators(3, 3))
    for i in range(3):
        alone = sample(path, Mixture().denoiser(path), solver, [t[i].item(), s[i].item()], x[i : i + 1], generators(3, 1, first=i))
        assert_close(together[i : i + 1], alone, FLOAT64_IDENTITY)
