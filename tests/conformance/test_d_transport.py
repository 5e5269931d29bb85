"""Rows D1 and D2: DiffFlow and its stochastic adjoint."""

from __future__ import annotations

import itertools
import math
import weakref

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn

from structgen.generative import (
    Chain,
    DiffFlow,
    Endpoints,
    PathDivergence,
    VarianceExploding,
    bound,
    linear_betas,
    normal_like,
)
from structgen.generative.diffflow import Chains, path_cost
from structgen.generative.discrete import gaussian_nll
from structgen.generative.likelihood import normal_density
from structgen.generative.transitions import intervals, log_density, normals, walk
from structgen.generative.variational import fixed_variance, prior_term, step_term
from tests.conformance.clouds import Cloud
from tests.generative.mixture import Gaussian, Mixture

F64 = torch.float64


def cubature(dimensions: int) -> torch.Tensor:
    """Points [2 d, d] of equal weight whose mean of every quadratic is that of a standard normal."""
    axes = math.sqrt(dimensions) * torch.eye(dimensions, dtype=F64)
    return torch.cat([axes, -axes])


def mean_cost(flow: DiffFlow, start: float | None, prior, std: float = 1.0) -> float:
    """The exact mean of the objective of a linear flow in one dimension: over data N(0, std^2), or from one start."""
    points = cubature(len(flow.times) - (start is not None))
    data, noises = (std * points[:, :1], points[:, 1:]) if start is None else (torch.full_like(points[:, :1], start), points)
    chains = Chains(flow.noising(None), flow.denoising(None), prior, flow.times)
    return path_cost(chains, walk(chains.noising, flow.times, data, noises.T[:, :, None]), data, ()).mean().item()


def ornstein_uhlenbeck(steps: int, drift: float = -0.5, score: float | None = None) -> tuple[DiffFlow, float]:
    """dx = drift x dt + dw on [0, 1] from N(0, 0.36), with the exact score or score x; the variance at 1."""

    def variance(t):
        return 0.36 * torch.exp(2 * drift * t) + torch.expm1(2 * drift * t) / (2 * drift)

    flow = DiffFlow(
        lambda x, t, cond: drift * x,
        lambda x, t, cond: -x / variance(t) if score is None else score * x,
        lambda t: torch.ones_like(t),
        torch.linspace(0, 1, steps + 1, dtype=F64),
    )
    return flow, variance(torch.ones((), dtype=F64)).item()


def path_kl(steps: int, **linear: float) -> float:
    flow, variance = ornstein_uhlenbeck(steps, **linear)
    return mean_cost(flow, None, normal_density(math.sqrt(variance)), std=0.6) - 0.5 * math.log(2 * math.pi * math.e * 0.36)


def test_D1_divergence_is_never_negative_and_vanishes_at_the_exact_reverse(measured):
    """On Gaussian data with linear networks, where its mean is exact: KL >= 0 for any drift and score; with the exact score it falls to 0
    with slope 1 in dt."""
    steps = (32, 64, 128, 256)
    exact = [path_kl(n) for n in steps]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(exact)]
    measured(
        "D1",
        "slope of KL in dt at the exact reverse drift",
        slopes[-1],
        1.0,
        "KL at 32 ... 256 steps: " + ", ".join(f"{k:.1e}" for k in exact),
    )
    assert exact[-1] > 0 and slopes[-1] == pytest.approx(1, abs=0.03)
    wrong = [path_kl(32, drift=f, score=s) for f in (-2.0, -0.5, 0.7) for s in (-3.0, -1.0, 0.0, 1.0)]
    assert min(wrong) >= 0


def ddpm(chain: Chain, denoise) -> DiffFlow:
    """The chain as a DiffFlow: drift (sqrt(1 - beta) - 1) x / dt, and the score with which the step back has DDPM's mean."""
    count = len(chain)

    def beta(t):
        return chain.beta((t * count).round().long())

    def score(x, times, cond):
        k = (times[:, 0] * count).round().long()
        t, b = chain.time(k, x), chain.beta(k)[:, None]
        mean = chain.posterior_mean(denoise(x, t, t), x, k)
        return (mean - x + ((1 - b).sqrt() - 1) * x) / b

    times = torch.arange(count + 1, dtype=F64) / count
    return DiffFlow(lambda x, t, cond: ((1 - beta(t)).sqrt() - 1) * count * x, score, lambda t: (beta(t) * count).sqrt(), times)


