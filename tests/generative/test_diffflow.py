"""DiffFlow: its two chains, its objective, and what the adjoint leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from structgen.errors import ConfigError
from structgen.generative import DiffFlow, Drifted, PathDivergence, normal_like
from structgen.generative.likelihood import normal_density
from structgen.generative.transitions import closed, intervals, log_density, normals, walk

F64 = torch.float64


class Scaled(nn.Module):
    """a x + cond."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=F64))

    def forward(self, x, times, cond):
        return self.a * x + cond


def even(steps: int) -> list[float]:
    return [k / steps for k in range(steps + 1)]


def ones(t):
    return torch.ones_like(t)


def test_a_walk_is_made_of_its_transitions(rng):
    """Each state is the mean after the one before plus the standard deviation times the noise given; only as many noises are drawn as there
    are steps."""
    kernel = Drifted(Scaled(-0.5), lambda t: 1 + t)
    x = normal_like(torch.empty(4, 2, 3, dtype=F64), rng)
    twin = torch.Generator()
    twin.set_state(rng.get_state())
    states = walk(closed(kernel, 0.3), [0.0, 0.5, 0.75], x, normals(x, rng))
    first = x + 0.5 * (-0.5 * x + 0.3) + math.sqrt(0.5) * normal_like(x, twin)
    second = first + 0.25 * (-0.5 * first + 0.3) + 1.5 * 0.5 * normal_like(x, twin)
    assert (states - torch.stack([x, first, second])).abs().max() < 1e-14
    assert torch.equal(rng.get_state(), twin.get_state())
    (t, s), _ = intervals([0.0, 0.5, 0.75], x)
    found = log_density(closed(kernel, 0.3), x, t, s, first)
    wanted = torch.distributions.Normal(x + 0.5 * (-0.5 * x + 0.3), math.sqrt(0.5)).log_prob(first).flatten(1).sum(1)
    assert (found - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.5, 0.5], [1.0, 0.0]])
def test_times_must_rise(times):
    """From data to noise."""
    with pytest.raises(ConfigError, match="rise"):
        DiffFlow(Scaled(0.0), Scaled(0.0), ones, times)


def test_samples_have_the_law_of_the_data(rng):
    """dx = -x / 2 dt + dw keeps N(0, 1), whose score is -x: what is generated in 50 steps has variance 1 to the order of dt."""
    flow = DiffFlow(Scaled(-0.5), Scaled(-1.0), ones, even(50))
    x = flow.generate(normal_like(torch.empty(100_000, 1, dtype=F64), rng), 0.0, rng)
    assert x.var().item() == pytest.approx(1, abs=0.02)


def test_events_and_conditions_of_any_kind_pass(rng):
    """[b, 2, 2] events; the condition reaches both networks; the parts name the bound."""
    flow, data = DiffFlow(Scaled(-0.5), Scaled(-1.0), ones, even(4)), torch.zeros(3, 2, 2, dtype=F64)
    losses = [PathDivergence()(flow, data, cond, torch.Generator().manual_seed(0)) for cond in (0.0, 1.0)]
    assert losses[0].total.shape == (3,) and torch.equal(losses[0].total, losses[0].parts["bound"])
    assert (losses[0].total - losses[1].total).abs().min() > 1e-3


def test_a_frozen_drift_gets_no_gradient_and_is_no_hindrance(rng):
    """Parameters that are not trained are left out; those that are get the gradient they had."""
    gradients = []
    for frozen in (False, True):
        flow = DiffFlow(Scaled(-0.5), Scaled(-0.7), ones, even(8))
        flow.drift.requires_grad_(not frozen)
        PathDivergence()(flow, torch.ones(5, 2, dtype=F64), 0.0, torch.Generator().manual_seed(0)).total.sum().backward()
        assert (flow.drift.a.grad is None) == frozen
        gradients.append(flow.score.a.grad)
    assert torch.equal(*gradients)


def test_a_second_derivative_is_refused(rng):
    """The adjoint is once differentiable, and says so."""
    flow = DiffFlow(Scaled(-0.5), Scaled(-0.7), ones, even(4))
    total = PathDivergence()(flow, torch.ones(5, 2, dtype=F64), 0.0, rng).total.sum()
    (gradient,) = torch.autograd.grad(total, flow.drift.a, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        gradient.backward()


def test_training_lowers_the_bound_to_the_entropy(rng):
    """Data N(0, 0.25), drift, score and prior all linear: 60 steps of Adam bring the bound within 0.05 nats of the entropy."""
    flow = DiffFlow(Scaled(0.0), Scaled(0.0), lambda t: 0.5 * torch.ones_like(t), even(10))
    objective, optimizer = PathDivergence(normal_density(0.7)), torch.optim.Adam(flow.parameters(), 0.2)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    bounds = []
    for _ in range(60):
        optimizer.zero_grad()
        bound = objective(flow, 0.5 * normal_like(torch.empty(256, 1, dtype=F64), rng), 0.0, rng).total.mean()
        bound.backward()
        optimizer.step()
        bounds.append(bound.item() - entropy)
    assert bounds[0] > 0.3 and sum(bounds[-20:]) / 20 < 0.05
