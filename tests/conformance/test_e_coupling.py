"""Couplings of noise and data."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from structgen.generative import (
    Ddim,
    Denoiser,
    Euler,
    Given,
    Independent,
    Linear,
    OptimalTransport,
    ReadVelocity,
    Regression,
    Sinkhorn,
    Uniform,
    assign,
    normal_like,
    sample,
    velocity_error,
)
from structgen.generative.coupling import squared_distances
from structgen.generative.times import uniform
from structgen.generative.weights import Constant
from tests.conformance.clouds import ring, scattered, sliced_w2

CLOUDS = {"2-D": ring(), "64-D": scattered()}
EACH_CLOUD = pytest.mark.parametrize("cloud", CLOUDS.values(), ids=CLOUDS)


def cost_of(ends) -> float:
    return (ends.data - ends.noise).square().sum(1).mean().item()


@EACH_CLOUD
def test_E6_transport_is_the_optimum_on_every_batch(cloud, measured, rng):
    """Every noise is used once; the cost is the optimum of scipy's solver to 1e-9, never above the independent coupling's."""
    worst = 0.0
    for count in (2, 17, 64, 256):
        data = cloud.draw(count, rng)
        state = rng.get_state()
        free = Independent().pair(data, rng)
        rng.set_state(state)
        ends = OptimalTransport().pair(data, rng)
        assert torch.equal(ends.data, data)
        assert torch.equal(ends.noise.sort(0).values, free.noise.sort(0).values)
        cost = squared_distances(free).numpy()
        rows, columns = linear_sum_assignment(cost)
        best = cost[rows, columns].mean()
        worst = max(worst, abs(cost_of(ends) - best) / best)
        assert cost_of(ends) <= cost_of(free)
    measured("E6", "relative distance of the cost from the optimum", worst, 1e-9)
    assert worst <= 1e-9


def test_E6_the_proof_of_optimality_holds(measured, rng):
    """The prices bound every permutation's cost from below; at n = 700 in 64-D the gap is at most 1e-9 of the cost."""
    cost = squared_distances(Independent().pair(scattered().draw(700, rng), rng))
    found = assign(cost)
    total = cost.gather(1, found.columns[:, None]).sum().item()
    below = ((cost + found.price).amin(1).sum() - found.price.sum()).item()
    measured("E6", "gap to the dual bound, relative", (total - below) / total, 1e-9)
    assert (total - below) / total <= 1e-9 and found.gap <= 1e-9 * total
    assert found.columns.sort().values.tolist() == list(range(700))


def test_E6_targets_vary_less(measured, rng):
    """The variance of the training target data - noise is lower than under the independent coupling, in 2-D and in 64-D."""
    for name, cloud in CLOUDS.items():
        data = cloud.draw(512, rng)
        ratio = cost_of(OptimalTransport().pair(data, rng)) / cost_of(Independent().pair(data, rng))
        measured("E6", f"E|data - noise|^2 over the independent one, batch 512, {name}", ratio, 1.0)
        assert ratio < {"2-D": 0.15, "64-D": 0.9}[name]


@EACH_CLOUD
def test_E6_sinkhorn_never_becomes_independent(cloud, measured, rng):
    """With the default regularisation the cost lies strictly between exact and independent, in 64-D too."""
    data = cloud.draw(256, rng)
    state = rng.get_state()
    costs = []
    for coupling in (OptimalTransport(), Sinkhorn(), Independent()):
        rng.set_state(state)
        costs.append(cost_of(coupling.pair(data, rng)))
    gain = (costs[2] - costs[1]) / (costs[2] - costs[0])
    measured("E6", f"share of the exact gain that Sinkhorn keeps, d = {data.shape[1]}", gain, 0.5)
    assert costs[0] <= costs[1] and gain > 0.5


def test_E6_two_data_sets_are_paired(rng):
    """With given pairs as the source, both ends are data; the permutation is the optimum of their distances."""
    both = torch.stack([ring().draw(64, rng), 3 + ring().draw(64, rng)], 1)
    ends = OptimalTransport(Given()).pair(both, rng)
    cost = squared_distances(Given().pair(both, rng)).numpy()
    rows, columns = linear_sum_assignment(cost)
    assert math.isclose(cost_of(ends), cost[rows, columns].mean(), rel_tol=1e-9)


class Velocity(nn.Module):
    """A perceptron of (x, t)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = itertools.pairwise((3, 128, 128, 128, 2))
        layers = [layer for a, b in sizes for layer in (nn.Linear(a, b), nn.SELU())]
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, x, times, cond):
        return self.body(torch.cat([x, times], 1))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_E6_learned_paths_are_straight(measured, rng):
    """Trained with transport: straightness at most 0.05, and one step within 1.5 times the sliced W2 of a hundred."""
    cloud, path = ring(), Linear()
    model = Denoiser(Velocity(), path, ReadVelocity())
    objective = Regression(path, Uniform(), Constant(), velocity_error, OptimalTransport())
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    for _ in range(3000):
        optimizer.zero_grad()
        objective(model, cloud.draw(256, rng).float(), None, rng).total.mean().backward()
        optimizer.step()
        schedule.step()

    def denoise(x, t, s):
        return model(x, t, s, None)

    with torch.no_grad():
        noise, data = normal_like(torch.empty(4096, 2), rng), cloud.draw(4096, rng)
        one, hundred = (sample(path, denoise, Euler(), uniform(n, 1.0, 0.0), noise, rng) for n in (1, 100))
        bend, x = 0.0, noise
        for t, s in itertools.pairwise(uniform(100, 1.0, 0.0).tolist()):
            at = torch.full((4096,), t)
            velocity = path.velocity(denoise(x, at, at), at)
            bend += (velocity - (noise - hundred)).square().sum(1).mean().item() / 100
            x = sample(path, denoise, Ddim(), [t, s], x, rng)
    straightness = bend / (noise - hundred).square().sum(1).mean().item()
    w2 = [sliced_w2(x.double(), data) for x in (one, hundred)]
    measured("E6", "straightness of paths learned with transport", straightness, 0.05)
    measured("E6", "sliced W2 at 1 step over that at 100", w2[0] / w2[1], 1.5, f"{w2[0]:.3f} and {w2[1]:.3f}")
    assert straightness <= 0.05
    assert w2[0] <= 1.5 * w2[1]
