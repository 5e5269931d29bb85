"""Rows F9, F12, F14 and F16: one family of flows, and what is done with given pictures."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import Denoise, Endpoints, Linear, Noised, Path, sample, slerp
from structgen.generative.times import uniform
from structgen.generative.weights import FlowOfNoise
from structgen.vision.editing import between, inverted, keeping, start_from, start_time
from structgen.vision.formulations import FIRST, LAST, TRAJECTORIES, Odds, Tangents, Trajectory
from tests.conformance.clouds import ring, sliced_w2
from tests.tolerance import assert_close

F64 = torch.float64
MEAN, STD = 0.7, 0.4


def gaussian(path: Path) -> Denoise:
    """The exact denoiser of a normal law."""

    def denoise(x: torch.Tensor, t: torch.Tensor, s: torch.Tensor) -> Endpoints:
        alpha, sigma = (c[:, None] for c in path.alpha_sigma(t))
        data = MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)
        return Endpoints(data, (x - alpha * data) / sigma)

    return denoise


def times_of(trajectory: Trajectory) -> torch.Tensor:
    """Times of a trajectory at even shares of its density."""
    shares = torch.linspace(0.03, 0.97, 9, dtype=F64)
    return TRAJECTORIES[trajectory].times.from_normal(torch.special.ndtri(shares))


@pytest.mark.parametrize("trajectory", Trajectory)
def test_F14_velocity_equals_its_formula_and_autograd(trajectory, measured, rng):
    """z' = (a'/a) z - eps b (a'/a - b'/b) for z = a x + b eps, and both equal the derivative that autograd takes."""
    path, t = TRAJECTORIES[trajectory].path, times_of(trajectory)
    data, noise = (torch.randn(9, 3, generator=rng, dtype=F64) for _ in range(2))
    ends = Endpoints(data, noise)
    z, found = torch.func.jvp(lambda t: path.state(ends, t), (t,), (torch.ones_like(t),))
    (a, b), (da, db) = path.alpha_sigma(t), path.rates(t)
    printed = (da / a)[:, None] * z - noise * (b * (da / a - db / b))[:, None]
    scale = found.abs().max().item()
    worst = max((path.velocity(ends, t) - found).abs().max().item(), (printed - found).abs().max().item()) / scale
    measured("F14", f"{trajectory.value}: formula and velocity against autograd", worst, 1e-9)
    assert worst < 1e-9


def test_F14_edm_is_exp_of_a_normal_quantile_and_weights_are_of_its_snr(measured):
    """b_t = exp F^-1(t | P_m, P_s^2) for uniform t has the law of the log-normal noise levels; (lambda')^2 weights noise to velocity."""
    t = torch.linspace(0.01, 0.99, 99, dtype=F64)
    normal = torch.distributions.Normal(torch.tensor(-1.2, dtype=F64), torch.tensor(1.2, dtype=F64))
    quantiles = normal.icdf(t).exp()
    drawn = TRAJECTORIES[Trajectory.EDM].times.from_normal(torch.special.ndtri(t))
    worst = (drawn / quantiles - 1).abs().max().item()
    measured("F14", "EDM's noise levels against exp of the quantile", worst, 1e-9)
    assert worst < 1e-9
    path = Linear()
    a, b = path.alpha_sigma(t)
    rate = torch.func.jvp(lambda t: 2 * path.half_log_snr(t), (t,), (torch.ones_like(t),))[1]
    assert_close(FlowOfNoise()(path, t), (b * rate / 2) ** 2, 1e-9)
    assert (a > 0).all()


def test_F14_latent_diffusions_schedule_is_that_of_its_thousand_steps(measured):
    """sqrt(beta) even from sqrt(0.00085) to sqrt(0.012) (SD3, section 3.1: LDM-Linear): the product of 1 - beta, and the end, 0.0047."""
    steps = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=F64).square()
    product = torch.cumprod(1 - steps, 0)
    found = TRAJECTORIES[Trajectory.EPS_LINEAR].path.alpha_sigma((torch.arange(1000, dtype=F64) + 1) / 1000)[0].square()
    worst = (found.log() - product.log()).abs().max().item()
    measured("F14", "log of the signal's power of LDM-Linear less that of its thousand steps", worst, 0.05)
    assert worst < 0.05 and product[-1] == pytest.approx(0.00466, abs=1e-5)


@pytest.mark.parametrize(("density", "path"), [(Odds(), Trajectory.RF), (Tangents(), Trajectory.V_COS)])
def test_F14_noise_levels_have_the_snr_of_the_other_path(density, path):
    """edm/rf and edm/cos: log-SNR distributed as on the straight and on the cosine path with uniform times."""
    z = torch.linspace(-2, 2, 9, dtype=F64)
    levels, uniform_times = density.from_normal(z), torch.special.ndtr(z)
    assert_close(-levels.log(), TRAJECTORIES[path].path.half_log_snr(uniform_times), 1e-9)
    grid = torch.linspace(1e-4, 200, 2_000_001, dtype=F64)
    mass = torch.trapezoid(density.log_density(grid).exp(), grid).item()
    beyond = 1 / 201 if isinstance(density, Odds) else 1 - 2 / math.pi * math.atan(200)
    assert mass == pytest.approx(1 - beyond, abs=2e-4)