def test_D1_a_frozen_linear_drift_is_ddpm_step_by_step(measured, rng):
    """For a nonlinear noise prediction: the mean over x_(k-1) given x_k and the data of a step's cost is DDPM's L_(k-1), less log densities
    that telescope; and the end is L_T. All to 1e-12."""
    chain, mixture = Chain(linear_betas(30)), Mixture()
    denoise = mixture.denoiser(chain.path())
    flow = ddpm(chain, denoise)
    chains = Chains(flow.noising(None), flow.denoising(None), normal_density(1.0), flow.times)
    nodes, weights = (torch.tensor(v, dtype=F64) for v in hermegauss(3))
    weights = weights / weights.sum()
    data, worst = torch.tensor([[-0.7]], dtype=F64), 0.0
    predict = fixed_variance(chain, denoise, lambda k: chain.log_variances(k)[1])

    def log_q(x, k):
        """log q(x_k | data)."""
        ab = chain.alpha_bar(torch.tensor(k))
        return -gaussian_nll(x, ab.sqrt() * data, (1 - ab).log())[:, 0]

    for k in range(1, 31):
        at, noise = torch.tensor([k]), normal_like(data, rng)
        x = chain.path().state(Endpoints(data, noise), chain.time(at, data))
        mean, std = chain.posterior_mean(Endpoints(data, noise), x, at), chain.posterior_variance(at).sqrt()
        before = mean + std * nodes[:, None] if k > 1 else data.expand(3, 1)
        t, s = (torch.full((3,), (k - i) / 30, dtype=F64) for i in (1, 0))
        cost = chains.link(before, x.expand(3, 1), t, s)[1] + (log_q(before, k - 1) if k > 1 else 0)
        found = (weights * cost).sum() - log_q(x, k)[0]
        worst = max(worst, (found - step_term(chain, predict, data, at, noise)[0]).abs().item())
    ab = chain.alpha_bar(torch.tensor(30))
    last = ab.sqrt() * data + (1 - ab).sqrt() * nodes[:, None]
    worst = max(worst, ((weights * (log_q(last, 30) - chains.prior(last))).sum() - prior_term(chain, data)[0]).abs().item())
    measured("D1", "largest difference of a term from DDPM's, drift frozen", worst, 1e-12)
    assert worst <= 1e-12


def test_D1_a_frozen_linear_drift_is_ddpm_in_sum(measured):
    """For a linear noise prediction the mean over all noise is exact on both sides: DiffFlow's objective is the bound, to 1e-12."""
    chain, law, start = Chain(linear_betas(30)), Gaussian(), 0.9
    denoise = law.denoiser(chain.path())
    predict = fixed_variance(chain, denoise, lambda k: chain.log_variances(k)[1])
    nodes, weights = hermegauss(3)
    data = torch.full((3, 1), start, dtype=F64)
    terms = [step_term(chain, predict, data, torch.full((3,), k), torch.tensor(nodes)[:, None]) for k in range(1, 31)]
    whole = (torch.stack(terms).sum(0) * torch.tensor(weights / weights.sum())).sum() + prior_term(chain, data)[0]
    found = mean_cost(ddpm(chain, denoise), start, normal_density(1.0))
    measured("D1", "difference of the whole objective from DDPM's bound, drift frozen", abs(found - whole.item()), 1e-12)
    assert abs(found - whole.item()) <= 1e-12
    assert len(bound(chain, predict, data, torch.Generator()).steps) == 29  # the same terms, with noise drawn


class Tanh(nn.Module):
    """A small network of (x, t)."""

    def __init__(self, d: int, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(d + 1, width, dtype=F64), nn.Tanh(), nn.Linear(width, d, dtype=F64))

    def forward(self, x, times, cond):
        return self.body(torch.cat([x, times], 1))


