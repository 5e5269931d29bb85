"""Rows E1-E5, E10: continuous normalising flows, flow matching, and the paths of flow matching.

The lecture's time of a flow is 1 - t: its t = 1 is data.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from structgen.errors import ConfigError
from structgen.generative import (
    MIDPOINT,
    RK4,
    Denoiser,
    Endpoints,
    EulerMaruyama,
    Linear,
    MaximumLikelihood,
    ReadVelocity,
    Recomputed,
    Regression,
    RungeKutta,
    Uniform,
    VarianceExploding,
    VariancePreserving,
    log_likelihood,
    normal_like,
    normal_probes,
    over,
    sample,
    velocity_error,
)
from structgen.generative.sde import coefficients
from structgen.generative.times import uniform
from structgen.generative.weights import Constant
from tests.conformance.clouds import Cloud, median_error, ring, scattered
from tests.conformance.test_d_transport import Tanh, relative, saved_bytes
from tests.generative.mixture import PATHS

F64 = torch.float64
FLOWS = {**PATHS, "linear-sigma-min": Linear(sigma_min=0.1)}
EACH_PATH = pytest.mark.parametrize("name", FLOWS)


def interior(path) -> torch.Tensor:
    """Times well inside a path."""
    return torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=F64) * (1 if path.end == 1 else 5)


@EACH_PATH
def test_E3_velocity_is_the_derivative_of_the_flow_map(name, measured, rng):
    """d/dt of psi_t(z) = mu_t + sigma_t z is u = (sigma' / sigma)(psi - mu) + mu', by autodiff of the map, to 1e-10; mu = alpha data."""
    path, t = FLOWS[name], interior(FLOWS[name])
    data, noise = normal_like(torch.empty(5, 3, dtype=F64), rng), normal_like(torch.empty(5, 3, dtype=F64), rng)
    ends = Endpoints(data, noise)
    x, slope = torch.func.jvp(lambda t: path.state(ends, t), (t,), (torch.ones_like(t),))
    u = path.velocity(path.from_data(data, x, t), t)
    (alpha, sigma), (alpha_rate, sigma_rate) = ([over(c, x) for c in pair] for pair in (path.alpha_sigma(t), path.rates(t)))
    stated = sigma_rate / sigma * (x - alpha * data) + alpha_rate * data
    worst = max((u - v).abs().max().item() / v.abs().max().item() for v in (slope, stated))
    measured("E3", f"relative difference of u from the derivative of the flow map, {name}", worst, 1e-10)
    assert worst <= 1e-10


@EACH_PATH
def test_E3_transport_equation_holds(name, measured):
    """dp/dt + d(p u)/dx = 0 for p = N(mu_t, sigma_t^2) on a grid of x and t, in units of the largest |dp/dt|."""
    path, data = FLOWS[name], torch.tensor([[0.8]], dtype=F64)
    x, t = (c.reshape(-1).requires_grad_() for c in torch.meshgrid(torch.linspace(-3, 3, 41, dtype=F64), interior(path), indexing="ij"))
    alpha, sigma = path.alpha_sigma(t)
    p = torch.exp(-(((x - alpha * data[0]) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
    u = path.velocity(path.from_data(data.expand(len(x), 1), x[:, None], t), t)[:, 0]
    (of_time,) = torch.autograd.grad(p.sum(), t, retain_graph=True)
    (of_space,) = torch.autograd.grad((p * u).sum(), x)
    worst = ((of_time + of_space).abs().max() / of_time.abs().max()).item()
    measured("E3", f"residual of the transport equation, {name}", worst, 1e-10)
    assert worst <= 1e-10


@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine"])
def test_E4_diffusion_path_is_the_probability_flow_reversed(name, measured, rng):
    """u = a' / (1 - a^2) (a x - x1), with a and a' at 1 - t (Lipman et al. 2022, eq. 19), is minus the drift f x - g^2 score / 2 of B11 for
    one data point, and minus the path's velocity, to 1e-10."""
    path, later = PATHS[name], torch.tensor([0.1, 0.4, 0.8], dtype=F64)  # the lecture's t
    t = 1 - later
    data, x = (normal_like(torch.empty(3, 2, dtype=F64), rng) for _ in range(2))
    a, a_rate = over(path.alpha_sigma(t)[0], x), over(path.rates(t)[0], x)
    u = a_rate / (1 - a**2) * (a * x - data)
    ends = path.from_data(data, x, t)
    f, g2 = (over(c, x) for c in coefficients(path, t))
    drift = f * x - g2 / 2 * path.score(ends, t)
    worst = max(((u + v).abs().max() / u.abs().max()).item() for v in (drift, path.velocity(ends, t)))
    measured("E4", f"relative difference from the reversed probability flow, {name}", worst, 1e-10)
    assert worst <= 1e-10


def test_E5_optimal_transport_path(measured, rng):
    """u = (x1 - (1 - sigma_min) x) / (1 - (1 - sigma_min) t) in the lecture's time (Lipman et al. 2022, eq. 21) is minus the velocity of
    `Linear(sigma_min)`, to 1e-10; the path ends with standard deviation sigma_min around data, and 0 is the straight path bit for bit."""
    path, later, smin = Linear(sigma_min=0.05), torch.tensor([0.0, 0.3, 0.9, 1.0], dtype=F64), 0.05
    data, x = (normal_like(torch.empty(4, 2, dtype=F64), rng) for _ in range(2))
    u = (data - (1 - smin) * x) / (1 - (1 - smin) * later)[:, None]
    worst = ((u + path.velocity(path.from_data(data, x, 1 - later), 1 - later)).abs().max() / u.abs().max()).item()
    start = path.alpha_sigma(torch.zeros(1, dtype=F64))
    measured("E5", "relative difference of u from the stated one", worst, 1e-10)
    measured("E5", "standard deviation left on data / sigma_min", start[1].item() / smin, 1.0)
    assert worst <= 1e-10 and start == (1.0, smin)
    t = torch.rand(9, dtype=F64, generator=rng)
    plain = Linear()
    assert torch.equal(plain.alpha_sigma(t)[0], 1 - t) and torch.equal(plain.alpha_sigma(t)[1], t)
    assert torch.equal(plain.rates(t)[1], torch.ones_like(t))


def test_E5_the_flow_ends_with_sigma_min(rng):
    """Followed to t = 0 from N(0, 1), the flow towards one data point leaves N(data, sigma_min^2), exactly: the path is straight."""
    path, data = Linear(sigma_min=0.05), torch.tensor([1.0, -2.0], dtype=F64)
    noise = normal_like(torch.empty(6, 2, dtype=F64), rng)
    for solver in (RungeKutta(MIDPOINT), RungeKutta(RK4)):
        end = sample(path, lambda x, t, s: path.from_data(data.expand_as(x), x, t), solver, uniform(3, 1.0, 0.0), noise, rng)
        assert (end - data - 0.05 * noise).abs().max() < 1e-12


class Quadratic(nn.Module):
    """A velocity (a + b t) x + c + d |x|^2."""

    def __init__(self, parameters) -> None:
        super().__init__()
        self.parts = nn.Parameter(torch.tensor(parameters, dtype=F64))

    def forward(self, x, times, cond):
        a, b, c, d = self.parts
        return (a + b * times) * x + c + d * x.square().sum(1, keepdim=True)


@dataclass(frozen=True)
class Marginal:
    """`velocity_error` against the marginal velocity of a cloud, in the place of the conditional one."""

    cloud: Cloud

    def __call__(self, guess, example, cond):
        truth = self.cloud.denoise(example.path, example.x, example.t)
        return velocity_error(guess, type(example)(example.path, truth, example.x, example.t, example.weight), cond)


@pytest.mark.parametrize("name", ["linear", "vp-linear"])
def test_E2_flow_matching_and_conditional_flow_matching_agree(name, measured, rng):
    """At 3 parameters: the gradients of L_FM, with the mixture's closed velocity, and of L_CFM, with the example's own, are equal within 3
    standard errors, and L_CFM - L_FM is the same number, E |u(x | x1) - u(x)|^2."""
    cloud, path, count = ring(), PATHS[name], 40_000
    times, data = Uniform(0.05, 0.95), cloud.draw(count, rng)
    losses = {"CFM": Regression(path, times, Constant(), velocity_error), "FM": Regression(path, times, Constant(), Marginal(cloud))}
    worst, differences, axes = 0.0, [], torch.eye(4, dtype=F64)
    for seed, parameters in enumerate([(0.0, 0.0, 0.0, 0.0), (1.0, -2.0, 0.3, 0.1), (-1.5, 1.0, -0.5, -0.2)]):

        def total(theta, objective, seed=seed):
            model = Denoiser(Quadratic((0.0, 0.0, 0.0, 0.0)), path, ReadVelocity())

            def call(*args):
                return torch.func.functional_call(model, {"network.parts": theta}, args)

            return objective(call, data, None, torch.Generator().manual_seed(seed)).total

        theta = torch.tensor(parameters, dtype=F64)
        along = [torch.func.jvp(lambda theta: total(theta, losses["CFM"]) - total(theta, losses["FM"]), (theta,), (e,))[1] for e in axes]
        gap = torch.stack(along, 1)  # [count, 4]
        worst = max(worst, (gap.mean(0).abs() / (gap.std(0) / math.sqrt(count))).max().item())
        differences.append(total(theta, losses["CFM"]) - total(theta, losses["FM"]))
    error = max(d.std().item() for d in differences) / math.sqrt(count)
    means = [d.mean().item() for d in differences]
    spread = max(abs(a - b) for a, b in itertools.combinations(means, 2)) / (error * math.sqrt(2))
    measured("E2", f"gradients of FM and CFM, largest difference in standard errors, {name}", worst, 3.0)
    measured(
        "E2", f"constant at 3 parameters, largest difference in standard errors, {name}", spread, 3.0, f"the constant is {means[0]:.3f}"
    )
    assert worst <= 3 and spread <= 3 and min(means) > 10 * error


def test_E2_conditional_velocities_average_to_the_marginal_one(measured, rng):
    """E[u(x | x1) | x_t = x] over draws of x1, weighted by the density of x given each, is the mixture's velocity, within 4 s.e."""
    cloud, path, count = ring(), Linear(), 200_000
    x, t, data = torch.tensor([[0.7, 0.4]], dtype=F64), torch.tensor([0.5], dtype=F64), cloud.draw(count, rng)
    each = path.from_data(data, x.expand(count, 2), t.expand(count))
    share = (-each.noise.square().sum(1) / 2).softmax(0)[:, None]
    velocity = path.velocity(each, t.expand(count))
    found, wanted = (share * velocity).sum(0), path.velocity(cloud.denoise(path, x, t), t)[0]
    error = (share.square() * (velocity - found).square()).sum(0).sqrt()
    worst = ((found - wanted).abs() / error).max().item()
    measured("E2", "mean of conditional velocities less the marginal one, in standard errors", worst, 4.0)
    assert worst <= 4


def least_steps(cloud: Cloud, path, target: float) -> int:
    """The fewest midpoint steps on a uniform grid to t = 0 whose median error is at most `target`."""
    noise = normal_like(torch.empty(256, cloud.means.shape[1], dtype=F64), torch.Generator().manual_seed(1))
    exact, rng = cloud.flow_to_data(path, noise, 1.0 if path != Linear() else 1 - 1e-12), torch.Generator()

    def error(steps: int) -> float:
        return median_error(sample(path, cloud.denoiser(path), RungeKutta(MIDPOINT), uniform(steps, 1.0, 0.0), noise, rng), exact)

    return next(n for n in range(2, 1000) if error(n) <= target)


@pytest.mark.parametrize("cloud", [ring(), scattered()], ids=["2-D", "64-D"])
def test_E10_the_straight_path_needs_fewer_evaluations(cloud, measured):
    """By the midpoint rule with even steps, to a median error of 1e-3: counted one by one, fewer on the straight path than on the
    variance-preserving one."""
    straight, diffusion = (2 * least_steps(cloud, path, 1e-3) for path in (Linear(), VariancePreserving()))
    name = f"{cloud.means.shape[1]}-D"
    measured("E10", f"evaluations for a median error of 1e-3, straight path, {name}", straight, diffusion)
    measured("E10", f"evaluations for a median error of 1e-3, variance-preserving path, {name}", diffusion, None)
    assert straight < diffusion


def rising(steps: int) -> torch.Tensor:
    return torch.linspace(0, 1, steps + 1, dtype=F64)


@pytest.mark.parametrize("stretch", [1, 3])
@pytest.mark.parametrize("method", ["exact", "probed"])
def test_E1_adjoint_is_backpropagation(method, stretch, measured, rng):
    """The gradient of the log likelihood in data and parameters by `Recomputed` is that of backpropagation through all steps, to 1e-10."""
    torch.manual_seed(0)
    path, model = Linear(), Denoiser(Tanh(2, 16), Linear(), ReadVelocity())
    data = normal_like(torch.empty(8, 2, dtype=F64), rng).requires_grad_()
    chosen = {} if method == "exact" else {"divergence": normal_probes(data.detach(), 2, rng)}

    def gradient(**more):
        value = log_likelihood(path, lambda x, t, s: model(x, t, s, None), RungeKutta(RK4), rising(8), data, rng, **chosen, **more)
        return value, torch.autograd.grad(
            (value * torch.linspace(1, 2, 8, dtype=F64)).sum(), [data, *model.parameters()], allow_unused=True
        )

    (value, wanted), (again, found) = gradient(), gradient(integrate=Recomputed(tuple(model.parameters()), stretch))
    wanted, found = ([torch.zeros(1) if g is None else g for g in one] for one in (wanted, found))
    kept = [i for i, g in enumerate(wanted) if g.abs().max() > 0]
    error = relative([found[i] for i in kept], [wanted[i] for i in kept])
    measured("E1", f"relative error of the adjoint gradient, {method} trace, {stretch} steps a stretch", error, 1e-10)
    assert error <= 1e-10 and (value - again).abs().max() <= 1e-12 and len(kept) >= len(found) - 1


def test_E1_the_adjoint_keeps_states_alone(measured, rng):
    """Bytes kept for backward: one state of d + 1 entries a step, whatever the network."""
    torch.manual_seed(0)
    data = normal_like(torch.empty(8, 2, dtype=F64), rng)
    for width in (8, 64):
        model = Denoiser(Tanh(2, width), Linear(), ReadVelocity())
        objective = MaximumLikelihood(Linear(), RungeKutta(RK4), rising(20))
        kept = saved_bytes(lambda model=model, objective=objective: objective(model, data, None, rng).total)
        measured("E1", f"bytes kept for backward over those of 21 states, width {width}", kept / (21 * 8 * 3 * 8), 1.0)
        assert kept <= 21 * 8 * 3 * 8


def test_E1_noise_is_refused(rng):
    """A stochastic solver would not retrace its steps."""
    path = Linear()
    walk = Recomputed(())
    with pytest.raises(ConfigError, match="draws noise"):
        walk(path, lambda x, t, s: Endpoints(x, x), EulerMaruyama(), torch.tensor([0.2, 0.5]), torch.zeros(2, 2), rng)


def test_E1_likelihood_follows_the_divergence(measured, rng):
    """d log p / dt = -div u: a linear velocity A x from N(0, 1) at t = 1 gives normal data whose log density is known; error of RK4 at 20
    steps."""
    matrix = torch.tensor([[0.3, -0.8], [0.5, -0.4]], dtype=F64)
    path, data = Linear(), normal_like(torch.empty(6, 2, dtype=F64), rng)
    found = log_likelihood(path, lambda x, t, s: path.from_velocity(x @ matrix.T, x, t), RungeKutta(RK4), rising(20), data, rng)
    back = torch.linalg.matrix_exp(-matrix)  # data = back noise
    wanted = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=F64), back @ back.T).log_prob(data)
    worst = (found - wanted).abs().max().item()
    measured("E1", "error of the log likelihood of a linear flow, nats", worst, 1e-6)
    assert worst <= 1e-6