@pytest.mark.parametrize("trajectory", Trajectory)
def test_F16_all_are_the_same_family_up_to_weight(trajectory, measured, rng):
    """The network output that means a given D on one path, converted to each other path and reading at the same noise level, means the
    same D; and each loss is the data error times a weight."""
    own, t = TRAJECTORIES[trajectory], times_of(trajectory).clamp(0.02)
    data, noise, guess = (torch.randn(9, 4, generator=rng, dtype=F64) for _ in range(3))
    truth = Endpoints(data, noise)
    x = own.path.state(truth, t)
    predicted = own.path.from_data(guess, x, t)
    raw = raw_output(trajectory, predicted, x, t)
    assert_close(own.reading.endpoints(own.path, raw, x, t, t).data, guess, 1e-9)
    worst = 0.0
    for other in TRAJECTORIES.values():
        s = other.path.time_at(own.path.half_log_snr(t))
        alpha, other_alpha = own.path.alpha_sigma(t)[0], other.path.alpha_sigma(s)[0]
        moved = x * (other_alpha / alpha)[:, None]  # the same picture at the same signal-to-noise ratio
        again = raw_output(trajectory_of(other), other.path.from_data(guess, moved, s), moved, s)
        reached = s < other.path.end  # latent diffusion's path stops where 7 % of the data is left
        worst = max(worst, (other.reading.endpoints(other.path, again, moved, s, s).data - guess)[reached].abs().max().item())
    measured("F16", f"{trajectory.value}: D through every other variant", worst, 1e-6)
    assert worst < 1e-6
    loss = own.error(predicted, Noised(own.path, truth, x, t, own.weight(own.path, t)), None).total
    ratio = loss / (guess - data).square().mean(1)
    other_guess = own.path.from_data(guess + 1, x, t)
    other_loss = own.error(other_guess, Noised(own.path, truth, x, t, own.weight(own.path, t)), None).total
    assert_close(other_loss / (guess + 1 - data).square().mean(1) / ratio, torch.ones(9, dtype=F64), 1e-9)


def trajectory_of(formulation: object) -> Trajectory:
    return next(name for name, value in TRAJECTORIES.items() if value is formulation)