class Spread(nn.Module):
    """exp(a + b t)."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Parameter(torch.tensor([-0.3, 0.4], dtype=F64))

    def forward(self, t):
        return (self.line[0] + self.line[1] * t).exp()


def small_flow(steps: int, diffusion=None) -> DiffFlow:
    torch.manual_seed(0)
    return DiffFlow(Tanh(3), Tanh(3), diffusion or Spread(), torch.linspace(0, 1, steps + 1, dtype=F64) ** 1.5)


def backprop_cost(flow: DiffFlow, data, rng):
    """log p_F - log p_B of one path an example by plain densities, everything kept for backpropagation."""
    x = walk(flow.noising(None), flow.times, data, normals(data, rng))
    cost = -normal_density(1.0)(x[-1])
    for i, (t, s) in enumerate(intervals(flow.times, data)):
        there, back = log_density(flow.noising(None), x[i], t, s, x[i + 1]), log_density(flow.denoising(None), x[i + 1], s, t, x[i])
        cost = cost + there - back
    return cost


def relative(found, wanted) -> float:
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, wanted, strict=True))


def test_D2_adjoint_is_backpropagation(measured):
    """Value and gradients in drift, score, diffusion and data, with a weight an example: 1e-10 relative to backpropagation."""
    flow, data = small_flow(12), torch.randn(16, 3, dtype=F64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weight = torch.linspace(0.5, 2, 16, dtype=F64)
    wanted = backprop_cost(flow, data, torch.Generator().manual_seed(2))
    found = PathDivergence()(flow, data, None, torch.Generator().manual_seed(2)).total
    inputs = [data, *flow.parameters()]
    error = relative(*(torch.autograd.grad((weight * cost).sum(), inputs) for cost in (found, wanted)))
    measured("D2", "relative error of the gradient, corrected", error, 1e-10)
    assert (found - wanted).abs().max() <= 1e-10 and error <= 1e-10


def lecture_gradient(flow: DiffFlow, x, *, printed: bool):
    """The lecture's Algorithm 2 for half the squared backward noises - log p_B(x_N), line by line."""
    parameters = list(flow.parameters())
    gradients = [torch.zeros_like(p) for p in parameters]
    steps = list(enumerate(intervals(flow.times, x[0])))

    def half_square(a, b, t, s):
        mean, std = flow.denoising(None)(b, s, t)
        return ((a - mean) / std).square().sum() / 2

    end = x[-1].detach().requires_grad_()
    line_2 = -normal_density(1.0)(end).sum()
    if printed:
        line_2 = line_2 + half_square(x[-2].detach(), end, *steps[-1][1])
    (adjoint,) = torch.autograd.grad(line_2, end)
    for i, (t, s) in reversed(steps):
        a, b = (x[j].detach().requires_grad_() for j in (i, i + 1))
        da, db, *of_cost = torch.autograd.grad(half_square(a, b, t, s), [a, b, *parameters], materialize_grads=True)
        mean, std = flow.noising(None)(a, t, s)
        moved = mean + std * ((b - mean) / std).detach()
        carried, *of_step = torch.autograd.grad(moved, [a, *parameters], adjoint + db, materialize_grads=True)  # line 5 adds d delta / dx
        gradients = [sum(g) for g in zip(gradients, of_cost, of_step, strict=True)]
        adjoint = carried + da
    return gradients


def test_D2_the_lectures_algorithm_fails_as_printed(measured):
    """With the term of delta_N in line 2 as well as in line 5 the gradient is off by its own size or more; without it in line 2 it is that
    of backpropagation."""
    flow = small_flow(6, diffusion=lambda t: torch.full_like(t, 0.7))  # not trained: the loss as published holds
    data = torch.randn(16, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    x = walk(flow.noising(None), flow.times, data, normals(data, torch.Generator().manual_seed(2)))
    loss = -normal_density(1.0)(x[-1]).sum()
    for i, (t, s) in enumerate(intervals(flow.times, data)):
        mean, std = flow.denoising(None)(x[i + 1], s, t)
        loss = loss + ((x[i] - mean) / std).square().sum() / 2
    wanted = torch.autograd.grad(loss, list(flow.parameters()))
    printed, corrected = (relative(lecture_gradient(flow, x, printed=p), wanted) for p in (True, False))
    found = PathDivergence()(flow, data, None, torch.Generator().manual_seed(2)).total
    ours = relative(torch.autograd.grad(found.sum(), list(flow.parameters())), wanted)
    measured("D2", "relative error of the gradient, as the lecture prints it", printed, None, "the term of delta_N is counted twice")
    measured("D2", "relative error of the gradient, the lecture's corrected", corrected, 1e-10)
    assert printed > 1 and corrected <= 1e-10 and ours <= 1e-10


class Kept:
    """A tensor that a graph has saved; it lives as long as the graph."""

    def __init__(self, x) -> None:
        self.tensor = x.detach()  # an output that were held whole would hold its graph, and that the output


def saved_bytes(run) -> int:
    """What autograd keeps for backward when `run` has returned: every saved tensor that still lives, once."""
    kept = weakref.WeakSet()

    def pack(x):
        kept.add(one := Kept(x))
        return one

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one.tensor):
        held = run()
    assert held.requires_grad
    return sum({one.tensor.data_ptr(): one.tensor.nbytes for one in kept}.values())


def test_D2_nothing_but_the_trajectory_is_kept(measured):
    """Saved bytes are those of the trajectory, at every number of steps; backpropagation keeps many times as much."""
    data, beyond, kept = torch.randn(16, 3, dtype=F64, generator=torch.Generator().manual_seed(1)), [], []
    for steps in (4, 16, 64):
        flow = small_flow(steps)
        kept.append(saved_bytes(lambda flow=flow: PathDivergence()(flow, data, None, torch.Generator().manual_seed(2)).total))
        beyond.append(kept[-1] - (steps + 1) * data.numel() * 8)
    naive = saved_bytes(lambda: backprop_cost(small_flow(64), data, torch.Generator().manual_seed(2)))
    measured("D2", "bytes kept beyond the trajectory, largest of 4, 16, 64 steps", max(beyond), 0)
    measured("D2", "bytes that backpropagation keeps over those of the adjoint, 64 steps", naive / kept[-1], None)
    assert beyond == [0, 0, 0] and naive > 5 * kept[-1]


