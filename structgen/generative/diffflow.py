"""DiffFlow: a diffusion whose way to noise is learned too, and the adjoint that trains it without keeping activations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from structgen.errors import ConfigError
from structgen.generative.denoiser import Cond, Network
from structgen.generative.likelihood import LogDensity, normal_density
from structgen.generative.noise import Rng
from structgen.generative.objective import Loss
from structgen.generative.path import Time, X, over
from structgen.generative.transitions import Transition, intervals, normals, walk


class DiffFlow(nn.Module, Generic[Cond]):
    """Two chains on the times 0 = t_0 < ... < t_N, from data to noise and back (Zhang & Chen 2021, section 3):

        x_(i+1) = x_i + f dt + g sqrt(dt) d^F         x_i = x_(i+1) - (f - g^2 score) dt + g sqrt(dt) d^B

    `drift` f and `score` are any networks of (x [b, *event], times [b, 1], cond); `diffusion` g (t [b] -> [b], positive) may be a module
    and be trained. All three take the later time of a step, as DDPM's beta does. Raises `ConfigError` if the times do not rise.
    """

    def __init__(
        self, drift: Network[Cond], score: Network[Cond], diffusion: Callable[[Time], Tensor], times: Tensor | Sequence[float]
    ) -> None:
        super().__init__()
        self.drift = drift
        self.score = score
        self.diffusion = diffusion
        self.times = tuple(float(t) for t in times)
        if len(self.times) < 2 or any(s <= t for t, s in itertools.pairwise(self.times)):
            raise ConfigError(f"the times of a DiffFlow rise from data to noise; found {len(self.times)}, from {self.times[:3]} on")

    def noising(self, cond: Cond) -> Transition:
        """The chain from data to noise."""

        def step(x: X, t: Time, s: Time) -> tuple[X, Tensor]:
            return x + over(s - t, x) * self.drift(x, s[:, None], cond), over(self.diffusion(s) * (s - t).sqrt(), x)

        return step

    def denoising(self, cond: Cond) -> Transition:
        """The chain from noise to data."""

        def step(x: X, t: Time, s: Time) -> tuple[X, Tensor]:
            g = self.diffusion(t)
            back = self.drift(x, t[:, None], cond) - over(g**2, x) * self.score(x, t[:, None], cond)
            return x - over(t - s, x) * back, over(g * (t - s).sqrt(), x)

        return step

    def generate(self, noise: X, cond: Cond, rng: Rng) -> X:
        """Data [b, *event] from a draw of the prior."""
        return walk(self.denoising(cond), self.times[::-1], noise, normals(noise, rng))[-1]


@dataclass(frozen=True)
class PathDivergence:
    """The `Objective` of a `DiffFlow`, in nats: log p_F(path | x_0) - log p_B(path) = sum (|d^B|^2 - |d^F|^2) / 2 - log p_B(x_N) on one
    path an example. Its mean bounds -log p_B(x_0) and exceeds the entropy of the data by KL(p_F || p_B) over paths.

    The loss as published leaves out |d^F|^2, a constant in the mean whose absence makes the figure noisy, and all log g. With its indices,
    where the step back has the next step's g, those would add log(g_N / g_0) an entry: dropped, it holds only for a g that is not trained.
    Here both directions of a step share its g, they cancel, and nothing is dropped. `prior` is standard normal by default and not trained.
    With a drift that is linear and not trained this is DDPM's bound (`variational.bound`).
    """

    prior: LogDensity = field(default_factory=lambda: normal_density(1.0))

    def __call__(self, denoiser: DiffFlow[Any], data: X, cond: Any, rng: Rng) -> Loss:
        chains = Chains(denoiser.noising(cond), denoiser.denoising(cond), self.prior, denoiser.times)
        with torch.no_grad():
            trajectory = walk(chains.noising, chains.times, data, normals(data, rng))
        total = path_cost(chains, trajectory, data, tuple(denoiser.parameters()))
        return Loss(total, {"bound": total})


@dataclass(frozen=True, eq=False)
class Chains:
    """A chain to noise, a chain back, the law from which that starts, and the times of both, rising."""

    noising: Transition
    denoising: Transition
    prior: LogDensity
    times: Sequence[float]

    def link(self, x: X, y: X, t: Time, s: Time) -> tuple[X, Tensor]:
        """y as it follows from x with the noise that led there held fixed, so that gradients pass; log p_F(y | x) - log p_B(x | y) [b]."""
        mean, std = self.noising(x, t, s)
        noise = ((y - mean) / std).detach()
        there = -(noise.square() / 2 + std.log()).flatten(1).sum(1)
        y = mean + std * noise
        back_mean, back_std = self.denoising(y, s, t)
        back = -(((x - back_mean) / back_std).square() / 2 + back_std.log()).expand_as(x).flatten(1).sum(1)
        return y, there - back


def path_cost(chains: Chains, trajectory: Tensor, data: X, parameters: Sequence[Tensor]) -> Tensor:
    """log p_F(path | x_0) - log p_B(path) [b] of a trajectory [n + 1, b, *event] of `chains.noising` that starts in `data`.

    Differentiable in the data and in the parameters, on which the trajectory depends, by the stochastic adjoint (Zhang & Chen 2021, section
    3.2; the lecture's Algorithm 2): what backward keeps is the trajectory alone, whatever the networks; each step is evaluated again. The
    lecture's line 2 starts the adjoint from d(-log p_B(x_N) + |d_N|^2 / 2) / dx_N and line 5 adds the second term again; it is right
    without it. Once differentiable.
    """
    trained = [p for p in parameters if p.requires_grad]
    return _StochasticAdjoint.apply(chains, trajectory, data, *trained)  # type: ignore[no-untyped-call, no-any-return]


class _StochasticAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, chains: Chains, trajectory: Tensor, data: X, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(trajectory)
        ctx.chains, ctx.parameters = chains, parameters
        cost = -chains.prior(trajectory[-1])
        for i, (t, s) in enumerate(intervals(chains.times, data)):
            cost = cost + chains.link(trajectory[i], trajectory[i + 1], t, s)[1]
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        (trajectory,) = ctx.saved_tensors
        chains, parameters = ctx.chains, ctx.parameters
        gradients = [torch.zeros_like(p) for p in parameters]
        with torch.enable_grad():
            end = trajectory[-1].detach().requires_grad_()
            (adjoint,) = torch.autograd.grad((-chains.prior(end) * weight).sum(), end)  # line 2, without the cost of the last step
            for i, (t, s) in reversed(list(enumerate(intervals(chains.times, end)))):
                x = trajectory[i].detach().requires_grad_()
                y, cost = chains.link(x, trajectory[i + 1], t, s)
                total = (weight * cost).sum() + (adjoint * y).sum()  # lines 4-6: dy/dx carries the adjoint and the cost's share
                adjoint, *shares = torch.autograd.grad(total, (x, *parameters), materialize_grads=True)
                gradients = [a + b for a, b in zip(gradients, shares, strict=True)]
        return None, None, adjoint, *gradients
