"""Row D3: the Schroedinger bridge by alternate projections, on tables, normal and learned."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from structgen.errors import NumericalError
from structgen.generative import Drifted, GaussianLaw, LearnedLaw, Sinkhorn, TableLaw, half_steps, normal_like
from structgen.generative.bridge import Affine, Normal
from tests.conformance.clouds import ring, sliced_w2

F64 = torch.float64


def gaussian_kl(a: Normal, b: Normal) -> float:
    inverse = torch.linalg.inv(b.covariance)
    away = a.mean - b.mean
    ratio = torch.logdet(b.covariance) - torch.logdet(a.covariance)
    return ((inverse @ a.covariance).trace() - len(away) + away @ inverse @ away + ratio).item() / 2


def root(s):
    values, vectors = torch.linalg.eigh(s)
    return vectors @ values.sqrt().diag() @ vectors.mT


def bridge_covariance(s0, s1, variance: float):
    """The cross-covariance of the bridge between N(0, s0) and N(0, s1) along Brownian motion of this variance, in closed form."""
    r = root(s0)
    d = root(4 * r @ s1 @ r + variance**2 * torch.eye(len(s0), dtype=F64))
    return (r @ d @ torch.linalg.inv(r) - variance * torch.eye(len(s0), dtype=F64)) / 2


S0 = torch.tensor([[1.3, 0.5], [0.5, 0.7]], dtype=F64)
S1 = torch.tensor([[0.6, -0.3], [-0.3, 1.1]], dtype=F64)


def brownian(start: Normal, variance: float, steps: int) -> GaussianLaw:
    d = len(start.mean)
    eye = torch.eye(d, dtype=F64)
    return GaussianLaw(start, [Affine(eye, torch.zeros(d, dtype=F64), variance / steps * eye)] * steps)


@pytest.mark.parametrize("steps", [1, 8])
def test_D3_gaussian_bridge_in_closed_form(steps, measured):
    """After 20 half-steps the cross-covariance is the bridge's within 2 %, in 2-D with covariances that do not commute and in 1-D, where it
    is (sqrt(sigma^4 + 4) - sigma^2) / 2; the number of time steps changes nothing. Means are carried."""
    mean, variance = torch.tensor([0.5, -1.0], dtype=F64), 0.64
    ends = Normal(torch.zeros(2, dtype=F64), S0), Normal(mean, S1)
    laws = list(itertools.islice(half_steps(brownian(ends[0], variance, steps), ends), 20))
    wanted = bridge_covariance(S0, S1, variance)
    error = ((laws[-1].cross_covariance() - wanted).norm() / wanted.norm()).item()
    one = Normal(torch.zeros(1, dtype=F64), torch.ones(1, 1, dtype=F64))
    *_, line = itertools.islice(half_steps(brownian(one, variance, steps), (one, one)), 20)
    scalar = abs(line.cross_covariance().item() / ((math.sqrt(variance**2 + 4) - variance) / 2) - 1)
    measured("D3", f"relative error of the cross-covariance after 20 half-steps, 2-D, {steps} time steps", error, 0.02)
    measured("D3", f"relative error of the cross-covariance after 20 half-steps, 1-D, {steps} time steps", scalar, 0.02)
    assert error <= 0.02 and scalar <= 0.02
    assert (laws[-1].marginals()[-1].mean - mean).abs().max() < 1e-3


def test_D3_marginal_divergence_never_rises(measured):
    """KL of the free end's law to the given one falls from each half-step to the next like one, for normal laws and on a grid."""
    ends = Normal(torch.zeros(2, dtype=F64), S0), Normal(torch.ones(2, dtype=F64), S1)
    laws = list(itertools.islice(half_steps(brownian(ends[0], 0.1, 4), ends), 20))
    normal = [gaussian_kl(law.marginals()[-1], ends[i % 2]) for i, law in enumerate(laws)]
    reference, tables = on_grid()
    ends_kl = []
    for i, law in enumerate(itertools.islice(half_steps(reference, tables), 20)):
        p = law.marginals()[-1]
        ends_kl.append((p * (p / tables[i % 2]).log()).sum().item())
    worst = max(after - before for kl in (normal, ends_kl) for before, after in zip(kl, kl[2:], strict=False))
    measured("D3", "largest rise of the marginal KL between like half-steps", worst, 0.0, f"normal: {normal[0]:.2f} to {normal[-1]:.1e}")
    assert worst <= 1e-15 and normal[-1] < 0.2 * normal[0] and ends_kl[-1] < 0.2 * ends_kl[0]


