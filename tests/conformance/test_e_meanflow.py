"""Rows E8 and E9: MeanFlow on normal data, where the mean velocity is known, and its kinship with continuous consistency."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from structgen.errors import ConfigError
from structgen.generative import (
    AverageVelocity,
    ContinuousConsistency,
    Ddim,
    Denoiser,
    Endpoints,
    Euler,
    Linear,
    MeanFlow,
    Mixed,
    ReadVelocity,
    Regression,
    Sorted,
    TimePairs,
    TimeSampler,
    Uniform,
    sample,
    velocity_error,
)
from structgen.generative.distill.tangent import raw_along
from structgen.generative.times import uniform
from structgen.generative.weights import Constant
from tests.conformance.clouds import ring, scattered
from tests.conformance.students import NORMAL, STD, Fixed, Perceptron, distance, exact, exact64, normal, trained
from tests.generative.mixture import PATHS, start_of
from tests.tolerance import FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

F64 = torch.float64
PATH = Linear()


def spread(t):
    """The standard deviation of x_t, [b, 1]."""
    return (((1 - t) * STD) ** 2 + t**2).sqrt()[:, None]


def carried(x, t, s):
    """x_s = m_s + (sd_s / sd_t) (x_t - m_t) on the straight path."""
    return (1 - s)[:, None] * NORMAL.means + spread(s) / spread(t) * (x - (1 - t)[:, None] * NORMAL.means)


class Closed(nn.Module):
    """The mean velocity of NORMAL as a network of (x, [t, t - s]), and what it is not: weights that are 0 add other functions."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Parameter(torch.zeros(4, dtype=F64))

    def forward(self, x, times, cond):
        t, gap = times.unbind(1)
        terms = torch.stack([torch.ones_like(x), x, x * t[:, None], (x * gap[:, None]).sin()])
        return (x - carried(x, t, t - gap)) / gap[:, None] + torch.einsum("k,k...->...", self.other, terms)


def small() -> Denoiser:
    network = Perceptron(2, 2, width=16, blocks=1).double()
    nn.init.normal_(network.out.weight, std=0.3)
    return Denoiser(network, PATH, AverageVelocity())


def gradient(model, loss) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss.total.mean(), list(model.network.parameters()))])


def test_E8_identity_holds_at_the_closed_form(measured, rng):
    """With the flow's own velocity u = v - (t - s) du/dt to rounding at z_s = m_s + (sd_s / sd_t) (z_t - m_t): the loss is 0."""
    model = Denoiser(Closed(), PATH, AverageVelocity())
    objective = MeanFlow(PATH, Sorted(Uniform(0.02, 0.98), equal=0.0), power=0.0, teacher=exact64(PATH))
    root = objective(model, NORMAL.draw(1000, rng), None, rng).total.sqrt()
    measured("E8", "|u - v + (t - s) du/dt| at the closed form, median", root.median().item(), 1e-12, "the closed form divides by t - s")
    assert root.median() < 1e-12 and root.max() < 1e-9


def test_E8_expected_gradient_vanishes_at_the_closed_form(measured, rng):
    """Without a teacher the gradient is zero in expectation, within 4 standard errors along every direction, and not where the network is
    off."""
    model = Denoiser(Closed(), PATH, AverageVelocity())
    objective = MeanFlow(PATH, Sorted(Uniform(0.02, 0.98), equal=0.0), power=0.0)

    def deviations(off: float) -> list[float]:
        model.network.other.data.fill_(off)
        draws = []
        for _ in range(200):
            draws.append(gradient(model, objective(model, NORMAL.draw(500, rng), None, rng)))
        each = torch.stack(draws)
        return (each.mean(0) / (each.std(0) / math.sqrt(200))).abs().tolist()

    still, moved = deviations(0.0), deviations(0.05)
    measured("E8", "mean gradient at the closed form in standard errors, worst of 4", max(still), 4.0, f"0.05 off: {max(moved):.0f}")
    assert max(still) < 4 < max(moved) / 2


