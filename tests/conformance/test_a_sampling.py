"""Rows A5, A6, A14-A17: sampling with the closed-form noise of mixtures."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import (
    RK4,
    Ancestral,
    Cosine,
    Ddim,
    Euler,
    Heun,
    RungeKutta,
    VarianceExploding,
    VariancePreserving,
    normal_like,
    sample,
    slerp,
)
from structgen.generative.times import at_noise_levels, karras, log_snr, then_data, uniform
from tests.conformance.clouds import ring, scattered, sliced_w2
from tests.generative.mixture import Mixture
from tests.generative.test_solvers import error, variance_error
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64
COSINE = Cosine()  # alpha^2 + sigma^2 = 1 with every noise level on it, so that it holds any discrete schedule
BETA = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
BAR = (1 - BETA).cumprod(0)
TIMES = then_data(at_noise_levels(COSINE, ((1 - BAR) / BAR).sqrt()).flip(0))  # of the 1,000 steps of DDPM


def distances(cloud, samples: torch.Tensor, rng) -> tuple[float, float]:
    """Mean sliced W2 of tenths of the samples to draws of data, and that of data to data: one pair of finite samples scatters by a
    third."""
    tenths = samples.chunk(10)
    draws = [cloud.draw(len(tenths[0]), rng) for _ in range(20)]
    found = sum(sliced_w2(part, draw) for i, part in enumerate(tenths) for draw in draws[2 * i : 2 * i + 2]) / 20
    return found, sum(sliced_w2(a, b) for a, b in zip(draws[:10] * 2, draws[10:] + draws[11:] + draws[10:11], strict=True)) / 20


def as_printed(cloud, count, right: bool, rng) -> torch.Tensor:
    """Algorithm 2 with the exact noise: with alpha, or as the lecture prints it with alpha-bar in two places."""
    x = torch.randn(count, 2, generator=rng, dtype=F64)
    for i in range(999, -1, -1):
        a = 1 - BETA[i] if right else BAR[i]
        eps = cloud.denoise(COSINE, x, TIMES[999 - i].expand(count)).noise
        x = (x - (1 - a) / (1 - BAR[i]).sqrt() * eps) / a.sqrt()
        if i > 0:
            x = x + BETA[i].sqrt() * torch.randn(count, 2, generator=rng, dtype=F64)
    return x


def test_A5_ancestral_sampling_is_right_and_wrong_as_printed(rng, measured):
    """T = 1000: sliced W2 to data at most 1.2 times that between data; `Ancestral(1)` is the corrected algorithm to rounding; with
    alpha-bar for alpha the end is far from data."""
    cloud, few = ring(), 300
    right, wrong = (as_printed(cloud, few, right, torch.Generator().manual_seed(1)) for right in (True, False))
    again = torch.Generator().manual_seed(1)
    start = torch.randn(few, 2, generator=again, dtype=F64)
    assert_close(sample(COSINE, cloud.denoiser(COSINE), Ancestral(1.0), TIMES, start, again), right, 1e-8)
    ours = sample(COSINE, cloud.denoiser(COSINE), Ancestral(1.0), TIMES, normal_like(torch.empty(2500, 2, dtype=F64), rng), rng)
    found, least = distances(cloud, ours, rng)
    printed, _ = distances(cloud, wrong, rng)
    measured("A5", "sliced W2 to data / of data to data, corrected", found / least, 1.2)
    measured("A5", "sliced W2 to data, as printed", printed, None, "wrong: at least ten times the corrected one")
    assert found <= 1.2 * least and printed > 10 * found


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["posterior", "forward"])
def test_A6_both_variances_give_the_law_of_data(share, rng, measured):
    """b~ and b at T = 1000."""
    cloud, x = ring(), normal_like(torch.empty(1000, 2, dtype=F64), rng)
    found, least = distances(cloud, sample(COSINE, cloud.denoiser(COSINE), Ancestral(share), TIMES, x, rng), rng)
    ratio = found / least
    measured("A6", f"sliced W2 to data / of data to data, variance {'b' if share else 'b~'}", ratio, 1.25)
    assert ratio < 1.25


def end_variance(std: float, share: float) -> float:
    """Of 20 steps on N(0, std^2) data: the steps are linear, so the variance is followed exactly."""
    path, grid = VariancePreserving(), uniform(20, 1.0, 0.01)
    plan = Ancestral(share).plan(path, grid[:-1], grid[1:])
    alpha, sigma = path.alpha_sigma(grid[:-1])
    total = (alpha * std) ** 2 + sigma**2
    gain = plan.data * alpha * std**2 / total + plan.noise * sigma / total
    variance = total[0]
    for a, b in zip(gain, plan.fresh, strict=True):
        variance = a**2 * variance + b**2
    alpha, sigma = path.alpha_sigma(grid[-1:])
    return (variance / ((alpha * std) ** 2 + sigma**2)).item()


def test_A6_which_variance_is_best(measured):
    """At T = 20, b~ is exact for a point and b for N(0, I), each to rounding, and the other is off by more than 1 %."""
    point, normal = ([abs(end_variance(std, share) - 1) for share in (0.0, 1.0)] for std in (0.0, 1.0))
    measured("A6", "relative error of the variance, T = 20, a point: b", point[1], None, "b~ exact")
    measured("A6", "relative error of the variance, T = 20, N(0, I): b~", normal[0], None, "b exact")
    assert point[0] < 1e-12 and point[1] > 0.01
    assert normal[1] < 1e-12 and normal[0] > 0.01
    with pytest.raises(ConfigError, match="share"):
        Ancestral(1.5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_A14_marginals(eta, rng, measured):
    """Sliced W2 of samples to data, 200 steps, and the variance on Gaussian data in the limit."""
    cloud, path = ring(), VariancePreserving()
    x, grid = normal_like(torch.empty(2000, 2, dtype=F64), rng), then_data(log_snr(path, 199, 1.0, 1e-3))
    found, least = distances(cloud, sample(path, cloud.denoiser(path), Ddim(eta), grid, x, rng), rng)
    ratio = found / least
    measured("A14", f"sliced W2 to data / of data to data, eta {eta}", ratio, 1.5)
    assert ratio < 1.5
    assert variance_error(path, Ddim(eta), log_snr(path, 512, 0.9, 1e-2)) < 0.03


def test_A14_eta_1_is_ancestral(rng):
    """The same numbers as A5 with the posterior's variance, step after step."""
    x = normal_like(torch.empty(5, 2, dtype=F64), rng)
    ends = [sample(COSINE, ring().denoiser(COSINE), s, TIMES, x, torch.Generator().manual_seed(1)) for s in (Ddim(eta=1.0), Ancestral(0.0))]
    assert_close(*ends, FLOAT64_IDENTITY)


