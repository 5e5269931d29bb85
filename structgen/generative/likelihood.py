"""The likelihood of data under a probability flow, and its measure in bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative.denoiser import Denoise
from structgen.generative.divergence import Divergence, exact
from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Endpoints, Path, Time, X
from structgen.generative.sample import Integrate, Solver, sample

LogDensity: TypeAlias = Callable[[X], Tensor]
"""[b, *event] -> [b], in nats."""


def log_likelihood(
    path: Path,
    denoise: Denoise,
    solver: Solver[Any, Any],
    times: Tensor | Sequence[float],
    x: X,
    rng: Rng,
    *,
    divergence: Divergence = exact,
    prior: LogDensity | None = None,
    integrate: Integrate = sample,
) -> Tensor:
    """log p(x) in nats [b] of x [b, *event], the state at times[0]: log p_T of where the flow takes it plus the integral of the
    divergence of the velocity (Chen et al. 2018; Song et al. 2021, eq. 39).

    Times rise from near data to the noisy end. The integral is one more coordinate of the state, with the divergence as its velocity, so
    every solver of the probability flow computes it at its own order. `prior` is the law at the last time, by default what a sampler starts
    from: normal with standard deviation sigma there. `integrate` may be `sample` with another backward pass (`adjoint.Recomputed`). Raises
    `ConfigError` if the times do not rise.
    """
    grid = torch.as_tensor(times, dtype=torch.float64)
    if grid.ndim != 1 or len(grid) < 2 or grid[0] >= grid[-1]:
        raise ConfigError("the times of a likelihood rise from data to noise; give the sampling grid reversed")
    event = x.shape[1:]
    start = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)
    end = integrate(path, _with_divergence(path, denoise, divergence, event), solver, grid, start, rng)
    law = prior or normal_density(path.alpha_sigma(grid[-1:])[1].item())
    return law(end[:, :-1].unflatten(1, event) if event else end[:, 0]) + end[:, -1]


def normal_density(std: float) -> LogDensity:
    """log N(x; 0, std^2)."""
    return lambda x: -((x / std) ** 2 / 2 + math.log(std) + math.log(2 * math.pi) / 2).flatten(1).sum(1)


def _with_divergence(path: Path, denoise: Denoise, divergence: Divergence, event: torch.Size) -> Denoise:
    """A denoiser of states [b, d + 1] whose last coordinate moves at the divergence of the velocity of the others."""

    def joined(y: X, t: Time, s: Time) -> Endpoints:
        seen: list[Endpoints] = []

        def velocity(x: X) -> X:
            seen.append(denoise(x, t, s))
            return path.velocity(seen[-1], t)

        _, rate = divergence(velocity, y[:, :-1].unflatten(1, event))
        last = path.from_velocity(rate[:, None], y[:, -1:], t)
        ends = seen[-1]
        return Endpoints(*(torch.cat([a.flatten(1), b], 1) for a, b in ((ends.data, last.data), (ends.noise, last.noise))))

    return joined


def bits_per_dimension(log_likelihood: Tensor, dimensions: int, *, bin_width: float = 1.0) -> Tensor:
    """-log2 of the probability of a bin of this width around each coordinate, per coordinate [b].

    Data that are continuous have no bins: with width 1 this is the density's. Pixels 0 ... 255 scaled to -1 ... 1 have bins of
    2 / 255 or 2 / 256, whichever scaling was used: about 7 bits to add, which is said here and nowhere hidden.
    """
    return -log_likelihood / (dimensions * math.log(2)) - math.log2(bin_width)


@dataclass(frozen=True)
class Bins:
    """Integers 0, ..., levels - 1 as bins that fill low ... high: what ties a density to the probability of discrete data."""

    levels: int = 256
    low: float = -1.0
    high: float = 1.0

    @property
    def width(self) -> float:
        return (self.high - self.low) / self.levels

    def dequantised(self, integers: Tensor, like: X, rng: Rng) -> X:
        """A uniform draw inside each bin, in the type of `like`: E log p of it is at most log P of the integers (Theis et al. 2016)."""
        share = torch.special.ndtr(normal_like(like.new_empty(integers.shape), rng))
        return self.low + self.width * (integers.to(like) + share)