def test_E8_the_derivative_is_along_v_1_0(measured, rng):
    """The derivative in the target is d/dh of u(x + h v, t + h, s); s stands still; the times may be expanded tensors."""
    model, x, v, h = small(), normal(6, 2), normal(6, 2, seed=1), 1e-5
    t, s = torch.tensor([0.8], dtype=F64).expand(6), torch.tensor([0.3], dtype=F64).expand(6)
    _, rate = raw_along(model, (x, t, s), (v, torch.ones_like(t), torch.zeros_like(s)), None)
    ends = [model.network(x + k * h * v, torch.stack([t + k * h, t + k * h - s], 1), None).detach() for k in (-1, 1)]
    worst = ((ends[1] - ends[0]) / (2 * h) - rate).abs().max().item()
    measured("E8", "derivative by jvp less central differences", worst, 1e-8)
    assert worst < 1e-8
    objective = MeanFlow(PATH, Sorted(Uniform(), equal=0.0), power=0.0, coupling=Fixed(Endpoints(x, x + v)))
    state = rng.get_state()
    loss = objective(model, x, None, rng)
    rng.set_state(state)
    t, s = Sorted(Uniform(), equal=0.0).draw(x, rng)
    x_t, times = x + t[:, None] * v, torch.stack([t, t - s], 1)
    _, rate = raw_along(model, (x_t, t, s), (v, torch.ones_like(t), torch.zeros_like(s)), None)
    literal = (model.network(x_t, times, None) - (v - (t - s)[:, None] * rate)).square().mean(1)
    assert_close(loss.total, literal, FLOAT64_IDENTITY)


def test_E8_equal_times_are_flow_matching_bit_for_bit(measured, rng):
    """With s = t loss and gradients are those of |u - (noise - data)|^2, bit for bit, and of `Regression` to rounding."""
    model, ends = small(), Endpoints(normal(64, 2), normal(64, 2, seed=1))
    objective = MeanFlow(PATH, Sorted(Uniform(), equal=1.0), power=0.0, coupling=Fixed(ends))
    state = rng.get_state()
    loss = objective(model, ends.data, None, rng)
    rng.set_state(state)
    t = torch.maximum(Uniform().draw(ends.data, rng), Uniform().draw(ends.data, rng))
    times = torch.stack([t, torch.zeros_like(t)], 1)
    literal = (model.network(PATH.state(ends, t), times, None) - (ends.noise - ends.data)).square().mean(1)
    assert torch.equal(loss.total, literal)
    found = gradient(model, loss)
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(literal.mean(), list(model.network.parameters()))])
    measured("E8", "gradient at r = t less that of flow matching", (found - wanted).abs().max().item(), 0.0)
    assert torch.equal(found, wanted)
    level = Regression(PATH, Uniform(0.4, 0.4), Constant(), velocity_error, Fixed(ends))(model, ends.data, None, rng)
    same = replace(objective, pairs=Sorted(Uniform(0.4, 0.4), equal=1.0))(model, ends.data, None, rng)
    assert_close(same.total, level.total, FLOAT64_IDENTITY)


def test_E8_steps_compose(measured):
    """At the closed form z_t -> z_s -> z_r is z_t -> z_r, by `Ddim` in one step, two and five."""
    model, x = Denoiser(Closed(), PATH, AverageVelocity()), normal(50, 2)
    ends = [
        sample(PATH, lambda x, t, s: model(x, t, s, None), Ddim(), grid, x, torch.Generator()).detach()
        for grid in ([1.0, 0.0], [1.0, 0.3, 0.0], uniform(5, 1.0, 0.0))
    ]
    worst = max((end - ends[0]).abs().max().item() for end in ends[1:])
    measured("E8", "composed steps less one step, closed form", worst, 1e-12)
    assert worst < 1e-12
    assert_close(ends[0], carried(x, torch.ones(50, dtype=F64), torch.zeros(50, dtype=F64)), FLOAT64_IDENTITY)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_E8_the_reading_makes_the_step_on_every_path(path):
    """`Ddim` from t to s lands on x - (t - s) u; as s nears t the endpoints become those of the velocity, and are them at s = t."""
    reading, x, u = AverageVelocity(), normal(4, 2), normal(4, 2, seed=1)
    t = start_of(path) * torch.tensor([0.05, 0.3, 0.7, 0.99], dtype=F64)
    for share in (0.0, 0.4, 0.99):
        ends = reading.endpoints(path, u, x, t, t * share)
        assert_close(path.state(ends, t), x, FLOAT64_ORACLE)
        assert_close(path.state(ends, t * share), x - (t - t * share)[:, None] * u, FLOAT64_ORACLE)
    exactly = path.from_velocity(u, x, t)
    assert torch.equal(reading.endpoints(path, u, x, t, t).data, exactly.data)
    for gap, tolerance in ((1e-4, 1e-2), (1e-6, 1e-4)):
        near = reading.endpoints(path, u, x, t, t * (1 - gap))
        assert_close(near.data / exactly.data.abs().max(), exactly.data / exactly.data.abs().max(), tolerance)
    x_in, times = reading.inputs(path, x, t, t / 4)
    assert torch.equal(x_in, x) and torch.equal(times, torch.stack([t, 0.75 * t], 1))