def test_A14_first_order_for_any_number_of_steps(rng, measured):
    """error x steps stays constant over 100, 125, 128, 200, 256, 300: nothing needs to divide anything; slope 1.0 +- 0.1."""
    path, state = VariancePreserving(), rng.get_state()
    errors = {n: error(path, Ddim(), log_snr(path, n, 0.97, 1e-3), rng) for n in (100, 125, 128, 200, 256, 300, 400)}
    scaled = [n * e for n, e in errors.items()]
    slope = math.log2(errors[100] / errors[400]) / 2
    measured("A14", "slope", slope, 1.0)
    assert max(scaled) / min(scaled) < 1.15 and slope == pytest.approx(1, abs=0.1)
    assert torch.equal(state, rng.get_state())


def test_A15_slerp(rng, measured):
    """50 DDIM steps from the arc between two draws of noise, 64-D: its length is kept, and its middle is
    as likely as data. The straight line's middle is not: it lies inside the sphere, and its image is more likely than data almost ever
    is."""
    cloud, path, count = scattered(), VariancePreserving(), 200
    x, y = (normal_like(torch.empty(count, 64, dtype=F64), rng) for _ in range(2))
    half = torch.full((count,), 0.5, dtype=F64)
    arc, line = slerp(x, y, half), (x + y) / 2
    lengths = [v.norm(dim=1) for v in (arc, line, x, y)]
    assert_close(lengths[0], (lengths[2] + lengths[3]) / 2, FLOAT64_IDENTITY)
    assert (lengths[1] / lengths[0]).mean() == pytest.approx(math.sqrt(0.5), abs=0.03)
    assert torch.equal(slerp(x, y, 0 * half), x) or (slerp(x, y, 0 * half) - x).abs().max() < 1e-13
    assert_close(slerp(x, y, 2 * half), y, FLOAT64_IDENTITY)
    assert_close(slerp(x, x, half), x, FLOAT64_IDENTITY)
    grid = then_data(log_snr(path, 49, 1.0, 1e-3))

    def image(noise):
        return sample(path, cloud.denoiser(path), Ddim(), grid, noise, rng)

    data = torch.zeros(1, dtype=F64)
    low, high = (cloud.log_prob(path, cloud.draw(4000, rng), data.expand(4000)).quantile(q).item() for q in (0.05, 0.95))
    inside, above = {}, {}
    for name, noise in (("slerp", arc), ("lerp", line)):
        density = cloud.log_prob(path, image(noise), data.expand(count))
        inside[name], above[name] = (density > low).double().mean().item(), (density > high).double().mean().item()
    measured("A15", "share of slerp's middles above the 5 % quantile of log p(data)", inside["slerp"], 0.9)
    note = "the plan had them below the 5 % quantile: they fail by being too likely, not too unlikely"
    measured("A15", "share of lerp's middles above the 95 % quantile", above["lerp"], 0.3, note)
    measured("A15", "share of slerp's middles above the 95 % quantile", above["slerp"], 0.15)
    assert inside["slerp"] > 0.9 and above["slerp"] < 0.15 and above["lerp"] > 0.3


