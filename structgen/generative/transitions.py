"""Markov chains of normal steps: how one is walked, and how likely a step is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from structgen.generative.denoiser import Cond, Cond_contra, Network
from structgen.generative.discrete import gaussian_nll
from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Time, X, over

Transition: TypeAlias = Callable[[X, Time, Time], tuple[X, Tensor]]
"""(x [b, *event] at t [b], t, s [b]) -> the mean [b, *event] and the standard deviation, which broadcasts to it, of the state at s: a
`Kernel` closed over its condition."""


class Kernel(Protocol[Cond_contra]):
    """A step of a chain, conditioned: (x [b, *event], t [b], s [b], cond) -> mean and standard deviation of the state at s."""

    def __call__(self, x: X, t: Time, s: Time, cond: Cond_contra, /) -> tuple[X, Tensor]: ...


def closed(kernel: Kernel[Any], cond: Any) -> Transition:
    """The kernel under one condition."""
    return lambda x, t, s: kernel(x, t, s, cond)


class Drifted(nn.Module, Generic[Cond]):
    """x + |s - t| network(x, t) with standard deviation g(t) sqrt|s - t|: an Euler-Maruyama step of a drift, in either direction.

    `diffusion` g maps t [b] to [b], positive; it may be a module and be trained.
    """

    def __init__(self, network: Network[Cond], diffusion: Callable[[Time], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.diffusion = diffusion

    def forward(self, x: X, t: Time, s: Time, cond: Cond) -> tuple[X, Tensor]:
        length = (s - t).abs()
        return x + over(length, x) * self.network(x, t[:, None], cond), over(self.diffusion(t) * length.sqrt(), x)


def walk(transition: Transition, times: Sequence[float], x: X, noises: Iterable[X]) -> Tensor:
    """The states [n + 1, b, *event] at the n + 1 times of a chain that starts in x [b, *event]; step i is made with the i-th noise."""
    states = [x]
    for (t, s), noise in zip(intervals(times, x), noises, strict=False):
        mean, std = transition(states[-1], t, s)
        states.append(mean + std * noise)
    return torch.stack(states)


def normals(x: X, rng: Rng) -> Iterator[X]:
    """Standard normal draws like x, without end."""
    while True:
        yield normal_like(x, rng)


def intervals(times: Sequence[float], x: X) -> list[tuple[Time, Time]]:
    """The beginning and end [b] of each step, in the type of x."""
    return list(itertools.pairwise([x.new_full((len(x),), t) for t in times]))


def log_density(transition: Transition, x: X, t: Time, s: Time, y: X) -> Tensor:
    """log p(state at s = y | state at t = x) in nats [b]."""
    mean, std = transition(x, t, s)
    return -gaussian_nll(y, mean, 2 * std.log()).flatten(1).sum(1)