def on_grid() -> tuple[TableLaw, tuple[torch.Tensor, torch.Tensor]]:
    """A random walk of 3 steps on 60 points, from a normal towards a mixture."""
    x = torch.linspace(-3, 3, 60, dtype=F64)
    laws = (-(x**2) / 2).softmax(0), torch.logaddexp(-((x - 1.5) ** 2) / 0.2, -((x + 1) ** 2) / 0.5).softmax(0)
    step = (-((x[:, None] - x) ** 2) / 0.3).softmax(1)
    return TableLaw(laws[0], step.expand(3, -1, -1)), laws


def test_D3_on_a_grid_half_steps_are_sinkhorn_iterations(measured):
    """The joint law of both ends after every half-step is diag(u) K diag(v) of Sinkhorn's alternate scaling, to 1e-10."""
    reference, (a, b) = on_grid()
    kernel = reference.steps[0] @ reference.steps[1] @ reference.steps[2]
    u, worst = a, 0.0
    for i, law in enumerate(itertools.islice(half_steps(reference, (a, b)), 20)):
        if i % 2 == 0:
            v = b / (kernel.T @ u)
        else:
            u = a / (kernel @ v)
        plan = u[:, None] * kernel * v
        joint = law.ends().T if i % 2 == 0 else law.ends()
        worst = max(worst, (joint - plan).abs().max().item())
    measured("D3", "largest difference from Sinkhorn's iterates on a grid", worst, 1e-10)
    assert worst <= 1e-10


def test_D3_on_a_grid_the_bridge_is_the_entropic_coupling(rng):
    """With uniform ends and the kernel exp(-cost / reg), the limit is the plan of `Sinkhorn`, to 1e-8."""
    x, y = (torch.randn(24, 2, dtype=F64, generator=rng) for _ in range(2))
    cost, even = torch.cdist(x, y).square(), torch.full((24,), 1 / 24, dtype=F64)
    sinkhorn = Sinkhorn(relative=0.2, tolerance=1e-12)
    *_, law = itertools.islice(half_steps(TableLaw(even, (-cost / (0.2 * cost.mean())).softmax(1)[None]), (even, even)), 2000)
    assert (law.ends() - sinkhorn.log_plan(cost).exp()).abs().max() < 1e-8


def test_D3_an_end_out_of_reach_is_refused():
    """No path from the first point leads to the second: there is no bridge."""
    law = TableLaw(torch.tensor([1.0, 0.0]), torch.eye(2)[None])
    with pytest.raises(NumericalError, match="never reaches"):
        law.turned(torch.tensor([0.5, 0.5]))


class AffineSteps(nn.Module):
    """A x + b and g with their own A, b, g for each of n + 1 times 0, 1 / n, ..., 1."""

    def __init__(self, steps: int, spread: float) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Parameter(torch.zeros(steps + 1, dtype=F64)) for _ in range(2))
        self.log_spread = nn.Parameter(torch.full((steps + 1,), math.log(spread), dtype=F64))

    def at(self, t):
        return (t * (len(self.shift) - 1)).round().long()

    def forward(self, x, times, cond):
        k = self.at(times)
        return self.scale[k] * x + self.shift[k]

    def diffusion(self, t):
        return self.log_spread[self.at(t)].exp()