def test_A15_the_path_of_images_is_continuous(rng, measured):
    """Along the arc, 2-D, where neighbouring images differ most, they meet when looked at more closely. (In 64-D the modes are so far
    apart that they are still apart for noises that differ by 1e-10: continuous in theory only.)"""
    cloud, path = ring(), VariancePreserving()
    grid = then_data(log_snr(path, 49, 1.0, 1e-3))
    x, y = (normal_like(torch.empty(1, 2, dtype=F64), rng) for _ in range(2))
    low, high, jumps = 0.0, 1.0, []
    for _ in range(6):
        shares = torch.linspace(low, high, 41, dtype=F64)
        noise = slerp(x.expand(41, -1), y.expand(41, -1), shares)
        steps = sample(path, cloud.denoiser(path), Ddim(), grid, noise, rng).diff(dim=0).norm(dim=1)
        jumps.append(steps.max().item())
        low, high = shares[steps.argmax()].item(), shares[steps.argmax() + 1].item()
    note = f"{jumps[0]:.2f} at 1/40 of the arc; in 64-D images of noises 1e-10 apart still differ"
    measured("A15", "largest jump between images of neighbours 2e-10 of the arc apart, 2-D", jumps[-1], 1e-3, note)
    assert jumps[-1] < 1e-3


def test_A16_inversion(rng, measured):
    """Data to noise and back with the same steps, 2-D: slope at least 1 for DDIM and Heun; below 1e-3 at 200 steps for Heun; x_T of data is
    standard normal."""
    cloud, path, count = ring(), VariancePreserving(), 1000
    data = cloud.draw(count, rng)
    lost = {}
    for name, solver in (("ddim", Ddim()), ("heun", Heun()), ("rk4", RungeKutta(RK4))):
        for n in (100, 200):
            grid = log_snr(path, n, 1.0, 1e-3)
            alpha, _ = path.alpha_sigma(grid[-1:])
            noise = sample(path, cloud.denoiser(path), solver, grid.flip(0), alpha * data[:60], rng)
            back = sample(path, cloud.denoiser(path), solver, grid, noise, rng)
            lost[name, n] = (back - alpha * data[:60]).square().mean(1).sqrt().median().item()
        slope = math.log2(lost[name, 100] / lost[name, 200])
        measured("A16", f"{name}: slope of data -> noise -> data", slope, 1.0)
        note = "1e-3 is out of reach of first order at 200 steps" if name == "ddim" else ""
        measured("A16", f"{name}: error at 200 steps", lost[name, 200], 1e-3 if name != "ddim" else None, note)
        assert slope > 0.9 * solver.order
    assert lost["heun", 200] < 1e-3 and lost["rk4", 200] < 1e-5
    noise = sample(path, cloud.denoiser(path), Heun(), log_snr(path, 60, 1.0, 1e-3).flip(0), path.alpha_sigma(grid[-1:])[0] * data, rng)
    index = (torch.arange(count, dtype=F64) + 0.5) / count
    for column in noise.T:
        distance = (torch.special.ndtr(column.sort().values) - index).abs().max().item()
        measured("A16", "Kolmogorov-Smirnov distance of x_T to normal, times sqrt(n)", distance * math.sqrt(count), 1.63)
        assert distance < 1.63 / math.sqrt(count)  # the 1 % level
    assert abs((noise[:, 0] * noise[:, 1]).mean()) < 4 / math.sqrt(count)


def test_A17_tangent_points_to_the_denoiser(rng):
    """On the path of EDM the velocity is (x - D) / sigma, and one Euler step to 0 ends on D."""
    path, x = VarianceExploding(), 3 * normal_like(torch.empty(6, 2, dtype=F64), rng)
    sigma = torch.tensor([80.0, 10.0, 2.0, 0.5, 0.1, 0.01], dtype=F64)
    ends = Mixture().denoise(path, x, sigma)
    assert_close(path.velocity(ends, sigma) * sigma[:, None], x - ends.data, 1e-12)
    landed = sample(path, Mixture().denoiser(path), Euler(), [2.0, 0.0], x, rng)
    assert_close(landed, Mixture().denoise(path, x, torch.full((6,), 2.0, dtype=F64)).data, 1e-12)


def test_A17_edm_bends_less_than_vp(rng, measured):
    """How far a trajectory turns in all (the sum of angles between successive tangents), median over 100 starts of 64-D, same flow."""
    cloud = scattered()
    turned = {}
    noise = normal_like(torch.empty(100, 64, dtype=F64), rng)
    for name, path in (("edm", VarianceExploding()), ("vp", VariancePreserving())):
        grid = at_noise_levels(path, karras(300, 80.0, 0.02))
        seen = []

        def record(x, rng, seen=seen):
            seen.append(x)
            return x

        alpha, sigma = path.alpha_sigma(grid[:1])
        sample(path, cloud.denoiser(path), Heun(), grid, noise * (alpha**2 + sigma**2).sqrt(), rng, record)
        tangents = torch.nn.functional.normalize(torch.stack(seen).diff(dim=0), dim=2)
        turned[name] = (tangents[1:] * tangents[:-1]).sum(2).clamp(-1, 1).acos().sum(0).median().item()
        measured("A17", f"median angle turned, {name}", turned[name], None, "radians")
    assert turned["edm"] < turned["vp"]