def raw_output(trajectory: Trajectory, ends: Endpoints, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What a network of this variant must return to mean these endpoints, written out."""
    path = TRAJECTORIES[trajectory].path
    alpha, sigma = (c[:, None] for c in path.alpha_sigma(t))
    if trajectory is Trajectory.RF:
        return ends.noise - ends.data
    if trajectory in (Trajectory.X_RF, Trajectory.X_COS):
        return ends.data
    if trajectory is Trajectory.EPS_LINEAR:
        return ends.noise
    if trajectory in (Trajectory.V_LINEAR, Trajectory.V_COS):
        return alpha * ends.noise - sigma * ends.data
    return (ends.data - x / (1 + sigma**2)) / (sigma / (1 + sigma**2).sqrt())


@pytest.mark.parametrize("trajectory", Trajectory)
def test_F16_every_variant_samples_the_same_law(trajectory, measured, rng):
    """With the exact denoiser of a ring, 40 steps of each variant's own grid and solver give data."""
    own, cloud = TRAJECTORIES[trajectory], ring()
    noise = torch.randn(1500, 2, generator=rng, dtype=F64)
    x = noise * own.path.alpha_sigma(torch.tensor([own.start], dtype=F64))[1]
    made = sample(own.path, cloud.denoiser(own.path), own.solver(), own.grid(40), x, rng)
    found, floor = sliced_w2(made, cloud.draw(1500, rng)), sliced_w2(cloud.draw(1500, rng), cloud.draw(1500, rng))
    measured("F16", f"{trajectory.value}: sliced W2 to data over that of data to data", found / floor, 2.0)
    assert found < 2 * floor


@pytest.mark.parametrize("trajectory", [Trajectory.RF, Trajectory.V_COS, Trajectory.EPS_LINEAR])
def test_F12_mean_and_variance_of_sdedit_in_closed_form(trajectory, measured, rng):
    """From y at the strength t0, a normal law (m, s^2): mean m + s a (y - m) / sqrt(a^2 s^2 + b^2), variance s^2 b^2 / (a^2 s^2 + b^2)."""
    own, worst, given = TRAJECTORIES[trajectory], 0.0, 2.0
    spread, distance = [], []
    for strength in (0.1, 0.35, 0.6, 0.85, 1.0):
        y = torch.full((4000, 1), given, dtype=F64)
        x = start_from(own, y, strength, rng)
        made = sample(own.path, gaussian(own.path), own.solver(), own.grid(60, start_time(own, strength)), x, rng)
        a, b = (c.item() for c in own.path.alpha_sigma(torch.tensor([start_time(own, strength)], dtype=F64)))
        root = math.hypot(a * STD, b)
        mean, std = MEAN + STD * a * (given - MEAN) / root, STD * b / root
        worst = max(worst, abs(made.mean().item() - mean) / (std / 4000**0.5), abs(made.std().item() / std - 1) * 8000**0.5)
        spread.append(std)
        distance.append((made.mean() - given).abs().item())
    measured("F12", f"{trajectory.value}: mean and spread from closed form, largest, in standard errors", worst, 4)
    assert worst < 4
    assert spread == sorted(spread) and distance == sorted(distance)


def test_F12_no_strength_changes_nothing_and_full_strength_forgets(rng):
    """t0 = 0 is the identity; t0 = 1 gives the same for every picture, from the same noise; outside, an error."""
    own, y = TRAJECTORIES[Trajectory.RF], torch.randn(5, 1, generator=rng, dtype=F64)
    assert torch.equal(start_from(own, y, 0.0, rng), y)
    ends = [start_from(own, one, 1.0, torch.Generator().manual_seed(1)) for one in (y, 3 * y + 1)]
    assert torch.equal(*ends)
    with pytest.raises(ConfigError, match="between 0, none, and 1"):
        start_time(own, 1.2)


def test_F12_what_is_kept_is_kept(measured, rng):
    """Inpainting: known coordinates come out as they went in, and the others have the law of data given them."""
    own, cloud = TRAJECTORIES[Trajectory.RF], ring()
    known = cloud.draw(400, rng)
    mask = torch.tensor([[1.0, 0.0]], dtype=F64).expand(400, 2)
    denoise = keeping(own.path, cloud.denoiser(own.path), known, mask)
    made = sample(own.path, denoise, own.solver(), own.grid(60), torch.randn(400, 2, generator=rng, dtype=F64), rng)
    kept = (made - known)[:, 0].abs().max().item()
    measured("F12", "change of what is kept", kept, 1e-12)
    assert kept < 1e-12
    zero = torch.zeros(400, dtype=F64)
    good = (cloud.log_prob(own.path, made, zero) > cloud.log_prob(own.path, known, zero).quantile(0.01)).double().mean().item()
    measured("F12", "share of kept and made pairs that are data-like", good, 0.6)
    assert good > 0.6


def test_F9_ends_of_an_arc_are_its_ends(measured, rng):
    """Bit-equal, so decoding them is direct decoding; lengths and angles between go evenly."""
    first, second = torch.randn(2, 48, generator=rng)
    arc = between(first, second, torch.linspace(0, 1, 9))
    off = max((arc[0] - first).abs().max().item(), (arc[-1] - second).abs().max().item())
    measured("F9", "difference of the ends of an arc to what it joins", off, 0, "bit-equal")
    assert torch.equal(arc[0], first) and torch.equal(arc[-1], second)
    unit = torch.nn.functional.normalize(arc.double(), dim=1)
    angles = (unit[:-1] * unit[1:]).sum(1).clamp(-1, 1).acos()
    assert_close(angles, angles.mean().expand(8), 1e-4)
    assert torch.equal(slerp(first[None], second[None], torch.tensor([1.0]))[0], second)


@pytest.mark.parametrize("trajectory", [Trajectory.RF, Trajectory.V_COS])
def test_F10_inversion_rebuilds_what_it_started_from(trajectory, measured, rng):
    """Up to the noise and down again, theta = 0: the error falls with the steps."""
    own, cloud = TRAJECTORIES[trajectory], ring()
    data = cloud.draw(256, rng)
    errors = []
    for steps in (25, 50, 100, 200):
        up = inverted(own, cloud.denoiser(own.path), data, steps, rng)
        down = sample(own.path, cloud.denoiser(own.path), own.solver(), own.grid(steps), up, rng)
        errors.append((down - data).square().mean(1).sqrt().median().item())
    measured("F10", f"{trajectory.value}: median error after inversion and sampling, 200 steps", errors[-1], 1e-3)
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3


def test_F14_grids_end_on_data_and_start_at_noise():
    """From each variant's start, or an earlier one, to 0."""
    for own in TRAJECTORIES.values():
        grid = own.grid(12)
        assert len(grid) == 13 and grid[0] == own.start and grid[-1] == 0
        assert own.grid(5, start=own.start / 2)[0] == own.start / 2
    assert 0 < FIRST < LAST < 1 and len(uniform(3, 1, 0)) == 4
