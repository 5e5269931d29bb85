"""Row D8: consistency in continuous time, against differences, discrete training and the formulas of sCM."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from structgen.generative import (
    RK4,
    Adjacent,
    Consistency,
    ContinuousConsistency,
    Cosine,
    Denoiser,
    Endpoints,
    Linear,
    Preconditioned,
    ReadData,
    ReadVelocity,
    RungeKutta,
    Uniform,
    VarianceExploding,
    VariancePreserving,
)
from structgen.generative.distill.continuous import tangents
from structgen.generative.distill.tangent import raw_along
from structgen.generative.weights import Constant, Edm
from tests.conformance.students import NORMAL, STD, Closed, Fixed, Perceptron, exact64, normal

F64 = torch.float64


def small(path, reading) -> Denoiser:
    """A denoiser with random weights, in float64."""
    network = Perceptron(2, 1, width=16, blocks=1).double()
    nn.init.normal_(network.out.weight, std=0.3)
    return Denoiser(network, path, reading)


def gradient(model, loss) -> torch.Tensor:
    grads = torch.autograd.grad(loss.total.mean(), list(model.network.parameters()))
    return torch.cat([g.flatten() for g in grads])


SMOOTH = {
    "linear": (Linear(), ReadVelocity(), 0.6),
    "cosine": (Cosine(), Preconditioned(STD), 0.4),
    "ve": (VarianceExploding(), Preconditioned(STD), 1.3),
    "vp": (VariancePreserving(), ReadData(), 0.5),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_D8_derivative_is_that_of_differences(name, measured):
    """The derivative of the network and that of the data along a trajectory equal central differences; times may be expanded tensors."""
    path, reading, level = SMOOTH[name]
    model, x, velocity = small(path, reading), normal(5, 2), normal(5, 2, seed=1)
    t, aim, h = torch.tensor([level], dtype=F64).expand(5), torch.zeros(5, dtype=F64), 1e-5
    _, whole = tangents(model, x, t, velocity, None)
    moved = [model(x + k * h * velocity, t + k * h, aim, None).data.detach() for k in (-1, 1)]
    worst = (whole - (moved[1] - moved[0]) / (2 * h)).abs().max().item() / whole.abs().max().item()
    measured("D8", f"derivative by jvp less central differences, {name}", worst, 1e-8)
    assert worst < 1e-8


@pytest.mark.parametrize("teaching", [False, True])
@pytest.mark.parametrize("name", SMOOTH)
def test_D8_gradient_is_the_limit_of_the_discrete_one(name, teaching, measured):
    """The discrete gradient over t - s, extrapolated to 0, is the continuous one over dt/ds = alpha sigma / (alpha sigma' - sigma alpha'):
    the factor 2 is the square's, (tau^-1)' is that of the time in which f is differentiated [T6]."""
    path, reading, level = SMOOTH[name]
    model, data, teacher = small(path, reading), normal(64, 2), exact64(path) if teaching else None

    def discrete(gap):
        pairs = Adjacent(torch.tensor([level, level - gap], dtype=F64))
        objective = Consistency(path, pairs, teacher, solver=RungeKutta(RK4))
        return gradient(model, objective(model, data, None, torch.Generator().manual_seed(2))) / gap

    a, b, c = (discrete(gap) for gap in (4e-3, 2e-3, 1e-3))
    limit = (8 * c - 6 * b + a) / 3
    continuous = ContinuousConsistency(path, Uniform(level, level), Constant(), teacher)
    t = torch.tensor([level], dtype=F64)
    (alpha, sigma), (alpha_rate, sigma_rate) = path.alpha_sigma(t), path.rates(t)
    pace = alpha * sigma / (alpha * sigma_rate - sigma * alpha_rate)
    found = gradient(model, continuous(model, data, None, torch.Generator().manual_seed(2))) / pace
    worst = ((found - limit).norm() / found.norm()).item()
    measured("D8", f"continuous gradient less the limit of the discrete, {name}, {'teacher' if teaching else 'no teacher'}", worst, 1e-5)
    assert worst < 1e-5


@pytest.mark.parametrize("normalise", [None, 0.1])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0])
def test_D8_is_scm_on_trigflow(warmup, normalise, measured):
    """On `Cosine` with `ReadVelocity` and the weight 1 / sin^2 the gradient is that of |F - F- - g|^2 with Lu and Song's g = -cos^2 t
    (F - dx/dt) - r cos t sin t (x + dF/dt), t pi / 2 times our time and F our velocity over pi / 2; g / (|g| + 0.1) if normalised."""
    path, model, ends = Cosine(), small(Cosine(), ReadVelocity()), Endpoints(normal(32, 2), normal(32, 2, seed=1))
    objective = ContinuousConsistency(path, Uniform(), Edm(1.0), None, normalise, warmup, coupling=Fixed(ends))
    found = gradient(model, objective(model, ends.data, None, torch.Generator().manual_seed(2)))
    short = Uniform().draw(ends.data, torch.Generator().manual_seed(2))
    t, unit = short[:, None] * math.pi / 2, math.pi / 2
    x, velocity = t.cos() * ends.data + t.sin() * ends.noise, t.cos() * ends.noise - t.sin() * ends.data
    _, rate = raw_along(model, (x, short, 0 * short), (velocity * unit, torch.ones_like(short), 0 * short), None)
    value = model.network(x, short[:, None], None) / unit
    g = -(t.cos() ** 2) * (value - velocity) - warmup * t.cos() * t.sin() * (x + rate / unit**2)
    if normalise is not None:
        g = g / (g.square().mean(1, keepdim=True).sqrt() + normalise)
    literal = (value - value.detach() - g.detach()).square().mean()
    wanted = torch.cat([part.flatten() for part in torch.autograd.grad(literal, list(model.network.parameters()))])
    worst = ((found - wanted).norm() / wanted.norm()).item()
    measured("D8", f"gradient less that of sCM, r = {warmup}, normalised by {normalise}", worst, 1e-12)
    assert worst < 1e-12


def test_D8_vanishes_at_the_closed_form(measured):
    """Along the exact flow the closed form does not change; and a perfect denoiser has no error of the velocity."""
    path, t = VarianceExploding(), torch.tensor([0.01, 0.4, 3.0, 60.0], dtype=F64)
    x = t[:, None] * normal(4, 2) + NORMAL.means
    velocity = path.velocity(NORMAL.denoise(path, x, t), t)
    _, whole = tangents(Denoiser(Closed(0.0), path, ReadData()), x, t, velocity, None)
    aligned, _ = tangents(Denoiser(Posterior(path), path, ReadData()), x, t, velocity, None)
    measured("D8", "df/dt of the closed form", whole.abs().max().item(), 1e-12)
    assert whole.abs().max() < 1e-12 and aligned.abs().max() < 1e-12


class Posterior(nn.Module):
    """The exact denoiser of NORMAL as a network."""

    def __init__(self, path) -> None:
        super().__init__()
        self.path = path

    def forward(self, x, times, cond):
        return NORMAL.denoise(self.path, x, times[:, 0]).data


class Rounded(torch.autograd.Function):
    """A kernel that is given a backward pass and no forward-mode derivative."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad


def test_D8_a_kernel_without_a_derivative_raises():
    """A custom autograd.Function without `jvp` stops the training; it is not taken for a constant."""

    class Network(nn.Module):
        def forward(self, x, times, cond):
            return Rounded.apply(x)

    with pytest.raises(RuntimeError, match="jvp"):
        tangents(Denoiser(Network(), Linear(), ReadVelocity()), normal(3, 2), torch.full((3,), 0.5, dtype=F64), normal(3, 2), None)
