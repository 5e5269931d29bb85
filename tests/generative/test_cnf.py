"""Maximum likelihood through a flow, and the adjoint that carries it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from structgen.errors import ConfigError
from structgen.generative import RK4, Denoiser, Euler, Linear, MaximumLikelihood, ReadVelocity, Recomputed, RungeKutta, one_probe, sample
from structgen.generative.times import uniform

F64 = torch.float64
RISING = torch.linspace(0, 1, 11, dtype=F64)


class Growth(nn.Module):
    """The velocity cond a x."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=F64))

    def forward(self, x, times, cond):
        return cond * self.a * x


def model(a: float) -> Denoiser:
    return Denoiser(Growth(a), Linear(), ReadVelocity())


@pytest.mark.parametrize("probed", [False, True])
def test_the_optimum_of_a_linear_flow(probed, rng):
    """x' = a x takes data of standard deviation e^-a to N(0, 1): the loss and its gradient there are those of the normal law. With a
    diagonal Jacobian one probe of signs is exact."""
    data = torch.randn(64, 2, 2, generator=rng, dtype=F64)
    a = -0.5 * math.log(data.square().mean().item())
    flow = model(a)
    chosen = {"divergence": one_probe} if probed else {}
    loss = MaximumLikelihood(Linear(), RungeKutta(RK4), RISING, **chosen)(flow, data, 1.0, rng)
    wanted = -torch.distributions.Normal(0, math.exp(-a)).log_prob(data).flatten(1).sum(1)
    assert (loss.total - wanted).abs().max() < 1e-4 and torch.equal(loss.total, loss.parts["nll"])
    loss.total.mean().backward()
    assert abs(flow.network.a.grad.item()) < 1e-4


def test_the_condition_is_part_of_the_flow(rng):
    """cond = 2 doubles the velocity."""
    objective, data = MaximumLikelihood(Linear(), RungeKutta(RK4), RISING), torch.ones(3, 2, dtype=F64)
    assert torch.equal(objective(model(0.3), data, 2.0, rng).total, objective(model(0.6), data, 1.0, rng).total)


@pytest.mark.parametrize("stretch", [1, 3, 10, 99])
def test_a_recomputed_walk_is_the_walk(stretch, rng):
    """Whatever the stretch, the end and its gradient are those of `sample`, falling or rising."""
    flow, x = model(0.7), torch.randn(4, 3, generator=rng, dtype=F64)

    def denoise(x, t, s):
        return flow(x, t, s, 1.0)

    for times in (RISING, uniform(10, 1.0, 0.0)):
        ends = [walk(Linear(), denoise, Euler(), times, x, rng) for walk in (sample, Recomputed(tuple(flow.parameters()), stretch))]
        gradients = [torch.autograd.grad(end.square().sum(), flow.network.a)[0] for end in ends]
        assert torch.equal(*ends) and gradients[0].item() == pytest.approx(gradients[1].item(), rel=1e-12)


def test_falling_times_are_refused(rng):
    """As by the likelihood."""
    with pytest.raises(ConfigError, match="rise"):
        MaximumLikelihood(Linear(), RungeKutta(RK4), RISING.flip(0))(model(0.1), torch.ones(2, 2, dtype=F64), 1.0, rng)