def test_D3_learned_half_steps_reach_the_gaussian_bridge(measured):
    """Affine steps fitted by the objective on 40,000 paths, from N(0, 1) to N(1, 1): after 20 half-steps the covariance is (sqrt(sigma^4 +
    4) - sigma^2) / 2 and the last mean 1, both within 3 %. The ends are put right by every half-step, but the errors of the fits in
    between add up, so each has its own noise."""
    steps, variance, seeds = 4, 0.64, itertools.count()

    def normal(mean):
        return lambda count, rng: mean + math.sqrt(2) * torch.erfinv(torch.linspace(-1, 1, count + 2, dtype=F64)[1:-1])[:, None]

    def fit(objective, draw):
        net = AffineSteps(steps, math.sqrt(variance))
        kernel = Drifted(net, net.diffusion)
        optimizer = torch.optim.LBFGS(kernel.parameters(), max_iter=12, line_search_fn="strong_wolfe")
        data, seed = draw(40_000, torch.Generator()), next(seeds)

        def closure():
            optimizer.zero_grad()
            loss = steps * objective(kernel, data, None, torch.Generator().manual_seed(seed)).total.mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        return kernel.requires_grad_(False)

    ends = normal(0.0), normal(1.0)
    net = AffineSteps(steps, math.sqrt(variance)).requires_grad_(False)
    reference = LearnedLaw(ends[0], Drifted(net, net.diffusion), [k / steps for k in range(steps + 1)], fit)
    *_, law = itertools.islice(half_steps(reference, ends), 20)
    paths = law.trajectories(100_000, None, torch.Generator().manual_seed(3))
    cross = (paths[0] * (paths[-1] - 1)).mean().item()
    error = abs(cross / ((math.sqrt(variance**2 + 4) - variance) / 2) - 1)
    measured("D3", "relative error of the cross-covariance, learned steps", error, 0.03)
    assert error <= 0.03 and paths[-1].mean().item() == pytest.approx(1, abs=0.03)


class Perceptron(nn.Module):
    """A drift of (x, t), zero at first."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
        nn.init.zeros_(self.body[-1].weight)
        nn.init.zeros_(self.body[-1].bias)

    def forward(self, x, times, cond):
        return self.body(torch.cat([x, times], 1))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_D3_networks_bridge_a_ring_and_a_normal_law(measured, rng):
    """Perceptrons on 20 steps, each half-step from the weights of two before: after 7 half-steps paths from N(0, 1) end in the ring, at a
    sliced W2 of at most 0.3 of that between both laws, and nearer to it after each odd half-step than after the one before."""
    cloud, steps, spread = ring(), 20, 0.7
    torch.manual_seed(0)
    kernels = {}

    def fit(objective, draw):
        rising = objective.times[0] < objective.times[-1]
        kernel = Drifted(Perceptron(), lambda t: torch.full_like(t, spread))
        if rising in kernels:
            kernel.load_state_dict(kernels[rising].state_dict())
        kernels[rising] = kernel
        optimizer = torch.optim.Adam(kernel.parameters(), 4e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
        for _ in range(300):
            optimizer.zero_grad()
            objective(kernel, draw(256, rng), None, rng).total.mean().backward()
            optimizer.step()
            schedule.step()
        return kernel.requires_grad_(False)

    ends = (lambda count, rng: cloud.draw(count, rng).float()), (lambda count, rng: normal_like(torch.empty(count, 2), rng))
    reference = LearnedLaw(ends[0], Drifted(Perceptron(), lambda t: torch.full_like(t, spread)), [k / steps for k in range(steps + 1)], fit)
    data, off = cloud.draw(4000, rng), []
    for law in itertools.islice(half_steps(reference, ends), 0, 7, 2):
        with torch.no_grad():
            off.append(sliced_w2(law.trajectories(4000, None, rng)[-1].double(), data))
    apart = sliced_w2(normal_like(data, rng), data)
    figures = ", ".join(f"{w:.3f}" for w in off)
    floor = sliced_w2(cloud.draw(4000, rng), data)
    measured(
        "D3",
        "sliced W2 to the ring over that of the normal law, learned, 7 half-steps",
        off[-1] / apart,
        0.3,
        f"{figures}; floor {floor:.3f}",
    )
    assert off[-1] <= 0.3 * apart and off == sorted(off, reverse=True)