class Perceptron(nn.Module):
    """A velocity of (x, t)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))

    def forward(self, x, times, cond):
        return self.body(torch.cat([x, times], 1))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_E1_maximum_likelihood_finds_the_density(measured, rng):
    """500 updates on three modes in 2-D: the mean of -log p on fresh data is within 0.05 nats of the truth."""
    means = torch.tensor([[-1.2, 0.0], [0.8, 1.0], [0.6, -1.0]], dtype=F64)
    cloud = Cloud(torch.tensor([0.5, 0.3, 0.2], dtype=F64), means, torch.tensor([0.35, 0.5, 0.4], dtype=F64))
    path, model = Linear(), Denoiser(Perceptron(), Linear(), ReadVelocity())
    objective = MaximumLikelihood(path, RungeKutta(MIDPOINT), torch.linspace(0, 1, 9))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for _ in range(500):
        optimizer.zero_grad()
        objective(model, cloud.draw(256, rng).float(), None, rng).total.mean().backward()
        optimizer.step()
        schedule.step()
    data = cloud.draw(20_000, rng)
    truth = cloud.log_prob(VarianceExploding(), data, torch.full((len(data),), 1e-9, dtype=F64)).mean().item()
    with torch.no_grad():
        found = log_likelihood(path, lambda x, t, s: model(x, t, s, None), RungeKutta(RK4), torch.linspace(0, 1, 41), data.float(), rng)
    excess = truth - found.mean().item()
    measured("E1", "nats above the true negative log likelihood, trained by maximum likelihood", excess, 0.05)
    assert 0 < excess + 0.01 and excess <= 0.05