class Field(nn.Module):
    """x h(t) + n(x, t), zero at first: a part that is linear in x, and a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2))
        self.body = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
        for last in (self.slope[-1], self.body[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x, times, cond):
        return x * self.slope(times) + self.body(torch.cat([x, times], 1))


STEPS, STD = 30, 0.05


def beta(t):
    """Small where the data are sharp."""
    return 35 * t**4


class Drift(nn.Module):
    """-beta x / 2, as in a variance-preserving diffusion; trained, with a field beside it."""

    def __init__(self, trained: bool) -> None:
        super().__init__()
        self.field = Field() if trained else None

    def forward(self, x, times, cond):
        still = -beta(times) / 2 * x
        return still if self.field is None else still + 3 * self.field(x, times, cond)


class Score(nn.Module):
    """A field in units of a step's noise, less x."""

    def __init__(self) -> None:
        super().__init__()
        self.field = Field()

    def forward(self, x, times, cond):
        return 5 * self.field(x, times, cond) * beta(times).rsqrt() - x


def best_score(cloud: Cloud):
    """With the drift frozen, the score whose step back has the mean of the state before, in closed form: none has a smaller divergence."""
    b = beta(torch.arange(1, STEPS + 1, dtype=F64) / STEPS) / STEPS
    alpha, variance = [1.0], [0.0]
    for keep, added in zip((1 - b / 2).tolist(), b.tolist(), strict=True):
        alpha.append(alpha[-1] * keep)
        variance.append(variance[-1] * keep**2 + added)

    def score(x, times, cond):
        k = round(times[0, 0].item() * STEPS)
        level = x.new_full((len(x),), math.sqrt(variance[k]) / alpha[k])
        data = cloud.denoise(VarianceExploding(), x / alpha[k], level).data
        before = alpha[k - 1] * data + (1 - b[k - 1] / 2) * variance[k - 1] / variance[k] * (x - alpha[k] * data)
        return (before - x - b[k - 1] / 2 * x) / b[k - 1]

    return score


def divergence_over_paths(flow: DiffFlow, cloud: Cloud, like) -> float:
    """KL(p_F || p_B) in nats, from 50,000 paths."""
    rng = torch.Generator().manual_seed(2)
    data = cloud.draw(50_000, rng)
    entropy = -cloud.log_prob(VarianceExploding(), data, torch.full((len(data),), 1e-9, dtype=F64)).mean().item()
    with torch.no_grad():
        return PathDivergence()(flow, data.to(like), None, rng).total.mean().item() - entropy


def flow_of(drift, score, dtype) -> DiffFlow:
    return DiffFlow(drift, score, lambda t: beta(t).sqrt(), torch.linspace(0, 1, STEPS + 1, dtype=dtype))


def trained_kl(cloud: Cloud, trained: bool, iterations: int) -> float:
    torch.manual_seed(0)
    rng, objective = torch.Generator().manual_seed(1), PathDivergence()
    flow = flow_of(Drift(trained), Score(), torch.float32)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        optimizer.zero_grad()
        objective(flow, cloud.draw(128, rng).float(), None, rng).total.mean().backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    return divergence_over_paths(flow, cloud, torch.float32)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_D1_a_trained_drift_beats_a_frozen_one(measured):
    """Two modes of standard deviation 0.05 at distance 2, 30 steps, the same noise: after as many updates from the same start, a drift that
    is trained beside the score leaves at most 0.85 times the divergence of a frozen one, and less than a frozen one has with the best of
    all scores."""
    centres = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=F64)
    cloud = Cloud(torch.full((2,), 0.5, dtype=F64), centres, torch.full((2,), STD, dtype=F64))
    best = divergence_over_paths(flow_of(Drift(False), best_score(cloud), F64), cloud, F64)
    frozen, trained = (trained_kl(cloud, which, 1000) for which in (False, True))
    measured("D1", "KL over paths at 30 steps, drift frozen, nats", frozen, None)
    measured("D1", "KL over paths at 30 steps, drift frozen, score in closed form, nats", best, None)
    chosen = "where the noise is small early; with linear betas, or 4 and 8 modes, the trained drift was on a par or worse"
    measured("D1", "KL over paths at 30 steps, drift trained, nats", trained, best, chosen)
    assert trained < 0.85 * frozen and trained < best < frozen