def test_E8_adaptive_weights_and_shares(rng):
    """1 / (square + c)^p without a gradient; s = t in the given share; a share above 1 is refused."""
    model, ends = small(), Endpoints(normal(64, 2), normal(64, 2, seed=1))
    plain = MeanFlow(PATH, Sorted(Uniform(), equal=0.5), power=0.0, coupling=Fixed(ends))
    state = rng.get_state()
    square = plain(model, ends.data, None, rng).total
    rng.set_state(state)
    weighted = replace(plain, power=0.7, floor=0.01)(model, ends.data, None, rng).total
    assert_close(weighted, square / (square + 0.01) ** 0.7, FLOAT64_IDENTITY)
    a, b = (torch.autograd.grad(loss.sum(), model.network.out.bias, retain_graph=True)[0] for loss in (
        (square / (square.detach() + 0.01) ** 0.7), weighted))  # fmt: skip
    assert_close(a, b, FLOAT64_IDENTITY)
    t, s = Sorted(Uniform(), equal=0.3).draw(normal(20_000, 1), rng)
    assert (s <= t).all() and (s == t).double().mean().item() == pytest.approx(0.3, abs=0.015)
    assert t[s == t].mean().item() == pytest.approx(2 / 3, abs=0.02)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Sorted(Uniform(), equal=1.1)


