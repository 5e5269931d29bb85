"""Grids and densities of times, and weights."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.generative import LogitNormal, LogNormal, Uniform, VarianceExploding, VariancePreserving, generators
from structgen.generative.times import at_noise_levels, karras, log_snr, quadratic, then_data, uniform
from tests.generative.mixture import PATHS, start_of
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64
GRIDS = {
    "uniform": uniform,
    "quadratic": quadratic,
    "karras": karras,
    "log-snr": lambda n, start, stop: log_snr(VarianceExploding(), n, start, stop),
}
DENSITIES = [Uniform(), Uniform(0.02, 0.9), LogNormal(), LogNormal(-1.2, 1.5, scale=16.0), LogitNormal(), LogitNormal(0.5, 0.7)]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 13, 200, 1000])
def test_grids_fall_from_start_to_stop(grid, steps):
    """steps + 1 float64 times, strictly falling, both ends exact."""
    times = grid(steps, 81.3, 0.0021)
    assert times.dtype == F64 and times.shape == (steps + 1,)
    assert times[0].item() == 81.3 and times[-1].item() == 0.0021
    assert (times.diff() < 0).all()


def test_grids_are_even_in_their_own_variable():
    """t, sqrt(t - stop), log-SNR and t^(1/7)."""
    for even in (
        uniform(9, 1.0, 0.1),
        (quadratic(9, 1.0, 0.1) - 0.1).sqrt(),
        VariancePreserving().half_log_snr(log_snr(VariancePreserving(), 9, 0.99, 1e-4)),
        karras(9, 80.0, 0.002) ** (1 / 7),
    ):
        assert_close(even.diff(), even.diff().mean().expand(9), 1e-10)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_noise_levels_on_any_path(path):
    """sigma / alpha at the times found is the level asked for."""
    levels = karras(20, 60.0, 0.002)
    assert_close(torch.exp(-path.half_log_snr(at_noise_levels(path, levels))) / levels, torch.ones_like(levels), 1e-9)
    assert (log_snr(path, 10, 0.9 * start_of(path), 1e-3).diff() < 0).all()


def test_then_data_adds_the_landing():
    """The grid, then 0: EDM's last step."""
    assert then_data(karras(3, 80.0, 0.002)).tolist() == [*karras(3, 80.0, 0.002).tolist(), 0.0]


@pytest.mark.parametrize("density", DENSITIES, ids=repr)
def test_density_is_that_of_the_draws(density):
    """p(t) dt = normal(z) dz: the stated density equals the change of variables by autodiff, and integrates to 1."""
    z = torch.linspace(-8, 8, 4001, dtype=F64, requires_grad=True)
    t = density.from_normal(z)
    (slope,) = torch.autograd.grad(t.sum(), z)
    t, normal = t.detach(), torch.exp(-(z.detach() ** 2) / 2) / math.sqrt(2 * math.pi)
    p, inner = density.log_density(t).exp(), slice(500, 3501)  # |z| < 6: 1 - t rounds away beyond
    assert_close((p * slope / normal)[inner], torch.ones(3001, dtype=F64), 1e-6)
    assert torch.trapezoid(p[inner], t[inner]).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("density", DENSITIES, ids=repr)
def test_draws_follow_the_density(density, rng):
    """Kolmogorov-Smirnov distance of 20,000 draws to the integrated density, below the 1e-4 level."""
    n = 20_000
    t = density.draw(torch.empty(n, 2, dtype=F64), rng).sort().values
    assert t.shape == (n,) and (t > 0).all()
    grid = density.from_normal(torch.linspace(-5.5, 5.5, 8001, dtype=F64))
    cdf = torch.cat([torch.zeros(1, dtype=F64), torch.cumulative_trapezoid(density.log_density(grid).exp(), grid)])
    at = torch.searchsorted(grid, t).clamp(max=8000)
    distance = (cdf[at] - (torch.arange(n, dtype=F64) + 0.5) / n).abs().max()
    assert distance < 2.23 / math.sqrt(n) + 2e-3


def test_draws_take_type_and_generators_of_the_batch():
    """One time an example, from its own generator: example k has the same time in every batch."""
    data = torch.empty(4, 3, 2)
    t = LogNormal().draw(data, generators(5, 4))
    assert t.shape == (4,) and t.dtype == torch.float32
    assert torch.equal(t[2:3], LogNormal().draw(data[2:3], generators(5, 1, first=2)))


def test_alphafold_3_noise_levels():
    """16 exp(-1.2 + 1.5 normal): median 4.8 angstrom, 5 to 95 % from 0.41 to 56.8."""
    levels = LogNormal(-1.2, 1.5, scale=16.0).from_normal(torch.tensor([-1.6449, 0.0, 1.6449], dtype=F64)).tolist()
    assert levels == pytest.approx([0.41, 4.82, 56.8], rel=5e-3)


def test_identity_of_the_logit_normal_with_its_formula():
    """SD3 eq. 19 at one point, by hand: m = 0, s = 1, t = 1/2 gives 4 / sqrt(2 pi)."""
    p = LogitNormal().log_density(torch.tensor([0.5], dtype=F64)).exp()
    assert_close(p, torch.tensor([4 / math.sqrt(2 * math.pi)], dtype=F64), FLOAT64_IDENTITY)