class Conditioned(nn.Module):
    """A network of two classes and none (0), which keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.classes, self.seen = nn.Parameter(normal(3, 2)), []

    def forward(self, x, times, cond):
        self.seen.append((times.detach(), cond))
        return self.classes[cond] + times[:, 1:] * x


def test_E8_guidance_is_inside_of_the_target(measured, rng):
    """v becomes w v + k u(cond) + (1 - w - k) u(empty) at s = t; dropped conditions keep v and lose their condition everywhere."""
    model, cond = Denoiser(Conditioned(), PATH, AverageVelocity()), torch.tensor([1, 2, 1, 2] * 25)
    ends = Endpoints(normal(100, 2), normal(100, 2, seed=1))
    mixed = Mixed(lambda cond, lost: torch.where(lost, 0, cond), weight=2.0, mixing=0.5, rate=0.3)
    objective = MeanFlow(PATH, Sorted(Uniform(), equal=1.0), power=0.0, guidance=mixed, coupling=Fixed(ends))
    loss = objective(model, ends.data, cond, rng)
    kept = model.network.seen[-1][1]
    assert ((kept == 0) | (kept == cond)).all() and 10 < (kept == 0).sum() < 50
    v, u = ends.noise - ends.data, model.network.classes.detach()
    target = torch.where((kept == 0)[:, None], v, 2.0 * v + 0.5 * u[kept] - 1.5 * u[0])
    worst = (loss.total - (u[kept] - target).square().mean(1)).abs().max().item()
    measured("E8", "guided target less its formula", worst, 1e-12)
    assert worst < 1e-12


@dataclass(frozen=True)
class ToData(TimePairs):
    """s = 0."""

    times: TimeSampler

    def draw(self, data, rng):
        t = self.times.draw(data, rng)
        return t, torch.zeros_like(t)


def test_E9_mean_flow_to_data_is_continuous_consistency(measured, rng):
    """With s = 0 and f = x - t u the gradients on normal data are proportional: the factor is t weight dt/ds = t^2 (1 - t), and with the
    weight 1 / (t^2 (1 - t)) they are equal at all times at once."""
    model, data = small(), NORMAL.draw(256, rng)
    ends = Endpoints(data, normal(256, 2))

    times = Uniform(0.1, 0.9)
    mean = MeanFlow(PATH, ToData(times), power=0.0, coupling=Fixed(ends))
    consistency = ContinuousConsistency(PATH, times, lambda path, t: 1 / (t**2 * (1 - t)), coupling=Fixed(ends))
    a, b = (gradient(model, objective(model, data, None, torch.Generator().manual_seed(3))) for objective in (mean, consistency))
    worst = ((a - b).norm() / a.norm()).item()
    measured("E9", "gradient of MeanFlow at r = 0 less that of continuous consistency", worst, 1e-12)
    assert worst < 1e-12
    at = Uniform(0.7, 0.7)
    mean, consistency = replace(mean, pairs=ToData(at)), ContinuousConsistency(PATH, at, Constant(), coupling=Fixed(ends))
    a, b = (gradient(model, objective(model, data, None, rng)) for objective in (mean, consistency))
    assert_close(b / a.norm(), 0.7**2 * 0.3 * a / a.norm(), FLOAT64_IDENTITY)


CLOUDS = {"2-D": ring(), "64-D": scattered()}


def report(measured, model, cloud, what: str, threshold: float) -> float:
    """The sliced W2 of 1, 2 and 4 steps over that of a hundred Euler steps of the exact flow; returns the first."""
    far = distance(PATH, exact(cloud, PATH), Euler(), uniform(100, 1.0, 0.0), cloud)
    ratios = [distance(PATH, model, Ddim(), uniform(n, 1.0, 0.0), cloud) / far for n in (1, 2, 4)]
    note = f"exact flow, 100 steps: {far:.4f}; 2 and 4 steps: {ratios[1]:.2f}, {ratios[2]:.2f} of it"
    measured("E8", f"sliced W2 of 1 step over 100 steps of the exact flow, {what}", ratios[0], threshold, note)
    return ratios[0]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CLOUDS)
def test_E8_one_step_of_a_distilled_mean_flow(name, measured, rng):
    """Along the exact flow's velocity: one step within 1.25 times the sliced W2 of a hundred steps of the flow."""
    cloud = CLOUDS[name]
    d = cloud.means.shape[1]
    model = Denoiser(Perceptron(d, 2, 64 if d == 2 else 128), PATH, AverageVelocity())
    objective = MeanFlow(PATH, Sorted(Uniform(), equal=0.25), power=0.5, teacher=exact(cloud, PATH))
    trained(model, objective, cloud, 8000 if d == 2 else 5000, rng)
    assert report(measured, model, cloud, f"distilled, {name}", 1.25) <= 1.25


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_E8_one_step_of_a_mean_flow_from_scratch(measured, rng):
    """Without a teacher, on the ring: one step within 1.5 times the sliced W2 of a hundred steps of flow matching, trained alike. With
    power 0: in two dimensions the adaptive weight moves the minimum away from the mean."""
    cloud, steps = CLOUDS["2-D"], 8000
    flow = Denoiser(Perceptron(2, 1, 64), PATH, ReadVelocity())
    trained(flow, Regression(PATH, Uniform(), Constant(), velocity_error), cloud, steps, rng, decay=0.999)
    model = Denoiser(Perceptron(2, 2, 64), PATH, AverageVelocity())
    trained(model, MeanFlow(PATH, Sorted(Uniform(), equal=0.5), power=0.0), cloud, steps, rng, decay=0.999)
    far = distance(PATH, flow, Euler(), uniform(100, 1.0, 0.0), cloud)
    ratios = [distance(PATH, model, Ddim(), uniform(n, 1.0, 0.0), cloud) / far for n in (1, 2, 4)]
    note = f"flow matching, 100 steps: {far:.4f}; 2 and 4 steps: {ratios[1]:.2f}, {ratios[2]:.2f} of it"
    measured("E8", "sliced W2 of 1 step over 100 steps of flow matching, both from scratch, 2-D", ratios[0], 1.5, note)
    assert ratios[0] <= 1.5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_E8_trained_steps_compose(measured, rng):
    """Trained along the exact velocity of normal data: z_t -> z_s -> z_r is z_t -> z_r within 2 % of the data's standard deviation, and
    both are the closed form within 5 %."""
    model = Denoiser(Perceptron(2, 2, width=32, blocks=1), PATH, AverageVelocity())
    objective = MeanFlow(PATH, Sorted(Uniform(), equal=0.25), power=0.5, teacher=exact(NORMAL, PATH))
    trained(model, objective, NORMAL, 3000, rng, rate=4e-3)
    apart, off = 0.0, 0.0
    for t, s, r in ((1.0, 0.5, 0.0), (1.0, 0.2, 0.0), (0.8, 0.4, 0.1), (0.5, 0.3, 0.0)):
        x = NORMAL.draw_at(PATH, t, 4000, rng).float()
        one, two = (sample(PATH, lambda x, t, s: model(x, t, s, None), Ddim(), grid, x, rng) for grid in ([t, r], [t, s, r]))
        truth = carried(x.double(), *(torch.full((4000,), float(c), dtype=F64) for c in (t, r)))
        apart = max(apart, (one - two).square().mean().sqrt().item() / STD)
        off = max(off, *((end - truth).square().mean().sqrt().item() / STD for end in (one, two)))
    what = "composed steps less one step, over the data's standard deviation, trained"
    measured("E8", what, apart, 0.02, f"off the closed form: {off:.3f}")
    assert apart <= 0.02 and off <= 0.05
